"""The benchmarks' machinery: contenders reach their processes, take turns, and fail in one line."""

from __future__ import annotations

import functools
import pickle
import time

import numpy as np
import pytest
import small_towers

from benchmarks import explain, scaling, train_step, turns
from pipelines.config import DataError


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
