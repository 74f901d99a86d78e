"""The network: its sizes, its weights before training, and the ways of writing it that are equal."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import model
from alexnet_tf.network import graph, variants
from alexnet_tf.network.layers import TwoGroupConv2D
from pipelines.errors import UserError
from tests.support import bfloat16_here

# Parameters and multiply-adds of every layer of the 2012 network, both towers together.
PAPER_TABLE = {
    "conv1": (34_944, 105_415_200),
    "conv2": (307_456, 223_948_800),
    "conv3": (885_120, 149_520_384),
    "conv4": (663_936, 112_140_288),
    "conv5": (442_624, 74_760_192),
    "fc6": (37_752_832, 37_748_736),
    "fc7": (16_781_312, 16_777_216),
    "fc8": (4_097_000, 4_096_000),
}
# Sides of the maps after each convolution and each pooling.
SIDES = {
    "conv1": 55,
    "pool1": 27,
    "conv2": 27,
    "pool2": 13,
    "conv3": 13,
    "conv4": 13,
    "conv5": 13,
    "pool5": 6,
}


@pytest.fixture(scope="module")
def paper() -> keras.Model:
    return model.build("paper")


@pytest.fixture
def slim(monkeypatch: pytest.MonkeyPatch):
    """Builds variants with 64 hidden units: their convolutions as they are, in a fraction of the time."""

    def build(name: str, classes: int = 10, **settings) -> keras.Model:
        narrow = dataclasses.replace(variants.get(name), hidden=64)
        monkeypatch.setitem(variants.VARIANTS, name, narrow)
        return model.build(name, classes, **settings)

    return build


def _pixels(count: int = 2, side: int = 224, seed: int = 0) -> np.ndarray:
    """Mean-subtracted pictures: grey levels of about -128..127, smooth enough to excite large filters."""
    coarse = np.random.default_rng(seed).normal(0.0, 60.0, (count, side // 8 + 1, side // 8 + 1, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side].astype("float32")


def _both_towers(counts: dict[str, int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, count in counts.items():
        layer = name.removesuffix("_a").removesuffix("_b")
        sums[layer] = sums.get(layer, 0) + count
    return sums


def _parameters(network: keras.Model) -> dict[str, int]:
    return _both_towers({layer.name: layer.count_params() for layer in network.layers if layer.weights})


def _side(network: keras.Model, name: str) -> int:
    layer = next(layer for layer in network.layers if layer.name in (name, f"{name}_a"))
    assert layer.output.shape[1] == layer.output.shape[2]
    return layer.output.shape[1]


def test_parameters_and_multiply_adds_layer_by_layer(paper: keras.Model) -> None:
    parameters, products = _parameters(paper), _both_towers(model.multiply_adds(paper))
    assert {name: (parameters[name], products[name]) for name in parameters} == PAPER_TABLE
    assert paper.count_params() == 60_965_224
    assert sum(model.multiply_adds(paper).values()) == 724_406_816


def test_maps_and_units_of_the_paper(paper: keras.Model) -> None:
    assert {name: _side(paper, name) for name in SIDES} == SIDES
    assert paper.input_shape == (None, 224, 224, 3)
    assert paper.output_shape == (None, 1000)
    # Figure 2: 253,440 of its conv1 is 55 * 48 * 96, a slip for 55 * 55 * 96; the others are right.
    towers = [paper.get_layer(f"conv{number}_a") for number in range(1, 6)]
    neurons = [2 * np.prod(layer.output.shape[1:]) for layer in towers]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264]
    assert paper.get_layer("relu7").output.shape == (None, 4096)


@pytest.mark.parametrize(
    ("variant", "parameters", "products", "sides"),
    [
        ("original", 60_965_224, 724_406_816, SIDES),
        ("merged", 60_965_224, 724_406_816, SIDES),
        ("half", 59_798_312, 391_514_384, SIDES),
        ("no_normalization", 60_965_224, 724_406_816, SIDES),
        # 55 -> 28 (the last window hangs over) -> conv2 with padding 1: 26 -> 13 -> unpadded conv5: 11 -> 6
        (
            "non_overlapping_pooling",
            60_965_224,
            686_891_552,
            {**SIDES, "pool1": 28, "conv2": 26, "conv5": 11},
        ),
        ("conv6", 61_555_304, 745_640_480, {**SIDES, "conv6": 6}),
        ("one_weird_trick", 61_100_840, 714_188_480, SIDES),
        ("caffe", 60_965_224, 724_406_816, SIDES),
        ("caffenet", 60_965_224, 724_406_816, SIDES),
    ],
)
def test_totals_and_sides_of_the_variants(
    variant: str, parameters: int, products: int, sides: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sizes do not depend on the weights, and drawing 60 million of them takes seconds.
    monkeypatch.setattr(
        keras.initializers.RandomNormal, "__call__", lambda self, shape, dtype=None: tf.zeros(shape, dtype)
    )
    network = model.build(variant)
    assert network.count_params() == parameters
    assert sum(model.multiply_adds(network).values()) == products
    assert {name: _side(network, name) for name in sides} == sides
    assert network.get_layer("flatten").output.shape == (None, 9216)


def test_nothing_uses_a_grouped_convolution(slim) -> None:
    for variant in variants.VARIANTS:
        assert all(getattr(layer, "groups", 1) == 1 for layer in slim(variant).layers if "conv" in layer.name)


@pytest.mark.parametrize("variant", ["paper", "original", "caffe", "one_weird_trick", "conv6"])
def test_initial_weights_are_those_of_the_table(variant: str, slim) -> None:
    network, arch = slim(variant, classes=1000), variants.get(variant)
    for layer in (layer for layer in network.layers if layer.weights):
        name = layer.name.removesuffix("_a").removesuffix("_b").replace("conv6", "conv5")
        std, bias = (table[variants.LAYERS.index(name)] for table in (arch.weight_std, arch.bias))
        kernel = np.asarray(layer.kernel).ravel()
        error = 4.0 / np.sqrt(kernel.size)  # four standard deviations of the sample's own
        assert abs(kernel.mean()) < error * std, layer.name
        assert kernel.std() == pytest.approx(std, rel=error), layer.name
        assert np.abs(kernel).max() > 3.2 * std, f"{layer.name}: the Gaussian is cut off"
        np.testing.assert_array_equal(layer.bias, np.full(layer.bias.shape, bias, "float32"))


def test_he_weights_have_variance_2_over_fan_in_and_no_bias(slim) -> None:
    network = slim("merged", initializer="he")
    for layer in (layer for layer in network.layers if layer.weights):
        kernel = np.asarray(layer.kernel)
        fan_in = np.prod(kernel.shape[:-1])
        assert kernel.std() == pytest.approx(np.sqrt(2.0 / fan_in), rel=5.0 / np.sqrt(kernel.size)), (
            layer.name
        )
        assert not np.any(layer.bias)


def test_he_draws_conv1_for_the_size_of_its_pixels(slim) -> None:
    plain, large = slim("paper", initializer="he"), slim("paper", initializer="he", pixel_std=4.0)
    for one, other in zip(plain.weights, large.weights, strict=True):
        np.testing.assert_allclose(np.asarray(one) / (4.0 if "conv1" in one.path else 1.0), other, rtol=1e-6)


def test_a_seed_decides_the_weights_and_no_two_layers_share_them(slim) -> None:
    first, again, other = slim("paper", seed=1), slim("paper", seed=1), slim("paper", seed=2)
    for ours, same, different in zip(first.weights, again.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours, same)
        assert not ours.path.endswith("kernel") or not np.array_equal(ours, different)
    for number in range(1, 6):
        a, b = (np.asarray(first.get_layer(f"conv{number}_{tower}").kernel) for tower in "ab")
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05


def test_the_last_windows_read_three_rows_and_columns_of_zeros(paper: keras.Model) -> None:
    pixels = _pixels(1)
    kernel = np.asarray(paper.get_layer("conv1_a").kernel, "float64")
    maps = np.asarray(keras.Model(paper.input, paper.get_layer("conv1_a").output)(pixels))[0]
    for row, column in [(54, 54), (54, 0), (0, 54), (54, 30), (17, 54), (0, 0)]:
        window = pixels[0, 4 * row : 4 * row + 11, 4 * column : 4 * column + 11].astype("float64")
        # Window 54 begins at pixel 216 and finds 8 of its 11 pixels: what hangs over reads zero.
        assert window.shape == (8 if row == 54 else 11, 8 if column == 54 else 11, 3)
        expected = np.einsum("yxc,yxcf->f", window, kernel[: window.shape[0], : window.shape[1]])
        np.testing.assert_allclose(maps[row, column], expected, rtol=1e-4, atol=1e-3)


def _merged_weights(two_tower: keras.Model, merged: keras.Model) -> None:
    """Gives the one-path network the towers' weights: kernels and biases joined on the output maps."""
    for layer in (layer for layer in merged.layers if layer.weights):
        names = [layer.name] if layer.name.startswith("fc") else [f"{layer.name}_a", f"{layer.name}_b"]
        parts = [two_tower.get_layer(name).get_weights() for name in names]
        layer.set_weights([np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)])


def _with_grouped_convolutions(merged: keras.Model) -> keras.Model:
    def replace(layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, TwoGroupConv2D):
            return type(layer).from_config(layer.get_config())
        return keras.layers.Conv2D(
            layer.filters, layer.kernel_size, padding="same", groups=2, name=layer.name
        )

    grouped = keras.models.clone_model(merged, clone_function=replace)
    grouped.set_weights(merged.get_weights())
    return grouped


def _loss_gradients(network: keras.Model, pixels: np.ndarray) -> dict[str, np.ndarray]:
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(
            np.array([3, 7]), network(pixels), from_logits=True
        )
    gradients = tape.gradient(loss, {v.path: v for v in network.trainable_variables})
    return {path: np.asarray(gradient) for path, gradient in gradients.items()}


def test_two_towers_equal_one_path_equal_grouped_convolutions(slim) -> None:
    towers, merged = slim("paper", initializer="he"), slim("merged", initializer="he")
    _merged_weights(towers, merged)
    pixels = _pixels() / 10.0
    expected = np.asarray(towers(pixels))
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(merged(pixels), expected, rtol=1e-4, atol=tolerance)
    np.testing.assert_allclose(
        _with_grouped_convolutions(merged)(pixels), expected, rtol=1e-4, atol=tolerance
    )
    split, joined = _loss_gradients(towers, pixels), _loss_gradients(merged, pixels)
    for path, gradient in joined.items():
        layer, _, kind = path.partition("/")
        parts = [split[path]] if path in split else [split[f"{layer}_{tower}/{kind}"] for tower in "ab"]
        together = np.concatenate(parts, axis=-1)
        np.testing.assert_allclose(
            gradient, together, rtol=1e-3, atol=1e-4 * np.abs(together).max(), err_msg=path
        )


@pytest.mark.parametrize("variant", ["paper", "original"])
def test_compiled_normalisation_changes_no_logit(variant: str, slim) -> None:
    plain, fused = (slim(variant, initializer="he", fused=flag) for flag in (False, True))
    pixels = _pixels(1) / 10.0
    expected = np.asarray(plain(pixels))
    np.testing.assert_allclose(fused(pixels), expected, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_computes_in_bfloat16_and_keeps_weights_and_logits_in_float32(slim) -> None:
    bfloat16_here.needed()
    policies = ("float32", "mixed_bfloat16")
    exact, mixed = (slim("paper", initializer="he", dtype_policy=policy) for policy in policies)
    assert {v.dtype for v in mixed.trainable_variables} == {"float32"}
    assert mixed.get_layer("conv3_a").output.dtype == mixed.get_layer("fc7").output.dtype == "bfloat16"
    pixels = _pixels() / 10.0
    logits, expected = np.asarray(mixed(pixels)), np.asarray(exact(pixels))
    assert logits.dtype == "float32"
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    assert 0.0 < difference < 0.05


def test_dropout_follows_each_hidden_layer_or_precedes_it(slim) -> None:
    after, before = "fc6 relu6 dropout6 fc7 relu7 dropout7", "dropout6 fc6 relu6 dropout7 fc7 relu7"
    for variant, hidden in (("paper", after), ("one_weird_trick", before)):
        order = [layer.name for layer in slim(variant).layers]
        assert order[order.index("flatten") :] == ["flatten", *hidden.split(), "fc8", "logits"]


def test_testing_halves_what_the_hidden_layers_send(slim) -> None:
    network = slim("paper")
    probe = keras.Model(network.input, [network.get_layer(name).output for name in ("relu7", "fc8")])
    hidden, scores = probe(_pixels(1))
    expected = 0.5 * (np.asarray(hidden) @ np.asarray(network.get_layer("fc8").kernel))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("size", "padding"), [(5, 2), (3, 1), (2, 1), (3, 0)])
@pytest.mark.parametrize("strides", [1, 2])
def test_a_convolution_keeps_its_stride_and_padding(
    groups: int, size: int, padding: int, strides: int
) -> None:
    builder = model.Builder(variants.get("merged"), "float32", seed=0, fused=False)
    inputs = keras.Input((9, 9, 4))
    (maps,) = builder.conv("conv2", [inputs], 6, size, strides, padding, groups)
    network = keras.Model(inputs, maps)
    x = np.random.default_rng(0).standard_normal((1, 9, 9, 4)).astype("float32")
    kernel, bias = network.get_weights()
    padded = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    side = (padded.shape[1] - size) // strides + 1
    assert maps.shape == (None, side, side, 6)
    own = 4 // groups
    for row, column, f in [(0, 0, 0), (side - 1, side - 1, 5), (1, side - 2, 3)]:
        first = f // (6 // groups) * own
        top, left = strides * row, strides * column
        window = padded[0, top : top + size, left : left + size, first : first + own]
        expected = np.sum(window * kernel[..., f]) + bias[f]
        np.testing.assert_allclose(network(x)[0, row, column, f], expected, rtol=1e-4, atol=1e-6)


def test_convolutions_connect_in_one_group_or_two() -> None:
    builder = model.Builder(variants.get("merged"), "float32", seed=0, fused=False)
    with pytest.raises(ValueError, match=r"`groups` must be 1 or 2. Received: groups=3"):
        builder.conv("conv2", [keras.Input((9, 9, 6))], 6, 3, groups=3)


@pytest.mark.parametrize("variant", variants.VARIANTS)
def test_the_first_layer_is_the_architecture_s(variant: str, slim) -> None:
    network, arch = slim(variant), variants.get(variant)
    found = graph.first_layers(network)
    assert tuple(layer.name for layer in found) == arch.first_layers
    first = arch.first_layer
    for layer in found:
        assert (layer.kernel_size, layer.strides) == ((first.kernel,) * 2, (first.stride,) * 2)
    paths = [variable.path for variable in model.first_layer_variables(network)]
    assert paths == [f"{name}/{kind}" for name in arch.first_layers for kind in ("kernel", "bias")]


def test_another_first_layer_is_built_drawn_and_found(monkeypatch: pytest.MonkeyPatch) -> None:
    first = variants.FirstLayer(kernel=7, stride=2)
    arch = dataclasses.replace(
        variants.get("half"), first_layer=first, input_size=67, conv1_padding=(1, 1), hidden=16
    )
    monkeypatch.setitem(variants.VARIANTS, "seven", arch)
    network, large = (
        model.build("seven", 4, initializer="he", pixel_std=pixel_std) for pixel_std in (1.0, 4.0)
    )
    assert network.get_layer("conv1").output.shape == (None, 32, 32, 48)
    assert model.conv1_kernels(network).shape == (7, 7, 3, 48)
    np.testing.assert_allclose(model.conv1_kernels(network) / 4.0, model.conv1_kernels(large), rtol=1e-6)


def test_first_layers_are_found_by_what_they_read() -> None:
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    one = keras.layers.Conv2D(2, 3, name="left")(x)
    other = keras.layers.Conv2D(2, 3, name="right")(keras.layers.ReLU()(x))
    joined = keras.layers.Concatenate()([one, other])
    scores = keras.layers.Dense(2, name="last")(keras.layers.Flatten()(joined))
    network = keras.Model(pixels, scores)
    assert [layer.name for layer in graph.first_layers(network)] == ["left", "right"]


def test_conv1_kernels_list_tower_a_first(slim) -> None:
    towers = slim("paper")
    kernels = model.conv1_kernels(towers)
    assert kernels.shape == (11, 11, 3, 96)
    np.testing.assert_array_equal(kernels[..., :48], towers.get_layer("conv1_a").kernel)
    np.testing.assert_array_equal(kernels[..., 48:], towers.get_layer("conv1_b").kernel)
    assert model.conv1_kernels(slim("one_weird_trick")).shape == (11, 11, 3, 64)


@pytest.mark.parametrize(
    "setting", [{"initializer": "xavier"}, {"classes": 1}, {"variant": "vgg"}], ids=lambda s: next(iter(s))
)
def test_wrong_settings_are_named(setting: dict) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(UserError, match=rf"`{name}` must be .*received '?{value}"):
        model.build(**setting)
