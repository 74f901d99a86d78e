"""The training loop on a network of a few hundred weights: cadence, resume, stopping, diagnosis."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from alexnet_tf import checkpoint, model, train
from alexnet_tf.run_record import RECIPE_FILE, Run
from alexnet_tf.training import loop as train_loop
from alexnet_tf.training import pace, precision
from alexnet_tf.training import step as train_step
from pipelines.errors import UserError
from tests.support.tiny_network import tiny_network
from tests.support.training import SETTINGS, arguments

# A run in a process of its own, slow enough to be killed in the middle.
KILLED = """
import sys, time
sys.path.insert(0, {root!r})
from alexnet_tf import model, train
from alexnet_tf.training import loop as train_loop
from tests.support.tiny_network import tiny_network
model.build = tiny_network
call = train_loop._Trainer._call
def slow(self, batches, stop):
    time.sleep(0.1)
    return call(self, batches, stop)
train_loop._Trainer._call = slow
train.main({words!r})
"""


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)


def final_weights(workdir):
    arrays, _ = checkpoint.Checkpoints(Run.open(workdir).checkpoint_dir).load_newest()
    return arrays


def test_a_run_leaves_its_record(tmp_path, capsys):
    assert train.main(arguments(tmp_path / "w", "--json")) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    run = Run.open(tmp_path / "w")
    rows = run.read_metrics()
    assert figures["steps"] == 6
    assert [row["step"] for row in rows] == [3, 6]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert figures["val_top1_error"] == pytest.approx(rows[-1]["val_top1_error"], abs=1e-6)
    assert figures["best_val_top1_error"] == pytest.approx(
        min(row["val_top1_error"] for row in rows), abs=1e-6
    )
    assert 0 <= rows[-1]["dead_conv1"] <= 1
    assert run.recipe.batch_size == 8
    assert len(run.class_names) == 12
    assert run.environment["packages"]["keras"] == keras.__version__


def test_the_recipe_is_written_before_step_one(tmp_path, monkeypatch):
    seen = []
    build = train_step.build

    def build_and_look(*args):
        seen.append(json.loads((tmp_path / "w" / RECIPE_FILE).read_text())["recipe"]["learning_rate"])
        return build(*args)

    monkeypatch.setattr(train_step, "build", build_and_look)
    train.main(arguments(tmp_path / "w"))
    assert seen == [0.01]


def test_the_loss_of_an_epoch_is_the_mean_over_its_pictures(tmp_path, monkeypatch):
    losses = []
    build = train_step.build

    def recording(*args):
        step = build(*args)

        def recorded(*inputs):
            answer = step(*inputs)
            losses.extend(sums.loss for sums in answer.sums)
            return answer

        return recorded

    monkeypatch.setattr(train_step, "build", recording)
    train.main(arguments(tmp_path / "w"))
    rows = Run.open(tmp_path / "w").read_metrics()
    assert rows[0]["train_loss"] == pytest.approx(sum(losses[:3]) / 24, rel=1e-5)
    assert rows[1]["train_loss"] == pytest.approx(sum(losses[3:]) / 24, rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_exactly(tmp_path, monkeypatch, capsys, number):
    train.main(arguments(tmp_path / "whole"))
    call = train_loop._Trainer._call

    def interrupted_at_two(self, batches, stop):
        stopped = call(self, batches, stop)
        if self.state.step == 2:
            os.kill(os.getpid(), number)
        return stopped

    monkeypatch.setattr(train_loop._Trainer, "_call", interrupted_at_two)
    assert train.main(arguments(tmp_path / "parts")) == 130
    assert "saved at step 2 of 6" in capsys.readouterr().err
    monkeypatch.setattr(train_loop._Trainer, "_call", call)
    assert train.main(arguments(tmp_path / "parts")) == 0
    assert "going on from step 2" in capsys.readouterr().out
    whole, parts = final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)


def test_a_closed_terminal_is_a_request_to_stop_except_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with train_loop.stop_requests() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with train_loop.stop_requests() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, before)


def test_a_killed_run_goes_on_exactly(tmp_path):
    often = {**SETTINGS, "epochs": "8", "checkpoint_every": "1"}
    words = [*arguments(tmp_path / "killed", settings=often)]
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(root=str(Path(__file__).resolve().parents[3]), words=words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        folder, deadline = tmp_path / "killed" / "checkpoints", time.monotonic() + 200
        while not any(folder.glob("step-0000000[5-9].npz")):
            assert child.poll() is None, "the run ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert train.main(words) == 0
    train.main(arguments(tmp_path / "whole", settings=often))
    whole, killed = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    for name, array in whole.items():
        np.testing.assert_array_equal(array, killed[name], err_msg=name)
    rows = Run.open(tmp_path / "killed").read_metrics()
    assert [row["step"] for row in rows] == list(range(3, 25, 3))


def test_a_finished_run_is_left_alone(tmp_path, capsys):
    train.main(arguments(tmp_path / "w"))
    before = final_weights(tmp_path / "w")
    assert train.main(arguments(tmp_path / "w")) == 0
    line = "this run is finished (6 steps); with --set epochs=N, more than 2, it goes on"
    assert line in capsys.readouterr().out
    assert Run.open(tmp_path / "w").extended == ()
    for name, array in final_weights(tmp_path / "w").items():
        np.testing.assert_array_equal(array, before[name])


def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys):
    train.main(arguments(tmp_path / "w"))
    newest, before_it = checkpoint.Checkpoints(tmp_path / "w" / "checkpoints").newest()
    assert before_it.name == "step-00000003.npz"
    newest.write_bytes(newest.read_bytes()[:-200])
    assert train.main(arguments(tmp_path / "w")) == 0
    printed = capsys.readouterr()
    assert "step-00000006.npz: damaged or cut short" in printed.err
    assert "going on from step 3" in printed.out


def test_a_workdir_of_another_recipe_is_refused(tmp_path, capsys):
    train.main(arguments(tmp_path / "w"))
    assert train.main(arguments(tmp_path / "w", "--set", "learning_rate=0.5")) == 2
    line = capsys.readouterr().err
    assert "learning_rate=0.01 there, 0.5 here" in line
    assert "choose another --workdir" in line
    assert train.main(arguments(tmp_path / "w", data="synthetic:36,12")) == 2
    assert "data=synthetic:24,12 there" in capsys.readouterr().err
    assert train.main(arguments(tmp_path / "w", "--set", "log_every=7")) == 0


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--set", "learning=1"], ["learning: no such field", "learning_rate", "weight_decay"]),
        (["--set", "epochs=ten"], ["epochs", "float", "'ten'"]),
        (["--set", "epochs"], ["field=value", "'epochs'"]),
        (["--recipe", "papers"], ["--recipe must be one of paper, original", "'papers'"]),
        (["--data", "folder:/nowhere/at/all"], ["/nowhere/at/all"]),
        (["--data", "pictures"], ["--data must be", "'pictures'"]),
        (["--devices", "three"], ["--devices must be one of one, mirrored, multi-worker, towers", "'three'"]),
        (["--set", "batch_size=64"], ["24 pictures", "batch_size=64"]),
    ],
)
def test_a_user_s_error_is_one_line(tmp_path, capsys, extra, words):
    assert train.main(arguments(tmp_path / "w", *extra)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, capsys):
    wild = {**SETTINGS, "learning_rate": "1e30", "warmup_steps": "0"}
    assert train.main(arguments(tmp_path / "w", settings=wild)) == 2
    line = capsys.readouterr().err
    assert "error: step 2: the loss is" in line or "error: step 3: the loss is" in line
    assert "lower learning_rate (now 1e+30)" in line
    assert "no checkpoint yet: the same --workdir may be begun anew" in line


def test_a_full_disk_loses_nothing(tmp_path, capsys, monkeypatch):
    write = checkpoint.write

    def full_later(path, arrays, state):
        if state["step"] > 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, arrays, state)

    monkeypatch.setattr(checkpoint, "write", full_later)
    assert train.main(arguments(tmp_path / "w")) == 2
    assert "No space left on device (free some space" in capsys.readouterr().err
    monkeypatch.setattr(checkpoint, "write", write)
    assert train.main(arguments(tmp_path / "w")) == 0
    assert "going on from step 3" in capsys.readouterr().out


def test_a_file_that_vanishes_after_the_scan_is_named(class_folder, tmp_path, capsys, monkeypatch):
    picture_folder = class_folder({"cat": 6, "dog": 6})
    call = train_loop._Trainer._call

    def remove_after_first(self, batches, stop):
        stopped = call(self, batches, stop)
        for path in picture_folder.rglob("*.jpg"):
            path.unlink(missing_ok=True)
        return stopped

    monkeypatch.setattr(train_loop._Trainer, "_call", remove_after_first)
    settings = {**SETTINGS, "batch_size": "2", "epochs": "50", "evaluate_every": "50"}
    assert train.main(arguments(tmp_path / "w", settings=settings, data=f"folder:{picture_folder}")) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]  # after what was going on
    assert not [line for line in lines if "Traceback" in line]
    assert ".jpg" in lines[-1]


def test_the_best_network_is_kept(tmp_path):
    train.main(arguments(tmp_path / "w"))
    run = Run.open(tmp_path / "w")
    arrays, state = checkpoint.read(run.checkpoint_dir / checkpoint.BEST)
    rows = run.read_metrics()
    best = min(rows, key=lambda row: row["val_top1_error"])
    assert state["step"] == best["step"]
    network, step = checkpoint.load_network(run)
    assert step == best["step"]
    np.testing.assert_array_equal(
        np.asarray(network.get_layer("conv1").kernel), arrays["network/conv1/kernel"]
    )


def test_a_run_too_short_for_its_warm_up_is_told(tmp_path, capsys):
    assert train.main(arguments(tmp_path / "w", settings={**SETTINGS, "epochs": "0.5"})) == 0
    assert "warning: 2 steps end before the rate has risen (warmup_steps=2): raise epochs (now 0.5)" in (
        capsys.readouterr().out
    )


def test_a_long_run_is_told_at_once_with_what_would_help(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pace, "LONG", 0.0)
    monkeypatch.setattr(precision, "measure", lambda: precision.Speeds(1.7, 1.0))
    assert train.main(arguments(tmp_path / "w")) == 0
    lines = capsys.readouterr().out.splitlines()
    (said,) = (line for line in lines if "at this pace" in line)
    assert lines[lines.index(said) - 1].startswith("step 3/6 ")  # the first compiles, the next two are a pace
    assert "are left (3 steps of " in said
    assert "in a new --workdir: precision=bfloat16 (1.7 times as fast" in said
    assert "fewer epochs (now 2)" in said
    assert " left" not in next(line for line in lines if line.startswith("step 1/"))
    assert next(line for line in lines if line.startswith("step 2/")).endswith(" left")


def test_conv1_rests_once_it_is_frozen(tmp_path):
    train.main(arguments(tmp_path / "w", "--set", "freeze_conv1=0.01", "--set", "warmup_steps=0"))
    trained = final_weights(tmp_path / "w")
    fresh = tiny_network()
    first = np.asarray(fresh.get_layer("conv1").kernel)
    # One step at the full rate, then frozen: the last checkpoint's conv1 is that of step one.
    assert not np.array_equal(trained["network/conv1/kernel"], first)
    middle, _ = checkpoint.read(tmp_path / "w" / "checkpoints" / "step-00000003.npz")
    np.testing.assert_array_equal(trained["network/conv1/kernel"], middle["network/conv1/kernel"])
    assert not np.array_equal(trained["network/fc8/kernel"], middle["network/fc8/kernel"])


def test_training_under_a_name_that_is_no_workdir(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        Run.open(tmp_path)
