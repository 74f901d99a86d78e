"""The pictures of `maximize` stand beside the numbers that the network gives for them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from alexnet_tf.figures import grid
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import maximize, network
from alexnet_tf.visualize.internals import ascent
from tests.support import small_runs, small_towers

NAMES = ["bird", "cat", "dog", "fish", "frog"]


@pytest.fixture(scope="module")
def trained():
    return small_towers.network(len(NAMES), side=224)


@pytest.fixture
def run(tmp_path, monkeypatch, trained):
    monkeypatch.setattr(network, "load", lambda run: (trained, ""))
    return small_runs.create(tmp_path / "run", "synthetic", NAMES)


def words(run, out, *more):
    return ["maximize", "--workdir", str(run.workdir), "--out", str(out), "--steps", "2", "--json", *more]


def test_classes_are_shown_with_their_probabilities(run, tmp_path, trained, capsys):
    assert command.main(words(run, tmp_path / "out", "--units", "3", "0")) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["units"] == [3, 0]
    with np.load(tmp_path / "out" / "maximize.npz") as numbers:
        logits = np.asarray(trained(numbers["pixels"]))
        shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(numbers["probabilities"], shares[[0, 1], [3, 0]], rtol=1e-4)
        np.testing.assert_allclose(numbers["activations"], logits[[0, 1], [3, 0]], rtol=1e-4)
        # The grey levels are those whose preparation gives these pixels.
        greys = numbers["pixels"] * run.data.pixel_divisor + run.stats.mean_crop(run.data)
        np.testing.assert_allclose(numbers["images"], greys, atol=0.51)
        shown = numbers["images"]
    page = np.asarray(Image.open(tmp_path / "out" / "maximize.png").convert("RGB"))
    block = page[grid.TITLE : grid.TITLE + maximize.SIZE, grid.SIDE : grid.SIDE + maximize.SIZE]
    np.testing.assert_array_equal(block, shown[0])


def test_units_of_maps_are_shown_as_far_as_they_see(trained):
    found = maximize.maximise(trained, [0, 3], np.float32(-1), np.float32(1), layer="conv3", steps=1)
    window = ascent.window(trained, "conv3")
    side = window.end - window.first
    assert found.images.shape == (2, side, side, 3)
    assert side < 224
    assert found.names == ("unit 0, tower a", "unit 3, tower b")
    assert found.probabilities.shape == (0,)
    page = maximize.figure(found, "line")
    texts = [text.get_text() for text in page.texts]
    assert "What units of conv3 answer to most" in texts
    assert f"activation {found.activations[1]:.3g}" in texts


def test_without_units_they_come_from_all_over_the_layer():
    assert maximize._choose([], "fc7", 4096)[-1] == 4095
    assert len(maximize._choose([], "fc7", 4096)) == maximize.MOST
    assert maximize._choose([], "logits", 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "conv9"], "no layer 'conv9' in small_towers; legal: "),
        (["--layer", "conv3", "--units", "4"], "conv3 has units 0 to 3; received 4"),
        (["--class", "horse"], "no class 'horse'; legal: bird, cat, dog, fish, frog"),
        (["--class", "cat", "--layer", "conv3"], "--class is a unit of logits"),
        (["--units", *map(str, range(13))], "a figure holds 12; received 13"),
        (["--steps", "0"], "--steps must be 1 or more"),
    ],
)
def test_what_cannot_be_shown_is_one_line(run, tmp_path, capsys, options, message):
    assert command.main(words(run, tmp_path / "out", *options)) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []
