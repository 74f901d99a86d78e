"""Clients that keep a server busy: ready-made requests, sent again as soon as the last one is answered.

They live in a process of their own without TensorFlow, and say what that process cost.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from pipelines.errors import DataError

Send = Callable[[bytes], None]  # returns once the answer is there; raises when it is an error
PREDICT = "/tensorflow.serving.PredictionService/Predict"
TRANSPORTS = ("gRPC", "REST")
ANSWER_SECONDS = 120


class Load(NamedTuple):
    """What some clients saw.

    Attributes:
      seconds: from the first request to the last answer.
      times: of every answered request: when it began (time.monotonic) and how long it took.
      failures: texts of those that failed.
      processor: seconds of all processors that the clients themselves took.
    """

    seconds: float
    times: list[tuple[float, float]]
    failures: list[str]
    processor: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.times) / self.seconds

    def latencies(self, begin: float = 0.0, end: float = float("inf")) -> list[float]:
        """Seconds of the requests that began in a stretch of time."""
        return [took for began, took in self.times if begin <= began < end]


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of 100 do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


@contextmanager
def clients(transport: str, port: int, requests: Sequence[bytes]) -> Iterator[Callable[..., Any]]:
    """A process of clients.

    Args:
      transport: of TRANSPORTS.
      port: of a server on this machine.
      requests: serialized PredictRequests, or bodies of REST requests behind their path and a newline.

    Yields:
      A function (clients, seconds) -> Load; with `wait=False` it gives a function that waits for the Load.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, transport, port, list(requests)), daemon=True)
    process.start()
    theirs.close()

    def run(count: int, seconds: float, *, wait: bool = True) -> Any:
        ours.send((count, seconds))
        return _received(ours) if wait else lambda: _received(ours)

    try:
        yield run
    finally:
        ours.close()
        process.join(timeout=10)
        process.kill()


def _received(connection: Connection) -> Load:
    try:
        return connection.recv()
    except (EOFError, ConnectionError):
        raise DataError("the process of the clients ended; the reason stands above") from None


def _serve(connection: Connection, transport: str, port: int, requests: list[bytes]) -> None:
    while True:
        try:
            count, seconds = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        connection.send(_load(transport, port, requests, count, seconds))


def _load(transport: str, port: int, requests: list[bytes], count: int, seconds: float) -> Load:
    """Runs so many clients at once for so long."""
    times: list[tuple[float, float]] = []
    failures: list[str] = []
    senders = list(_senders(transport, port, count))
    processor, began = time.process_time(), time.monotonic()

    def work(index: int, send: Send) -> None:
        number = index * 7  # clients send different requests at a time
        while time.monotonic() < began + seconds:
            begin = time.monotonic()
            try:
                send(requests[number % len(requests)])
            except Exception as error:  # noqa: BLE001 - any failure is a figure
                failures.append(f"{type(error).__name__}: {error}")
            else:
                times.append((begin, time.monotonic() - begin))
            number += 1

    threads = [threading.Thread(target=work, args=each) for each in enumerate(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(time.monotonic() - began, times, failures, time.process_time() - processor)


def _senders(transport: str, port: int, count: int) -> Iterator[Send]:
    if transport == "REST":
        for _ in range(count):
            yield _RestClient(port).send
        return
    import grpc

    channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)])
    call = channel.unary_unary(PREDICT)  # bytes in, bytes out: no message is parsed here
    for _ in range(count):
        yield lambda request: call(request, timeout=ANSWER_SECONDS)


class _RestClient:
    """One keep-alive connection; next to nothing of its own, so that the server is what is timed."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        path, _, body = request.partition(b"\n")
        head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (path, len(body))
        self._socket.sendall(head + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        header, _, rest = answer.partition(b"\r\n\r\n")
        lines = header.lower().split(b"\r\n")
        (length,) = (int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        left = length - len(rest)
        while left > 0:
            left -= len(self._more())
        if b" 200 " not in lines[0] + b" ":
            raise DataError(f"{lines[0].decode()}: {rest[:200].decode()}")

    def _more(self) -> bytes:
        received = self._socket.recv(1 << 20)
        if not received:
            raise ConnectionError("the server closed the connection")
        return received
