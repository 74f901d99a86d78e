"""Warns when --mixed_precision=bfloat16 is slow on this processor: times one convolution in both types."""

from __future__ import annotations

import time

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

# The third convolution of AlexNet: like most convolutions, this one is limited by arithmetic.
SIDE, INPUTS, OUTPUTS, KERNEL = 13, 256, 384, 3
PICTURES = 2
ROUNDS = 4  # after the first, which rewrites the graph and lays out the weights
LONGEST_SECONDS = 0.6  # no further round is started after this
# Two equal programs differ by some percent on a busy machine.
SLOWER = 1.2


def warning(config: config_pb2.ConfigProto) -> str:
    """A warning for the user when sessions of this configuration are slower than in float32; else empty.

    Args:
      config: of sessions whose graphs are rewritten to bfloat16.
    """
    try:
        float32, bfloat16 = measure(config)
    except tf.errors.OpError as error:
        reason = " ".join((error.message or type(error).__name__).split())
        return (
            "warning: --mixed_precision=bfloat16: this processor cannot compute a convolution in bfloat16, "
            f"so that most requests will fail ({reason}); leave the flag out"
        )
    return slowdown_warning(float32, bfloat16)


def slowdown_warning(float32: float, bfloat16: float) -> str:
    """The warning for two times of the same convolution, in seconds; empty when bfloat16 is no slower."""
    if bfloat16 < SLOWER * float32:
        return ""
    factor = bfloat16 / float32
    return (
        f"warning: --mixed_precision=bfloat16: this processor multiplies in bfloat16 {factor:.1f} times "
        "slower than in float32 (measured on one convolution); float32 is faster here"
    )


def measure(config: config_pb2.ConfigProto) -> tuple[float, float]:
    """Seconds of one convolution in float32, and in bfloat16 as rewritten by a session: the shortest run.

    The two alternate, so that other load on the machine affects both.

    Raises:
      tf.errors.OpError: it cannot be computed in bfloat16 at all.
    """
    plain = config_pb2.ConfigProto()
    plain.CopyFrom(config)
    rewriting = plain.graph_options.rewrite_options
    rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.OFF
    graph = tf.Graph()
    with graph.as_default():
        images = tf.compat.v1.placeholder(tf.float32, [PICTURES, SIDE, SIDE, INPUTS])
        kernel = tf.compat.v1.placeholder(tf.float32, [KERNEL, KERNEL, INPUTS, OUTPUTS])
        maps = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME"))
    feeds = {tensor: np.ones(tensor.shape, np.float32) for tensor in (images, kernel)}
    with (
        tf.compat.v1.Session(graph=graph, config=plain) as float32,
        tf.compat.v1.Session(graph=graph, config=config) as bfloat16,
    ):
        sessions = (float32, bfloat16)
        for session in sessions:
            session.run(maps, feeds)
        began = time.perf_counter()
        rounds: list[list[float]] = []
        while not rounds or (len(rounds) < ROUNDS and time.perf_counter() - began < LONGEST_SECONDS):
            rounds.append([_seconds(session, maps, feeds) for session in sessions])
    shortest = np.min(rounds, axis=0)
    return float(shortest[0]), float(shortest[1])


def _seconds(session: tf.compat.v1.Session, maps: tf.Tensor, feeds: dict[tf.Tensor, np.ndarray]) -> float:
    began = time.perf_counter()
    session.run(maps, feeds)
    return time.perf_counter() - began
