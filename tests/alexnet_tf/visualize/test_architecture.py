"""The drawing of a network has the paper's numbers, and what crosses the towers is what the graph reads."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import model
from alexnet_tf.network import variants
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import architecture
from alexnet_tf.visualize.internals import boxes, stages
from pipelines.errors import UserError
from tests.support import small_runs, small_towers

NAMES = ["bird", "cat", "dog"]
# Section 3.5 and figure 2 of the paper, worked out by hand: neurons, parameters and multiply-adds of a layer.
PAPER = {
    "conv1": (290_400, 34_944, 105_415_200),
    "conv2": (186_624, 307_456, 223_948_800),
    "conv3": (64_896, 885_120, 149_520_384),
    "conv4": (64_896, 663_936, 112_140_288),
    "conv5": (43_264, 442_624, 74_760_192),
}


@pytest.fixture
def small_hidden(monkeypatch):
    """Every variant with 16 hidden units: the 58 million weights of the others take time to draw."""
    for name, arch in variants.VARIANTS.items():
        monkeypatch.setitem(variants.VARIANTS, name, dataclasses.replace(arch, hidden=16))


def words_of(page):
    """The texts on a page, each once."""
    return {text.get_text() for text in page.axes[0].texts}


def test_the_paper_s_layers_have_the_paper_s_sizes_and_costs(small_hidden):
    found = {stage.name: stage for stage in stages.of(model.build("paper", 10))}
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    for name, (neurons, parameters, cost) in PAPER.items():
        stage = found[name]
        assert (stage.neurons, stage.parameters, stage.multiply_adds) == (neurons, parameters, cost)
        assert stage.towers == 2
    assert found["conv1"].kernel == (11, 11, 3)
    assert found["conv2"].kernel == (5, 5, 48)
    assert found["conv3"].kernel == (3, 3, 256)
    assert found["fc6"].kernel == (9216,)
    assert found["conv1"].then == ("ReLU", "normalise over 5 maps", "max pool 3 × 3 / 2")
    assert found["fc6"].then == ("ReLU", "dropout 0.5")


def test_all_weights_are_in_a_stage_in_every_variant(small_hidden):
    for name in variants.VARIANTS:
        network = model.build(name, 10)
        layers = stages.of(network)
        assert sum(stage.parameters for stage in layers) == network.count_params(), name
        across = stages.crossings(network)
        assert bool(across) == (variants.get(name).layout == "two_tower"), name
        texts = words_of(boxes.figure(network, name))
        assert {f"{stage.parameters:,}" for stage in layers} <= texts
        assert {f"{crossing.values:,}" for crossing in across} <= set(re.findall(r"[\d,]+", " ".join(texts)))


def test_what_crosses_is_what_the_paper_connects(small_hidden):
    paper = [tuple(each) for each in stages.crossings(model.build("paper", 10))]
    assert paper == [
        ("conv1", "conv2", "lrn1", 2 * 2 * 55 * 55, False),  # two maps at the border, each way
        ("conv2", "conv3", "lrn2", 2 * 2 * 27 * 27, False),
        ("conv2", "conv3", "conv3", 13 * 13 * 256, False),
        ("conv5", "fc6", "fc6", 6 * 6 * 256, True),
    ]
    # The released source normalises inside each tower.
    assert [each.reader for each in stages.crossings(model.build("original", 10))] == ["conv3", "fc6"]
    assert [each.reader for each in stages.crossings(model.build("conv6", 10))][-2:] == ["conv6", "fc6"]


@pytest.mark.parametrize(
    ("reader", "read", "gives"),
    [("lrn1", "relu1", ["lrn1_split"]), ("conv3", "relu2", ["conv3_a", "conv3_b"])],
)
def test_as_many_values_cross_as_the_other_tower_hangs_on(reader, read, gives):
    network = small_towers.network()
    towers = [network.get_layer(f"{read}_{tower}").output for tower in "ab"]
    outputs = keras.tree.flatten([network.get_layer(name).output for name in gives])
    generator = np.random.default_rng(0)
    values = [tf.constant(generator.uniform(1, 2, (1, *x.shape[1:])), tf.float32) for x in towers]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)
        sums = [tf.reduce_sum(maps) for maps in keras.Model(towers, outputs)(values)]
    crossing = [tape.gradient(sums[0], values[1]), tape.gradient(sums[1], values[0])]
    found = {crossing.reader: crossing.values for crossing in stages.crossings(network)}
    assert found[reader] == sum(np.count_nonzero(slopes) for slopes in crossing)


def test_a_run_s_own_network_or_another_is_drawn_with_its_numbers(tmp_path, small_hidden, capsys):
    run = small_runs.create(tmp_path / "run", "synthetic", NAMES)
    out = tmp_path / "out"
    words = ["architecture", "--workdir", str(run.workdir), "--out", str(out), "--json"]
    assert command.main(words) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted(path.name for path in out.iterdir()) == [
        f"architecture.{x}" for x in ("json", "png", "svg")
    ]
    record = json.loads((out / "architecture.json").read_text())
    assert record["variant"] == "paper"
    assert record["layers"][-1]["output"] == [len(NAMES)]
    assert figures["neurons"] == sum(layer["neurons"] for layer in record["layers"])
    assert figures["crossing"] == 12_100 + 2_916 + 43_264
    assert command.main([*words, "--variant", "half"]) == 0
    assert json.loads((out / "architecture.json").read_text())["crossings"] == []
    capsys.readouterr()
    assert command.main([*words, "--variant", "vgg"]) == 2
    assert "`variant` must be one of paper, original" in capsys.readouterr().err


def test_an_unknown_variant_is_refused_before_anything_is_built(tmp_path):
    run = small_runs.create(tmp_path / "run", "synthetic", NAMES)
    with pytest.raises(UserError, match="received 'vgg'"):
        architecture.draw(run, tmp_path, variant="vgg")


def test_boxes_of_two_towers_stand_above_each_other_and_do_not_overlap(small_hidden):
    network = model.build("paper", 10)
    columns = boxes._boxes(network, stages.of(network), 300.0, boxes.TWO_TOWERS)
    assert [len(column) for column in columns] == [1, 2, 2, 2, 2, 2, 1, 1, 1]
    for before, after in itertools.pairwise(columns):
        assert max(box.face(1, 1)[0] for box in before) < min(box.x for box in after)
    for upper, lower in (column for column in columns if len(column) == 2):
        assert upper.y > lower.face(1, 1)[1]
        assert upper.x == lower.x
