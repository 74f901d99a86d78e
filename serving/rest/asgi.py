"""The part of the ASGI 3 interface (https://asgi.readthedocs.io) between uvicorn and the REST application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypedDict

Headers = Iterable[tuple[bytes, bytes]]


class _AlwaysSent(TypedDict):
    type: str
    method: str
    path: str
    headers: Headers


class HttpScope(_AlwaysSent, total=False):
    """A request's line and header; `raw_path` is the path as the client sent it, `path` is decoded."""

    raw_path: bytes
    query_string: bytes
    client: tuple[str, int] | None


class RequestEvent(TypedDict, total=False):
    """A part of the request's body (`http.request`), or the connection's end (`http.disconnect`)."""

    type: str
    body: bytes
    more_body: bool


# http.response.start with `status` and `headers`, then http.response.body with `body` and `more_body`.
ResponseEvent = Mapping[str, object]
Receive = Callable[[], Awaitable[RequestEvent]]
Send = Callable[[ResponseEvent], Awaitable[None]]
