"""Indices of kernels whose colour and orientation are known, and towers that are told apart or not."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from PIL import Image

from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import network
from alexnet_tf.visualize.measures import tuning
from tests.support import small_runs

SIDE = 11
DOWN, ACROSS = np.mgrid[:SIDE, :SIDE]
GREY = np.ones(3)
RED_GREEN = np.array([1.0, -1.0, 0.0])


def grating(down, across, colour=GREY):
    """Whole waves down and across the kernel: [11, 11, 3]."""
    return np.cos(2 * np.pi * (down * DOWN + across * ACROSS) / SIDE + 0.4)[..., None] * colour


def spot(width, colour=GREY):
    """A round Gaussian in the middle."""
    middle = (SIDE - 1) / 2
    return np.exp(-((DOWN - middle) ** 2 + (ACROSS - middle) ** 2) / (2 * width**2))[..., None] * colour


def gabor(angle, waves=2.0, colour=GREY):
    """A grating under a round Gaussian, its waves running along `angle`."""
    along = (ACROSS - 5) * np.cos(angle) + (DOWN - 5) * np.sin(angle)
    return spot(2.5) * np.cos(2 * np.pi * waves * along / SIDE)[..., None] * colour


def of(*kernels):
    return tuning.indices(np.stack(kernels, axis=-1))


def test_colour_is_the_share_of_energy_off_the_grey_axis():
    red, third = spot(2, [1, 0, 0]), spot(2, GREY + RED_GREEN)
    found = of(spot(2), spot(2, RED_GREEN), red, third, -5 * red).colour
    # Of (2, 0, 1), 9 / 3 of 5 lie on the grey axis.
    np.testing.assert_allclose(found, [0, 1, 2 / 3, 2 / 5, 2 / 3], atol=1e-6)


def test_two_colours_at_different_places_add_up_by_energy():
    kernel = np.zeros((SIDE, SIDE, 3))
    kernel[0, 0], kernel[5, 5] = 2 * GREY, RED_GREEN
    assert of(kernel).colour[0] == pytest.approx(2 / 14)


def test_orientation_is_one_for_a_grating_and_follows_the_angle_between_two():
    right, half = grating(3, 0) + grating(0, 3), grating(3, 0) + grating(2, 2)
    found = of(grating(3, 0), grating(2, -1, RED_GREEN), right, half).orientation
    np.testing.assert_allclose(found, [1, 1, 0, np.sqrt(0.5)], atol=1e-6)


def test_round_spots_and_plain_fields_have_no_orientation_whatever_their_level():
    found = of(spot(1.0), spot(2.5, RED_GREEN), np.ones((SIDE, SIDE, 3)), spot(1.5) - 0.7).orientation
    np.testing.assert_allclose(found, 0, atol=1e-5)
    with_level = of(grating(0, 2), grating(0, 2) + 3.0).orientation
    np.testing.assert_allclose(with_level, 1, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4, 1.2, np.pi / 2])
def test_gabors_are_oriented_at_every_angle(angle):
    assert of(gabor(angle)).orientation[0] > 0.85


def test_frequency_is_the_grating_s_and_zero_for_a_plain_field():
    found = of(grating(0, 2), grating(3, 4), np.ones((SIDE, SIDE, 3))).frequency
    np.testing.assert_allclose(found, [2 / 11, 5 / 11, 0], atol=1e-6)


def test_random_weights_have_two_thirds_of_colour_and_next_to_no_orientation():
    kernels = np.random.default_rng(0).normal(size=(SIDE, SIDE, 3, 400))
    found = tuning.indices(kernels)
    assert found.colour.mean() == pytest.approx(tuning.RANDOM_COLOUR, abs=0.01)
    assert np.median(found.orientation) < 0.1


def test_a_kernel_of_zeros_asks_for_nothing():
    found = of(np.zeros((SIDE, SIDE, 3)))
    assert [float(values[0]) for values in found] == [0, 0, 0]


def test_ahead_counts_pairs():
    assert tuning.superiority(np.array([1, 2]), np.array([2, 3])) == 3.5 / 4
    assert tuning.superiority(np.array([1, 1]), np.array([1, 1])) == 0.5


def test_the_permutation_test_agrees_with_all_deals():
    first, second = np.array([0.1, 0.2, 0.35]), np.array([0.3, 0.5, 0.6])
    # Of the 20 deals, those as far apart as 0.75 in sums: {.1 .2 .3}, {.1 .2 .35}, and their opposites.
    p = tuning.permutation_test(first, second)
    assert p == pytest.approx(4 / 20, abs=0.02)
    assert p == tuning.permutation_test(first, second)
    assert tuning.permutation_test(first, first) == 1.0
    assert tuning.permutation_test(np.zeros(48), np.ones(48), 999) == pytest.approx(1 / 1000)


def first_layer(kernels):
    """A network whose conv1_a and conv1_b hold these kernels."""
    pixels = keras.Input((32, 32, 3))
    outputs = []
    for tower, part in zip("ab", np.split(kernels, 2, axis=-1), strict=True):
        layer = keras.layers.Conv2D(part.shape[-1], SIDE, name=f"conv1_{tower}")
        outputs.append(layer(pixels))
        layer.set_weights([part, np.zeros(part.shape[-1])])
    return keras.Model(pixels, outputs)


@pytest.mark.parametrize("variant", ["paper", "half"])
def test_draw_measures_each_tower(tmp_path, monkeypatch, variant):
    run = small_runs.create(tmp_path / "run", "synthetic", ["cat", "dog"], variant=variant)
    grey = [gabor(angle, waves) for angle in np.linspace(0, 3, 6) for waves in (1.5, 2.0)]
    coloured = [spot(width, RED_GREEN) for width in np.linspace(1, 3, 12)]
    monkeypatch.setattr(network, "load", lambda run: (first_layer(np.stack(grey + coloured, -1)), ""))
    words = ["selectivity", "--workdir", str(run.workdir), "--out", str(tmp_path / "out")]
    assert command.main(words) == 0
    summary = json.loads((tmp_path / "out" / "selectivity.json").read_text())
    with np.load(tmp_path / "out" / "selectivity.npz") as numbers:
        np.testing.assert_allclose(numbers["colour"], [0] * 12 + [1] * 12, atol=1e-5)
    if variant == "half":
        assert summary["towers"]["all"]["colour"] == pytest.approx(0.5)
        assert "difference" not in summary
    else:
        assert summary["towers"]["tower b"]["colour"] == pytest.approx(1)
        assert summary["difference"]["colour"]["ahead"] == 1
        assert summary["difference"]["colour"]["p"] < 0.001
        assert summary["difference"]["orientation"]["medians"] < -0.5
    with Image.open(tmp_path / "out" / "selectivity.png") as picture:
        assert picture.width > 1000
    assert (tmp_path / "out" / "selectivity.svg").read_text(encoding="utf-8").startswith("<?xml")
