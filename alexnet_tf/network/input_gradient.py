"""Gradient of the logits with respect to the pixels, fast for a strided first convolution.

The gradient of a strided convolution with respect to its three-channel input, 11 x 11 and stride 4 in the
paper, is the slowest operation of the whole backward pass on CPUs. The same numbers come from blocks of
stride x stride pixels taken as channels: there a 3 x 3 convolution of stride 1 on 48 channels, several times
faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.network import backend

# Logits [N, classes] -> what to weigh them with in the sum [N] whose gradient is wanted.
Weigh = Callable[[tf.Tensor], tf.Tensor]
# Pixels [N, S, S, 3], Weigh -> logits [N, classes], gradient float32 [N, S, S, 3].
Function = Callable[[tf.Tensor, Weigh], tuple[tf.Tensor, tf.Tensor]]


def function(network: keras.Model) -> Function:
    """The gradient of a weighted sum of a network's logits with respect to its pixels.

    Made of plain TensorFlow operations: it works eagerly, in a `tf.function` and in a SavedModel, and
    keeps the network's layers, but not the network, alive.

    Args:
      network: pixels float32 [N, S, S, 3] -> logits [N, classes].

    Returns:
      A function of pixels and of a function that gives the logits' weights, itself not differentiated.
    """
    backend.require_tensorflow("the gradient of pixels")
    source, convolutions = _first_convolutions(network)
    inputs = [layer.output for layer in convolutions] or [network.input]
    rest = keras.Model(inputs, network.output)
    pad = keras.Model(network.input, source)
    top, left = _zeros_before(network.input, source)

    def gradient(pixels: tf.Tensor, weigh: Weigh) -> tuple[tf.Tensor, tf.Tensor]:
        padded = pad(pixels)
        maps = [layer(padded) for layer in convolutions] or [pixels]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(maps)
            logits = rest(maps if convolutions else pixels, training=False)
        slopes = tape.gradient(logits, maps, tf.stop_gradient(weigh(logits)))
        if not convolutions:
            return logits, slopes[0]
        whole = _through_convolutions(slopes, convolutions, int(padded.shape[1]), int(padded.shape[2]))
        rows, columns = pixels.shape[1:3]
        return logits, tf.cast(whole[:, top : top + rows, left : left + columns], tf.float32)

    return gradient


def of_class(labels: tf.Tensor) -> Weigh:
    """Weights that select one logit for each picture.

    Args:
      labels: classes, int [N]; -1 for the picture's best class.
    """

    def weigh(logits: tf.Tensor) -> tf.Tensor:
        best = tf.argmax(logits, axis=1, output_type=labels.dtype)
        return tf.one_hot(tf.where(labels < 0, best, labels), logits.shape[-1], dtype=logits.dtype)

    return weigh


def _first_convolutions(network: keras.Model) -> tuple[Any, list[keras.layers.Conv2D]]:
    """The input of the first convolutions, and these, one a tower; none where the fast way does not apply."""
    source = network.input
    readers = _readers(network, source)
    if len(readers) == 1 and isinstance(readers[0], keras.layers.ZeroPadding2D):
        source = readers[0].output
        readers = _readers(network, source)
    alike = {(layer.kernel_size, layer.strides) for layer in readers if _is_plain(layer)}
    if len(alike) == 1 and all(map(_is_plain, readers)):
        return source, readers
    return network.input, []


def _readers(network: keras.Model, tensor: Any) -> list[keras.Layer]:
    """The layers that have a tensor among their inputs."""
    return [
        layer
        for layer in network.layers
        if not isinstance(layer, keras.layers.InputLayer)
        and any(read is tensor for read in keras.tree.flatten(layer.input))
    ]


def _is_plain(layer: keras.Layer) -> bool:
    """Whether a layer is a strided convolution that can be computed on blocks of pixels."""
    return (
        isinstance(layer, keras.layers.Conv2D)
        and layer.strides[0] == layer.strides[1] > 1
        and layer.padding == "valid"
        and layer.groups == 1
        and layer.dilation_rate == (1, 1)
        and layer.activation is keras.activations.linear
    )


def _zeros_before(pixels: Any, source: Any) -> tuple[int, int]:
    """Rows and columns of zero padding before a picture's own."""
    if source is pixels:
        return 0, 0
    (top, _), (left, _) = source._keras_history.operation.padding
    return top, left


def _through_convolutions(
    slopes: list[tf.Tensor], layers: list[keras.layers.Conv2D], height: int, width: int
) -> tf.Tensor:
    """The gradient with respect to the convolutions' input, from those with respect to their maps.

    Args:
      slopes: [N, h, w, C] a layer.
      layers: convolutions of one kernel size and one stride, without padding.
      height, width: of their input.

    Returns:
      [N, height, width, 3].
    """
    maps = slopes[0] if len(slopes) == 1 else tf.concat(slopes, axis=-1)
    kernel = tf.cast(tf.concat([tf.convert_to_tensor(layer.kernel) for layer in layers], -1), maps.dtype)
    block = layers[0].strides[0]
    side, _, channels, filters = kernel.shape
    across = -(-side // block)
    missing = across * block - side
    kernel = tf.pad(kernel, [[0, missing], [0, missing], [0, 0], [0, 0]])
    kernel = tf.reshape(kernel, [across, block, across, block, channels, filters])
    kernel = tf.transpose(kernel, [0, 2, 1, 3, 4, 5])
    kernel = tf.reshape(kernel, [across, across, block * block * channels, filters])
    blocks = [size + across - 1 for size in maps.shape[1:3]]
    shape = [tf.shape(maps)[0], *blocks, block * block * channels]
    read = tf.nn.depth_to_space(tf.nn.conv2d_transpose(maps, kernel, shape, 1, "VALID"), block)
    # Blocks may end beyond the picture, or, where the last pixels are in no window, before its end.
    over = [[0, max(0, size - count * block)] for size, count in zip((height, width), blocks, strict=True)]
    return tf.pad(read[:, :height, :width], [[0, 0], *over, [0, 0]])
