"""Runs scripts on two logical CPUs: TensorFlow divides a processor once, before anything else."""

import json
import os
import subprocess
import sys
from pathlib import Path

START = """
import dataclasses, json
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_visible_devices([], "GPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from alexnet_tf import checkpoint, model
from alexnet_tf.distribute import tower_trace, towers
from alexnet_tf.evaluation import metrics
from alexnet_tf.network import variants
from alexnet_tf.training import diagnosis
from alexnet_tf.training.optimizer import PaperMomentum

DEVICES = towers.devices()
# The networks as they are, but smaller: maps of 15, 7, 3 and 1 pixels, and 64 hidden units.
SIDE, FILTERS, HIDDEN = 67, (16, 32, 48, 48, 32), 64
for name, arch in variants.VARIANTS.items():
    small = {"input_size": SIDE, "filters": FILTERS, "hidden": HIDDEN}
    variants.VARIANTS[name] = dataclasses.replace(arch, **small)

def networks(variant, **settings):
    settings = {"initializer": "he", "pixel_std": 60.0, **settings}
    return model.build(variant, 10, **settings), towers.build(variant, 10, devices=DEVICES, **settings)

def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0.0, 60.0, (count, 17, 17, 3)).repeat(4, 1).repeat(4, 2)[:, :SIDE, :SIDE]
    return tf.constant(pixels, tf.float32), tf.constant(rng.integers(0, 10, count))

def trainer(network, fused=True, frozen=False, rate=0.002):
    optimizer = PaperMomentum(rate, 0.9, 5e-4, bias_multiplier=2.0, fused=fused, global_clipnorm=1.0)
    optimizer.build(network.trainable_variables)
    variables = [v for v in network.trainable_variables if not (frozen and "conv1" in v.path)]

    @tf.function
    def step(pixels, labels):
        with tf.GradientTape() as tape:
            logits = network(pixels, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step, optimizer
"""


def run(script: str) -> list:
    """The JSON lines that a script prints, run after START."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", START + script],
        cwd=root,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in "[{"]
