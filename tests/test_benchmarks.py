"""The benchmarks' machinery: contenders reach their processes, take turns, and fail in one line."""

from __future__ import annotations

import functools
import pickle
import time

import pytest

from benchmarks import scaling, train_step, turns
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
