"""uvicorn's HTTP connection with deadlines and size limits against slow and greedy clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.codec.predict import error_body
from serving.rest.options import RestOptions

REFUSALS = {
    408: (b"Request Timeout", "The request did not arrive in time"),
    431: (b"Request Header Fields Too Large", "The request's header is too large"),
}
UPGRADE_HEADERS = (b"upgrade", b"connection", b"http2-settings")
# While the server stops, a request that arrives on an idle connection within this time is still answered.
DRAIN_LINGER_SECONDS = 0.5


class GuardedProtocol(HttpToolsProtocol):
    """A connection with time limits for its headers, bodies and responses.

    - A header has a deadline and a size limit: a client that sends a byte every few seconds is disconnected.
    - A body being sent, and a response being read, may pause only for a limited time.
    - A client that closes its sending side after a whole request still gets its response.
    - While the server stops, responses carry `Connection: close` and idle connections are closed.
    """

    # Set by uvicorn once a connection stands.
    transport: asyncio.Transport
    flow: FlowControl
    cycle: RequestResponseCycle | None  # type: ignore[assignment]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        options: RestOptions,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._header_seconds = options.header_timeout_in_ms / 1e3
        self._pause_seconds = options.body_timeout_in_ms / 1e3
        self._max_header_bytes = options.max_header_bytes
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._in_header = True  # between requests too
        self._header_begun = False  # a byte of the next header has come
        self._header_bytes = 0
        self._last_data_at = 0.0
        self._unsent = 0
        self._refused = False
        self._draining = False

    # --- transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start("header", self._header_seconds, self._header_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self._timers):
            self._stop(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._last_data_at = self.loop.time()
        if self._in_header:
            self._header_bytes += len(data)
        self._feed(data)
        if self._in_header and not self.transport.is_closing():
            if self._header_bytes > self._max_header_bytes:
                self._refuse(431)
            elif (self._header_begun or self._header_bytes) and "header" not in self._timers:
                self._start("header", self._header_seconds, self._header_timed_out)

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http1(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _stay_with_http1(self, rest: bytes) -> None:
        """Handles a request that offers an upgrade to another protocol as if it did not.

        Java's HttpClient offers HTTP/2 with the first request of every connection, even one with a body; the
        parser would take that body for data of the other protocol.
        """
        head = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        head += [b"%s: %s" % pair for pair in self.headers if pair[0] not in UPGRADE_HEADERS]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join(head) + b"\r\n\r\n" + rest)

    def eof_received(self) -> bool:  # type: ignore[override]
        if not self._is_answering() or not self._in_header or self.scheme == "https":
            return False  # no complete request to answer, or TLS, which cannot be half closed
        self._close_after_answer()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = self.transport.get_write_buffer_size()
        self._start("answer", self._pause_seconds, self._answer_timed_out)

    def resume_writing(self) -> None:
        self._stop("answer")
        super().resume_writing()

    def shutdown(self) -> None:
        self._draining = True
        if self._is_answering():
            self._close_after_answer()
        elif not self._header_begun:
            self._start("drain", DRAIN_LINGER_SECONDS, self._close_if_idle)

    # --- parser

    def on_message_begin(self) -> None:
        self._header_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # `_stay_with_http1` comes back here
        self._in_header = False
        self._stop("header")
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._max_header_bytes:
            self._refuse(431)
            return
        super().on_headers_complete()
        if self._draining:
            self._close_after_answer()
        self._start("body", self._pause_seconds, self._body_timed_out)

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused or self._in_header:
            return
        self._stop("body")
        self._in_header, self._header_begun, self._header_bytes = True, False, 0
        super().on_message_complete()

    # --- deadlines

    def _start(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(seconds, call)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _header_timed_out(self) -> None:
        if self._is_answering():  # the next request's header waits for this one's response
            self._start("header", self._header_seconds, self._header_timed_out)
        elif self._header_begun:
            self._refuse(408)
        else:
            self.transport.close()

    def _body_timed_out(self) -> None:
        quiet = self.loop.time() - self._last_data_at
        if self.flow.read_paused or self.pipeline:  # the server has paused reading
            self._start("body", self._pause_seconds, self._body_timed_out)
        elif quiet < self._pause_seconds:
            self._start("body", self._pause_seconds - quiet, self._body_timed_out)
        else:
            self._refuse(408)

    def _answer_timed_out(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self.transport.abort()
            return
        self._unsent = unsent
        self._start("answer", self._pause_seconds, self._answer_timed_out)

    def _close_if_idle(self) -> None:
        if not self._is_answering() and not self._header_begun and not self.transport.is_closing():
            self.transport.close()

    # --- state

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _close_after_answer(self) -> None:
        """Closes the connection after the response to the last request received."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _refuse(self, status: int) -> None:
        """Sends an error response without the application, and closes the connection."""
        self._refused = True
        if self.cycle is not None and self._is_answering() and self.cycle.response_started:
            self.transport.abort()  # another response cannot be sent within one
            return
        phrase, message = REFUSALS[status]
        body = error_body(message)
        lines = (
            b"HTTP/1.1 %d %s" % (status, phrase),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
        )
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()
