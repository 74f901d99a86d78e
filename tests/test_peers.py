"""Workers that meet, part, fail and die: in threads of this process, and as processes of their own."""

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alexnet_tf import peer_links, peers
from alexnet_tf.cluster import Cluster
from alexnet_tf.errors import UserError
from alexnet_tf.greeting import PROTOCOL, Greeting

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [t for t in threading.enumerate() if t.name == "peers"] == []


def clusters(count, host="127.0.0.1"):
    """One cluster of `count` workers on free ports, as each of them sees it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket(family)) for _ in range(count)]
        for one in sockets:
            one.bind((host, 0))
        shown = f"[{host}]" if ":" in host else host
        workers = tuple(f"{shown}:{one.getsockname()[1]}" for one in sockets)
    return [Cluster(workers, index) for index in range(count)]


def together(parts, body=lambda index, others: None, settings=None, timeout=10.0):
    """Runs `body` inside the rendezvous of each worker; returns what each ended with."""

    def work(cluster):
        try:
            own = settings[cluster.index] if settings else {"seed": 0}
            with peers.rendezvous(cluster, own, timeout=timeout) as others:
                return body(cluster.index, others)
        except BaseException as error:  # noqa: BLE001 - it is what the test looks at
            return error

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, parts))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_all_meet_and_leave(count):
    met = threading.Barrier(count, timeout=10)
    assert together(clusters(count), lambda index, others: met.wait() >= 0) == [True] * count


def test_ipv6():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        parts = clusters(2, "::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    assert together(parts) == [None, None]


def test_nobody_goes_on_before_the_last_has_come():
    parts, came = clusters(3), []

    def late(index, others):
        came.append(index)

    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(together, parts[:2], late)
        time.sleep(0.7)
        assert came == []
        assert together(parts[2:], late) == [None]
        assert early.result() == [None, None]
    assert sorted(came) == [0, 1, 2]


def test_the_port_is_free_for_another_server_once_all_have_met():
    def serve(index, others):
        host, _, port = parts[index].address.rpartition(":")
        with socket.create_server((host, int(port))):
            return True

    parts = clusters(2)
    assert together(parts, serve) == [True, True]


def test_a_taken_port_is_named():
    (part,) = clusters(1)
    host, _, port = part.address.rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(UserError) as refused:
        peers.rendezvous(part, {})
    assert part.address in str(refused.value)
    assert "another process has the port" in str(refused.value)


def test_missing_workers_are_named():
    parts = clusters(3)
    zero, one = together(parts[:2], timeout=1.0)
    assert isinstance(zero, peers.PeerLost)
    assert " of 2 other workers did not arrive within 1 s: worker " in str(zero)
    assert f"worker 2 ({parts[2].workers[2]}): nothing listens there" in str(zero)
    assert "--peer-timeout" in str(zero)
    assert "worker 2" in str(one)


def test_differing_settings_are_named():
    settings = [{"seed": 0, "batch_size": 64, "rate": [1, 2]}, {"seed": 1, "batch_size": 64, "rate": (1, 2)}]
    parts = clusters(2)
    zero, one = together(parts, settings=settings)
    assert type(zero) is type(one) is UserError
    assert str(zero) == (
        f"worker 1 at {parts[0].workers[1]} runs with other settings: seed is 1 there and 0 here; "
        "start all workers with the same command, code and data"
    )
    assert "seed is 0 there and 1 here" in str(one)


def test_many_differing_settings_are_counted():
    ours = Greeting(0, 1, ("a:1", "b:1"), {"a": 1, "b": 2, "c": 3, "d": 4})
    with pytest.raises(UserError) as refused:
        ours.check(Greeting(1, 0, ("a:1", "b:1"), {"a": 0, "e": 1}))
    assert "a is 0 there and 1 here, b is None there and 2 here, c is None" in str(refused.value)
    assert "and 2 more differ" in str(refused.value)


def test_another_list_of_workers_is_refused():
    parts = clusters(3)
    zero, one = together([Cluster(parts[0].workers[:2], 0), parts[1]], timeout=3.0)
    assert "runs with other settings: workers is [" in str(zero)
    assert "runs with other settings: workers is [" in str(one)


def test_two_addresses_of_one_worker_are_refused():
    (part,) = clusters(1)
    twice = Cluster((part.address, part.address.replace("127.0.0.1", "localhost")), 0)
    with pytest.raises(UserError, match=r"the address of worker 1 .* is answered by worker 0"):
        peers.rendezvous(twice, {}, timeout=5)


def test_strangers_are_shown_out(monkeypatch):
    """A port scanner, a web client, somebody silent, and a greeting that nobody confirms."""
    monkeypatch.setattr(peer_links, "GREETING_SECONDS", 0.5)
    parts = clusters(2)
    host, _, port = parts[0].address.rpartition(":")
    half = Greeting.of(parts[1], 0, {"seed": 0}).message()
    said = [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 100, b"[" * 9999 + b"\n", b"{}\n", None]
    said += [json.dumps({**half, "sender": 7}).encode() + b"\n", json.dumps({**half, "workers": 1}).encode()]
    said += [json.dumps(half).encode() + b"\n"]  # the place of worker 1 is free again once it is silent
    with contextlib.ExitStack() as open_sockets, ThreadPoolExecutor(1) as pool:
        zero = pool.submit(together, parts[:1])
        for words in said:
            deadline = time.monotonic() + 5
            while True:
                try:
                    stranger = socket.create_connection((host, int(port)))
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
            if words == b"":
                stranger.close()
                continue
            open_sockets.enter_context(stranger)
            stranger.sendall(words or b"")
        time.sleep(0.2)
        assert together(parts[1:]) == [None]
        assert zero.result() == [None]


def test_a_stranger_on_a_workers_address_is_not_taken_for_it(monkeypatch):
    monkeypatch.setattr(peer_links, "GREETING_SECONDS", 0.3)
    parts = clusters(2)
    host, _, port = parts[1].address.rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(peers.PeerLost) as lost:
        peers.rendezvous(parts[0], {}, timeout=1.0)
    assert "what answers there is no worker that waits for this one" in str(lost.value)


def test_the_first_waits_for_the_last_to_finish(monkeypatch):
    monkeypatch.setattr(peer_links, "PULSE_SECONDS", 0.1)  # pulses must not undo a farewell
    left = []

    def work(index, others):
        time.sleep(0.5 * index)
        left.append(index)

    assert together(clusters(3), work) == [None] * 3
    assert left == [0, 1, 2]


def test_a_failure_is_told_to_the_others():
    def work(index, others):
        if index == 1:
            raise UserError("the loss is not finite")
        time.sleep(0.3)
        raise RuntimeError("collective operation failed")

    zero, one, two = together(parts := clusters(3), work)
    assert type(one) is UserError
    for lost in (zero, two):
        assert isinstance(lost, peers.PeerLost)
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


def test_ctrl_c_is_no_death():
    def work(index, others):
        if index == 1:
            raise KeyboardInterrupt

    zero, one = together(clusters(2), work)
    assert zero is None
    assert type(one) is KeyboardInterrupt


def test_a_failure_after_anothers_ctrl_c_is_explained(monkeypatch):
    monkeypatch.setattr(peers, "BLAME_SECONDS", 0.5)

    def work(index, others):
        if index == 1:
            raise KeyboardInterrupt
        time.sleep(0.2)
        raise RuntimeError("collective operation failed")

    zero, _ = together(clusters(2), work)
    assert isinstance(zero, peers.PeerLost)
    assert "was interrupted; start all workers again" in str(zero)


@contextlib.contextmanager
def dumb_worker(part):
    """Worker 1, played by hand: takes part in the rendezvous, then says nothing more."""
    host, _, port = part.address.rpartition(":")
    zero_host, _, zero_port = part.workers[0].rpartition(":")
    greeting = json.dumps(Greeting.of(part, 0, {}).message()).encode() + b"\n"
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
        (zero,) = together(parts[:1], lambda index, others: time.sleep(1.0), settings=[{}])
    assert isinstance(zero, peers.PeerLost)
    assert "has been silent for 0.5 s; start all workers again" in str(zero)


def test_a_failed_operation_makes_a_quiet_worker_suspect(monkeypatch):
    monkeypatch.setattr(peer_links, "SUSPECT_SECONDS", 0.3)
    monkeypatch.setattr(peers, "BLAME_SECONDS", 0.4)
    parts = clusters(2)
    with (
        dumb_worker(parts[1]),
        pytest.raises(peers.PeerLost, match=r"worker 1 .* does not answer; start all"),
        peers.rendezvous(parts[0], {}, timeout=5),
    ):
        raise RuntimeError("collective operation failed")


WORKER = """
import ctypes, sys, time
from alexnet_tf import cli, cluster, peers

def body():
    with peers.rendezvous(cluster.from_environment(), {}, timeout=20, grace=1.0) as others:
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

sys.exit(cli.run(body, tensorflow=False))
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
    assert hangs.communicate(timeout=20) == ("", line)
    hung = time.monotonic() - died
    assert saves.communicate(timeout=20) == ("saved\n", line)
    assert time.monotonic() - died >= 2.0
    assert 0.5 < hung < 10.0
    assert hangs.returncode == saves.returncode == peers.EXIT_PEER_LOST


def test_a_start_that_hangs_with_the_interpreters_lock_is_ended():
    part = clusters(1)
    (process,) = start(part, ["start"])
    _, complaint = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Timeout (0:00:01)" in complaint
