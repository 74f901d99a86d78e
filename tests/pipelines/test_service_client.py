"""The client of data services without any: addresses, and waiting in vain."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tensorflow as tf

from pipelines import service_client
from pipelines.errors import DataError
from tests.support.data_services import watched

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("host:5050", ("host:5050",)),
        ("grpc://host:5050,10.0.0.2:1", ("host:5050", "10.0.0.2:1")),
        ("a.b-c:65535, [::1]:05050", ("a.b-c:65535", "[::1]:5050")),
    ],
)
def test_addresses(text, addresses):
    assert service_client.parse_addresses(text) == addresses


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":5050",
        "host:port",
        "host:0",
        "host:65536",
        "http://host:1",
        "a:1,,b:1",
        "::1:5050",
    ],
)
def test_malformed_addresses(text):
    with pytest.raises(
        DataError, match=r"--data-service takes HOST:PORT\[,HOST:PORT\.\.\.\], .*; received '"
    ):
        service_client.parse_addresses(text)


def test_an_address_given_twice():
    with pytest.raises(DataError, match="a:1 is given twice"):
        service_client.parse_addresses("a:1,b:1,grpc://a:1")


def test_a_stall_is_an_error():
    released = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as reached:
        address = f"127.0.0.1:{reached.getsockname()[1]}"
        stream = watched(iter(released.wait, None), [address], patience=60, stall=0.5)
        with pytest.raises(
            DataError, match=f"data services {address}: no batch for 0 s, although they can be"
        ):
            next(stream)
    released.set()


def test_a_watched_stream_ends_as_its_source_does():
    assert [int(x) for x in watched(tf.data.Dataset.range(3), [])] == [0, 1, 2]


def test_nothing_is_left_of_a_watched_stream():
    before = set(threading.enumerate())
    stream = watched(tf.data.Dataset.range(3).repeat(), [])
    next(stream)
    (thread,) = set(threading.enumerate()) - before
    del stream
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_command_can_read_its_arguments_without_tensorflow():
    script = (
        "import sys, pipelines.service_client, alexnet_tf.run_record; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT).returncode == 0
