"""More epochs for a run: the schedule as if they had been chosen at first, and the record of both."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from alexnet_tf import checkpoint, model, train
from alexnet_tf.run_record import Extension, Run
from alexnet_tf.training.schedule import Schedule
from tests.support.tiny_network import tiny_network
from tests.support.training import SETTINGS, arguments

STEADY = {**SETTINGS, "schedule": "plateau", "freeze_conv1": "1", "epochs": "1"}


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)


def trained(workdir, settings, *extra):
    return train.main(arguments(workdir, *extra, settings=settings))


def final_weights(workdir):
    arrays, _ = checkpoint.Checkpoints(Run.open(workdir).checkpoint_dir).load_newest()
    return arrays


def test_a_finished_run_goes_on_as_if_it_had_been_longer_from_the_start(tmp_path, capsys):
    longer = {**STEADY, "epochs": "2"}
    assert trained(tmp_path / "whole", longer) == 0
    assert trained(tmp_path / "w", STEADY) == 0
    assert trained(tmp_path / "w", longer) == 0
    assert "going on from step 3 of 6, now epochs=2" in capsys.readouterr().out
    whole, parts = final_weights(tmp_path / "whole"), final_weights(tmp_path / "w")
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)
    rows, expected = (Run.open(tmp_path / name).read_metrics() for name in ("w", "whole"))
    kept = ("step", "epoch", "learning_rate", "train_loss", "val_loss")
    assert [[row[name] for name in kept] for row in rows] == [
        [row[name] for name in kept] for row in expected
    ]
    run = Run.open(tmp_path / "w")
    assert (run.recipe.epochs, run.extended) == (2, (Extension(3, 1),))
    assert json.loads((tmp_path / "w" / "recipe.json").read_text())["extended"] == [{"step": 3, "epochs": 1}]

    assert trained(tmp_path / "w", {**STEADY, "epochs": "1.5"}) == 2
    line = capsys.readouterr().err.strip()
    assert line.endswith(
        "epochs=1.5 is 4 steps, and the run has taken 6; give at least epochs=2 to go on with it"
    )
    assert Run.open(tmp_path / "w") == run


def test_a_cosine_goes_on_from_where_the_longer_one_stands_and_the_best_stays(tmp_path):
    """The rate, which had fallen to 0, rises to the longer schedule's, and conv1 moves again."""
    frozen = {**SETTINGS, "epochs": "1", "freeze_conv1": "0.5", "warmup_steps": "0"}
    assert trained(tmp_path / "w", frozen) == 0
    first = final_weights(tmp_path / "w")
    assert trained(tmp_path / "w", {**frozen, "epochs": "3"}) == 0
    run = Run.open(tmp_path / "w")
    longer = Schedule(dataclasses.replace(run.recipe, epochs=3.0), steps_per_epoch=3)
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == [3, 6, 9]
    rates = [row["learning_rate"] for row in rows]
    assert rates[1:] == pytest.approx([longer.rates(5).weights, longer.rates(8).weights], rel=1e-5)
    assert rates[1] > rates[0]
    assert run.extended == (Extension(3, 1.0),)
    _, best = checkpoint.read(run.checkpoint_dir / checkpoint.BEST)
    assert best["step"] == min(rows, key=lambda row: row["val_top1_error"])["step"]
    assert longer.rates(3).conv1 > 0
    after = final_weights(tmp_path / "w")
    assert not np.array_equal(first["network/conv1/kernel"], after["network/conv1/kernel"])
