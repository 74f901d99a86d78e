"""The REST port on real sockets: keep-alive, pipelining, what is no HTTP, ports, TLS."""

import concurrent.futures
import contextlib
import http.client
import socket
import ssl
from types import SimpleNamespace

import pytest

from serving.errors import Code, ServingError
from serving.rest.app import RestApp
from serving.rest.options import RestOptions
from serving.rest.server import RestServer, listening_socket
from serving.security import server_context
from tests.support.certificates import write_certificates
from tests.support.rest_fakes import FakeCore, Recorder
from tests.support.rest_running import HOST, PATIENCE, PREDICT, STATUS, predict, servers


@pytest.fixture
def run():
    with servers() as start:
        yield start


def test_a_connection_serves_many_requests(run):
    running = run()
    connection = http.client.HTTPConnection(HOST, running.port, timeout=PATIENCE)
    for x in range(5):
        assert running.post(x, connection) == (200, None, {"predictions": [x / 2 + 2]})
    connection.close()


def test_answers_leave_at_once(run):
    """An answer in two packets takes 40 ms longer where the second waits until the first was received."""
    running = run()
    connection = http.client.HTTPConnection(HOST, running.port, timeout=PATIENCE)
    running.post(1, connection)
    (served,) = running.server._server.server_state.connections
    sending = served.transport.get_extra_info("socket")
    assert sending.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    connection.close()


def test_pipelined_requests_are_answered_in_order(run):
    answer = run().talk(predict(1) + STATUS + predict(3), b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    places = [answer.index(part) for part in (b"[2.5]", b"AVAILABLE", b"[3.5]", b"live")]
    assert places == sorted(places)


def test_a_proposal_of_http2_costs_no_body(run):
    upgrade = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    request = predict(2, *upgrade)
    head = request.index(b"\r\n\r\n") + 4
    for parts in ((request,), (request[:head], request[head:]), (request[:-4], request[-4:])):
        answer = run().talk(*parts, b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert b'"predictions": [3.0]' in answer
        assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_a_chunked_body_and_expect_continue(run):
    head = PREDICT + b"Transfer-Encoding: chunked\r\nConnection: close\r\n"
    chunks = b'6\r\n{"inst\r\n10\r\nances": [1, 2]} \r\n0\r\n\r\n'
    assert b"[2.5, 3.0]" in run().talk(head + b"\r\n" + chunks)
    assert (
        run()
        .talk(head + b"Expect: 100-continue\r\n\r\n", chunks)
        .startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    )


def test_a_client_that_has_said_all_still_gets_its_answer(run):
    assert b"[2.5]" in run().talk(predict(1), shut=True)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\n\r\n",
        PREDICT + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        PREDICT + b"Content-Length: -3\r\n\r\n",
        PREDICT + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
        PREDICT + b"Content-Length: 99999999999999999999999\r\n\r\n",
        PREDICT + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        PREDICT + b"Content-Length: 2\r\n\r\n{}{}{}",
        b"GET /v1/models/half HTTP/1.1\r\nName\x00: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_400_and_the_end(run, request_bytes):
    assert run().talk(request_bytes).startswith(b"HTTP/1.1 400 ")


def test_a_body_cut_short_is_forgotten(run):
    running = run()
    assert running.talk(predict(1)[:-3], shut=True) == b""
    assert running.core.calls == []
    assert running.post(1)[0] == 200


def test_waiting_for_a_thread_stops_nobody_else(run):
    running = run(num_threads=1)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(running.post, 99) for _ in range(3)]
        assert running.core.waiting.acquire(timeout=PATIENCE)
        assert b"AVAILABLE" in running.talk(STATUS.replace(b"h\r\n\r\n", b"h\r\nConnection: close\r\n\r\n"))
        running.core.gate.set()
        assert [done.result(PATIENCE)[0] for done in busy] == [200] * 3


# --- ports


def test_ports():
    options = RestOptions(num_threads=1)
    with listening_socket("", 0) as both:
        port = both.getsockname()[1]
        both.listen()
        for host in (HOST, "::1"):
            with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
                pass
        server = RestServer(RestApp(FakeCore(), Recorder(), options), port, "", options)
        with pytest.raises(
            ServingError, match=f"cannot listen on .*:{port}: Address already in use"
        ) as caught:
            server.start()
        assert caught.value.code is Code.UNAVAILABLE
        server.stop(0)
    for host, port in (("no.such.host.invalid", 0), (HOST, 70_000)):
        with pytest.raises(ServingError):
            listening_socket(host, port)


# --- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    write_certificates(folder)
    return folder


def ssl_config(folder, **changes):
    fields = {
        "server_key": (folder / "server.key").read_text(),
        "server_cert": (folder / "server.crt").read_text(),
        "custom_ca": (folder / "ca.pem").read_text(),
        "client_verify": False,
    }
    return SimpleNamespace(**{**fields, **changes})


def ask_over_tls(running, folder, with_certificate=False):
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if with_certificate:
        context.load_cert_chain(folder / "client.crt", folder / "client.key")
    connection = http.client.HTTPSConnection("localhost", running.port, timeout=PATIENCE, context=context)
    try:
        return running.post(1, connection)[0]
    finally:
        connection.close()


def test_tls(run, certificates):
    running = run(ssl_config=ssl_config(certificates))
    assert ask_over_tls(running, certificates) == 200
    assert not running.talk(STATUS).startswith(b"HTTP/1.1 200")
    with running.connect() as plain, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")  # an unknown authority


def test_mutual_tls(run, certificates):
    running = run(ssl_config=ssl_config(certificates, client_verify=True))
    assert ask_over_tls(running, certificates, with_certificate=True) == 200
    with pytest.raises(OSError, match=r"(?i)certificate|closed|reset|EOF"):
        ask_over_tls(running, certificates)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server_key": ""}, "needs server_key and server_cert"),
        ({"server_cert": "text"}, "server_key and server_cert cannot be used"),
        ({"custom_ca": "text"}, "custom_ca cannot be used"),
        ({"custom_ca": "", "client_verify": True}, "client_verify needs custom_ca"),
    ],
)
def test_tls_settings_that_cannot_be_used(certificates, changes, words):
    with pytest.raises(ServingError, match=words) as caught:
        server_context(ssl_config(certificates, **changes))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "\n" not in caught.value.message
