"""Sanity checks: hand-worked measures, weights that come back, and a run of built-in data end to end."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import network, pictures, sanity
from alexnet_tf.visualize.measures import faithfulness
from pipelines.errors import UserError
from pipelines.rendering.shapes import SHAPES
from pipelines.sources.synthetic import SyntheticSource
from tests.support import small_runs, small_towers

NAMES = [shape.name for shape in SHAPES]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_runs.create(tmp_path_factory.mktemp("sanity") / "run", "synthetic:12,12", NAMES)


@pytest.fixture
def small(run):
    """The run as one whose network sees 32 pixels."""
    return dataclasses.replace(run, data=dataclasses.replace(run.data, mean="channel", resize=36, crop=32))


def test_energy_is_the_share_of_the_sum_on_the_mask():
    mask = np.zeros((2, 4, 4), bool)
    mask[:, :2] = True
    maps = np.ones((3, 4, 4), np.float32)
    maps[1, :2] = 3
    maps[2] = 0
    found = faithfulness.energy_on(mask[[0, 0, 0]], maps)
    np.testing.assert_allclose(found, [0.5, 0.75, np.nan])


def test_boxes_hold_their_masks():
    mask = np.zeros((2, 5, 6), bool)
    mask[0, 1, 2] = mask[0, 3, 4] = True
    expected = np.zeros((2, 5, 6), bool)
    expected[0, 1:4, 2:5] = True
    np.testing.assert_array_equal(faithfulness.boxes(mask), expected)


def test_rank_correlation_asks_for_order_alone():
    first = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    pairs = {"itself": first**3, "reversed": -first, "flat": np.ones_like(first)}
    found = {name: faithfulness.rank_correlation(first, other)[0] for name, other in pairs.items()}
    assert found["itself"] == pytest.approx(1)
    assert found["reversed"] == pytest.approx(-1)
    assert np.isnan(found["flat"])
    # Equal values share their mean rank: 1.5, 1.5, 3, 4 against 1, 2, 3, 4.
    tied = np.array([[[5.0, 5.0], [6.0, 7.0]]])
    assert faithfulness.rank_correlation(tied, np.array([[[1.0, 2.0], [3.0, 4.0]]]))[0] == pytest.approx(
        np.corrcoef([1.5, 1.5, 3, 4], [1, 2, 3, 4])[0, 1]
    )


def test_similarity_ignores_a_maps_scale():
    maps = np.random.default_rng(0).uniform(0, 1, (2, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(faithfulness.similarity(maps, 7 * maps), 1, rtol=1e-5)
    assert faithfulness.similarity(maps, maps[::-1]).max() < 0.5


def test_weights_become_random_from_the_last_layer_down_and_come_back():
    net, fresh = small_towers.network(seed=1), small_towers.network(seed=2)
    own = [weights.copy() for weights in net.get_weights()]

    def random_layers():
        return {
            layer.name.removesuffix("_a").removesuffix("_b")
            for layer in net.layers
            if layer.weights
            and all(
                (a == b).all()
                for a, b in zip(layer.get_weights(), fresh.get_layer(layer.name).get_weights(), strict=True)
            )
            and hasattr(layer, "kernel")
        }

    order = ["fc8", "fc7", "fc6", "conv3", "conv2", "conv1"]
    for number, name in enumerate(faithfulness.cascade(net, fresh)):
        assert name == order[number]
        assert random_layers() == set(order[: number + 1])
    assert number == 5
    for now, before in zip(net.get_weights(), own, strict=True):
        np.testing.assert_array_equal(now, before)
    with pytest.raises(RuntimeError, match="in between"):
        fail_in_between(net, fresh)
    for now, before in zip(net.get_weights(), own, strict=True):
        np.testing.assert_array_equal(now, before)


def fail_in_between(net, fresh):
    for name in faithfulness.cascade(net, fresh):
        if name == "fc6":
            raise RuntimeError("in between")


def test_a_randomised_network_is_judged_by_its_maps_against_the_trained_ones():
    net, fresh = small_towers.network(seed=1), small_towers.network(seed=2)
    pixels = np.random.default_rng(0).normal(0, 1, (3, 32, 32, 3)).astype(np.float32)
    left = faithfulness.randomise(net, fresh, pixels, np.array([0, 1, 2]), "relu3")
    assert left.layers == ("trained", "fc8", "fc7", "fc6", "conv3", "conv2", "conv1")
    for name, explain in faithfulness.explainers("relu3").items():
        if name in faithfulness.RANDOMISED:
            np.testing.assert_allclose(
                left.maps[name][-1], explain(fresh, pixels, np.array([0, 1, 2])), rtol=1e-4, atol=1e-6
            )
            assert left.rank_correlation[name][0] == pytest.approx(1)
            assert left.similarity[name][0] == pytest.approx(1)
            assert left.rank_correlation[name][-1] < 0.9
            pairs = faithfulness.rank_correlation(left.maps[name][0], left.maps[name][0][[2, 0, 1]])
            assert left.others[name] == pytest.approx(pairs.mean())


def test_masks_lie_where_the_crops_objects_are(run):
    shown = pictures.from_places(run, "val", [0, 5])
    found = faithfulness.masks(run, shown.keys)
    source = SyntheticSource(run.data)
    for mask, key in zip(found, shown.keys, strict=True):
        np.testing.assert_array_equal(mask, source.mask(key)[16:240, 16:240])
    assert 0.1 < found.mean() < 0.6


def test_the_method_writes_its_page_and_its_numbers(small, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "load", lambda run: (small_towers.network(12, 1, 32), ""))
    monkeypatch.setattr(network, "initial", lambda run, seed: small_towers.network(12, 2, 32))
    figures = sanity.draw(small, tmp_path, pictures=4, layer="relu3")
    numbers = json.loads((tmp_path / "sanity.json").read_text())
    assert numbers["energy"] == figures["energy"]
    masks = faithfulness.masks(small, pictures.from_places(small, "val", range(4)).keys)
    energy = numbers["energy"]["object"]
    assert energy["uniform"] == pytest.approx(masks.mean())
    assert numbers["energy"]["box"]["uniform"] > energy["uniform"]
    assert energy["uniform"] < energy["seen"] < 1
    shown = pictures.from_places(small, "val", range(4))
    labels = np.array([NAMES.index(name) for name in shown.true_names])
    net = small_towers.network(12, 1, 32)
    right = np.argmax(net(shown.pixels), axis=1) == labels
    assert numbers["right"] == right.sum()
    maps = faithfulness.explainers("relu3")["vanilla"](small_towers.network(12, 2, 32), shown.pixels, labels)
    expected = faithfulness.energy_on(masks, maps).mean()
    assert energy["untrained"]["vanilla"] == pytest.approx(expected, rel=1e-3)
    for name in ("sanity.png", "sanity.svg", "sanity.npz"):
        assert (tmp_path / name).stat().st_size > 1000


def test_other_data_has_no_masks(tmp_path, capsys):
    data = small_runs.folder(tmp_path / "data", ["cat", "dog"], 1)
    other = small_runs.create(tmp_path / "run", f"folder:{data}", ["cat", "dog"])
    with pytest.raises(UserError, match="only of the built-in data"):
        faithfulness.masks(other, ())
    assert command.main(["sanity", "--workdir", str(other.workdir), "--out", str(tmp_path / "out")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"error: {other.workdir}: trained on folder:")
    assert complaint.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []
