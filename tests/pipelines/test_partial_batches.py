"""A partial last batch, as in 2012: the update is that of its own pictures' mean, however it is spread."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf import checkpoint, model, train
from alexnet_tf.run_record import Run
from pipelines import data_service, dataset, epochs
from pipelines.errors import DataError
from tests.support.memory_source import SMALL, MemorySource, assert_equal_batches, collected, source_of
from tests.support.memory_source import train as stream
from tests.support.tiny_network import tiny_network


class TestStream:
    """22 pictures in batches of 8: three steps an epoch, of 8, 8 and 6 pictures."""

    source = source_of(22)
    config = dataclasses.replace(SMALL, partial_batch=True, shuffle=False)

    def test_every_picture_of_an_epoch_is_seen_once(self):
        batches = collected(stream(self.source, 8, self.config), 6)
        for epoch in (0, 1):
            own = batches[3 * epoch : 3 * epoch + 3]
            assert [batch["mask"].sum() for batch in own] == [8, 8, 6]
            keys = np.concatenate([batch["key"][batch["mask"] > 0] for batch in own])
            order = epochs.permutation(22, 9, epoch).numpy()
            np.testing.assert_array_equal(keys.astype(int), order)
        assert all(len(part) == 8 for batch in batches for part in batch.values())

    def test_weights_make_a_sum_over_the_batch_size_a_mean_over_its_own(self):
        for batch in collected(stream(self.source, 8, self.config), 3):
            values = np.arange(8.0)
            own = values[batch["mask"] > 0]
            assert np.sum(values * batch["weight"]) / 8 == pytest.approx(own.mean(), rel=1e-6)
        assert "weight" not in stream(self.source, 8).element_spec

    @pytest.mark.parametrize("start", [1, 2, 3, 5, 8])
    def test_any_step_can_be_the_first(self, start):
        whole = collected(stream(self.source, 8, self.config), 10)
        rest = collected(stream(self.source, 8, self.config, start_step=start), 10 - start)
        for left, right in zip(whole[start:], rest, strict=True):
            assert_equal_batches(left, right)

    @pytest.mark.parametrize("shards", [2, 8])
    def test_shards_together_are_the_global_batch(self, shards):
        source = source_of(11)  # of the second batch three pictures are real: some shards have none
        whole = collected(stream(source, 8, self.config), 4)
        parts = [collected(stream(source, 8, self.config, shard=(i, shards)), 4) for i in range(shards)]
        for step, batch in enumerate(whole):
            for index in range(shards):
                assert_equal_batches(
                    {name: part[index::shards] for name, part in batch.items()}, parts[index][step]
                )
        assert whole[1]["mask"].sum() == 3

    def test_services_make_the_same_batches(self):
        local = collected(stream(self.source, 8, self.config, start_step=1), 4)
        with data_service.serve() as one, data_service.serve() as two:
            batches = stream(self.source, 8, self.config, start_step=1, service=(one, two))
            for left, right in zip(local, batches.take(4).as_numpy_iterator(), strict=True):
                assert_equal_batches(left, right)

    def test_a_set_smaller_than_a_batch_is_one_step(self):
        source = source_of(3)
        assert dataset.steps_per_epoch(source, 8, partial=True) == 1
        (batch,) = collected(stream(source, 8, self.config), 1)
        np.testing.assert_array_equal(batch["mask"], np.arange(8) < 3)
        np.testing.assert_allclose(batch["weight"], batch["mask"] * 8 / 3, rtol=1e-6)

    def test_whole_batches_alone_are_as_without(self):
        source = source_of(16)
        plain = dataclasses.replace(self.config, partial_batch=False)
        ways = (collected(stream(source, 8, config), 5) for config in (self.config, plain))
        for left, right in zip(*ways, strict=True):
            np.testing.assert_array_equal(left.pop("weight"), np.ones(8))
            assert_equal_batches(left, right)

    def test_arithmetic_of_steps_and_pictures(self):
        source = source_of(22)
        assert [dataset.steps_per_epoch(source, 8, partial=p) for p in (False, True)] == [2, 3]
        assert [dataset.steps_per_epoch(source, 11, partial=p) for p in (False, True)] == [2, 2]
        seen = [dataset.pictures_until(step, source, 8, partial=True) for step in range(7)]
        assert seen == [0, 8, 16, 22, 30, 38, 44]
        assert dataset.pictures_until(5, source, 8) == 40
        with pytest.raises(DataError, match="holds 0 pictures"):
            dataset.steps_per_epoch(MemorySource([]), 8, partial=True)


# Eleven pictures in batches of eight: the second step of an epoch has three, none of them on the second
# replica and none in the last two of four parts.
WAYS = """
import json, sys
sys.path.insert(0, {root!r})
import numpy as np
import tensorflow as tf
from alexnet_tf import model, recipe
from alexnet_tf.training import placement, step as train_step
from alexnet_tf.training.schedule import Rates
from pipelines import dataset
from pipelines.pictures.statistics import ImageStats
from tests.support.memory_source import SMALL, source_of
from tests.support.memory_source import train as stream
from tests.support.tiny_network import tiny_network
model.build = tiny_network

mirrored = placement.place("mirrored:2")
one = placement.place("one")
BATCH, STEPS, CLASSES = 8, 6, 3
FIXED = {{"batch_size": str(BATCH), "dropout_rate": "0", "pixel_divisor": "60"}}
RECIPE = recipe.get("original").replace(FIXED)
source = source_of(11)
mean = np.random.default_rng(0).uniform(60, 180, (256, 256, 3)).astype(np.float32)
stats = ImageStats(np.ones(3, np.float32), np.eye(3, dtype=np.float32), mean, mean.mean(axis=(0, 1)), 1)
# The noise ends before the last epoch.
rates = [Rates(0.05, 0.1, 0.02, 1.0)] * 4 + [Rates(0.005, 0.1, 0.002, 0.0)] * 2

def stream(chosen, shard):
    return dataset.build(source, chosen.data_config("synthetic"), "train", BATCH, training=True, shard=shard)

def trained(here, calls=(1,) * STEPS, **settings):
    chosen = RECIPE.replace(settings)
    network, optimizer = here.build(chosen, CLASSES)
    data = chosen.data_config("synthetic")
    steps = train_step.build(network, optimizer, chosen, data, stats, here.strategy)
    batches = iter(here.distribute(lambda shard: stream(chosen, shard)))
    sums, done = [], 0
    for count in calls:
        sums += steps(batches, rates[done : done + count], False, (0.0,)).sums
        done += count
    return {{"weights": [np.asarray(w).tolist() for w in network.weights], "sums": sums}}

def by_hand():
    '''src/weights.cu: inc = mom inc + eps mean(grad) - wc eps w, for the pictures that there are.'''
    network = tiny_network(classes=CLASSES, dropout_rate=0.0)
    weights = [np.asarray(v, np.float64) for v in network.trainable_variables]
    moves, sums = [np.zeros_like(w) for w in weights], []
    for batch, rate in zip(stream(RECIPE, (0, 1)).take(STEPS).as_numpy_iterator(), rates):
        real = batch["mask"] > 0
        pixels = batch["image"][real].astype(np.float64) - mean[16:240, 16:240]
        if rate.colour > 0:
            pixels = (pixels + batch["colour_shift"][real][:, None, None]) / 1.1
        for variable, w in zip(network.trainable_variables, weights):
            variable.assign(w.astype(np.float32))
        with tf.GradientTape() as tape:
            logits = network(tf.constant(pixels / 60, tf.float32))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"][real], logits)
            mean_loss = tf.reduce_mean(losses)
        sums.append([float(tf.reduce_sum(losses)), float(real.sum())])
        gradients = tape.gradient(mean_loss, network.trainable_variables)
        for k, (variable, gradient) in enumerate(zip(network.trainable_variables, gradients)):
            bias, conv1 = variable.name == "bias", "conv1" in variable.path
            eps = (rate.biases if bias else rate.weights) * (rate.conv1 / rate.weights if conv1 else 1.0)
            decay = 0.0 if bias else 0.0005
            moves[k] = 0.9 * moves[k] - eps * gradient.numpy() - decay * eps * weights[k]
            weights[k] = weights[k] + moves[k]
    return {{"weights": [w.tolist() for w in weights], "sums": sums}}

print(json.dumps({{
    "by hand": by_hand(),
    "one": trained(one),
    "calls": trained(one, calls=(4, 2)),
    "mirrored": trained(mirrored),
    "parts": trained(one, accumulation_steps="4"),
    "mirrored parts": trained(mirrored, accumulation_steps="2"),
    "xla": trained(one, xla="true"),
}}))
"""


@pytest.fixture(scope="module")
def ways():
    code = WAYS.format(root=str(Path(__file__).resolve().parents[2]))
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["one", "calls", "mirrored", "parts", "mirrored parts", "xla"])
def test_the_update_is_the_source_s_rule_over_a_batch_s_own_pictures(ways, way):
    hand = ways["by hand"]
    for expected, found in zip(hand["weights"], ways[way]["weights"], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    sums = [[loss, examples] for loss, _, _, examples in ways[way]["sums"]]
    np.testing.assert_allclose(sums, hand["sums"], rtol=1e-4)
    assert [examples for _, examples in sums] == [8, 3] * 3


def words(workdir):
    settings = {"batch_size": "8", "epochs": "2", "checkpoint_every": "1", "keep_checkpoints": "9"}
    sets = [word for field, value in settings.items() for word in ("--set", f"{field}={value}")]
    fixed = ["--recipe", "original", "--data", "synthetic:22,12", "--workdir", str(workdir)]
    return [*fixed, *sets, "--set", "log_every=1"]


def test_a_run_with_partial_batches_counts_its_steps_and_goes_on_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)
    assert train.main(words(tmp_path / "whole")) == 0
    run = Run.open(tmp_path / "whole")
    assert [(row["step"], row["epoch"]) for row in run.read_metrics()] == [(3, 1), (6, 2)]
    # Into the middle of an epoch, so that the partial batch is the second one after the resume.
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    parts = Run.open(tmp_path / "parts").checkpoint_dir
    for path in parts.glob("*.npz"):
        if path.name != "step-00000004.npz":
            path.unlink()
    assert train.main(words(tmp_path / "parts")) == 0
    ends = [checkpoint.read(folder / "step-00000006.npz")[0] for folder in (run.checkpoint_dir, parts)]
    for name, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][name], err_msg=name)
