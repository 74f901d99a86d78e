"""Projections of a net worked by hand, of loops over every weight, and of gradients where they coincide."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from alexnet_tf.figures import kernels
from alexnet_tf.network.layers import TwoGroupConv2D
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import deconvnet, network
from alexnet_tf.visualize.deconvnet import project
from alexnet_tf.visualize.internals import deconvolution
from pipelines.errors import UserError
from tests.support import small_runs, small_towers

NAMES = ["bird", "cat", "dog", "fish", "frog", "horse"]


@pytest.fixture(scope="module")
def towers():
    return small_towers.network()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(3).normal(0, 1, (5, 32, 32, 3)).astype(np.float32)


def activations(model, name, pixels):
    return keras.Model(model.input, model.get_layer(name).output)(pixels).numpy()


def test_a_net_worked_by_hand():
    x = keras.Input((4, 4, 1))
    first, second = layers.Conv2D(1, 2, name="conv1"), layers.Conv2D(1, 2, name="conv2")
    maps = layers.MaxPooling2D(2, 1)(layers.Activation("relu")(first(x)))
    model = keras.Model(x, second(maps))
    first.set_weights([np.array([[1, 2], [3, -1]], float).reshape(2, 2, 1, 1), np.array([-1.0])])
    second.set_weights([np.array([[1, -1], [2, 1]], float).reshape(2, 2, 1, 1), np.array([0.0])])
    picture = np.array([[1, 0, 2, 0], [0, 1, 0, 1], [2, 0, 1, 1], [0, 1, 0, 3]], np.float32)
    # conv1 gives -1 6 0 / 7 -1 3 / 0 4 -1; the windows' largest are 7 6 / 7 4, at (1, 0), (0, 1),
    # (1, 0) and (2, 1); conv2 gives 7 - 6 + 14 + 4 = 19. Back: 19 and 38 meet at (1, 0) as 57, -19 at
    # (0, 1) is rectified away, 19 returns to (2, 1); then 57 and 19 times conv1's kernel.
    expected = [[0, 0, 0, 0], [57, 114, 0, 0], [171, -38, 38, 0], [0, 57, -19, 0]]
    projected = project(model, picture[None, :, :, None], "conv2", 0)
    np.testing.assert_allclose(projected[0, :, :, 0], expected, atol=1e-4)


def convolve_back(signal, layer, size, strides, before):
    """Transposed convolution by loops: [h, w, C] -> [size, size, c]."""
    kernel = layer.kernel.numpy()
    room = np.zeros((size + 20, size + 20, kernel.shape[2]))
    for (row, column, unit), value in np.ndenumerate(signal):
        top, left = row * strides - before + 10, column * strides - before + 10
        room[top : top + kernel.shape[0], left : left + kernel.shape[1]] += value * kernel[..., unit]
    return room[10 : 10 + size, 10 : 10 + size]


def unpool(signal, maps):
    """Values return to the largest of their 3 x 3 windows, 2 apart, which is found anew."""
    back = np.zeros_like(maps)
    for (row, column, unit), value in np.ndenumerate(signal):
        window = maps[2 * row : 2 * row + 3, 2 * column : 2 * column + 3, unit]
        down, across = np.unravel_index(window.argmax(), window.shape)
        back[2 * row + down, 2 * column + across, unit] += value
    return back


def by_loops(model, picture, unit, place):
    """The projection of a unit of conv3, tower b's after tower a's."""
    maps = {name: activations(model, name, picture[None]) for name in ("conv3_a", "conv3_b", "lrn1")}
    tower, own = divmod(unit, 2)
    signal = np.zeros((7, 7, 2))
    signal[(*place, own)] = max(maps[f"conv3_{'ab'[tower]}"][(0, *place, own)], 0)
    both = convolve_back(signal, model.get_layer(f"conv3_{'ab'[tower]}"), 7, 1, 1)
    pixels = np.zeros((35, 35, 3))
    for index, name in enumerate("ab"):
        half = slice(2 * index, 2 * index + 2)
        rectified = np.maximum(both[..., half], 0)
        pooled = convolve_back(rectified, model.get_layer(f"conv2_{name}"), 7, 1, 1)
        normalised = unpool(pooled, maps["lrn1"][0, ..., half].astype(float))
        pixels += convolve_back(np.maximum(normalised, 0), model.get_layer(f"conv1_{name}"), 35, 2, 0)
    return pixels[:32, :32]


@pytest.mark.parametrize("unit", [1, 2, 3])  # unit 0 never fires
def test_two_towers_agree_with_loops_over_every_weight(towers, pixels, unit):
    maps = np.concatenate([activations(towers, f"conv3_{t}", pixels) for t in "ab"], axis=-1)[..., unit]
    strongest = [np.unravel_index(own.argmax(), own.shape) for own in maps]
    projected = project(towers, pixels, "conv3", unit)
    for picture, place, found in zip(pixels, strongest, projected, strict=True):
        np.testing.assert_allclose(found, by_loops(towers, picture, unit, place), atol=1e-5)
    np.testing.assert_allclose(project(towers, pixels, "conv3", unit, np.array(strongest)), projected)
    assert np.abs(projected).max() > 0.05


def test_without_relu_and_normalisation_it_is_the_gradient_times_the_activation():
    initial = keras.initializers.RandomNormal(0, 0.3, 5)
    x = keras.Input((16, 16, 3))
    y = layers.MaxPooling2D(3, 2)(layers.Conv2D(4, 3, kernel_initializer=initial)(x))
    y = TwoGroupConv2D(6, 3, padding=1, name="conv2", kernel_initializer=initial)(y)
    model = keras.Model(x, layers.Dense(3, name="fc8", kernel_initializer=initial)(layers.Flatten()(y)))
    pixels = tf.constant(np.random.default_rng(0).normal(size=(4, 16, 16, 3)), tf.float32)
    for name, unit in (("conv2", 4), ("fc8", 1)):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            maps = keras.Model(x, model.get_layer(name).output)(pixels)[..., unit]
            peaks = tf.reduce_max(tf.reshape(maps, [4, -1]), axis=1)
            energy = tf.reduce_sum(tf.nn.relu(peaks) ** 2 / 2)
        found = project(model, pixels.numpy(), name, unit)
        np.testing.assert_allclose(found, tape.gradient(energy, pixels), atol=1e-5)
        assert np.abs(found).max() > 0.1


def test_a_signal_stays_in_its_tower_until_towers_meet(towers, pixels):
    model = small_towers.network()
    for name, colour in (("conv1_a", 0), ("conv1_b", 2)):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[:, :, [c for c in range(3) if c != colour]] = 0
        model.get_layer(name).set_weights([kernel, bias])

    def colours(layer, unit):
        return (np.abs(project(model, pixels, layer, unit)).max(axis=(0, 1, 2)) > 0).tolist()

    assert colours("conv2", 0) == colours("conv2_a", 0) == [True, False, False]
    assert colours("conv2", 3) == colours("conv2_b", 1) == [False, False, True]
    assert colours("conv3", 1) == [True, False, True]
    assert colours("fc7", 4) == [True, False, True]


def test_pictures_may_ask_for_units_of_their_own_and_come_in_any_number(towers, pixels, monkeypatch):
    units = np.array([0, 3, 1, 2, 3])
    alone = [project(towers, pixels[i : i + 1], "relu3", int(unit))[0] for i, unit in enumerate(units)]
    monkeypatch.setattr(deconvolution, "BATCH", 2)
    np.testing.assert_allclose(project(towers, pixels, "relu3", units), alone, atol=1e-6)


def test_a_unit_that_does_not_fire_projects_nothing(towers, pixels):
    maps = activations(towers, "conv3_a", pixels)[..., 0]
    low = np.array([np.unravel_index(own.argmin(), own.shape) for own in maps])
    assert maps.min(axis=(1, 2)).max() < 0
    assert not project(towers, pixels, "conv3", 0, low).any()


def test_what_cannot_be_projected_is_said(towers, pixels):
    with pytest.raises(UserError, match=r"no layer 'conv9' .*legal: pad, conv1"):
        project(towers, pixels, "conv9", 0)
    with pytest.raises(UserError, match="conv3 has units 0 to 3; received 4"):
        project(towers, pixels, "conv3", 4)
    with pytest.raises(UserError, match="0 0 to 6 6; received"):
        project(towers, pixels, "conv3", 0, np.array([[7, 0]] * 5))
    with pytest.raises(UserError, match="of fc7 none, since it has no maps"):
        project(towers, pixels, "fc7", 0, np.zeros((5, 2), int))
    x = keras.Input((8, 8, 3))
    with pytest.raises(UserError, match="layer conv1 ends in tanh"):
        project(keras.Model(x, layers.Conv2D(2, 3, activation="tanh", name="conv1")(x)), pixels, "conv1", 0)


def test_grey_is_nothing_and_each_projection_spans_its_own_range():
    signal = np.zeros((3, 4, 4, 3), np.float32)
    signal[0, 0, 0] = [5.0, -2.5, 0.0]
    signal[1, 1, 1] = 0.01
    grey = deconvnet.to_grey(signal)
    np.testing.assert_allclose(grey[0, 0, 0], [1.0, 0.25, 0.5], atol=0.02)
    assert grey[1, 1, 1].tolist() == [1.0] * 3
    assert (grey[2] == 0.5).all()


def test_units_are_spread_over_those_that_fire():
    weakest = np.array([0, 1, 1, -1, 1, 1, 1, 0], np.float32)
    assert deconvnet.spread(weakest, 3) == [1, 4, 6]
    assert deconvnet.spread(weakest) == [1, 2, 4, 5, 6]
    assert deconvnet.spread(np.zeros(4)) == []


def test_names_of_towers_follow_the_units():
    assert kernels.unit_towers("conv5", 4, "paper", maps=True) == ["tower a"] * 2 + ["tower b"] * 2
    assert kernels.unit_towers("conv5_b", 2, "paper", maps=True) == ["tower b"] * 2
    assert set(kernels.unit_towers("fc7", 4, "paper", maps=False)) == {""}
    assert set(kernels.unit_towers("conv5", 4, "half", maps=True)) == {""}


@pytest.fixture
def run(tmp_path, monkeypatch):
    data = small_runs.folder(tmp_path / "data", NAMES, 4)
    model = small_towers.network(len(NAMES), side=224)
    monkeypatch.setattr(network, "load", lambda run: (model, ""))
    return small_runs.create(tmp_path / "run", f"folder:{data}", NAMES)


def words(run, out, *more):
    return ["deconvnet", "--workdir", str(run.workdir), "--out", str(out), *more]


@pytest.mark.parametrize("layer", ["conv3", "relu7"])
def test_draw_shows_each_unit_s_pictures_in_order(run, tmp_path, capsys, layer):
    out = tmp_path / "out"
    assert command.main(words(run, out, "--layer", layer, "--units", "1", "3", "--json")) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["units"] == [1, 3]
    rows = json.loads((out / "deconvnet.json").read_text())
    assert [(row["layer"], row["unit"]) for row in rows] == [(layer, 1), (layer, 3)]
    assert [row["tower"] for row in rows] == (["tower a", "tower b"] if layer == "conv3" else ["", ""])
    for row in rows:
        strengths = [picture["activation"] for picture in row["pictures"]]
        assert strengths == sorted(strengths, reverse=True)
        # The held-out tenth: one picture a class.
        assert sorted(picture["true_name"] for picture in row["pictures"]) == NAMES
    with np.load(out / "deconvnet.npz") as numbers:
        side = 224 if layer == "relu7" else 25
        assert numbers["projections"].shape == (2, 6, side, side, 3)
        assert numbers["patches"].shape == numbers["projections"].shape
        fires = numbers["values"] > 0
        assert (np.abs(numbers["projections"]).max(axis=(2, 3, 4)) > 0).tolist() == fires.tolist()
    with Image.open(out / "deconvnet.png") as picture:
        assert picture.width == 1276


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "conv7"], "no layer 'conv7'"),
        (["--layer", "conv3", "--units", "4"], "conv3 has units 0 to 3; received 4"),
        (["--layer", "conv3", "--units", *["1"] * 33], "holds 32; received 33"),
        (["--layer", "conv3", "--pictures", "0"], "must be 1 or more; received 0"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, capsys, more, message):
    assert command.main(words(run, tmp_path / "out", *more)) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []
