"""Effective receptive fields: the share of what a layer's units see that lies on an object.

A unit does not weigh its whole receptive field equally: the middle counts most (Luo, Li, Urtasun and Zemel
2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks"). A map in which
every unit has the share of its effective field that lies on the object is the object out of focus. How much
of that map still lies on the object says how blurred the layer is; units that answer out of proportion to
what they see can be sharper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

    from alexnet_tf.visualize.internals.receptive import Field

# Sums of a layer's maps with random signs whose gradients are averaged, and pictures that they are taken of.
PROBES, PICTURES = 4, 12


def weights(network: keras.Model, pixels: np.ndarray, layer: str, *, seed: int = 0) -> np.ndarray:
    """The effective receptive field: how much each of its pixels changes a unit in the middle of the maps.

    Args:
      network: pixels -> logits, with or without towers.
      pixels: float32 [N, S, S, 3], mean subtracted; the first dozen are used.
      layer: one with feature maps, such as `relu5`, of both towers.
      seed: of the signs.

    Returns:
      float32 [size, size], as large as a field: the mean size of the derivative over pictures and maps,
      adding up to 1; zeros for units that nothing moves.

    Raises:
      UserError: the network has no such layer of feature maps.
    """
    import tensorflow as tf

    from alexnet_tf.network import graph
    from alexnet_tf.visualize.internals import receptive, top_patches

    field = receptive.field(network, layer)
    tapped = graph.taps(network, layer)
    height, width, count = tapped.outputs[0].shape[1:]
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (PROBES, count)).astype(np.float32)
    x = tf.constant(pixels[:PICTURES])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        middle = tapped(x, training=False)[0][:, height // 2, width // 2]
        probes = [tf.reduce_sum(middle * row) for row in signs]
    size = sum(tf.abs(tape.gradient(probe, x)).numpy().sum(axis=-1) for probe in probes)
    places = np.tile([height // 2, width // 2], (len(size), 1))
    own = top_patches.patches(size[..., None], places, field, outside=0).sum(axis=(0, 3))
    return own / max(float(own.sum()), np.finfo(np.float32).tiny)


def share_seen(masks: np.ndarray, field: Field, weight: np.ndarray, units: int) -> np.ndarray:
    """The share of each unit's effective receptive field that lies on the object.

    Args:
      masks: bool [N, S, S].
      field: the receptive fields of the layer's units.
      weight: float32 [size, size], from `weights`.
      units: in a row and in a column of the layer's maps.

    Returns:
      float32 [N, units, units], 0..1; there is no object outside the picture.
    """
    before = max(0, -field.start)
    behind = max(0, field.bounds(units - 1)[1] - masks.shape[1])
    padded = np.pad(masks.astype(np.float32), ((0, 0), (before, behind), (before, behind)))
    # TensorFlow's convolution ends the process on kernels of this size.
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape, axis=(1, 2))
    own = slice(field.start + before, None, field.stride)
    return np.einsum("nyxij,ij->nyx", windows[:, own, own][:, :units, :units], weight)


def seen(network: keras.Model, pixels: np.ndarray, masks: np.ndarray, layer: str) -> np.ndarray:
    """`share_seen` over the picture, as class activation maps are laid over it: float32 [N, S, S].

    Args:
      network, pixels, layer: as for `weights`.
      masks: bool [N, S, S].

    Raises:
      UserError: the network has no such layer of feature maps.
    """
    from alexnet_tf.network import graph
    from alexnet_tf.visualize.internals import receptive

    field = receptive.field(network, layer)
    units = int(graph.parts(network, layer, maps=True)[0].output.shape[1])
    return field.enlarge(share_seen(masks, field, weights(network, pixels, layer), units), masks.shape[1])
