"""HTTP/1.1 with one deadline for a whole exchange; threads share the kept connections.

Written by hand because the timeouts of the standard library and of common HTTP clients limit each wait for
the next bytes; here a whole request ends at its deadline, however slowly the server sends.
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

# The reverse of serving.errors.HTTP_STATUS, with the statuses of proxies in front of a server.
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


class HttpResponse(NamedTuple):
    """A response as received; `retry_after` is the Retry-After header in seconds."""

    status: int
    body: bytes
    retry_after: float | None = None


class HttpTransport:
    """Sends requests to one server over kept connections; threads may share it.

    Args:
      address: the server's.
      tls: TLS settings; None for plain HTTP.
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

    def request(self, method: str, path: str, body: bytes | None, deadline: float) -> HttpResponse:
        """Sends a request and returns the response, whatever its status.

        Args:
          deadline: second of time.monotonic() at which it must be over.

        Raises:
          CallError: UNAVAILABLE when no response came, DEADLINE_EXCEEDED when none came in time.
        """
        while True:
            connection = self._take(deadline)
            kept = connection.sock is not None
            try:
                connection.request(method, self._address.prefix + path, body, self._headers)
                response = connection.getresponse()
                answer = HttpResponse(
                    response.status, response.read(), _seconds(response.headers.get("Retry-After"))
                )
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
                # A server may close a kept connection at any time; this request may still succeed on another.
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
        """Closes all connections; requests in progress fail."""
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
        """Keeps a connection whose request succeeded; closes any other."""
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
    """A connection on which every wait ends at the current request's deadline."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        super().__init__(address.host, address.port)
        self._default_port = 443 if tls else 80  # which the Host header leaves out
        self._tls = tls
        self.deadline = 0.0
        self.answered = False

    def connect(self) -> None:
        """Tries the host's addresses in turn; starts TLS where it is set."""
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
        """Makes the current request fail; called from another thread."""
        if self.sock is not None:
            self.sock.interrupt()


class _DeadlineSocket:
    """The part of a socket's interface that http.client uses."""

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
    """Reads from a socket; each wait ends at the request's deadline."""

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


def error_of(answer: HttpResponse) -> CallError:
    """The error for a status other than 200, with the server's message."""
    code = CODES.get(answer.status, Code.UNKNOWN)
    text = answer.body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        document = json.loads(text)
        if isinstance(document, dict) and isinstance(document.get("error"), str):
            return CallError(code, document["error"], retry_after=answer.retry_after)
    shown = " ".join(text.split())[:SHOWN_CHARACTERS]
    reason = http.client.responses.get(answer.status, "")
    message = f"HTTP {answer.status} {reason}, without TF Serving's form of an error: {shown!r}"
    return CallError(code, message, retry_after=answer.retry_after)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as a number of seconds; None for its form as a date."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
