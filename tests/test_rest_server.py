"""The REST port on real sockets: keep-alive, pipelining, deadlines, limits, TLS, stopping."""

import concurrent.futures
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from types import SimpleNamespace

import pytest
from certificates import write_certificates
from rest_fakes import FakeCore, Recorder

from serving.errors import Code, ServingError
from serving.rest_app import RestApp
from serving.rest_options import RestOptions
from serving.rest_server import RestServer, listening_socket
from serving.rest_tls import server_context

HOST = "127.0.0.1"
STATUS = b"GET /v1/models/half HTTP/1.1\r\nHost: h\r\n\r\n"
PATIENCE = 20  # seconds, for what should take a moment


def predict(x, *headers):
    body = json.dumps({"instances": [x]}).encode()
    lines = ["POST /v1/models/half:predict HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Running:
    """A server with a fake core, and what talks to it."""

    def __init__(self, **options):
        self.core = FakeCore()
        self.metrics = Recorder()
        settings = RestOptions(**{"num_threads": 4, **options})
        self.server = RestServer(RestApp(self.core, self.metrics, settings), 0, HOST, settings)
        self.port = self.server.start()

    def connect(self):
        return socket.create_connection((HOST, self.port), timeout=PATIENCE)

    def post(self, x, connection=None):
        if connection is None:
            with contextlib.closing(http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)) as own:
                return self.post(x, own)
        connection.request("POST", "/v1/models/half:predict", json.dumps({"instances": [x]}))
        reply = connection.getresponse()
        return reply.status, reply.getheader("connection"), json.loads(reply.read())

    def talk(self, *parts, shut=False):
        """Sends bytes and returns everything that comes until the server closes."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            return received(connection)


def received(connection):
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


@pytest.fixture
def run():
    started = []

    def start(**options):
        started.append(Running(**options))
        return started[-1]

    yield start
    for each in started:
        each.core.gate.set()
        each.server.stop(PATIENCE)


# --- requests


def test_a_connection_serves_many_requests(run):
    running = run()
    connection = http.client.HTTPConnection(HOST, running.port, timeout=PATIENCE)
    for x in range(5):
        assert running.post(x, connection) == (200, None, {"predictions": [x / 2 + 2]})
    connection.close()


def test_answers_leave_at_once(run):
    running = run()
    connection = http.client.HTTPConnection(HOST, running.port, timeout=PATIENCE)
    times = []
    for _ in range(20):
        began = time.monotonic()
        running.post(1, connection)
        times.append(time.monotonic() - began)
    connection.close()
    assert sorted(times)[10] < 0.03  # an answer in two packets without TCP_NODELAY takes 40 ms


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
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
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
        b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: -3\r\n\r\n",
        b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/models/half:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}{}{}",
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


# --- clients that are slow, or send too much


def test_a_header_has_a_deadline_however_busily_it_trickles(run):
    running = run(header_timeout_in_ms=400)
    with running.connect() as connection:
        began = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            while time.monotonic() - began < PATIENCE:
                connection.sendall(b"X: 1\r\n")
                time.sleep(0.05)
        assert 0.3 < time.monotonic() - began < 5
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
    with running.connect() as connection:  # slow, but moving
        for byte in predict(1, "Connection: close"):
            connection.sendall(bytes([byte]))
            time.sleep(0.005)
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
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n"
    answer = running.talk(head + b"x" * 3_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert b"limit of 1000 bytes" in answer
    endless = (
        b"POST /v1/models/half:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"400\r\n%s\r\n" % (b"x" * 1024) * 3
    )
    assert running.talk(endless, shut=True).startswith(b"HTTP/1.1 413 ")


# --- stopping


def test_stopping_answers_what_was_begun(run):
    running = run()
    idle = running.connect()
    half_sent = running.connect()
    half_sent.sendall(predict(1)[:30])
    with concurrent.futures.ThreadPoolExecutor(1) as pool, idle, half_sent:
        busy = pool.submit(running.post, 99)
        assert running.core.waiting.acquire(timeout=PATIENCE)
        stopped = running.server.begin_stop(PATIENCE)
        while True:  # until the port is closed
            try:
                running.connect().close()
            except ConnectionError:
                break
        half_sent.sendall(predict(1)[30:])
        answer = received(half_sent)
        assert b"[2.5]" in answer
        assert b"connection: close" in answer
        assert received(idle) == b""
        assert not stopped.is_set()
        running.core.gate.set()
        assert busy.result(PATIENCE) == (200, "close", {"predictions": [51.5]})
        assert stopped.wait(PATIENCE)


def test_a_request_that_outlasts_the_grace_is_503(run):
    running = run()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        busy = pool.submit(running.post, 99)
        assert running.core.waiting.acquire(timeout=PATIENCE)
        began = time.monotonic()
        running.server.stop(0.3)
        assert time.monotonic() - began < 5
        assert busy.result(PATIENCE) == (503, "close", {"error": "The server is stopping"})
        running.core.gate.set()


def test_stopping_under_load_drops_nothing_that_was_sent(run):
    running = run()
    failures, answers, stop = [], [], threading.Event()

    def ask():
        connection = http.client.HTTPConnection(HOST, running.port, timeout=PATIENCE)
        while not stop.is_set():
            try:
                status, closing, _ = running.post(1, connection)
            except ConnectionRefusedError:
                return  # a new connection; the load balancer sends it elsewhere
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
                return
            answers.append(status)
            if closing == "close":
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    running.server.stop(PATIENCE)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []
    assert set(answers) == {200}


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
