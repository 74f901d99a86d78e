"""The client over HTTP: retries, deadlines, connections, threads, TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.client import Code, ServingError, connect
from serving.clients import retry
from tests.support.fake_serving import fake_serving


@pytest.fixture
def client(fake):
    with connect(fake.address, model="pets", timeout=30.0) as one:
        yield one


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_server_is_asked_again(client, fake, status):
    fake.script = [(status, {"error": "full"})] * 2
    assert client.predict([b"cat"]).outputs["classes"] == [["cat", "dog"]]
    assert len(fake.requests) == 3


def test_tries_are_counted(fake):
    fake.script = [(503, {"error": "full"})] * 9
    with connect(fake.address, model="pets", retries=2) as one, pytest.raises(ServingError, match=r"^full$"):
        one.status()
    assert len(fake.requests) == 3


def test_retry_after_is_kept_to(client, fake):
    fake.script = [(503, {"error": "full"}, {"Retry-After": "1"})]
    began = time.monotonic()
    client.status()
    assert 1.0 <= time.monotonic() - began < 30.0


def test_no_retry_reaches_past_the_deadline(client, fake):
    fake.script = [(503, {"error": "full"}, {"Retry-After": "60"})]
    began = time.monotonic()
    with pytest.raises(ServingError, match="full"):
        client.status(timeout=30.0)
    assert time.monotonic() - began < 30.0


def test_waits_double_and_are_drawn(monkeypatch):
    waits = []
    closed = threading.Event()
    monkeypatch.setattr(closed, "wait", lambda seconds: waits.append(seconds) and None)

    def full():
        raise ServingError(Code.UNAVAILABLE, "full")

    policy = retry.RetryPolicy(retries=5, first_wait=1.0, longest_wait=5.0)
    with pytest.raises(ServingError):
        retry.call(full, policy, time.monotonic() + 1000, closed, draw=lambda: 0.5)
    assert waits == [0.5, 1.0, 2.0, 2.5, 2.5]


def hold(seconds):
    return lambda handler: time.sleep(seconds) or handler.send(200, {})


def trickle(handler):
    """A byte every tenth of a second: each one alone comes in time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(80):
        handler.wfile.write(b" ")
        time.sleep(0.1)
    handler.close_connection = True


@pytest.mark.parametrize("step", [hold(8.0), trickle], ids=["silent", "slow"])
def test_the_deadline_of_a_request(client, fake, step):
    fake.script = [step]
    began = time.monotonic()
    with pytest.raises(ServingError, match="no answer in time") as caught:
        client.predict([b"cat"], timeout=0.5)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert 0.4 < time.monotonic() - began < 5.0
    assert client.predict([b"cat"]).outputs["scores"] == [[0.75, 0.25]]  # on a connection of its own


def test_connections_are_kept(client, fake):
    for _ in range(3):
        client.status()
    assert len({address for *_, address in fake.requests}) == 1


def test_a_connection_closed_meanwhile_is_replaced(fake):
    def last(handler):
        handler.close_connection = True
        handler.send(200, {"model_version_status": []})

    fake.script = [last, last]
    with connect(fake.address, model="pets", retries=0) as one:
        for _ in range(3):
            one.status()
            time.sleep(0.05)
    assert len({address for *_, address in fake.requests}) == 3


def test_an_answer_cut_short_is_asked_for_again(client, fake):
    def cut(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        handler.close_connection = True

    fake.script = [cut]
    assert len(client.status()) == 1


def test_threads_share_a_client(client):
    with ThreadPoolExecutor(8) as pool:
        names = [b"cat" if n % 3 else b"dog" for n in range(60)]
        answers = list(pool.map(lambda name: client.predict([name]).outputs["classes"][0][0], names))
    assert answers == [name.decode() for name in names]


def test_closing_ends_requests_and_waits(fake):
    one = connect(fake.address, model="pets", timeout=60)
    fake.script = [hold(20.0)]
    began = time.monotonic()
    threading.Timer(0.3, one.close).start()
    with pytest.raises(ServingError):
        one.status()
    with pytest.raises(ServingError, match="the client is closed"):
        one.status()
    assert time.monotonic() - began < 15.0  # the server would answer after 20


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with connect(f"127.0.0.1:{port}", retries=1) as one, pytest.raises(ServingError) as caught:
        one.status()
    assert caught.value.code == Code.UNAVAILABLE
    assert str(caught.value) == f"127.0.0.1:{port}: Connection refused"


def test_the_grpc_port_by_mistake():
    import grpc

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with connect(f"127.0.0.1:{port}", retries=0) as one, pytest.raises(ServingError) as caught:
            one.status()
    finally:
        server.stop(None)
    assert caught.value.code == Code.UNAVAILABLE
    assert str(port) in str(caught.value)


def test_tls(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates["server"])
    with fake_serving(context) as server:
        where = f"https://{server.address}"
        with connect(where, model="pets", ca_file=certificates["ca"]) as one:
            assert one.status()[0].version == 7
        with connect(where, model="pets") as one, pytest.raises(ServingError, match="not trusted") as caught:
            one.status()
    assert caught.value.code == Code.UNAVAILABLE


def test_mutual_tls(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates["server"])
    context.load_verify_locations(certificates["ca"])
    context.verify_mode = ssl.CERT_REQUIRED
    with fake_serving(context) as server:
        ours = {"ca_file": certificates["ca"], "model": "pets", "retries": 0}
        with connect(server.address, cert_file=certificates["client"], **ours) as one:
            assert one.status()[0].version == 7
        with connect(server.address, **ours) as one, pytest.raises(ServingError) as caught:
            one.status()
    assert caught.value.code == Code.UNAVAILABLE
