"""What the REST port answers outside /v1/: probes, the list of models, the demo page.

TF Serving has none of these; under /v1/ everything is as there.
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
# libevent's page in words of our own.
NOT_FOUND_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>"
    b"<body><h1>Not Found</h1></body></html>\n"
)
# The page is what lies in its folder and nothing else, and no other page may show it as its own.
PAGE_POLICY = b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
# What `mimetypes` may not know, or takes from the machine it runs on.
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


class Answer(NamedTuple):
    """A whole answer.

    Attributes:
      status: HTTP's.
      content_type: header; None for an answer without a body.
      body: as it is sent.
      code: canonical code, for the metrics.
      headers: further ones, lower-case names.
    """

    status: int
    content_type: bytes | None
    body: bytes
    code: Code = Code.OK
    headers: tuple[tuple[bytes, bytes], ...] = ()


def json_answer(content: bytes) -> Answer:
    """A success under /v1/."""
    return Answer(200, JSON, content)


def error_answer(error: ServingError) -> Answer:
    """An error with TF Serving's body."""
    challenge = ((b"www-authenticate", b"Bearer"),) if error.code is Code.UNAUTHENTICATED else ()
    return Answer(error.http_status, JSON, error_body(error.message), error.code, challenge)


def not_found() -> Answer:
    """For every path outside /v1/ where nothing is."""
    return Answer(404, HTML, NOT_FOUND_PAGE, Code.NOT_FOUND)


def live() -> Answer:
    """GET /livez: the process takes requests; nothing is asked of the models."""
    return json_answer(body({"live": True}))


def ready(core: Core) -> Answer:
    """GET /readyz: 200 when every configured model can answer, else 503 with those that cannot."""
    waiting = {
        name: [f"{status.version}: {status.state.name}" for status in statuses]
        for name, statuses in core.models().items()
        if not any(status.state is State.AVAILABLE for status in statuses)
    }
    is_ready = not waiting and core.ready()
    answer = json_answer(body({"ready": is_ready, "not_available": waiting}))
    return (
        answer if is_ready else answer._replace(status=HTTP_STATUS[Code.UNAVAILABLE], code=Code.UNAVAILABLE)
    )


def models(core: Core) -> Answer:
    """GET /models: every configured model, its versions with their states, its labels."""
    entries = [
        {
            "name": name,
            "model_version_status": status_entries(statuses),
            "version_labels": {label: str(version) for label, version in core.labels(name).items()},
        }
        for name, statuses in core.models().items()
    ]
    return json_answer(body({"models": entries}))


class DemoFiles:
    """The files of a folder, read once: what is not among them cannot be asked for.

    Args:
      folder: with `index.html`, which is also shown at `/`; None or missing for no page.
    """

    def __init__(self, folder: Path | None) -> None:
        self._answers: dict[bytes, Answer] = {}
        if folder is None or not folder.is_dir():
            return
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
            if path.is_file() and not hidden and path.suffix != ".py":
                self._answers[f"/{name}".encode()] = _file_answer(path)
        if b"/index.html" in self._answers:
            self._answers[b"/"] = self._answers[b"/index.html"]

    def get(self, path: bytes) -> Answer | None:
        """The file at a path as it was sent, without its query string."""
        return self._answers.get(path)


def _file_answer(path: Path) -> Answer:
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
    return Answer(200, kind.encode("ascii"), path.read_bytes(), Code.OK, headers)
