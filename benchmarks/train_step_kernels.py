"""The arithmetic of the paper network's training step, each kernel called alone: what a step costs at least.

Convolutions forward, by filter and by input (none by input where a layer reads the picture), matrix
products and poolings, in the sizes of `model.build("paper")`. What a step takes beyond their sum goes to
normalisation, activations, dropout, casts, copies and the update of the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.train_step_contenders import CLASSES, Step

Kernel = Callable[[], Any]


def make(dtype: str, batch: int) -> Step:
    """Returns a function that calls every kernel once, one after the other.

    Args:
      dtype: `float32` or `bfloat16`.
      batch: pictures in a batch.
    """
    from alexnet_tf import model

    network = model.build("paper", CLASSES)
    kernels = [kernel for layer in network.layers for kernel in _kernels(layer, dtype, batch)]

    def step() -> None:
        for kernel in kernels:
            kernel()

    return step


def _kernels(layer: Any, dtype: str, batch: int) -> Iterator[Kernel]:
    """Forward and backward kernels of one layer; nothing for layers that only move or rectify."""
    import keras
    import tensorflow as tf

    def maps(shape: tuple[int, ...]) -> tf.Tensor:
        return tf.cast(tf.random.stateless_normal(shape, (1, 2)), dtype)

    if not isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense, keras.layers.MaxPooling2D)):
        return
    given, sent = ((batch, *tensor.shape[1:]) for tensor in (layer.input, layer.output))
    x, gradient = maps(given), maps(sent)
    if isinstance(layer, keras.layers.Dense):
        w = maps(layer.kernel.shape)
        yield _compiled(tf.matmul, x, w)
        yield _compiled(functools.partial(tf.matmul, transpose_a=True), x, gradient)
        yield _compiled(functools.partial(tf.matmul, transpose_b=True), gradient, w)
        return
    settings: dict[str, Any] = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}
    if isinstance(layer, keras.layers.MaxPooling2D):
        settings["ksize"] = [1, *layer.pool_size, 1]
        back = tf.raw_ops.MaxPoolGrad
        yield _compiled(lambda a: tf.nn.max_pool2d(a, **settings), x)
        pooled = tf.nn.max_pool2d(x, **settings)
        yield _compiled(
            lambda a, b, c: back(orig_input=a, orig_output=b, grad=c, **settings), x, pooled, gradient
        )
        return
    w = maps(layer.kernel.shape)
    by_filter, by_input = tf.raw_ops.Conv2DBackpropFilter, tf.raw_ops.Conv2DBackpropInput
    yield _compiled(lambda a, b: tf.nn.conv2d(a, b, **settings), x, w)
    yield _compiled(
        lambda a, b: by_filter(input=a, filter_sizes=w.shape, out_backprop=b, **settings), x, gradient
    )
    if given[-1] > 3:
        yield _compiled(
            lambda a, b: by_input(input_sizes=given, filter=a, out_backprop=b, **settings), w, gradient
        )


def _compiled(function: Callable[..., Any], *tensors: Any) -> Kernel:
    """The function on these tensors as a graph of its own."""
    import tensorflow as tf

    graph = tf.function(lambda *given: function(*given)).get_concrete_function(*tensors)
    return functools.partial(graph, *tensors)
