"""Workers that part: at the end, by a failure, by Ctrl-C, by death and by silence."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from alexnet_tf.distribute import links as peer_links
from alexnet_tf.distribute import losses, peers
from alexnet_tf.distribute.links import PROTOCOL, Hello
from pipelines.errors import DataError, UserError
from tests.support.small_clusters import clusters, together, watching_threads

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert watching_threads() == []


def test_the_first_waits_for_the_last_to_finish(monkeypatch):
    monkeypatch.setattr(peer_links, "PULSE_SECONDS", 0.1)  # pulses must not undo a farewell
    left = []

    def work(index, others):
        time.sleep(0.5 * index)
        left.append(index)

    assert together(clusters(3), work) == [None] * 3
    assert left == [0, 1, 2]


@pytest.mark.parametrize("kind", [UserError, DataError])
def test_a_failure_is_told_to_the_others(kind):
    def work(index, others):
        time.sleep(0.3)  # until all know that all have met
        if index == 1:
            raise kind("the loss is not finite")
        time.sleep(0.3)
        raise RuntimeError("collective operation failed")

    zero, one, two = together(parts := clusters(3), work)
    assert type(one) is kind
    for lost in (zero, two):
        assert isinstance(lost, losses.PeerLost)
        assert str(lost) == f"worker 1 ({parts[0].workers[1]}) has stopped: the loss is not finite"
        assert isinstance(lost.__cause__, RuntimeError)


def test_a_mistake_of_our_own_stays_what_it_is(monkeypatch):
    monkeypatch.setattr(peers, "BLAME_SECONDS", 0.2)
    fails = threading.Event()

    def work(index, others):
        if index == 0:
            fails.set()
            raise ZeroDivisionError("division by zero")
        fails.wait()

    zero, one = together(clusters(2), work)
    assert type(zero) is ZeroDivisionError
    assert "has stopped: ZeroDivisionError: division by zero; start all workers again" in str(one)


def test_what_is_made_of_a_known_loss_is_put_down_to_it():
    def work(index, others):
        if index == 1:
            raise UserError("no space left")
        time.sleep(0.3)
        raise UserError("a record cannot be read")

    zero, one = together(clusters(2), work)
    assert type(one) is UserError
    assert isinstance(zero, losses.PeerLost)
    assert "has stopped: no space left" in str(zero)


def test_ctrl_c_is_no_death():
    def work(index, others):
        if index == 1:
            raise KeyboardInterrupt

    zero, one = together(clusters(2), work)
    assert zero is None
    assert type(one) is KeyboardInterrupt


def test_a_failure_after_anothers_ctrl_c_is_explained(monkeypatch):
    monkeypatch.setattr(peers, "BLAME_SECONDS", 2.0)

    def work(index, others):
        if index == 1:
            raise KeyboardInterrupt
        time.sleep(0.2)
        raise RuntimeError("collective operation failed")

    zero, _ = together(clusters(2), work)
    assert isinstance(zero, losses.PeerLost)
    assert "was interrupted; start all workers again" in str(zero)


@contextlib.contextmanager
def dumb_worker(part):
    """Worker 1, played by hand: takes part in the rendezvous, then says nothing more."""
    host, _, port = part.address.rpartition(":")
    zero_host, _, zero_port = part.workers[0].rpartition(":")
    greeting = json.dumps(Hello.of(part, 0, {}).message()).encode() + b"\n"
    with socket.create_server((host, int(port))) as listener, contextlib.ExitStack() as stack:

        def play():
            incoming = stack.enter_context(listener.accept()[0])
            assert json.loads(incoming.makefile().readline())["protocol"] == PROTOCOL
            incoming.sendall(greeting)
            outgoing = stack.enter_context(socket.create_connection((zero_host, int(zero_port))))
            outgoing.sendall(greeting + b"{}\n")

        player = threading.Thread(target=play)
        player.start()
        yield
        player.join()


def test_silence_is_noticed(monkeypatch):
    monkeypatch.setattr(peer_links, "PULSE_SECONDS", 0.1)
    monkeypatch.setattr(peer_links, "SILENCE_SECONDS", 0.5)
    parts = clusters(2)
    with dumb_worker(parts[1]):
        (zero,) = together(parts[:1], lambda index, others: time.sleep(2.0), settings=[{}])
    assert isinstance(zero, losses.PeerLost)
    assert "has been silent for 0.5 s; start all workers again" in str(zero)


def test_a_failed_operation_makes_a_quiet_worker_suspect(monkeypatch):
    monkeypatch.setattr(peer_links, "SUSPECT_SECONDS", 0.3)
    monkeypatch.setattr(peers, "BLAME_SECONDS", 2.0)
    parts = clusters(2)
    with (
        dumb_worker(parts[1]),
        pytest.raises(losses.PeerLost, match=r"worker 1 .* does not answer; start all"),
        peers.rendezvous(parts[0], {}, timeout=60),
    ):
        raise RuntimeError("collective operation failed")


WORKER = """
import ctypes, sys, time
from alexnet_tf.distribute import cluster, peers
from pipelines import command

def body():
    with peers.rendezvous(cluster.from_environment(), {}, timeout=60, grace=1.0) as others:
        print("met", flush=True)
        if sys.argv[1] == "hang":
            ctypes.CDLL(None).sleep(60)
        elif sys.argv[1] == "save":
            with others.unbroken():
                time.sleep(2.5)
                print("saved", flush=True)
            time.sleep(60)
        elif sys.argv[1] == "start":
            with others.starting(1.0):
                ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock
    return {}

sys.exit(command.run(body, tensorflow=False))
"""


def start(parts, modes):
    """Processes of their own that have met."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, mode],
            cwd=ROOT,
            env=os.environ | {"TF_CONFIG": part.tf_config()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part, mode in zip(parts, modes, strict=True)
    ]
    for process in processes:
        assert process.stdout.readline() == "met\n"
    return processes


def test_a_death_ends_workers_that_hang():
    """Three workers, blocked outside the interpreter; one is killed while another writes a checkpoint."""
    parts = clusters(3)
    killed, hangs, saves = start(parts, ["hang", "hang", "save"])
    died = time.monotonic()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    line = f"error: worker 0 ({parts[0].workers[0]}) has gone; start all workers again: "
    line += "the run goes on from its last checkpoint\n"
    assert hangs.communicate(timeout=50) == ("", line)
    hung = time.monotonic() - died
    assert saves.communicate(timeout=50) == ("saved\n", line)
    assert 0.5 < hung < 30.0
    assert hangs.returncode == saves.returncode == losses.EXIT_PEER_LOST


def test_a_start_that_hangs_with_the_interpreters_lock_is_ended():
    part = clusters(1)
    (process,) = start(part, ["start"])
    _, complaint = process.communicate(timeout=50)
    assert process.returncode == 1
    assert "Timeout (0:00:01)" in complaint
