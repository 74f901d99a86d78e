"""Routes of the REST interface, and the call of the core for each; the latter runs in a thread."""

from __future__ import annotations

import re
import time
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from serving.codec import examples as json_examples
from serving.codec import predict as json_codec
from serving.codec import status as json_status
from serving.codec.predict import Request
from serving.errors import invalid
from serving.rest import body as rest_body
from serving.specs import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    from serving.core import Core

WHICH = rb"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
PREFIX = re.compile(rb"/v1/.*", re.IGNORECASE)
# Only the verb is case-sensitive.
INFERENCE = re.compile(
    rb"/v1/models/(?P<name>[^/:]+)" + WHICH + rb":(?P<verb>(?-i:classify|regress|predict))", re.I
)
INFORMATION = re.compile(rb"/v1/models(?:/(?P<name>[^/:]+))?" + WHICH + rb"(?P<metadata>/metadata)?", re.I)
# Outside /v1/, not in TF Serving.
RETRY = re.compile(rb"/models/(?P<name>[^/:]+)/versions/(?P<version>[0-9]+):retry")
INT64_END = 2**63


class Route(NamedTuple):
    """The call that a request's method and path mean.

    Attributes:
      action: `predict`, `classify`, `regress`, `status` or `metadata`.
      spec: of the model.
    """

    action: str
    spec: ModelSpec

    @property
    def api(self) -> str:
        """The value of the metrics' label API: empty for status and metadata."""
        return "" if self.action in ("status", "metadata") else self.action


def is_rest(target: bytes) -> bool:
    """Whether a path lies under /v1/."""
    return PREFIX.fullmatch(target) is not None


def route(method: str, target: bytes) -> Route:
    """Parses a request's method and path.

    Args:
      method: as sent, `GET`.
      target: path and query string as sent.

    Raises:
      ServingError: INVALID_ARGUMENT `Malformed request: METHOD PATH`, or for an invalid name or version.
    """
    pattern = {"POST": INFERENCE, "GET": INFORMATION}.get(method)
    match = pattern.fullmatch(target) if pattern else None
    if match is None:
        raise invalid(f"Malformed request: {method} {target.decode('utf-8', 'replace')}")
    groups = match.groupdict()
    if groups["name"] is None:
        raise invalid("Missing model name in request.")
    version = None if groups["version"] is None else _number(groups["version"])
    label = None if groups["label"] is None else decoded(groups["label"])
    action = "metadata" if groups.get("metadata") else "status"
    if method == "POST":
        action = groups["verb"].decode("ascii")
    return Route(action, ModelSpec(decoded(groups["name"]), version, label))


def retry_of(target: bytes) -> tuple[str, int] | None:
    """Name and version of `/models/NAME/versions/V:retry`; None for another path.

    Raises:
      ServingError: INVALID_ARGUMENT: the version is no int64.
    """
    match = RETRY.fullmatch(target)
    return (decoded(match["name"]), _number(match["version"])) if match else None


def _number(version: bytes) -> int:
    digits = version.decode("ascii")
    if len(digits.lstrip("0")) > len(str(INT64_END)) or int(digits) >= INT64_END:
        raise invalid(f"Failed to convert version: {digits} to numeric.")
    return int(digits)


def decoded(part: bytes) -> str:
    """A percent-decoded part of a path; bytes that are not UTF-8 are replaced and so match no name."""
    return urllib.parse.unquote_to_bytes(part).decode("utf-8", "replace")


T = TypeVar("T")


class CoreResult(NamedTuple):
    """The body of an answer, and the core's share of the time.

    Attributes:
      body: JSON.
      core_seconds: without reading and writing JSON.
    """

    body: bytes
    core_seconds: float


class RestCalls:
    """Calls the core for a route. Blocking and thread-safe.

    Args:
      core: answers requests.
      timeout_seconds: limit of one run of a model.
      max_decompressed_bytes: limit of a decompressed gzip body.
    """

    def __init__(self, core: Core, timeout_seconds: float, max_decompressed_bytes: int) -> None:
        self._core = core
        self._timeout_seconds = timeout_seconds
        self._max_decompressed_bytes = max_decompressed_bytes

    def answer(self, route: Route, body: bytes, gzipped: bool) -> CoreResult:
        """Answers a request.

        Raises:
          ServingError: an error of the request or of the model.
        """
        if route.action == "status":
            statuses, seconds = _timed(lambda: self._core.status(route.spec))
            return CoreResult(json_status.status_body(statuses), seconds)
        if route.action == "metadata":
            metadata, seconds = _timed(lambda: self._core.metadata(route.spec))
            return CoreResult(json_status.metadata_body(metadata.spec, metadata.signatures), seconds)
        if gzipped:
            body = rest_body.gunzip(body, self._max_decompressed_bytes)
        request = json_codec.read_request(body)
        named = route._replace(spec=route.spec._replace(signature_name=request.signature_name))
        call = {"predict": self._predict, "classify": self._classify, "regress": self._regress}[route.action]
        return call(named, request)

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_seconds

    def _predict(self, route: Route, request: Request) -> CoreResult:
        decoding = 0.0

        def decode(signature: SignatureDef) -> dict[str, np.ndarray]:
            nonlocal decoding
            arrays, decoding = _timed(lambda: json_codec.decode(request, signature.inputs))
            return arrays

        prediction, seconds = _timed(
            lambda: self._core.predict(
                route.spec, decode, deadline=self._deadline(), missing_signature=json_codec.missing_signature
            )
        )
        return CoreResult(json_codec.encode(prediction.outputs, request.is_row), seconds - decoding)

    def _classify(self, route: Route, request: Request) -> CoreResult:
        examples = json_examples.decode(request)
        answer, seconds = _timed(lambda: self._core.classify(route.spec, examples, self._deadline()))
        return CoreResult(json_examples.encode_classifications(answer.rows), seconds)

    def _regress(self, route: Route, request: Request) -> CoreResult:
        examples = json_examples.decode(request)
        answer, seconds = _timed(lambda: self._core.regress(route.spec, examples, self._deadline()))
        return CoreResult(json_examples.encode_regressions(answer.values), seconds)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began
