"""The REST interface as an ASGI application: TF Serving's URLs under /v1/ and a few of this project's.

The event loop only moves bytes. Everything that computes or waits runs in threads: inference in one pool,
status pages and probes in another, so that a busy model does not make the server seem dead.
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
from serving.rest import routes as rest_routes
from serving.rest.access_log import AccessLog
from serving.rest.asgi import HttpScope, Receive, Send
from serving.rest.body import ClientDisconnected
from serving.rest.options import RestOptions
from serving.rest.pages import DemoFiles, Response, error_response, json_response
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
    """Answers HTTP requests with a core.

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
        """Ends the threads after their current calls, and closes the log."""
        for pool in (self._inference, self._information):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._access_log is not None:
            self._access_log.close()

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Answers one request (ASGI 3); never raises for anything a client can do."""
        exchange = Exchange(scope, receive)
        try:
            response = await self._error_as_response(exchange, self._respond)
        except ClientDisconnected:
            self._log(exchange, None)
            return
        await self._send(exchange, response, send)
        self._log(exchange, response)

    async def _error_as_response(
        self, exchange: Exchange, handler: Callable[[Exchange], Awaitable[Response]]
    ) -> Response:
        """The handler's response, or the response for its error."""
        try:
            return await handler(exchange)
        except ServingError as error:
            return error_response(error)
        except ClientDisconnected:
            raise
        except asyncio.CancelledError:  # the server stops, and its grace period is over
            return error_response(ServingError(Code.UNAVAILABLE, "The server is stopping"))
        except Exception:  # an error of the server's own; the client still gets an answer
            log.exception("%s %s", exchange.method, exchange.target_text)
            return error_response(ServingError(Code.INTERNAL, "Internal error"))

    async def _respond(self, exchange: Exchange) -> Response:
        options = self._options
        if options.prometheus_path and exchange.path == options.prometheus_path.encode():
            self._check_token(exchange)
            page = await self._run(self._information, self._metrics.render)
            return Response(200, rest_pages.TEXT, page.encode("utf-8", "replace"))
        if rest_routes.is_rest(exchange.target):
            return await self._respond_v1(exchange)
        return await self._respond_outside_v1(exchange)

    async def _respond_v1(self, exchange: Exchange) -> Response:
        """Answers a request under /v1/, and counts it whether or not it succeeds."""
        response = await self._error_as_response(exchange, self._call_core)
        seconds = time.monotonic() - exchange.body_at
        self._metrics.request_done(exchange.model, response.code, exchange.api, ENTRYPOINT, seconds)
        if not self._options.enable_cors_support:
            return response
        allowed = b"Content-Type, Authorization" if self._options.api_token else b"Content-Type"
        cors = (
            (b"access-control-allow-origin", b"*"),
            (b"access-control-allow-methods", ALLOWED_METHODS),
            (b"access-control-allow-headers", allowed),
        )
        return response._replace(headers=response.headers + cors)

    async def _call_core(self, exchange: Exchange) -> Response:
        if exchange.method == "OPTIONS":
            return _preflight(exchange.headers.get(b"origin", b""))
        self._check_token(exchange)
        route = rest_routes.route(exchange.method, exchange.target)
        exchange.set_route(route)
        body, pool = b"", self._information
        if exchange.method == "POST":
            body, pool = await self._body(exchange), self._inference
        gzipped = rest_body.is_gzip(exchange.headers)
        result = await self._run(pool, partial(self._calls.answer, route, body, gzipped))
        exchange.core_seconds = result.core_seconds
        return json_response(result.body)

    async def _body(self, exchange: Exchange) -> bytes:
        body = await rest_body.read(exchange.receive, exchange.headers, self._options.max_request_bytes)
        exchange.bytes_in = len(body)
        exchange.body_at = time.monotonic()
        return body

    async def _respond_outside_v1(self, exchange: Exchange) -> Response:
        """Answers a request outside /v1/, where TF Serving has no URLs."""
        if exchange.method in ("GET", "HEAD"):
            if exchange.path == b"/livez":
                return rest_pages.live()
            if exchange.path == b"/readyz":
                return await self._run(self._information, partial(rest_pages.ready, self._core))
            if exchange.path == b"/models":
                self._check_token(exchange)
                return await self._run(self._information, partial(rest_pages.models, self._core))
            return self._pages.get(exchange.path) or rest_pages.not_found()
        retry = rest_routes.retry_of(exchange.target) if exchange.method == "POST" else None
        if retry is None:
            return rest_pages.not_found()
        self._check_token(exchange)
        await self._run(self._information, partial(self._core.retry, *retry))
        return json_response(b"{}\n")

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

    async def _send(self, exchange: Exchange, response: Response, send: Send) -> None:
        headers = [(b"content-length", b"%d" % len(response.body)), *response.headers]
        if response.content_type is not None:
            headers.append((b"content-type", response.content_type))
        refused = response.status == rest_body.TOO_LARGE_STATUS
        if refused:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": refused})
        if refused:
            await rest_body.discard(exchange.receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if exchange.api and response.code is Code.OK:
            outside = time.monotonic() - exchange.header_at - exchange.core_seconds
            self._metrics.transport_done(exchange.model, exchange.api, ENTRYPOINT, max(0.0, outside))

    def _log(self, exchange: Exchange, response: Response | None) -> None:
        if self._access_log is not None:
            self._access_log.write(
                method=exchange.method,
                path=exchange.target_text,
                status=response.status if response else 0,
                bytes_in=exchange.bytes_in,
                bytes_out=len(response.body) if response else 0,
                seconds=time.monotonic() - exchange.header_at,
                model=exchange.model,
                client=exchange.client,
            )


class Exchange:
    """One request, with what its log line and its metrics need.

    Attributes:
      target: path and query string as sent; `path` is the path alone.
      headers: lower-case name -> value; of repeated names the last value.
      header_at: second of time.monotonic() at which the header was read; `body_at`: at which the body was.
      model: the requested model's name, `api`: the metrics' label; empty until the path is parsed.
      core_seconds: time that the core took.
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
        self.header_at = self.body_at = time.monotonic()
        self.bytes_in = 0
        self.core_seconds = 0.0
        self.model = self.api = ""

    @property
    def target_text(self) -> str:
        """The target as text, for logs."""
        return self.target.decode("utf-8", "replace")

    def set_route(self, route: Route) -> None:
        """Takes the model and the API from the parsed path."""
        self.model, self.api = route.spec.name, route.api


def _preflight(origin: bytes) -> Response:
    """Answers OPTIONS under /v1/, which browsers send before a request from another site's page."""
    if ORIGIN.search(origin):
        return Response(200, None, b"")
    return Response(400, None, b"", Code.FAILED_PRECONDITION)
