"""The paper's dropout: what it scales and when, and whose mask it is."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.network.layers import InvertedDropout, PaperDropout

UNITS = np.random.default_rng(0).uniform(1.0, 2.0, (64, 512)).astype("float32")  # never 0, so a 0 was dropped


@pytest.mark.parametrize("rate", [0.5, 0.25])
def test_training_masks_without_rescaling(rate: float) -> None:
    out = np.asarray(PaperDropout(rate)(UNITS, training=True))
    kept = out != 0
    np.testing.assert_array_equal(out[kept], UNITS[kept])
    # 32,768 units: the share's standard deviation is below 0.003.
    assert abs(kept.mean() - (1 - rate)) < 0.012
    assert abs(out.mean() / UNITS.mean() - (1 - rate)) < 0.015


@pytest.mark.parametrize("rate", [0.5, 0.25])
def test_testing_multiplies_by_the_share_that_was_kept(rate: float) -> None:
    np.testing.assert_array_equal(PaperDropout(rate)(UNITS, training=False), UNITS * (1 - rate))


def test_inverted_dropout_scales_the_survivors_and_leaves_testing_alone() -> None:
    layer = InvertedDropout(0.25, seed=5)
    out = np.asarray(layer(UNITS, training=True))
    kept = out != 0
    np.testing.assert_allclose(out[kept], UNITS[kept] / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.012
    np.testing.assert_array_equal(layer(UNITS, training=False), UNITS)


def test_both_kinds_draw_the_same_mask_from_the_same_seed() -> None:
    paper, inverted = (
        PaperDropout(0.5, seed=4)(UNITS, training=True),
        InvertedDropout(0.5, seed=4)(UNITS, training=True),
    )
    np.testing.assert_array_equal(2.0 * np.asarray(paper), inverted)


@pytest.mark.parametrize("kind", [PaperDropout, InvertedDropout])
def test_rate_0_does_nothing(kind: type) -> None:
    for training in (True, False):
        np.testing.assert_array_equal(kind(0.0)(UNITS, training=training), UNITS)


def test_each_call_draws_a_new_mask_and_a_seed_repeats_them() -> None:
    first, again, other = PaperDropout(seed=1), PaperDropout(seed=1), PaperDropout(seed=2)
    masks = [np.asarray(first(UNITS, training=True)) != 0 for _ in range(3)]
    repeated = [np.asarray(again(UNITS, training=True)) != 0 for _ in range(3)]
    np.testing.assert_array_equal(masks, repeated)
    # Independent masks agree on half of their units.
    for one, two in (
        (masks[0], masks[1]),
        (masks[1], masks[2]),
        (masks[0], np.asarray(other(UNITS, training=True)) != 0),
    ):
        assert abs(np.mean(one == two) - 0.5) < 0.012


def test_each_picture_and_each_unit_has_its_own_draw() -> None:
    mask = np.asarray(PaperDropout()(UNITS, training=True)) != 0
    assert len({row.tobytes() for row in mask}) == len(mask)
    assert len({column.tobytes() for column in mask.T}) == mask.shape[1]


def test_a_compiled_step_draws_a_new_mask_each_time() -> None:
    layer = PaperDropout(seed=1)
    step = tf.function(lambda x: layer(x, training=True))
    assert not np.array_equal(step(UNITS), step(UNITS))
    eager = PaperDropout(seed=1)
    masks = [np.asarray(eager(UNITS, training=True)) for _ in range(3)]
    np.testing.assert_array_equal(step(UNITS), masks[2])


def test_the_gradient_passes_where_the_mask_is_1() -> None:
    layer = PaperDropout(seed=1)
    inputs = tf.constant(UNITS)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        out = layer(inputs, training=True)
    np.testing.assert_array_equal(tape.gradient(out, inputs), np.asarray(out) != 0)


def test_bfloat16_stays_bfloat16() -> None:
    for layer in (PaperDropout(dtype="mixed_bfloat16"), InvertedDropout(dtype="mixed_bfloat16")):
        for training in (True, False):
            assert keras.backend.standardize_dtype(layer(UNITS, training=training).dtype) == "bfloat16"


def test_the_generators_state_is_named_after_the_layer() -> None:
    """A checkpoint finds it by its path, however many networks the process has built before."""
    for _ in range(2):
        states = [
            layer.seed_generator.state.path
            for layer in (PaperDropout(name="dropout6"), PaperDropout(name="dropout7"))
        ]
        assert states == ["dropout6_seed/seed_generator_state", "dropout7_seed/seed_generator_state"]


REPLICAS = """
import json
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from alexnet_tf.network.layers import InvertedDropout, PaperDropout

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
masks = {}
for name, kind in (("first", PaperDropout), ("again", PaperDropout), ("inverted", InvertedDropout)):
    with strategy.scope():
        layer = kind(0.5, seed=7)
    step = tf.function(lambda: strategy.run(lambda: layer(tf.ones([4, 512]), training=True)))
    masks[name] = [[(m.numpy() != 0).astype(int).tolist() for m in step().values] for _ in range(3)]
print(json.dumps(masks))
"""


def test_each_replica_draws_its_own_masks() -> None:
    run = subprocess.run(
        [sys.executable, "-c", REPLICAS], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    by_layer = {name: np.array(m) for name, m in json.loads(run.stdout.splitlines()[-1]).items()}
    for masks in by_layer.values():
        assert masks.shape == (3, 2, 4, 512)  # call, replica, picture, unit
        flat = masks.reshape(6, -1)
        agreement = [np.mean(flat[i] == flat[j]) for i in range(6) for j in range(i)]
        assert max(abs(share - 0.5) for share in agreement) < 0.06
    np.testing.assert_array_equal(by_layer["first"], by_layer["again"])
