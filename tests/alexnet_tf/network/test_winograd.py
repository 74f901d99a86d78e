"""3 x 3 convolutions by Winograd, and the dense layer of training, against sums taken one by one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import model
from alexnet_tf.network.layers import TrainingDense
from alexnet_tf.network.winograd import OF_INPUT, OF_KERNEL, OF_OUTPUT, Tiling, WinogradConv2D
from tests.support import bfloat16_here


def convolved(x, kernel, bias):
    """A convolution with one zero around the maps, in float64: nine products of shifted maps."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    shifts = [(i, j) for i in range(3) for j in range(3)]
    return bias + sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i, j in shifts)


def drawn(height, width, channels=5, filters=4, batch=2):
    rng = np.random.default_rng(height * 100 + width)
    shapes = ((batch, height, width, channels), (3, 3, channels, filters), (filters,))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def test_one_tile_by_hand():
    """Outputs of a 1-D tile 1 2 3 4 under the kernel 1 10 100: 1 + 20 + 300 and 2 + 30 + 400."""
    products = (OF_INPUT @ [1, 2, 3, 4]) * (OF_KERNEL @ [1, 10, 100])
    np.testing.assert_allclose(OF_OUTPUT @ products, [321, 432])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 4), (13, 13), (6, 5)])
def test_forward_is_the_convolution(height, width):
    x, kernel, bias = drawn(height, width)
    layer = WinogradConv2D(4)
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    np.testing.assert_allclose(layer(x).numpy(), convolved(x, kernel, bias), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 2), (3, 4), (13, 13)])
def test_gradients_are_the_transposed_sums(height, width):
    """By the definition of a gradient of something linear: <g, A x> = <A^T g, x>, one input at a time."""
    x, kernel, bias = drawn(height, width, channels=2, filters=3, batch=1)
    layer = WinogradConv2D(3)
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    upstream = np.random.default_rng(9).normal(size=(1, height, width, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        pixels = tf.constant(x)
        tape.watch(pixels)
        maps = layer(pixels)
    found = tape.gradient(maps, [pixels, layer.kernel.value, layer.bias.value], tf.constant(upstream))
    nothing = np.zeros_like(bias)
    for array, gradient, function in (
        (x, found[0], lambda one: convolved(one, kernel, nothing)),
        (kernel, found[1], lambda one: convolved(x, one, nothing)),
        (bias, found[2], lambda one: np.broadcast_to(one, upstream.shape)),
    ):
        expected = np.zeros(array.size)
        for index in range(array.size):
            one = np.zeros(array.size)
            one[index] = 1.0
            expected[index] = np.sum(upstream * function(one.reshape(array.shape)))
        np.testing.assert_allclose(gradient.numpy().ravel(), expected, rtol=0, atol=5e-5)


def test_as_exact_as_a_convolution_at_the_size_of_conv3():
    x, kernel, bias = drawn(13, 13, channels=256, filters=32, batch=1)
    exact = convolved(x, kernel, bias)
    ours, plain = WinogradConv2D(32), keras.layers.Conv2D(32, 3, padding="same")
    errors = []
    for layer in (ours, plain):
        layer.build(x.shape)
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
        errors.append(np.sqrt(np.mean((layer(x).numpy() - exact) ** 2) / np.mean(exact**2)))
    assert errors[0] < 1e-6
    assert errors[0] < 3 * errors[1]


def test_the_transforms_are_the_same_outside_tensorflow_programs():
    """`Tiling` is written with Keras operations alone: eagerly it gives what the compiled layer gives."""
    x, kernel, bias = drawn(5, 7)
    tiling = Tiling(5, 7)
    products = np.matmul(tiling.of_input(x), tiling.of_kernel(kernel))
    np.testing.assert_allclose(
        np.asarray(tiling.to_output(products, bias)), convolved(x, kernel, bias), atol=2e-5
    )


@pytest.mark.parametrize(
    ("policy", "shape"), [("mixed_bfloat16", (None, 5, 6, 5)), ("float32", (None, None, None, 5))]
)
def test_other_numbers_and_unknown_sizes_are_left_to_the_convolution(policy, shape):
    if policy != "float32":
        bfloat16_here.needed()
    x, kernel, bias = drawn(5, 6)
    layer, plain = (
        kind(4, 3, padding="same", dtype=policy) for kind in (WinogradConv2D, keras.layers.Conv2D)
    )
    for each in (layer, plain):
        each.build(shape)
        each.kernel.assign(kernel)
        each.bias.assign(bias)
    np.testing.assert_array_equal(
        tf.cast(layer(x), tf.float32).numpy(), tf.cast(plain(x), tf.float32).numpy()
    )


@pytest.mark.parametrize(
    "settings", [{"kernel_size": 5}, {"strides": 2}, {"padding": "valid"}, {"use_bias": False}, {"groups": 2}]
)
def test_what_the_algorithm_is_not_for_is_refused(settings):
    with pytest.raises(ValueError, match="Winograd's algorithm is for a 3 x 3 kernel"):
        WinogradConv2D(4, **settings)


def test_the_layer_goes_through_a_file(tmp_path):
    inputs = keras.Input((5, 6, 3))
    network = keras.Model(inputs, WinogradConv2D(4, activation="relu", name="conv")(inputs))
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    x = drawn(5, 6, channels=3)[0]
    assert isinstance(again.get_layer("conv"), WinogradConv2D)
    np.testing.assert_array_equal(again(x).numpy(), network(x).numpy())


def test_the_dense_gradient_is_the_product_with_the_transposed_weights():
    rng = np.random.default_rng(3)
    x, kernel, upstream = (rng.normal(size=s).astype(np.float32) for s in ((4, 6), (6, 5), (4, 5)))
    layer = TrainingDense(5, activation="relu")
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    layer.bias.assign(np.arange(5, dtype=np.float32))
    with tf.GradientTape() as tape:
        rows = tf.constant(x)
        tape.watch(rows)
        y = layer(rows)
    found = tape.gradient(y, [rows, layer.kernel.value, layer.bias.value], tf.constant(upstream))
    before = x @ kernel + np.arange(5)
    passed = upstream * (before > 0)
    np.testing.assert_allclose(y.numpy(), np.maximum(before, 0), rtol=1e-5)
    for gradient, expected in zip(found, (passed @ kernel.T, x.T @ passed, passed.sum(0)), strict=True):
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_training_network_has_the_same_weights_and_gives_the_same_numbers():
    """`fused` changes how the network computes, not what: same paths, same logits."""
    plain, fused = (model.build("paper", 7, seed=2, fused=fused) for fused in (False, True))
    assert [v.path for v in fused.weights] == [v.path for v in plain.weights]
    kinds = {type(layer) for layer in fused.layers}
    assert WinogradConv2D in kinds
    assert TrainingDense in kinds
    pixels = np.random.default_rng(0).normal(0, 60, (2, 224, 224, 3)).astype(np.float32)
    ours, theirs = (network(pixels, training=False).numpy() for network in (fused, plain))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
