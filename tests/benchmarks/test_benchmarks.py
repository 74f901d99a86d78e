"""The benchmarks' machinery: contenders reach their processes, take turns, and fail in one line."""

from __future__ import annotations

import functools
import pickle
import time

import numpy as np
import pytest

from alexnet_tf.training import precision
from benchmarks import explain, scaling, train_step, turns
from pipelines.errors import DataError
from tests.support import small_towers


def test_every_contender_can_be_sent_to_a_process():
    for name in train_step.ALL:
        assert pickle.loads(pickle.dumps(functools.partial(train_step._make, name, 2))).args == (name, 2)
    for way in scaling.WAYS.values():
        makers = scaling._makers(scaling._stepping, way, {"batch_size": "8"}, summed=False)
        assert len(pickle.loads(pickle.dumps(makers))) == way.workers


def test_turns_are_taken_and_timed():
    pause = functools.partial(functools.partial, time.sleep, 0.05)  # makes a step that sleeps
    taken = turns.take({"two": [pause, pause]}, rounds=2, steps=3, warm_up=1)
    assert [len(taken["two"]), turns.median(taken["two"]).wall >= 0.05] == [2, True]
    assert turns.median(taken["two"]).processor < 0.05


def test_a_contender_that_fails_is_named():
    with pytest.raises(DataError, match="broken: its process ended before its step"):
        turns.take({"broken": [functools.partial(int, "no number")]}, rounds=1, steps=1)


def test_bfloat16_is_left_out_where_it_is_emulated(monkeypatch, capsys):
    """A contender in it takes a minute a step there, and no ratio is asked of it."""
    for factor, words in ((1.7, ""), (0.1, "10 times slower"), (0.0, "fails")):
        speeds = precision.Speeds(factor, 1.0) if factor else precision.Speeds(1.0, float("inf"))
        monkeypatch.setattr(precision, "measure", lambda speeds=speeds: speeds)
        names = train_step._worth_timing()
        assert ("ours_bfloat16" in names) == (factor > 1)
        assert "tuned_torch_float32" in names
        assert words in capsys.readouterr().out


def test_a_step_is_reported_beside_its_peers_its_kernels_and_one_product(monkeypatch, capsys):
    operations = 2.0 * train_step.train_step_kernels.PRODUCT**3 * 3  # as many as three large products
    monkeypatch.setattr(train_step.train_step_kernels, "step_operations", lambda batch: operations)
    names = ("ours_float32", "tuned_torch_float32", "kernels_float32", "product_float32")
    taken = {
        name: [turns.Cost(wall, 2 * wall)] for name, wall in zip(names, (2.0, 3.0, 1.5, 0.5), strict=True)
    }
    figures = train_step._report(taken, 64)
    assert figures["ratios"] == {"ours float32 / tuned PyTorch float32": 1.5}
    assert [figures["kernel_share_float32"], figures["rate_share_float32"]] == [0.75, 0.75]
    assert "1.50 by the clock, 1.50 by processor time (at least 1.4)" in capsys.readouterr().out


def test_a_step_s_operations_are_those_of_the_layers():
    """265 GFLOP for 64 pictures: three times the multiply-adds, less the gradient of the pictures."""
    assert train_step.train_step_kernels.step_operations(64) == pytest.approx(265e9, rel=0.01)


@pytest.mark.parametrize("name", [*explain.ONE_PICTURE, *explain.MANY_PICTURES])
def test_every_explanation_can_be_sent_to_a_process_and_takes_its_step(name, monkeypatch):
    pixels = np.random.default_rng(0).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    monkeypatch.setattr(explain, "_network_and_pixels", lambda *_: (small_towers.network(), pixels))
    make = pickle.loads(pickle.dumps(functools.partial(explain._make, None, name, 2)))
    assert make.args == (None, name, 2)
    make()()


def test_explanations_are_reported_as_ratios(capsys):
    names = ("passes", "activations", "vanilla", "batch", "peer", "nearest")
    costs = {name: turns.Cost(number, 1.0) for number, name in enumerate(names, 1)}
    figures = explain._report(costs, 64)
    assert [figures["saliency_over_passes"], figures["peer_over_batch"]] == [3.0, 1.25]
    assert "saliency / forward and backward: 3.00 (at most 2.5)" in capsys.readouterr().out
