"""Normalisation and grouped convolution against plain NumPy loops, with their gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.network.layers import (
    InvertedDropout,
    LocalResponseNormalization,
    PaperDropout,
    SpatialResponseNormalization,
    TowerSplit,
    TwoGroupConv2D,
)

# Grey levels minus their mean: at this size the sum of squares matters beside k.
SCALE = 60.0
BFLOAT16_ROUNDING = 1.001 * 2.0**-8  # 8 significant bits, so half a unit in the last one


def _maps(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * SCALE).astype("float32")


def _channel_window(i: int, channels: int, size: int, groups: int) -> range:
    """The channels that normalise channel i: those around it, within its own group."""
    width = channels // groups
    first = i // width * width
    return range(max(first, i - size // 2), min(first + width, i + size // 2 + 1))


def _lrn_loop(
    x: np.ndarray, size: int, k: float, alpha: float, beta: float, groups: int, upstream: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(output, gradient of sum(output * upstream)) in float64, one number after the other."""
    x, upstream = x.astype("float64"), upstream.astype("float64")
    channels = x.shape[-1]
    out, gradient = np.zeros_like(x), np.zeros_like(x)
    for place in np.ndindex(*x.shape[:-1]):
        for i in range(channels):
            window = _channel_window(i, channels, size, groups)
            base = k
            for j in window:
                base += alpha * x[place][j] ** 2
            out[place][i] = x[place][i] / base**beta
            gradient[place][i] += upstream[place][i] / base**beta
            for j in window:
                slope = -beta * x[place][i] * base ** (-beta - 1) * 2 * alpha * x[place][j]
                gradient[place][j] += upstream[place][i] * slope
    return out, gradient


def _spatial_loop(x: np.ndarray, size: int, alpha: float, beta: float) -> np.ndarray:
    x = x.astype("float64")
    out = np.zeros_like(x)
    _, height, width, _ = x.shape
    reach = range(-(size // 2), size // 2 + 1)
    for n, row, column, c in np.ndindex(*x.shape):
        total = 0.0
        for y in (row + d for d in reach):
            for z in (column + d for d in reach):
                if 0 <= y < height and 0 <= z < width:
                    total += x[n, y, z, c] ** 2
        out[n, row, column, c] = x[n, row, column, c] / (1 + alpha * total) ** beta
    return out


def _apply(layer: keras.Layer, x: np.ndarray, upstream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(output, gradient) of a layer, float32 copies."""
    inputs = tf.cast(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        out = layer(inputs)
        loss = tf.reduce_sum(tf.cast(out, "float32") * upstream)
    assert out.dtype == layer.compute_dtype
    return tf.cast(out, "float32").numpy(), tf.cast(tape.gradient(loss, inputs), "float32").numpy()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("size", "k", "alpha", "beta"), [(5, 2.0, 1e-4, 0.75), (3, 1.0, 2e-3, 0.5), (1, 2.0, 1e-4, 0.75)]
)
def test_lrn_equals_a_loop_in_float32(
    fused: bool, groups: int, size: int, k: float, alpha: float, beta: float
) -> None:
    x, upstream = _maps(2, 3, 2, 12), _maps(2, 3, 2, 12, seed=1) / SCALE
    layer = LocalResponseNormalization(size, k, alpha, beta, groups, fused=fused)
    out, gradient = _apply(layer, x, upstream)
    expected, expected_gradient = _lrn_loop(x, size, k, alpha, beta, groups, upstream)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_lrn_in_bfloat16_rounds_only_what_goes_in_and_out(fused: bool, groups: int) -> None:
    x, upstream = (
        tf.cast(tf.cast(_maps(2, 3, 2, 12, seed=s), "bfloat16"), "float32").numpy() for s in (0, 1)
    )
    layer = LocalResponseNormalization(groups=groups, fused=fused, dtype="mixed_bfloat16")
    out, gradient = _apply(layer, x, upstream)
    expected, expected_gradient = _lrn_loop(x, 5, 2.0, 1e-4, 0.75, groups, upstream)
    # One rounding of the result; a sum of squares taken in bfloat16 would be several times further off.
    np.testing.assert_allclose(out, expected, rtol=BFLOAT16_ROUNDING)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=BFLOAT16_ROUNDING, atol=1e-4)


def test_lrn_equals_tensorflows() -> None:
    x, upstream = _maps(2, 4, 4, 96), _maps(2, 4, 4, 96, seed=1)
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        expected = tf.nn.local_response_normalization(inputs, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75)
        loss = tf.reduce_sum(expected * upstream)
    expected_gradient = tape.gradient(loss, inputs)
    for fused in (False, True):
        out, gradient = _apply(LocalResponseNormalization(fused=fused), x, upstream)
        np.testing.assert_allclose(out, expected, rtol=2e-5)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=2e-4)


def test_two_groups_are_two_layers() -> None:
    x = _maps(1, 2, 2, 12)
    joint, alone = LocalResponseNormalization(groups=2), LocalResponseNormalization()
    halves = np.concatenate([alone(x[..., :6]), alone(x[..., 6:])], axis=-1)
    np.testing.assert_allclose(joint(x), halves, rtol=1e-6)
    # Windows that reach across change the two channels on either side of the border, and no others.
    differs = np.any(~np.isclose(alone(x), halves, rtol=1e-6), axis=(0, 1, 2))
    assert np.flatnonzero(differs).tolist() == [4, 5, 6, 7]


def test_k_2_is_k_1_with_half_the_alpha_times_a_constant() -> None:
    x = _maps(1, 2, 2, 12)
    k2 = LocalResponseNormalization(k=2.0, alpha=1e-4)(x)
    k1 = LocalResponseNormalization(k=1.0, alpha=0.5e-4)(x)
    np.testing.assert_allclose(k2, 2.0**-0.75 * np.asarray(k1), rtol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("size", "shape"), [(5, (2, 7, 6, 3)), (3, (1, 4, 5, 2)), (5, (1, 3, 2, 2))])
def test_spatial_norm_equals_a_loop_up_to_the_edges(fused: bool, size: int, shape: tuple[int, ...]) -> None:
    x = _maps(*shape)
    layer = SpatialResponseNormalization(size, fused=fused)
    np.testing.assert_allclose(layer(x), _spatial_loop(x, size, 0.001 / 25, 0.75), rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_gradient_of_the_spatial_norm_equals_finite_differences(fused: bool) -> None:
    x, upstream = _maps(1, 4, 5, 2), _maps(1, 4, 5, 2, seed=1) / SCALE
    _, gradient = _apply(SpatialResponseNormalization(fused=fused), x, upstream)
    expected, step = np.zeros(x.shape), 1e-3
    for index in np.ndindex(*x.shape):
        moved = [x.astype("float64"), x.astype("float64")]
        moved[0][index] += step
        moved[1][index] -= step
        above, below = (np.sum(_spatial_loop(m, 5, 0.001 / 25, 0.75) * upstream) for m in moved)
        expected[index] = (above - below) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def _grouped_loop(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, padding: int, stride: int
) -> np.ndarray:
    x = np.pad(x.astype("float64"), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    size, _, own, filters = kernel.shape
    height, width = ((side - size) // stride + 1 for side in x.shape[1:3])
    out = np.zeros((len(x), height, width, filters))
    for n, row, column, f in np.ndindex(*out.shape):
        first = f // (filters // 2) * own  # the first half of the filters reads the first half of the maps
        top, left = stride * row, stride * column
        window = x[n, top : top + size, left : left + size, first : first + own]
        out[n, row, column, f] = np.sum(window * kernel[..., f]) + bias[f]
    return out


@pytest.mark.parametrize(
    ("size", "padding", "stride"), [(3, 1, 1), (5, 2, 1), (3, 0, 1), (5, 1, 1), (3, 1, 2), (3, 0, 3)]
)
def test_grouped_convolution_equals_a_loop(size: int, padding: int, stride: int) -> None:
    biases = keras.initializers.RandomNormal(0, 1, seed=1)
    layer = TwoGroupConv2D(6, size, padding, strides=stride, bias_initializer=biases)
    x = _maps(2, 6, 7, 4) / SCALE
    out = layer(x)
    assert layer.kernel.shape == (size, size, 2, 6)
    assert out.shape == layer.compute_output_shape(x.shape)
    expected = _grouped_loop(x, np.asarray(layer.kernel), np.asarray(layer.bias), padding, stride)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_towers_are_the_halves_of_the_maps() -> None:
    x = _maps(2, 3, 3, 6)
    first, second = TowerSplit()(x)
    np.testing.assert_array_equal(first, x[..., :3])
    np.testing.assert_array_equal(second, x[..., 3:])


LAYERS = {
    "lrn": LocalResponseNormalization(3, 1.0, 1e-3, 0.5, groups=2, fused=True, name="lrn"),
    "spatial": SpatialResponseNormalization(3, 1e-3, 0.5, fused=True, name="spatial"),
    "paper_dropout": PaperDropout(0.25, seed=3, name="dropped"),
    "inverted_dropout": InvertedDropout(0.25, seed=3, name="dropped"),
    "two_groups": TwoGroupConv2D(4, 3, 1, kernel_initializer=keras.initializers.HeNormal(1), name="conv"),
    "strided_groups": TwoGroupConv2D(4, 3, 1, strides=2, name="conv"),
    "split": TowerSplit(name="towers"),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_its_configuration(kind: str) -> None:
    config = LAYERS[kind].get_config()
    again = type(LAYERS[kind]).from_config(config)
    assert again.get_config() == config
    mixed = type(LAYERS[kind]).from_config({**config, "dtype": "mixed_bfloat16"})
    assert mixed.compute_dtype == "bfloat16"


@pytest.mark.parametrize("kind", LAYERS)
def test_a_saved_layer_is_found_again_by_name(kind: str, tmp_path) -> None:
    inputs = keras.Input((5, 6, 4))
    layer = type(LAYERS[kind]).from_config(LAYERS[kind].get_config())
    network, path = keras.Model(inputs, layer(inputs)), tmp_path / "network.keras"
    network.save(path)
    again = keras.models.load_model(path)
    assert type(again.layers[-1]) is type(layer)
    x = _maps(2, 5, 6, 4)
    for ours, theirs in zip(tf.nest.flatten(network(x)), tf.nest.flatten(again(x)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalResponseNormalization(size=4), r"`size` must be an odd.*Received: size=4"),
        (lambda: LocalResponseNormalization(groups=0), r"`groups` must be 1 or more.*Received: groups=0"),
        (lambda: LocalResponseNormalization(groups=2)(_maps(1, 2, 2, 3)), r"`groups` must divide.*groups=2"),
        (lambda: SpatialResponseNormalization(size=2), r"`size` must be an odd.*Received: size=2"),
        (lambda: PaperDropout(1.0), r"`rate` must lie in \[0, 1\).*Received: rate=1.0"),
        (lambda: TwoGroupConv2D(3, 3), r"`filters` must be even.*Received: filters=3"),
        (lambda: TwoGroupConv2D(4, 3)(_maps(1, 3, 3, 3)), r"even number of channels.*Received"),
    ],
)
def test_a_wrong_argument_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
