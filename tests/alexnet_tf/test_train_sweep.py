"""`train --seeds`: runs of several seeds one after another, each as if it were alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alexnet_tf import checkpoint, evaluate, model, train
from alexnet_tf.run_record import Run
from alexnet_tf.training import loop as train_loop
from pipelines import scan
from tests.support.tiny_network import tiny_network
from tests.support.training import arguments


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)


def weights(workdir):
    return checkpoint.Checkpoints(Run.open(workdir).checkpoint_dir).load_newest()[0]


def test_each_run_of_a_sweep_is_that_of_its_seed(tmp_path, capsys, monkeypatch):
    train.main(arguments(tmp_path / "alone", "--set", "seed=4"))
    scans = []
    look = scan.scan
    monkeypatch.setattr(scan, "scan", lambda *args, **more: scans.append(1) or look(*args, **more))
    several = arguments(tmp_path / "several", "--set", "seed=3", "--seeds", "2", "--json")
    assert train.main(several) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [run["workdir"] for run in figures["runs"]] == [
        str(tmp_path / "several" / f"seed-{n}") for n in (3, 4)
    ]
    assert len(scans) == 1  # the second run takes over what the first has found in the same pictures
    alone, member = weights(tmp_path / "alone"), weights(tmp_path / "several" / "seed-4")
    assert alone.keys() == member.keys()
    for name, array in alone.items():
        np.testing.assert_array_equal(array, member[name], err_msg=name)
    three, four = (Run.open(tmp_path / "several" / f"seed-{n}") for n in (3, 4))
    assert (three.recipe.seed, four.recipe.seed, three.data.data_seed, four.data.data_seed) == (3, 4, 0, 0)

    assert evaluate.main(["--workdir", str(tmp_path / "several"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["runs"] == 2
    assert [row["workdir"][-6:] for row in summary["members"]] == ["seed-3", "seed-4"]


def test_a_sweep_goes_on_with_the_run_that_was_under_way(tmp_path, capsys, monkeypatch):
    several = arguments(tmp_path / "w", "--seeds", "5,2")
    call = train_loop._Trainer._call

    def stopped_in_the_second(self, batches, stop):
        if self.recipe.seed == 2 and self.state.step == 4:
            raise KeyboardInterrupt("stopped")
        return call(self, batches, stop)

    monkeypatch.setattr(train_loop._Trainer, "_call", stopped_in_the_second)
    assert train.main(several) == 130
    capsys.readouterr()
    monkeypatch.setattr(train_loop._Trainer, "_call", call)
    assert train.main(several) == 0
    shown = capsys.readouterr().out
    assert "seed-5: this run is finished (6 steps)" in shown
    assert "going on from step 3 of 6" in shown
    assert train.main(arguments(tmp_path / "w" / "seed-5", "--seeds", "2")) == 2
    assert "holds a single run" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["", "0", "two", "1,1", "-1"])
def test_seeds_that_are_none(tmp_path, capsys, seeds):
    assert train.main(arguments(tmp_path / "w", f"--seeds={seeds}")) == 2
    assert "error: --seeds" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
