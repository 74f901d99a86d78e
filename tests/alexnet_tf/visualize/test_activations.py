"""Maps of a layer lie where the layer's units do, and their greys mean what the page says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from alexnet_tf.figures import grid
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import activations, network
from pipelines.errors import UserError
from tests.support import small_runs, small_towers

NAMES = ["cat", "dog"]


@pytest.fixture(scope="module")
def model():
    return small_towers.network()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)


def test_both_towers_maps_stand_one_after_the_other(model, pixels):
    found = activations.maps(model, pixels, "conv1")
    padded = np.pad(pixels, ((0, 0), (0, 3), (0, 3), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))[:, ::2, ::2]
    for tower, half in (("a", slice(0, 2)), ("b", slice(2, 4))):
        kernel, bias = model.get_layer(f"conv1_{tower}").get_weights()
        expected = np.einsum("nyxchw,hwco->nyxo", windows, kernel) + bias
        np.testing.assert_allclose(found[..., half], expected, atol=1e-4)
        np.testing.assert_allclose(activations.maps(model, pixels, f"conv1_{tower}"), expected, atol=1e-4)
    assert activations.maps(model, pixels, "fc7").shape == (2, 12)
    with pytest.raises(UserError, match="no layer 'relu9'"):
        activations.maps(model, pixels, "relu9")


def test_black_is_nothing_after_a_relu_and_grey_before():
    after = np.array([[[0.0, 0.0], [1.0, 4.0]]], np.float32)
    assert activations.to_unit(after).tolist() == [[[0, 0], [0.25, 1]]]
    assert activations.to_unit(after, "filter").tolist() == [[[0, 0], [1, 1]]]
    before = np.array([[[0.0, -4.0], [1.0, 2.0]]], np.float32)
    assert activations.to_unit(before).tolist() == [[[0.5, 0], [0.625, 0.75]]]
    assert activations.to_unit(before, "filter").tolist() == [[[0.5, 0], [1, 0.75]]]
    assert activations.to_unit(np.zeros((2, 2, 1), np.float32)).tolist() == [[[0], [0]]] * 2


def test_maps_stand_in_rows_of_whole_pixels():
    grey = np.arange(20, dtype=np.float32).repeat(30 * 30).reshape(20, 30, 30).transpose(1, 2, 0) / 255
    block, pitch, per_row = activations._block(grey)
    assert (pitch, per_row) == (60 + activations.GAP, 15)
    for number in range(20):
        top, left = number // per_row * pitch, number % per_row * pitch
        assert (block[top : top + 60, left : left + 60] == number).all()
    assert (block[60:pitch] == 255).all()
    squares, side, per_row = activations._block(np.arange(10, dtype=np.float32) / 255)
    assert (side, per_row) == (128, 4)
    assert squares[::128, ::128, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 255, 255]]


def test_picked_maps_keep_the_scaling_of_the_whole_layer():
    found = np.zeros((4, 4, 3), np.float32)
    found[0, 0], found[1, 1, 2] = [1, 2, 4], 2
    cell = grid.Cell(np.zeros((8, 8, 3), np.uint8))
    for scaling, brightest in (("joint", 64), ("filter", 255)):
        page = activations.figure(found, ["", "", ""], "relu1", cell, "", scaling, [0])
        _, axes = page.axes
        assert np.asarray(axes.images[0].get_array()).max() == brightest
        assert axes.images[0].get_array().ndim == 3  # colours, which are not stretched to their range


@pytest.fixture
def run(tmp_path, monkeypatch):
    data = small_runs.folder(tmp_path / "data", NAMES, 3)
    model = small_towers.network(len(NAMES), side=224)
    monkeypatch.setattr(network, "load", lambda run: (model, ""))
    return small_runs.create(tmp_path / "run", f"folder:{data}", NAMES)


def words(run, tmp_path, *more):
    return ["activations", "--workdir", str(run.workdir), "--out", str(tmp_path / "out"), *more]


def test_draw_writes_the_page_and_its_numbers(run, tmp_path, capsys):
    picture = str(tmp_path / "data" / "dog" / "001.jpg")
    for more in (["--layer", "relu3"], ["--layer", "fc7"], ["--layer", "conv2", "--units", "3", "0"]):
        assert command.main(words(run, tmp_path, "--image", picture, "--json", *more)) == 0
        figures = json.loads(capsys.readouterr().out.splitlines()[-1])
        with np.load(tmp_path / "out" / "activations.npz") as numbers:
            found = numbers["activations"]
            assert str(numbers["key"]) == "001.jpg"
        assert figures["shape"] == list(found.shape)
        assert figures["strongest"] == pytest.approx(float(found.max()))
        with Image.open(tmp_path / "out" / "activations.png") as page:
            assert page.width >= grid.NARROWEST


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "relu9"], "no layer 'relu9'"),
        (["--layer", "relu3", "--units", "4"], "relu3 has units 0 to 3; received 4"),
        (["--layer", "fc7", "--units", "4"], "fc7 has no maps to pick from"),
        (["--image", "a.jpg", "b.jpg"], "holds 1 picture; received 2"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, capsys, more, message):
    assert command.main(words(run, tmp_path, *more)) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []
