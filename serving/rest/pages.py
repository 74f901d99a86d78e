"""Responses, and the pages outside /v1/: probes, the list of models, the demo page.

TF Serving has none of these pages.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from serving.codec.predict import error_body
from serving.codec.status import body, status_entries
from serving.errors import HTTP_STATUS, Code, ServingError
from serving.specs import State

if TYPE_CHECKING:
    from serving.core import Core

JSON = b"application/json"
HTML = b"text/html; charset=utf-8"
TEXT = b"text/plain"
# Like the page of libevent, TF Serving's HTTP server.
NOT_FOUND_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>"
    b"<body><h1>Not Found</h1></body></html>\n"
)
# The page may load only the files of its folder, and no other site may embed it.
PAGE_POLICY = b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
# Types that `mimetypes` may not know, or reads from the machine's own tables.
CONTENT_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


class Response(NamedTuple):
    """An HTTP response.

    Attributes:
      status: HTTP's.
      content_type: header; None for a response without a body.
      body: as it is sent.
      code: canonical code, for the metrics.
      headers: further ones, lower-case names.
    """

    status: int
    content_type: bytes | None
    body: bytes
    code: Code = Code.OK
    headers: tuple[tuple[bytes, bytes], ...] = ()


def json_response(content: bytes) -> Response:
    """The response of a success under /v1/."""
    return Response(200, JSON, content)


def error_response(error: ServingError) -> Response:
    """The response of an error, with TF Serving's body."""
    challenge = ((b"www-authenticate", b"Bearer"),) if error.code is Code.UNAUTHENTICATED else ()
    return Response(error.http_status, JSON, error_body(error.message), error.code, challenge)


def not_found() -> Response:
    """The response for an unknown path outside /v1/."""
    return Response(404, HTML, NOT_FOUND_PAGE, Code.NOT_FOUND)


def live() -> Response:
    """GET /livez: 200 while the process answers requests, whatever the models' states."""
    return json_response(body({"live": True}))


def ready(core: Core) -> Response:
    """GET /readyz: 200 when every configured model is available, else 503 with those that are not."""
    waiting = {
        name: [f"{status.version}: {status.state.name}" for status in statuses]
        for name, statuses in core.models().items()
        if not any(status.state is State.AVAILABLE for status in statuses)
    }
    is_ready = not waiting and core.ready()
    answer = json_response(body({"ready": is_ready, "not_available": waiting}))
    return (
        answer if is_ready else answer._replace(status=HTTP_STATUS[Code.UNAVAILABLE], code=Code.UNAVAILABLE)
    )


def models(core: Core) -> Response:
    """GET /models: every configured model with its versions, their states and its labels."""
    entries = [
        {
            "name": name,
            "model_version_status": status_entries(statuses),
            "version_labels": {label: str(version) for label, version in core.labels(name).items()},
        }
        for name, statuses in core.models().items()
    ]
    return json_response(body({"models": entries}))


class DemoFiles:
    """The files of the demo page's folder, read once; no other file can be requested.

    Args:
      folder: holds `index.html`, which is also served at `/`; None or a missing folder for no page.
    """

    def __init__(self, folder: Path | None) -> None:
        self._answers: dict[bytes, Response] = {}
        if folder is None or not folder.is_dir():
            return
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
            if path.is_file() and not hidden and path.suffix != ".py":
                self._answers[f"/{name}".encode()] = _file_response(path)
        if b"/index.html" in self._answers:
            self._answers[b"/"] = self._answers[b"/index.html"]

    def get(self, path: bytes) -> Response | None:
        """The response for a path without its query string; None for an unknown one."""
        return self._answers.get(path)


def _file_response(path: Path) -> Response:
    kind = CONTENT_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
    kind = kind or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    # A new release of the server has a new page, at once.
    headers = (
        (b"cache-control", b"no-cache"),
        (b"content-security-policy", PAGE_POLICY),
        (b"x-content-type-options", b"nosniff"),
    )
    return Response(200, kind.encode("ascii"), path.read_bytes(), Code.OK, headers)
