"""REST servers on real sockets, with a fake core behind them: for the tests of the port."""

import contextlib
import http.client
import json
import socket

from serving.rest.app import RestApp
from serving.rest.options import RestOptions
from serving.rest.server import RestServer
from tests.support.rest_fakes import FakeCore, Recorder

HOST = "127.0.0.1"
PATIENCE = 20  # seconds, for what should take a moment
STATUS = b"GET /v1/models/half HTTP/1.1\r\nHost: h\r\n\r\n"
PREDICT = b"POST /v1/models/half:predict HTTP/1.1\r\n"


def predict(x, *headers):
    """A whole request for x / 2 + 2."""
    body = json.dumps({"instances": [x]}).encode()
    lines = ["Host: h", f"Content-Length: {len(body)}", *headers]
    return PREDICT + "\r\n".join(lines).encode() + b"\r\n\r\n" + body


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


@contextlib.contextmanager
def servers():
    """A function that starts servers, which end with the block."""
    started = []

    def start(**options):
        started.append(Running(**options))
        return started[-1]

    try:
        yield start
    finally:
        for each in started:
            each.core.gate.set()
            each.server.stop(PATIENCE)
