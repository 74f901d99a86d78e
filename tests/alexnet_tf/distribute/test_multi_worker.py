"""Two processes that train together: the weights of one, one run folder, deaths and restarts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from alexnet_tf import checkpoint, launch
from alexnet_tf.distribute.cluster import Cluster
from alexnet_tf.run_record import Run
from tests.support.worker_runs import ROOT, words


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@pytest.fixture
def program(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return "tests.support.tiny_train"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    workdir = tmp_path_factory.mktemp("alone") / "w"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.support.tiny_train", *words(workdir)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    return Run.open(workdir)


def final(run):
    arrays, state = checkpoint.read(run.checkpoint_dir / "step-00000009.npz")
    assert state["step"] == 9
    return arrays


def test_two_workers_train_the_network_of_one(program, alone, tmp_path, capfd):
    figures = launch.launch(2, words(tmp_path / "w"), program=program, as_json=True)
    assert figures["steps"] == 9
    run = Run.open(tmp_path / "w")
    one, two = final(alone), final(run)
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    timing = ("seconds", "images_per_second")
    for row, expected in zip(run.read_metrics(), alone.read_metrics(), strict=True):
        for name in set(row) - set(timing):
            assert row[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5, nan_ok=True), name
    shown = capfd.readouterr().out
    assert shown.count("step 9/9") == 1  # the chief alone reports
    assert "[1] " not in shown


def test_a_death_is_told_and_the_restart_goes_on(program, alone, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TINY_TRAIN_DIE", "1:6")
    figures = launch.launch(2, words(tmp_path / "w"), program=program, as_json=True, restarts=1)
    assert (figures["steps"], figures["restarts"]) == (9, 1)
    shown = capfd.readouterr()
    assert "worker 1 (127.0.0.1:" in shown.err
    assert "has gone; start all workers again: the run goes on from its last checkpoint" in shown.err
    assert "going on from step 6 of 9" in shown.out
    assert "Traceback" not in shown.err
    for name, array in final(alone).items():
        two = final(Run.open(tmp_path / "w"))
        np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_one_worker_s_signal_stops_all_of_them_in_good_order(program, tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_TRAIN_PAUSE", "0.3")
    workers = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    command = [sys.executable, "-m", program, "--devices", "multi-worker", *words(tmp_path / "w")]
    team = [
        subprocess.Popen(
            command,
            env={**os.environ, "TF_CONFIG": Cluster(workers, index).tf_config()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        first = tmp_path / "w" / "checkpoints" / "step-00000002.npz"
        deadline = time.monotonic() + 100
        while not first.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        team[1].send_signal(signal.SIGTERM)
        ended = [process.communicate(timeout=60) for process in team]
    finally:
        for process in team:
            process.kill()
            process.wait()
    assert [process.returncode for process in team] == [130, 130], ended
    assert all("the same command goes on from there" in stderr for _, stderr in ended)
    saved = checkpoint.Checkpoints(tmp_path / "w" / "checkpoints").newest()[0]
    assert f"saved at step {int(saved.stem[-8:])} of 9" in ended[0][1]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--set", "batch_size=9"], "`batch_size` must be a multiple of the 2 replicas; received 9"),
        (["--data", "folder:/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_is_told_once_and_not_tried_again(program, tmp_path, capfd, extra, said):
    with pytest.raises(launch.WorkerFailed) as caught:
        launch.launch(2, words(tmp_path / "w", *extra), program=program, restarts=3)
    assert caught.value.exit_status == 2
    shown = capfd.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
