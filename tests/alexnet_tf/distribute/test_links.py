"""Workers that meet: all of them, too few, the wrong ones, and strangers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from alexnet_tf.distribute import links as peer_links
from alexnet_tf.distribute import losses, peers
from alexnet_tf.distribute.cluster import Cluster
from alexnet_tf.distribute.links import Hello
from pipelines.errors import UserError
from tests.support.small_clusters import clusters, together, watching_threads


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert watching_threads() == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_all_meet_and_leave(count):
    met = threading.Barrier(count, timeout=60)
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
    assert isinstance(zero, losses.PeerLost)
    assert " of 2 other workers did not arrive within 1 s: worker " in str(zero)
    assert f"worker 2 ({parts[2].workers[2]}): nothing listens there" in str(zero)
    assert "--peer-timeout" in str(zero)
    assert "worker 2" in str(one)


def test_why_they_may_never_come_is_said():
    here, _ = clusters(2)
    doubting = dataclasses.replace(here, doubt="start them by srun")
    with pytest.raises(losses.PeerLost, match=r"with --peer-timeout SECONDS \(start them by srun\)$"):
        peers.rendezvous(doubting, {}, timeout=0.3)


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
    ours = Hello(0, 1, ("a:1", "b:1"), {"a": 1, "b": 2, "c": 3, "d": 4})
    with pytest.raises(UserError) as refused:
        ours.check(Hello(1, 0, ("a:1", "b:1"), {"a": 0, "e": 1}))
    assert "a is 0 there and 1 here, b is None there and 2 here, c is None" in str(refused.value)
    assert "and 2 more differ" in str(refused.value)


def test_another_list_of_workers_is_refused():
    parts = clusters(3)
    zero, one = together([Cluster(parts[0].workers[:2], 0), parts[1]], timeout=30.0)
    assert "runs with other settings: workers is [" in str(zero)
    assert "runs with other settings: workers is [" in str(one)


def test_two_addresses_of_one_worker_are_refused():
    (part,) = clusters(1)
    twice = Cluster((part.address, part.address.replace("127.0.0.1", "localhost")), 0)
    with pytest.raises(UserError, match=r"the address of worker 1 .* is answered by worker 0"):
        peers.rendezvous(twice, {}, timeout=5)


def test_strangers_are_shown_out(monkeypatch):
    """A port scanner, a web client, somebody silent, and a greeting that nobody confirms."""
    monkeypatch.setattr(peer_links, "HANDSHAKE_SECONDS", 0.5)
    parts = clusters(2)
    host, _, port = parts[0].address.rpartition(":")
    half = Hello.of(parts[1], 0, {"seed": 0}).message()
    said = [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 100, b"[" * 9999 + b"\n", b"{}\n", None]
    said += [json.dumps({**half, "sender": 7}).encode() + b"\n", json.dumps({**half, "workers": 1}).encode()]
    said += [json.dumps(half).encode() + b"\n"]  # the place of worker 1 is free again once it is silent
    with contextlib.ExitStack() as open_sockets, ThreadPoolExecutor(1) as pool:
        zero = pool.submit(together, parts[:1])
        for words in said:
            deadline = time.monotonic() + 60
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
    monkeypatch.setattr(peer_links, "HANDSHAKE_SECONDS", 0.3)
    parts = clusters(2)
    host, _, port = parts[1].address.rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(losses.PeerLost) as lost:
        peers.rendezvous(parts[0], {}, timeout=2.0)
    assert "what answers there is no worker that waits for this one" in str(lost.value)
