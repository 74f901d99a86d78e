"""When the training loop evaluates, and what metrics.csv keeps of it."""

import pytest

from alexnet_tf import model, train
from alexnet_tf.run_record import Run
from alexnet_tf.training import loop as train_loop
from tests.support.tiny_network import tiny_network
from tests.support.training import arguments


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)


def test_evaluations_fall_on_fractions_of_an_epoch(tmp_path):
    train.main(arguments(tmp_path / "w", "--set", "evaluate_every=0.8"))
    rows = Run.open(tmp_path / "w").read_metrics()
    assert [row["step"] for row in rows] == [3, 5, 6]  # past 2.4 and 4.8 of 6 steps, and at the end


def test_rows_of_steps_that_are_run_again_go_when_the_run_goes_on(tmp_path, monkeypatch):
    train.main(arguments(tmp_path / "w"))
    run = Run.open(tmp_path / "w")
    (run.checkpoint_dir / "step-00000006.npz").unlink()
    found = []
    loop = train_loop._Trainer._loop

    def look(self, stop):
        found.extend(row["step"] for row in run.read_metrics())
        loop(self, stop)

    monkeypatch.setattr(train_loop._Trainer, "_loop", look)
    assert train.main(arguments(tmp_path / "w")) == 0
    assert found == [3]
    assert [row["step"] for row in run.read_metrics()] == [3, 6]
