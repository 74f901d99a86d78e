"""The arithmetic of the paper network's training step, each kernel called alone: what a step costs at least.

Convolutions forward, by filter and by input (none by input where a layer reads the picture), matrix
products and poolings, in the sizes of `model.build("paper")` and by the algorithms that our step takes:
the 3 x 3 convolutions in float32 as Winograd's 16 matrix products with their transforms. What a step takes
beyond their sum goes to normalisation, activations, dropout, casts, copies and the update of the weights.

One large product tells at what rate the machine multiplies at best.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.train_step_contenders import CLASSES, Step

Kernel = Callable[[], Any]


PRODUCT = 4096  # side of the matrices of the large product


def make(dtype: str, batch: int) -> Step:
    """Returns a function that calls every kernel once, one after the other.

    Args:
      dtype: `float32` or `bfloat16`.
      batch: pictures in a batch.
    """
    network = _network(dtype)
    kernels = [kernel for layer in network.layers for kernel in _kernels(layer, dtype, batch)]

    def step() -> None:
        for kernel in kernels:
            kernel()

    return step


def make_product(dtype: str, batch: int) -> Step:
    """Returns a function that multiplies two matrices of 4096 x 4096, whatever the batch."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.stateless_normal((PRODUCT, PRODUCT), (1, 2)), dtype)
    return _compiled(tf.matmul, matrix, matrix)


def step_operations(batch: int) -> float:
    """Multiplications and additions of a step, forward and backward, as the layers are defined."""
    from alexnet_tf import model

    counts = model.multiply_adds(_network("float32"))
    of_pictures = sum(count for name, count in counts.items() if name.startswith("conv1"))
    return 2.0 * batch * (3 * sum(counts.values()) - of_pictures)


def _network(dtype: str) -> Any:
    from alexnet_tf import model
    from alexnet_tf.training import placement

    return model.build("paper", CLASSES, dtype_policy=placement.DTYPE_POLICIES[dtype], fused=True)


def _kernels(layer: Any, dtype: str, batch: int) -> Iterator[Kernel]:
    """Forward and backward kernels of one layer; nothing for layers that only move or rectify."""
    import keras
    import tensorflow as tf

    from alexnet_tf.network.winograd import WinogradConv2D

    def maps(shape: tuple[int, ...]) -> tf.Tensor:
        return tf.cast(tf.random.stateless_normal(shape, (1, 2)), dtype)

    if not isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense, keras.layers.MaxPooling2D)):
        return
    given, sent = ((batch, *tensor.shape[1:]) for tensor in (layer.input, layer.output))
    x, gradient = maps(given), maps(sent)
    if isinstance(layer, keras.layers.Dense):
        yield from _products(x, maps(layer.kernel.shape), gradient)
        return
    if isinstance(layer, keras.layers.MaxPooling2D) or (
        isinstance(layer, WinogradConv2D) and dtype == "float32"
    ):
        # Forward and backward in one graph: what the one leaves for the other is part of the algorithm.
        yield _compiled(functools.partial(_there_and_back, layer), x, gradient)
        return
    settings: dict[str, Any] = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}
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


def _products(x: Any, w: Any, gradient: Any) -> Iterator[Kernel]:
    """The three products of a dense layer, as our layer takes them."""
    import tensorflow as tf

    yield _compiled(tf.matmul, x, w)
    yield _compiled(functools.partial(tf.matmul, transpose_a=True), x, gradient)
    if x.dtype == tf.float32:
        yield _compiled(lambda g, k: tf.transpose(tf.matmul(k, g, transpose_b=True)), gradient, w)
    else:
        yield _compiled(functools.partial(tf.matmul, transpose_b=True), gradient, w)


def _there_and_back(layer: Any, x: Any, gradient: Any) -> Any:
    """A layer's output, and its gradients by input and weights."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    return y, tape.gradient(y, [x, *layer.trainable_variables], gradient)


def _compiled(function: Callable[..., Any], *tensors: Any) -> Kernel:
    """The function on these tensors as a graph of its own."""
    import tensorflow as tf

    graph = tf.function(lambda *given: function(*given)).get_concrete_function(*tensors)
    return functools.partial(graph, *tensors)
