"""REST requests to calls of the core: what runs in a thread for a request under /v1/."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from serving import json_codec, json_examples, json_status, rest_body
from serving.json_codec import Request
from serving.rest_paths import Route

T = TypeVar("T")


class Outcome(NamedTuple):
    """An answer's body, and how long the core worked for it.

    Attributes:
      body: JSON.
      core_seconds: without reading and writing JSON.
    """

    body: bytes
    core_seconds: float


class RestCalls:
    """Answers routes from a core; blocking, for many threads.

    Args:
      core: a `serving.core.Core`.
      timeout_seconds: for one run of a model.
      max_decompressed_bytes: of a gzip body once unpacked.
    """

    def __init__(self, core: Any, timeout_seconds: float, max_decompressed_bytes: int) -> None:
        self._core = core
        self._timeout_seconds = timeout_seconds
        self._max_decompressed_bytes = max_decompressed_bytes

    def answer(self, route: Route, body: bytes, gzipped: bool) -> Outcome:
        """Answers a request.

        Raises:
          ServingError: the request's, or the model's.
        """
        if route.action == "status":
            statuses, seconds = _timed(lambda: self._core.status(route.spec))
            return Outcome(json_status.status_body(statuses), seconds)
        if route.action == "metadata":
            metadata, seconds = _timed(lambda: self._core.metadata(route.spec))
            found = metadata.spec
            return Outcome(json_status.metadata_body(found.name, found.version, metadata.signatures), seconds)
        if gzipped:
            body = rest_body.gunzip(body, self._max_decompressed_bytes)
        request = json_codec.read_request(body)
        named = route._replace(spec=route.spec._replace(signature_name=request.signature_name))
        call = {"predict": self._predict, "classify": self._classify, "regress": self._regress}[route.action]
        return call(named, request)

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_seconds

    def _predict(self, route: Route, request: Request) -> Outcome:
        decoding = 0.0

        def decode(signature: Any) -> dict[str, Any]:
            nonlocal decoding
            arrays, decoding = _timed(lambda: json_codec.decode(request, signature.inputs))
            return arrays

        prediction, seconds = _timed(
            lambda: self._core.predict(
                route.spec, decode, deadline=self._deadline(), missing_signature=json_codec.missing_signature
            )
        )
        return Outcome(json_codec.encode(prediction.outputs, request.is_row), seconds - decoding)

    def _classify(self, route: Route, request: Request) -> Outcome:
        examples = json_examples.decode(request)
        answer, seconds = _timed(lambda: self._core.classify(route.spec, examples, self._deadline()))
        return Outcome(json_examples.encode_classifications(answer.rows), seconds)

    def _regress(self, route: Route, request: Request) -> Outcome:
        examples = json_examples.decode(request)
        answer, seconds = _timed(lambda: self._core.regress(route.spec, examples, self._deadline()))
        return Outcome(json_examples.encode_regressions(answer.values), seconds)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began
