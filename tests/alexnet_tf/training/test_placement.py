"""One device, replicas of it, calls of several steps, batches in parts: the same weights come out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf import recipe
from alexnet_tf.training import placement
from pipelines.errors import UserError

# Trains the tiny network on fixed batches in several ways; prints the weights of each.
WAYS = """
import json, sys
sys.path.insert(0, {root!r})
import numpy as np
import tensorflow as tf
from alexnet_tf import model, recipe
from alexnet_tf.evaluation import metrics
from alexnet_tf.training import placement, step as train_step
from alexnet_tf.training.schedule import Rates
from pipelines.pictures.statistics import ImageStats
from tests.support.tiny_network import tiny_network
model.build = tiny_network

mirrored = placement.place("mirrored:2")
one = placement.place("one")
STEPS, BATCH, CLASSES = 5, 12, 7
rng = np.random.default_rng(0)
whole = {{
    "image": rng.integers(0, 256, (STEPS, BATCH, 224, 224, 3), np.uint8),
    "label": rng.integers(0, CLASSES, (STEPS, BATCH), np.int32),
    "mask": np.ones((STEPS, BATCH), np.float32),
    "colour_shift": rng.normal(0, 3, (STEPS, BATCH, 3)).astype(np.float32),
    "window": rng.integers(0, [32, 32, 2], (STEPS, BATCH, 3), np.int32),
}}
whole["mask"][2, 7:] = 0  # a batch that is partly filling: the replicas have 6 and 1 examples
mean = rng.uniform(60, 180, (256, 256, 3)).astype(np.float32)
stats = ImageStats(np.ones(3, np.float32), np.eye(3, dtype=np.float32), mean, mean[0, 0], 1)

def trained(here, calls=(1,) * STEPS, frozen=(), evaluated=True, **settings):
    fixed = {{"batch_size": str(BATCH), "dropout_rate": "0", "pixel_divisor": "60", "precision": "float32"}}
    chosen = recipe.get("paper").replace({{**fixed, **settings}})
    network, optimizer = here.build(chosen, CLASSES)
    steps = train_step.build(
        network, optimizer, chosen, chosen.data_config("synthetic"), stats, here.strategy
    )
    batches = iter(here.distribute(lambda shard: tf.data.Dataset.from_tensor_slices(whole)))
    rates = [Rates(0.05 / (k + 1), 0.1 / (k + 1), 0.02, 1.0 - 0.1 * k) for k in range(STEPS)]
    sums, done = [], 0
    for count in calls:
        answer = steps(batches, rates[done : done + count], done in frozen, (1.0, 2.5))
        assert answer.votes == [here.replicas, 2.5 * here.replicas]
        sums += answer.sums
        done += count
    weights = [np.asarray(w).tolist() for w in network.weights]
    found = {{"weights": weights, "sums": sums}}
    if evaluated:
        pixels = lambda image: tf.cast(image, tf.float32) / 60
        evaluator = metrics.Evaluator(network, pixels, strategy=here.strategy)
        evaluation = evaluator.evaluate(
            here.distribute(lambda shard: tf.data.Dataset.from_tensor_slices(whole))
        )
        found["evaluation"] = [evaluation.count, evaluation.loss]
    return found

print(json.dumps({{
    "one": trained(one),
    "mirrored": trained(mirrored),
    "calls": trained(one, calls=(2, 3), evaluated=False),
    "mirrored calls": trained(mirrored, calls=(1, 4)),
    "parts": trained(one, accumulation_steps="3"),
    "mirrored parts": trained(mirrored, accumulation_steps="3"),
    "xla": trained(one, xla="true"),
    "mirrored xla parts": trained(mirrored, xla="true", accumulation_steps="2"),
    "clipped": trained(one, clip_norm="0.05", evaluated=False),
    "mirrored clipped parts": trained(mirrored, accumulation_steps="2", clip_norm="0.05", evaluated=False),
    "dropout": trained(one, calls=(5,), dropout_rate="0.5", evaluated=False),
    "dropout again": trained(one, dropout_rate="0.5", evaluated=False),
    "mirrored dropout": trained(mirrored, dropout_rate="0.5", evaluated=False),
}}))
"""


@pytest.fixture(scope="module")
def ways():
    code = WAYS.format(root=str(Path(__file__).resolve().parents[3]))
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def difference(one, other):
    pairs = zip(one["weights"], other["weights"], strict=True)
    return max(np.abs(np.subtract(a, b)).max() for a, b in pairs)


@pytest.mark.parametrize(
    "way", ["mirrored", "mirrored calls", "parts", "mirrored parts", "xla", "mirrored xla parts"]
)
def test_the_weights_are_those_of_one_device(ways, way):
    assert difference(ways["one"], ways[way]) < 1e-5
    np.testing.assert_allclose(ways[way]["sums"], ways["one"]["sums"], rtol=1e-4)
    assert ways[way]["sums"][2][-1] == 7  # examples that are not filling
    assert ways[way]["evaluation"] == pytest.approx(ways["one"]["evaluation"], rel=1e-4)
    assert ways["one"]["evaluation"][0] == 5 * 12 - 5


def test_several_steps_in_a_call_are_the_same_bits(ways):
    assert difference(ways["one"], ways["calls"]) == 0
    assert ways["calls"]["sums"] == ways["one"]["sums"]
    assert difference(ways["dropout"], ways["dropout again"]) == 0


def test_the_norm_is_clipped_after_everything_is_added_up(ways):
    assert difference(ways["clipped"], ways["mirrored clipped parts"]) < 1e-5
    assert difference(ways["clipped"], ways["one"]) > 1e-3


def test_replicas_draw_masks_of_their_own(ways):
    assert difference(ways["dropout"], ways["mirrored dropout"]) > 1e-3


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ("mirrored:0", "takes a number of devices; received 'mirrored:0'"),
        ("mirrored:two", "takes a number of devices"),
        ("towers:3", "one of one, mirrored, multi-worker, towers"),
    ],
)
def test_devices_that_do_not_exist(devices, words):
    with pytest.raises(UserError, match=words):
        placement.place(devices)


def gpus(monkeypatch, count):
    list_devices = placement.tf.config.list_physical_devices
    fake = [f"GPU:{n}" for n in range(count)]
    monkeypatch.setattr(
        placement.tf.config,
        "list_physical_devices",
        lambda kind=None: fake if kind == "GPU" else list_devices(kind),
    )


@pytest.mark.parametrize(
    ("devices", "count", "words"),
    [
        ("mirrored:4", 2, "--devices mirrored:4: this machine has 2 GPUs; ask for as many or fewer"),
        ("towers", 1, "--devices towers needs two GPUs, or none; this machine has one"),
        ("mirrored:64", 0, "needs 64 logical CPUs"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, devices, count, words):
    placement.tf.config.list_logical_devices()  # from here on the processor cannot be cut any more
    gpus(monkeypatch, count)
    with pytest.raises(UserError, match=words):
        placement.place(devices)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"batch_size": "8", "accumulation_steps": "3"},
            "multiple of `accumulation_steps`; received 8 and 3",
        ),
        ({"accumulation_steps": "0"}, "`accumulation_steps` must be positive"),
    ],
)
def test_batches_that_cannot_be_shared_out(settings, words):
    with pytest.raises(UserError, match=words):
        recipe.get("paper").replace(settings)


def test_what_towers_cannot_do():
    here = placement.Placement(placement.tf.distribute.get_strategy(), tower_devices=("CPU:0", "CPU:0"))
    with pytest.raises(UserError, match="leave out xla=true"):
        here.build(recipe.get("paper").replace({"xla": "true"}), 10)
    with pytest.raises(UserError, match="`variant` must have two towers: paper, original"):
        here.build(recipe.get("paper").replace({"variant": "merged"}), 10)
