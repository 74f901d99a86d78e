"""HTTP with a deadline: connections that are kept and shared by threads, TLS, errors with their code.

The standard library's timeouts count from one received byte to the next; here a request as a whole has
to be over at its deadline, however slowly the other side talks.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import ssl
import threading
import time
from typing import Any, NamedTuple

from serving.clients.addresses import Address
from serving.clients.retry import CallError
from serving.errors import Code

# The way back from serving.errors.HTTP_STATUS, with what proxies answer in front of a server.
CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    413: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
SHOWN_CHARACTERS = 200


class HttpAnswer(NamedTuple):
    """An answer as it came; `retry_after` in seconds where the server asked to wait."""

    status: int
    body: bytes
    retry_after: float | None = None


class HttpTransport:
    """Sends requests to one server and keeps its connections; threads may share it.

    Args:
      address: the server's.
      tls: how to speak TLS; None for plain HTTP.
      headers: sent with every request.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None, headers: dict[str, str]) -> None:
        self._address = address
        self._tls = tls
        self._headers = headers
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._closed = False

    def request(self, method: str, path: str, body: bytes | None, deadline: float) -> HttpAnswer:
        """One request and its answer, whatever its status.

        Args:
          deadline: second of time.monotonic() at which it must be over.

        Raises:
          CallError: UNAVAILABLE when no answer came, DEADLINE_EXCEEDED when it came too late.
        """
        while True:
            connection = self._take(deadline)
            kept = connection.sock is not None
            try:
                connection.request(method, self._address.prefix + path, body, self._headers)
                response = connection.getresponse()
                answer = HttpAnswer(
                    response.status, response.read(), _seconds(response.headers.get("Retry-After"))
                )
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
                # A server may close a kept connection at any time, which says nothing about this request.
                if not kept or self._closed:
                    raise self._unreached(error) from error
            except TimeoutError as error:
                raise CallError(
                    Code.DEADLINE_EXCEEDED, f"{self._address.netloc}: no answer in time"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise self._unreached(error) from error
            else:
                connection.answered = True
                return answer
            finally:
                self._give_back(connection)

    def close(self) -> None:
        """Closes all connections; requests under way fail."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._busy:
                connection.interrupt()
        for connection in idle:
            connection.close()

    def _take(self, deadline: float) -> _Connection:
        with self._lock:
            if self._closed:
                raise CallError(Code.CANCELLED, "the client is closed")
            connection = self._idle.pop() if self._idle else _Connection(self._address, self._tls)
            self._busy.add(connection)
        connection.deadline = deadline
        connection.answered = False
        return connection

    def _give_back(self, connection: _Connection) -> None:
        """Keeps a connection whose request went well, and closes every other."""
        with self._lock:
            self._busy.discard(connection)
            if connection.answered and not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _unreached(self, error: Exception) -> CallError:
        where = self._address.netloc
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.verify_message}"
            return CallError(Code.UNAVAILABLE, f"{where}: {reason}", final=True)
        if isinstance(error, ssl.SSLError):
            return CallError(Code.UNAVAILABLE, f"{where}: TLS failed: {error.reason or error}", final=True)
        if isinstance(error, socket.gaierror):
            again = error.errno == socket.EAI_AGAIN
            return CallError(Code.UNAVAILABLE, f"{where}: unknown host: {error.strerror}", final=not again)
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            message = f"{where}: does not answer in HTTP; is this the gRPC port?"
            return CallError(Code.UNAVAILABLE, message, final=True)
        if isinstance(error, http.client.IncompleteRead):
            return CallError(Code.UNAVAILABLE, f"{where}: the answer was cut short")
        reason = str(getattr(error, "strerror", None) or error)
        return CallError(Code.UNAVAILABLE, f"{where}: {reason}")


class _Connection(http.client.HTTPConnection):
    """A connection on which every single wait ends at the deadline of the request in hand."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        super().__init__(address.host, address.port)
        self._default_port = 443 if tls else 80  # which the Host header leaves out
        self._tls = tls
        self.deadline = 0.0
        self.answered = False

    def connect(self) -> None:
        """Tries the host's addresses in turn, and speaks TLS where asked."""
        failure: OSError | None = None
        for family, kind, protocol, _, where in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self.left())
                plain.connect(where)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    plain.settimeout(self.left())
                    plain = self._tls.wrap_socket(plain, server_hostname=self.host)
            except OSError as error:
                plain.close()
                failure = error
            except BaseException:
                plain.close()
                raise
            else:
                self.sock: Any = _DeadlineSocket(plain, self)
                return
        raise failure or OSError(f"{self.host} has no address")

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
          TimeoutError: when it is over.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def interrupt(self) -> None:
        """Makes the request under way fail, from another thread."""
        if self.sock is not None:
            self.sock.interrupt()


class _DeadlineSocket:
    """What http.client asks of a socket."""

    def __init__(self, plain: socket.socket, connection: _Connection) -> None:
        self._plain = plain
        self._connection = connection

    def sendall(self, data: Any) -> None:
        self._plain.settimeout(self._connection.left())
        self._plain.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._plain, self._connection))

    def close(self) -> None:
        self._plain.close()

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):
            self._plain.shutdown(socket.SHUT_RDWR)


class _DeadlineReader(io.RawIOBase):
    """Bytes of a socket; a wait for more ends at the deadline."""

    def __init__(self, plain: socket.socket, connection: _Connection) -> None:
        super().__init__()
        self._plain = plain
        self._connection = connection
        self._raw = plain.makefile("rb", buffering=0)  # keeps an answered socket open until it is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._plain.settimeout(self._connection.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def error_of(answer: HttpAnswer) -> CallError:
    """The error that a status other than 200 stands for, with the server's own words."""
    code = CODES.get(answer.status, Code.UNKNOWN)
    text = answer.body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        said = json.loads(text)
        if isinstance(said, dict) and isinstance(said.get("error"), str):
            return CallError(code, said["error"], retry_after=answer.retry_after)
    shown = " ".join(text.split())[:SHOWN_CHARACTERS]
    reason = http.client.responses.get(answer.status, "")
    message = f"HTTP {answer.status} {reason}, without TF Serving's form of an error: {shown!r}"
    return CallError(code, message, retry_after=answer.retry_after)


def _seconds(retry_after: str | None) -> float | None:
    """The header in its form of a number; its form as a date is left to the back-off."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
