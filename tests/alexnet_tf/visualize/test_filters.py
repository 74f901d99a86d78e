"""Kernels of the layers above the first: whose they are, what they read, and where each weight is drawn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from alexnet_tf.figures import kernels as kernel_figures
from alexnet_tf.figures.kernels import tile, unit_kernels
from alexnet_tf.figures.text import SCALINGS
from alexnet_tf.network.layers import TwoGroupConv2D
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import filters, network
from pipelines.errors import UserError
from tests.support import small_runs, small_towers

TOWERS = ("tower a", "tower b")


@pytest.fixture(scope="module")
def model():
    return small_towers.network()


def test_banks_know_their_tower_and_whose_maps_they_read(model):
    found = kernel_figures.banks(model, "conv2", TOWERS)
    assert [(bank.tower, bank.sources) for bank in found] == [(t, (t,)) for t in TOWERS]
    for bank, name in zip(found, ("conv2_a", "conv2_b"), strict=True):
        np.testing.assert_array_equal(bank.kernels, model.get_layer(name).kernel)
    found = kernel_figures.banks(model, "conv3", TOWERS)  # the towers meet there
    assert [(bank.tower, bank.sources) for bank in found] == [(t, TOWERS) for t in TOWERS]
    (alone,) = kernel_figures.banks(model, "conv2_b", TOWERS)
    assert (alone.tower, alone.sources) == ("tower b", ("tower b",))
    legal = "conv1, conv1_a, conv1_b, conv2, conv2_a, conv2_b, conv3, conv3_a, conv3_b"
    with pytest.raises(UserError, match=f"no convolution 'pool1' in small_towers; legal: {legal}"):
        kernel_figures.banks(model, "pool1", TOWERS)


def test_halves_of_one_path_are_towers_and_a_single_path_has_none():
    pixels = keras.Input((8, 8, 4))
    y = TwoGroupConv2D(6, 3, name="conv2")(pixels)
    merged = keras.Model(pixels, layers.Conv2D(8, 3, name="conv3")(y))
    first, second = kernel_figures.banks(merged, "conv2", TOWERS)
    assert (first.sources, second.sources) == (("tower a",), ("tower b",))
    np.testing.assert_array_equal(second.kernels, merged.get_layer("conv2").kernel[..., 3:])
    first, second = kernel_figures.banks(merged, "conv3", TOWERS)
    assert (first.tower, first.sources, first.kernels.shape) == ("tower a", TOWERS, (3, 3, 6, 4))
    (whole,) = kernel_figures.banks(merged, "conv3", ("",))
    assert (whole.tower, whole.kernels.shape) == ("", (3, 3, 6, 8))


def test_no_weight_is_grey_and_the_largest_black_or_white():
    kernels = np.zeros((1, 2, 1, 3), np.float32)
    kernels[0, :, 0, :2] = [[1, -2], [-0.5, 4]]
    joint = kernel_figures.to_unit(kernels, 4.0)
    np.testing.assert_allclose(joint[0, :, 0], [[0.625, 0.25, 0.5], [0.4375, 1.0, 0.5]])
    alone = kernel_figures.to_unit(kernels)
    np.testing.assert_allclose(alone[0, :, 0], [[1.0, 0.25, 0.5], [0.25, 1.0, 0.5]])


def test_a_table_has_a_row_a_kernel_and_a_column_a_map():
    greys = np.random.default_rng(0).uniform(0, 0.9, (3, 5, 4, 6)).astype(np.float32)
    sheet = kernel_figures.table(greys, 2, times=2)
    wide = 2 * (2 * 6 - 1)  # two maps of five weights, with a gap of one between
    assert sheet.shape == (2 * (6 * 4 - 1), 2 * wide + kernel_figures.APART, 3)
    for maps in range(4):
        left = maps % 2 * 12 + maps // 2 * (wide + kernel_figures.APART)
        for kernel in range(6):
            top = kernel * 8
            shown = sheet[top : top + 6 : 2, left : left + 10 : 2, 0]
            np.testing.assert_array_equal(shown, (greys[..., maps, kernel] * 255 + 0.5).astype(np.uint8))
            assert (sheet[top + 6 : top + 8] == 255).all()
    assert (sheet[:, wide : wide + kernel_figures.APART] == 255).all()


@pytest.fixture
def run(tmp_path, model, monkeypatch):
    monkeypatch.setattr(network, "load", lambda run: (model, ""))
    return small_runs.create(tmp_path / "run", "synthetic", ["cat", "dog"])


def words(run, tmp_path, *more):
    return ["filters", "--workdir", str(run.workdir), "--out", str(tmp_path / "out"), *more]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_higher_layer_is_drawn_pixel_for_pixel(run, tmp_path, model, scaling):
    assert command.main(words(run, tmp_path, "--layer", "conv3", "--scaling", scaling)) == 0
    with np.load(tmp_path / "out" / "filters.npz") as numbers:
        kernels = numbers["kernels"]
        assert numbers["towers"].tolist() == list(TOWERS)
    own = [np.asarray(model.get_layer(f"conv3_{tower}").kernel) for tower in "ab"]
    np.testing.assert_array_equal(kernels, np.concatenate(own, axis=-1))
    with Image.open(tmp_path / "out" / "filters.png") as picture:
        page = np.asarray(picture.convert("RGB"))
    left, top = kernel_figures.SIDE + kernel_figures.NUMBERS, kernel_figures.TOP + kernel_figures.WORDS
    for tower in own:
        greys = kernel_figures.to_unit(tower, np.abs(kernels).max() if scaling == "joint" else None)
        sheet = kernel_figures.table(greys, 2, kernel_figures.MOST)
        np.testing.assert_array_equal(
            page[top : top + len(sheet), left : left + sheet.shape[1]], sheet, err_msg=str(tower.shape)
        )
        left += sheet.shape[1] + kernel_figures.NUMBERS + kernel_figures.BETWEEN


def test_a_picked_kernel_is_its_own_and_large(model):
    found = kernel_figures.banks(model, "conv3", TOWERS)
    page = kernel_figures.figure("conv3", found, "", scaling="filter", units=[3])
    shown = np.asarray(page.axes[0].images[0].get_array())
    own = kernel_figures.to_unit(found[1].kernels)[..., 1]
    times = round(kernel_figures.PICKED / 8)  # two squares in a row, each three weights and a gap
    corner = shown[: 3 * times : times, : 3 * times : times, 0]
    np.testing.assert_array_equal(corner, (own[..., 0] * 255 + 0.5).astype(np.uint8))
    assert page.axes[0].get_position().width * page.get_size_inches()[0] * 100 == pytest.approx(
        shown.shape[1]
    )


def test_picked_kernels_of_conv1_are_in_colour():
    kernels = np.random.default_rng(0).normal(size=(11, 11, 3, 6)).astype(np.float32)
    page = filters.figure(kernels, TOWERS, "", units=[4, 1])
    shown = [np.asarray(axes.images[0].get_array()) for axes in page.axes]
    np.testing.assert_allclose(shown, unit_kernels(kernels)[[4, 1]])
    assert [text.get_text() for text in page.texts][2:] == ["kernel 4", "tower b", "kernel 1", "tower a"]


@pytest.mark.parametrize("side", [3, 7, 11])
def test_a_page_fits_kernels_of_any_size(side):
    kernels = np.random.default_rng(0).normal(size=(side, side, 3, 64)).astype(np.float32)
    page = filters.figure(kernels, TOWERS, "")
    blocks = [np.asarray(block.get_array()) for block in page.images]
    for block in blocks:
        np.testing.assert_array_equal(block.shape[:2], tile(np.zeros((32, side, side, 3))).shape[:2])
    width, height = page.get_size_inches() * page.dpi
    assert width == pytest.approx(filters.LEFT + blocks[0].shape[1] + filters.RIGHT)
    used = sum(block.shape[0] for block in blocks) + filters.BETWEEN
    assert height == pytest.approx(filters.TOP + used + filters.BOTTOM)


def test_one_tower_s_conv1_is_in_colour_too(run, tmp_path, monkeypatch):
    pixels = keras.Input((32, 32, 3))
    initial = keras.initializers.RandomNormal(0, 1, 2)
    maps = [layers.Conv2D(18, 11, name=f"conv1_{t}", kernel_initializer=initial)(pixels) for t in "ab"]
    first = keras.Model(pixels, maps)
    monkeypatch.setattr(network, "load", lambda run: (first, ""))
    assert command.main(words(run, tmp_path, "--layer", "conv1_b")) == 0
    own = np.asarray(first.get_layer("conv1_b").kernel)
    with np.load(tmp_path / "out" / "filters.npz") as numbers:
        np.testing.assert_array_equal(numbers["kernels"], own)
        assert numbers["towers"].tolist() == ["tower b"]
    sheet = tile(unit_kernels(own))
    with Image.open(tmp_path / "out" / "filters.png") as picture:
        page = np.asarray(picture.convert("RGB"))
    shown = page[filters.TOP : filters.TOP + len(sheet), filters.LEFT : filters.LEFT + sheet.shape[1]]
    np.testing.assert_array_equal(shown, sheet)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "conv9"], "no convolution 'conv9'"),
        (["--layer", "conv3", "--units", "4"], "conv3 has units 0 to 3; received 4"),
        (["--units", *["1"] * 33], "holds 32; received 33"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, capsys, more, message):
    assert command.main(words(run, tmp_path, *more)) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []
