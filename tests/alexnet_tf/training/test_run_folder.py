"""A run folder while it is trained in: one training at a time, leftovers of killed ones, new devices."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from alexnet_tf import model, train
from alexnet_tf.training.run_folder import LOCK_FILE
from pipelines import files
from pipelines.errors import DataError
from tests.support.tiny_network import tiny_network
from tests.support.training import arguments


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)


def hold(path, held, release):
    with files.exclusive(path, "a training"):
        held.set()
        release.wait(60)


def test_two_trainings_do_not_share_a_folder(tmp_path, capsys):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    (tmp_path / "w").mkdir()
    other = context.Process(target=hold, args=(tmp_path / "w" / LOCK_FILE, held, release))
    other.start()
    try:
        assert held.wait(60)
        assert train.main(arguments(tmp_path / "w")) == 2
        line = capsys.readouterr().err
        assert f"{tmp_path / 'w'}: a training is under way there already (process {other.pid})" in line
        release.set()
        other.join()
        assert train.main(arguments(tmp_path / "w")) == 0
    finally:
        other.kill()
        other.join()


def test_a_lock_is_free_once_its_holder_is_killed(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "lock", held, release))
    other.start()
    assert held.wait(60)
    with (
        pytest.raises(DataError, match="a training is under way"),
        files.exclusive(tmp_path / "lock", "a training"),
    ):
        pass
    other.kill()
    other.join()
    with files.exclusive(tmp_path / "lock", "a training"):
        pass


def test_what_a_killed_training_left_half_written_is_removed(tmp_path):
    left = [
        tmp_path / "w" / "checkpoints" / "step-00000003.npz.77.part",
        tmp_path / "w" / "metrics.csv.77.part",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert train.main(arguments(tmp_path / "w")) == 0
    assert not any(path.exists() for path in left)


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    assert train.main(arguments(tmp_path / "file" / "w")) == 2
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1
    assert str(Path(tmp_path / "file" / "w")) in line
