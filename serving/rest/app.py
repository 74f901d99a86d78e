"""The REST interface as an ASGI application: TF Serving's /v1/ and our few URLs beside it.

The event loop only moves bytes. Everything that computes or waits runs in threads, inference apart from
status pages and probes, so that a busy model does not look like a dead server.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from serving.errors import Code, ServingError
from serving.rest import body as rest_body
from serving.rest import pages as rest_pages
from serving.rest import routes as rest_paths
from serving.rest.access_log import AccessLog
from serving.rest.asgi import HttpScope, Receive, Send
from serving.rest.body import ClientGone
from serving.rest.options import RestOptions
from serving.rest.pages import Answer, DemoFiles, error_answer, json_answer
from serving.rest.routes import RestCalls, Route

if TYPE_CHECKING:
    from serving.core import Core
    from serving.monitoring.metrics import ServerMetrics

T = TypeVar("T")

ENTRYPOINT = "REST"
PROBE_THREADS = 2
ALLOWED_METHODS = b"POST, GET"
BEARER = "bearer "
ORIGIN = re.compile(rb"https?://")

log = logging.getLogger("serving")


class RestApp:
    """Answers HTTP requests from a core.

    Args:
      core: answers them.
      metrics: counts them.
      options: the server's settings.

    Raises:
      OSError: the access log cannot be opened.
    """

    def __init__(self, core: Core, metrics: ServerMetrics, options: RestOptions) -> None:
        self._core = core
        self._metrics = metrics
        self._options = options
        self._calls = RestCalls(core, options.timeout_in_ms / 1e3, options.max_decompressed_bytes)
        self._pages = DemoFiles(options.demo_folder)
        self._access_log = AccessLog(options.access_log) if options.access_log else None
        self._inference = ThreadPoolExecutor(options.num_threads, "rest")
        self._information = ThreadPoolExecutor(PROBE_THREADS, "rest-probe")

    def close(self) -> None:
        """Ends the threads, once they have done what they are at, and closes the log."""
        for pool in (self._inference, self._information):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._access_log is not None:
            self._access_log.close()

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """One request (ASGI 3); never raises for what a client can do."""
        exchange = Exchange(scope, receive)
        try:
            answer = await self._guarded(exchange, self._answer)
        except ClientGone:
            self._log(exchange, None)
            return
        await self._send(exchange, answer, send)
        self._log(exchange, answer)

    async def _guarded(self, exchange: Exchange, handler: Callable[[Exchange], Awaitable[Answer]]) -> Answer:
        """The handler's answer; an error is an answer too."""
        try:
            return await handler(exchange)
        except ServingError as error:
            return error_answer(error)
        except ClientGone:
            raise
        except asyncio.CancelledError:  # the server stops, and its grace is over
            return error_answer(ServingError(Code.UNAVAILABLE, "The server is stopping"))
        except Exception:  # whatever it is, it is ours, and the client gets an answer
            log.exception("%s %s", exchange.method, exchange.shown)
            return error_answer(ServingError(Code.INTERNAL, "Internal error"))

    async def _answer(self, exchange: Exchange) -> Answer:
        options = self._options
        if options.prometheus_path and exchange.path == options.prometheus_path.encode():
            self._check_token(exchange)
            page = await self._run(self._information, self._metrics.render)
            return Answer(200, rest_pages.TEXT, page.encode("utf-8", "replace"))
        if rest_paths.is_rest(exchange.target):
            return await self._answer_rest(exchange)
        return await self._answer_own(exchange)

    async def _answer_rest(self, exchange: Exchange) -> Answer:
        """A request under /v1/, counted whatever becomes of it."""
        answer = await self._guarded(exchange, self._called)
        seconds = time.monotonic() - exchange.whole
        self._metrics.request_done(exchange.model, answer.code, exchange.api, ENTRYPOINT, seconds)
        if not self._options.enable_cors_support:
            return answer
        allowed = b"Content-Type, Authorization" if self._options.api_token else b"Content-Type"
        cors = (
            (b"access-control-allow-origin", b"*"),
            (b"access-control-allow-methods", ALLOWED_METHODS),
            (b"access-control-allow-headers", allowed),
        )
        return answer._replace(headers=answer.headers + cors)

    async def _called(self, exchange: Exchange) -> Answer:
        if exchange.method == "OPTIONS":
            return _preflight(exchange.headers.get(b"origin", b""))
        self._check_token(exchange)
        route = rest_paths.route(exchange.method, exchange.target)
        exchange.take(route)
        body, pool = b"", self._information
        if exchange.method == "POST":
            body, pool = await self._body(exchange), self._inference
        gzipped = rest_body.is_gzip(exchange.headers)
        outcome = await self._run(pool, partial(self._calls.answer, route, body, gzipped))
        exchange.core_seconds = outcome.core_seconds
        return json_answer(outcome.body)

    async def _body(self, exchange: Exchange) -> bytes:
        body = await rest_body.read(exchange.receive, exchange.headers, self._options.max_request_bytes)
        exchange.bytes_in = len(body)
        exchange.whole = time.monotonic()
        return body

    async def _answer_own(self, exchange: Exchange) -> Answer:
        """What TF Serving has no URL for."""
        if exchange.method in ("GET", "HEAD"):
            if exchange.path == b"/livez":
                return rest_pages.live()
            if exchange.path == b"/readyz":
                return await self._run(self._information, partial(rest_pages.ready, self._core))
            if exchange.path == b"/models":
                self._check_token(exchange)
                return await self._run(self._information, partial(rest_pages.models, self._core))
            return self._pages.get(exchange.path) or rest_pages.not_found()
        retry = rest_paths.retry_of(exchange.target) if exchange.method == "POST" else None
        if retry is None:
            return rest_pages.not_found()
        self._check_token(exchange)
        await self._run(self._information, partial(self._core.retry, *retry))
        return json_answer(b"{}\n")

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    def _check_token(self, exchange: Exchange) -> None:
        if not self._options.api_token:
            return
        given = exchange.headers.get(b"authorization", b"").decode("latin-1")
        token = given[len(BEARER) :].strip() if given[: len(BEARER)].lower() == BEARER else ""
        if not hmac.compare_digest(token.encode("latin-1"), self._options.api_token.encode()):
            raise ServingError(
                Code.UNAUTHENTICATED, "The request needs the header 'authorization: Bearer TOKEN'"
            )

    async def _send(self, exchange: Exchange, answer: Answer, send: Send) -> None:
        headers = [(b"content-length", b"%d" % len(answer.body)), *answer.headers]
        if answer.content_type is not None:
            headers.append((b"content-type", answer.content_type))
        refused = answer.status == rest_body.TOO_LARGE_STATUS
        if refused:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": refused})
        if refused:
            await rest_body.discard(exchange.receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if exchange.api and answer.code is Code.OK:
            outside = time.monotonic() - exchange.began - exchange.core_seconds
            self._metrics.transport_done(exchange.model, exchange.api, ENTRYPOINT, max(0.0, outside))

    def _log(self, exchange: Exchange, answer: Answer | None) -> None:
        if self._access_log is not None:
            self._access_log.write(
                method=exchange.method,
                path=exchange.shown,
                status=answer.status if answer else 0,
                bytes_in=exchange.bytes_in,
                bytes_out=len(answer.body) if answer else 0,
                seconds=time.monotonic() - exchange.began,
                model=exchange.model,
                client=exchange.client,
            )


class Exchange:
    """What is known of one request, and what its log line and its metrics will say.

    Attributes:
      target: path and query string as sent; `path` is the first part alone.
      headers: lower-case name -> value; of names that repeat the last.
      began: second at which the header was read; `whole`: at which the body was.
      model: the name asked for, `api`: the metrics' label; empty until the path has been understood.
      core_seconds: what the core took of the time.
    """

    def __init__(self, scope: HttpScope, receive: Receive) -> None:
        self.receive = receive
        self.method = scope["method"]
        self.path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        query = scope.get("query_string", b"")
        self.target = self.path + b"?" + query if query else self.path
        self.headers = dict(scope["headers"])
        client = scope.get("client")
        self.client = client[0] if client else ""
        self.began = self.whole = time.monotonic()
        self.bytes_in = 0
        self.core_seconds = 0.0
        self.model = self.api = ""

    @property
    def shown(self) -> str:
        """The target as text."""
        return self.target.decode("utf-8", "replace")

    def take(self, route: Route) -> None:
        """Keeps what the path turned out to mean."""
        self.model, self.api = route.spec.name, route.api


def _preflight(origin: bytes) -> Answer:
    """OPTIONS under /v1/: a browser asks before it sends a request from another site's page."""
    if ORIGIN.search(origin):
        return Answer(200, None, b"")
    return Answer(400, None, b"", Code.FAILED_PRECONDITION)
