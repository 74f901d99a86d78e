"""Checkpoints in the background: in order, one at a time, and no error lost."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import pytest

from alexnet_tf import checkpoint
from alexnet_tf.checkpoint import BEST, Checkpoints
from alexnet_tf.training.checkpoint_writer import CheckpointWriter


def arrays(value):
    return {"network/w": np.full(3, value), "optimizer/v": np.full(3, -value)}


STATE = {"best_error": 0.25}


def test_training_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    go_on, write = threading.Event(), checkpoint.write

    def slow(*args):
        assert go_on.wait(30)
        write(*args)

    monkeypatch.setattr(checkpoint, "write", slow)
    with CheckpointWriter(Checkpoints(tmp_path)) as writer:
        writer.save(1, arrays(1), STATE)  # returns at once
        assert writer.saved_at is None
        second = threading.Thread(target=writer.save, args=(2, arrays(2), STATE))
        second.start()
        second.join(0.2)
        assert second.is_alive()  # no second copy is held while the first is being written
        go_on.set()
        second.join(30)
        writer.wait()
        assert writer.saved_at == 2
    assert [path.name for path in Checkpoints(tmp_path).newest()] == [
        "step-00000002.npz",
        "step-00000001.npz",
    ]


def test_the_best_weights_lie_there_before_the_checkpoint_that_knows_of_them(tmp_path, monkeypatch):
    written, write = [], checkpoint.write
    monkeypatch.setattr(
        checkpoint, "write", lambda path, *rest: written.append(path.name) or write(path, *rest)
    )
    with CheckpointWriter(Checkpoints(tmp_path)) as writer:
        writer.save(7, arrays(7), STATE, best=True)
    assert written == [BEST, "step-00000007.npz"]
    best, state = checkpoint.read(tmp_path / BEST)
    assert list(best) == ["network/w"]
    assert state == {"step": 7, "val_top1_error": 0.25}


def test_leaving_waits_for_the_last_one(tmp_path, monkeypatch):
    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *args: time.sleep(0.2) or write(*args))
    with CheckpointWriter(Checkpoints(tmp_path)) as writer:
        writer.save(1, arrays(1), STATE)
    assert (tmp_path / "step-00000001.npz").exists()


@pytest.mark.parametrize("when", ["save", "wait", "leave"])
def test_an_error_in_the_background_is_raised(tmp_path, monkeypatch, when):
    def full(*args):
        raise OSError(28, "No space left on device", "step")

    monkeypatch.setattr(checkpoint, "write", full)

    def write_and_go_on():
        with CheckpointWriter(Checkpoints(tmp_path)) as writer:
            writer.save(1, arrays(1), STATE)
            if when == "save":
                writer.save(2, arrays(2), STATE)
            elif when == "wait":
                writer.wait()

    with pytest.raises(OSError, match="No space"):
        write_and_go_on()


def test_the_error_that_is_under_way_is_the_one_to_hear_of(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write", lambda *args: (_ for _ in ()).throw(OSError("full")))

    def fail():
        with CheckpointWriter(Checkpoints(tmp_path)) as writer:
            writer.save(1, arrays(1), STATE)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()


def test_the_loss_of_a_peer_does_not_cut_a_save_short(tmp_path):
    events = []

    @contextlib.contextmanager
    def unbroken():
        events.append("held")
        yield
        events.append((tmp_path / "step-00000001.npz").exists())

    with CheckpointWriter(Checkpoints(tmp_path), unbroken) as writer:
        writer.save(1, arrays(1), STATE)
    assert events == ["held", True]
