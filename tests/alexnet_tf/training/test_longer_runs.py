"""More epochs for a run: the schedule as if they had been chosen at first, and the record of both."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alexnet_tf import checkpoint, model, train
from alexnet_tf.export import model_card
from alexnet_tf.recipe import Recipe
from alexnet_tf.run_record import Extension, Run
from alexnet_tf.training.schedule import Schedule
from alexnet_tf.visualize.report import sections
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
    _, best = checkpoint.read(run.checkpoint_dir / checkpoint.BEST)
    assert best["step"] == min(rows, key=lambda row: row["val_top1_error"])["step"]
    assert (run.recipe.epochs, run.extended) == (2, (Extension(3, 1),))
    assert run.length == "2 epochs (1 until step 3)"
    card = model_card.text(run, {}, parameters=1, step=6, model_name="alexnet")
    assert "Recipe `quickstart`: 2 epochs (1 until step 3), batches of 8" in card
    assert ("length", run.length) in sections.recipe(run).data["environment"]
    assert json.loads((tmp_path / "w" / "recipe.json").read_text())["extended"] == [{"step": 3, "epochs": 1}]

    assert trained(tmp_path / "w", {**STEADY, "epochs": "1.5"}) == 2
    line = capsys.readouterr().err.strip()
    assert line.endswith(
        "epochs=1.5 is 4 steps, and the run has taken 6; give at least epochs=2 to go on with it"
    )
    assert Run.open(tmp_path / "w") == run


def test_a_cosine_goes_on_at_the_height_of_the_longer_one():
    """The documented consequences: doubled, the rate rises from 0 to half its peak, and conv1 may thaw."""
    settings = {"schedule": "cosine", "learning_rate": 0.02, "freeze_conv1": 0.75}
    short, doubled, fourfold = (
        Schedule(Recipe(epochs=epochs, **settings), steps_per_epoch=8) for epochs in (2.0, 4.0, 8.0)
    )
    assert short.rates(15).weights < 0.0002
    assert short.rates(15).conv1 == 0
    assert doubled.rates(16).weights == pytest.approx(0.01)
    assert 0 < doubled.rates(16).conv1 < doubled.rates(16).weights
    assert fourfold.rates(16).weights == pytest.approx(0.02 * (0.5 + 0.5**1.5))
