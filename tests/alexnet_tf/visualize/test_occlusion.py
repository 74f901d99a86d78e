"""Occlusion: falls of hand-worked functions, and of a network asked square by square."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import network, occlusion
from pipelines.errors import UserError
from tests.support import small_runs, small_towers

NAMES = ["bird", "cat", "dog"]


def pictures_of(count, side=32, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, side, side, 3)).astype(np.float32)


def test_a_linear_logit_falls_by_what_the_square_held():
    pixels = keras.Input((8, 8, 3))
    net = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(pixels)))
    weights = np.random.default_rng(1).normal(0, 1, (192, 2)).astype(np.float32)
    net.layers[-1].set_weights([weights, np.zeros(2)])
    pictures, labels = pictures_of(2, 8), np.array([1, 0])
    for fill in (0.0, 0.5):
        found = occlusion.drop(net, pictures, labels, size=3, stride=2, fill=fill)
        assert found.starts.tolist() == [0, 2, 4]
        for n, label in enumerate(labels):
            held = (pictures[n] - fill) * weights[:, label].reshape(8, 8, 3)
            expected = [[held[y : y + 3, x : x + 3].sum() for x in (0, 2, 4)] for y in (0, 2, 4)]
            np.testing.assert_allclose(found.logit[n], expected, rtol=1e-4, atol=1e-5)


def test_the_probability_falls_as_if_asked_square_by_square():
    net, pictures = small_towers.network(seed=2), pictures_of(2)
    found = occlusion.drop(net, pictures, size=5, stride=4)  # 49 places: two batches a picture
    assert found.probability.shape == found.logit.shape == (2, 7, 7)

    def answers(batch, label):
        logits = np.asarray(net(np.stack(batch)), np.float64)
        return np.exp(logits[:, label]) / np.exp(logits).sum(axis=1), logits[:, label]

    for n, picture in enumerate(pictures):
        covered = [picture]
        for top in range(0, 28, 4):
            for left in range(0, 28, 4):
                copy = picture.copy()
                copy[top : top + 5, left : left + 5] = 0
                covered.append(copy)
        label = int(np.argmax(net(picture[None])))
        for measured, values in zip((found.probability, found.logit), answers(covered, label), strict=True):
            np.testing.assert_allclose(measured[n].ravel(), values[0] - values[1:], rtol=0, atol=1e-5)
    assert np.abs(found.probability).max() > 1e-3


def test_falls_are_laid_over_the_squares_centres():
    found = occlusion.Drop(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), np.array([0, 4, 8]), 5)
    maps = np.zeros((1, 3, 3), np.float32)
    maps[0, 1, 2] = 1
    over = found.enlarge(maps, 13)[0]
    assert np.unravel_index(over.argmax(), over.shape) == (6, 10)  # squares of rows 4..8, columns 8..12
    assert over[6, 10] == 1
    assert over[6, 8] == pytest.approx(0.5)
    assert (over[6, 10:] == 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 33}, "--size: the square takes 1 to 32 pixels; received 33"),
        ({"size": 0}, "--size: the square takes 1 to 32 pixels; received 0"),
        ({"stride": 0}, "--stride: 1 or more; received 0"),
    ],
)
def test_squares_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        occlusion.drop(small_towers.network(), pictures_of(1), **settings)


def test_the_method_writes_its_page_and_its_falls(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(network, "load", lambda run: (small_runs.network(3), ""))
    data = small_runs.folder(tmp_path / "data", NAMES, 1)
    run = small_runs.create(tmp_path / "run", f"folder:{data}", NAMES)
    out = tmp_path / "out"
    words = ["occlusion", "--workdir", str(run.workdir), "--out", str(out), "--size", "64"]
    file = str(tmp_path / "data" / "cat" / "000.jpg")
    assert command.main([*words, "--stride", "40", "--image", file, "--class", "cat", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    with np.load(out / "occlusion.npz") as numbers:
        assert numbers["starts"].tolist() == [0, 40, 80, 120, 160]
        assert numbers["probability_drop"].shape == (1, 5, 5)
        assert figures["largest_drop"] == [pytest.approx(float(numbers["probability_drop"].max()))]
        assert numbers["labels"].tolist() == [1]
    assert command.main([*words, "--size", "300"]) == 2
    assert capsys.readouterr().err == "error: --size: the square takes 1 to 224 pixels; received 300\n"
