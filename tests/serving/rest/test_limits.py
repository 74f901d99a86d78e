"""The REST port and clients that are slow, or send too much."""

import contextlib
import json
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rest_running import PATIENCE, PREDICT, STATUS, predict, received, servers


@pytest.fixture
def run():
    with servers() as start:
        yield start


def test_a_header_has_a_deadline_however_busily_it_trickles(run):
    running = run(header_timeout_in_ms=400)
    with running.connect() as connection:
        began = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            while time.monotonic() - began < PATIENCE:
                connection.sendall(b"X: 1\r\n")
                time.sleep(0.05)
        assert 0.3 < time.monotonic() - began < PATIENCE / 2
    assert running.talk(b"GET / HT").startswith(b"HTTP/1.1 408 ")
    assert running.talk(b"") == b""
    assert running.talk(STATUS, b"GET / HT").count(b"HTTP/1.1 408 ") == 1  # the second request's
    with running.connect() as connection:  # empty lines before a request are allowed, but are no request
        connection.sendall(STATUS)
        while b"AVAILABLE" not in connection.recv(65536):
            pass
        connection.sendall(b"\r\n")
        received(connection)


def test_a_body_may_pause_only_so_long(run):
    running = run(body_timeout_in_ms=300)
    assert running.talk(predict(1)[:-3]).startswith(b"HTTP/1.1 408 ")
    running = run(body_timeout_in_ms=1000)
    with running.connect() as connection:  # slow, but moving: it takes longer than one pause may
        for byte in predict(1, "Connection: close"):
            connection.sendall(bytes([byte]))
            time.sleep(0.015)
        assert b"[2.5]" in received(connection)


def test_a_deadline_does_not_hit_a_request_that_is_being_answered(run):
    running = run(header_timeout_in_ms=200, body_timeout_in_ms=200)
    threading.Timer(0.8, running.core.gate.set).start()
    answer = running.talk(predict(99) + predict(1)[:-3])
    assert b"[51.5]" in answer


def test_a_client_that_does_not_read_is_let_go(run):
    running = run(body_timeout_in_ms=300)
    body = json.dumps({"instances": [[0.123456789] * 200_000]}).encode()
    head = f"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(OSError):
            for _ in range(20):
                connection.sendall(head + body)
        deadline = time.monotonic() + PATIENCE
        while running.server._server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not running.server._server.server_state.connections


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_header_has_a_size(run, end):
    running = run(max_header_bytes=5000)
    line = b"GET /v1/models/half HTTP/1.1\r\nX: " + b"x" * 6000
    assert running.talk(line + end).startswith(b"HTTP/1.1 431 ")
    assert running.talk(b"GET /" + b"x" * 6000 + b" HTTP/1.1" + end).startswith(b"HTTP/1.1 431 ")
    assert (
        running.talk(b"GET /livez HTTP/1.1\r\nConnection: close\r\nX: " + b"x" * 4000 + b"\r\n\r\n")[9:12]
        == b"200"
    )


def test_a_large_body_is_refused_at_once_and_the_client_can_read_why(run):
    running = run(max_request_bytes=1000)
    head = PREDICT + b"Content-Length: 3000000\r\n\r\n"
    answer = running.talk(head + b"x" * 3_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert b"limit of 1000 bytes" in answer
    endless = PREDICT + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n%s\r\n" % (b"x" * 1024) * 3
    assert running.talk(endless, shut=True).startswith(b"HTTP/1.1 413 ")


def test_any_bytes_leave_the_server_as_it_was(run):
    running = run(header_timeout_in_ms=2000)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.sampled_from([PREDICT, STATUS, b"\r\n", b"Host: h\r\n", b"Content-Length: 9\r\n", predict(1)])
            | st.sampled_from(
                [b"Transfer-Encoding: chunked\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"5\r\n"]
            )
            | st.binary(max_size=12),
            max_size=6,
        )
    )
    def send(parts):
        answer = running.talk(b"".join(parts), shut=True)
        assert b"HTTP/1.1 500 " not in answer
        assert answer == b"" or answer.startswith(b"HTTP/1.1 ")

    send()
    assert running.post(1)[0] == 200
