"""Sends a server the requests that TensorFlow answered here, and common mistakes; compares the answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from serving.checks.cases import Case, Export
from serving.clients.client import BINARY, Client
from serving.clients.grpc import lists_of
from serving.clients.http import error_of
from serving.clients.rest import RestClient
from serving.clients.retry import CallError
from serving.errors import Code, ServingError
from serving.specs import ModelSpec, State

PNG = b"\x89PNG"
# A drawn picture may differ by rounding: mean difference of a pixel, in levels of 255.
PIXEL_TOLERANCE = 1.0
REST, ROWS, GRPC = "REST", "REST rows", "gRPC"
UNKNOWN_MODEL, UNKNOWN_SIGNATURE = "no_such_model", "no_such_signature"
# Types without a JSON form; the REST interface refuses such outputs.
WITHOUT_JSON = ("DT_HALF", "DT_BFLOAT16", "DT_COMPLEX64", "DT_COMPLEX128")


class Tolerance(NamedTuple):
    """Numbers are equal when |a - b| <= absolute + relative * |b|. Strings must be equal."""

    relative: float
    absolute: float


def difference(name: str, got: object, expected: object, tolerance: Tolerance) -> str:
    """The difference between two tensors in nested lists, in words; empty when they are equal."""
    one, other = np.array(got, object), np.array(expected, object)
    if one.shape != other.shape:
        return f"{name}: shape {list(one.shape)}, expected {list(other.shape)}"
    if not other.size:
        return ""
    if isinstance(other.flat[0], (str, bytes)):
        return next(
            filter(None, (_string_difference(name, a, b) for a, b in zip(one.flat, other.flat, strict=True))),
            "",
        )
    try:
        a, b = one.astype(np.float64), other.astype(np.float64)
    except (TypeError, ValueError):
        return f"{name}: {one.flat[0]!r}, expected {other.flat[0]!r}"
    if np.allclose(a, b, tolerance.relative, tolerance.absolute, equal_nan=True):
        return ""
    return f"{name}: largest difference {np.nanmax(np.abs(a - b)):.3g}"


def _string_difference(name: str, got: Any, expected: Any) -> str:
    if got == expected:
        return ""
    if name.endswith(BINARY) and isinstance(got, bytes) and got.startswith(PNG) and expected.startswith(PNG):
        apart = _pixel_difference(got, expected)
        return "" if apart <= PIXEL_TOLERANCE else f"{name}: pixels differ by {apart:.3g} levels"
    return f"{name}: {json.dumps(got, default=repr)[:60]}, expected {json.dumps(expected, default=repr)[:60]}"


def _pixel_difference(got: bytes, expected: bytes) -> float:
    """Mean absolute difference of two PNGs in levels of 255; 255 when their sizes differ."""
    one, other = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float64) for png in (got, expected)
    )
    return float(np.abs(one - other).mean()) if one.shape == other.shape else 255.0


class Finding(NamedTuple):
    """The result of one comparison; `difference` is empty when the answers are equal."""

    subject: str
    over: str
    difference: str


def signature_findings(
    case: Case, client: Client, spec: ModelSpec, tolerance: Tolerance
) -> Iterator[Finding]:
    """Compares one signature over one transport: predict in each form, classify or regress if they apply."""
    rest = isinstance(client, RestClient)
    if rest and any(info.dtype in WITHOUT_JSON for info in case.signature.outputs.values()):
        return
    name, method = case.signature_name, case.signature.method_name.rpartition("/")[2]
    expected = {key: lists_of(key, value) for key, value in (case.outputs or {}).items()}

    def predicted(inputs: Any) -> dict[str, Any]:
        return client.predict(inputs, signature_name=name, model=spec).outputs

    def compared(call: Callable[[], dict[str, Any]]) -> str:
        return _difference_of(call, case, expected, tolerance)

    yield Finding(name, REST if rest else GRPC, compared(lambda: predicted(case.inputs)))
    if rest and _has_rows(case):
        count = len(next(iter(case.inputs.values())))
        rows = [{key: value[row] for key, value in case.inputs.items()} for row in range(count)]
        yield Finding(name, ROWS, compared(lambda: predicted(rows)))
    if case.examples is not None and method in ("classify", "regress"):
        subject = f"{name} ({method.capitalize()})"

        def examined() -> dict[str, Any]:
            examples = case.examples or ()
            if method == "regress":
                return {"outputs": client.regress(examples, signature_name=name, model=spec)}
            found = client.classify(examples, signature_name=name, model=spec)
            pairs = {
                "classes": [[p[0] for p in row] for row in found],
                "scores": [[p[1] for p in row] for row in found],
            }
            return {key: pairs[key] for key in expected}

        if "outputs" in expected:
            expected = {"outputs": np.ravel(expected["outputs"]).tolist()}
        yield Finding(subject, REST if rest else GRPC, compared(examined))


def description_findings(export: Export, client: Client, spec: ModelSpec) -> Iterator[Finding]:
    """Compares the model's state and signatures as the server reports them."""
    over = REST if isinstance(client, RestClient) else GRPC

    def state() -> str:
        states = {one.version: one.state for one in client.status(model=spec)}
        found = states.get(export.version, State.UNKNOWN)
        return "" if found is State.AVAILABLE else f"version {export.version} is {found.name}"

    def signatures() -> str:
        found = client.metadata(model=spec)
        if found.version != export.version:
            return f"version {found.version}, not {export.version}"
        names = set(found.signatures) ^ set(export.signatures)
        names |= {n for n in export.signatures if found.signatures.get(n) != export.signatures[n]}
        return f"other than in the export: {', '.join(sorted(names))}" if names else ""

    yield Finding("status", over, _finding_of(state))
    yield Finding("metadata", over, _finding_of(signatures))


def error_findings(client: Client, spec: ModelSpec) -> Iterator[Finding]:
    """Compares the server's answers to common mistakes, word for word."""
    rest = isinstance(client, RestClient)
    nobody = f"Servable not found for request: Latest({UNKNOWN_MODEL})"

    def predict(model: ModelSpec, signature_name: str = "") -> Callable[[], object]:
        return lambda: client.predict({"x": [1.0]}, signature_name=signature_name, model=model)

    asked: list[tuple[str, Code, str, Callable[[], object]]] = [
        ("unknown model", Code.NOT_FOUND, nobody, predict(ModelSpec(UNKNOWN_MODEL))),
        (
            "status of an unknown model",
            Code.NOT_FOUND,
            f"Could not find any versions of model {UNKNOWN_MODEL}",
            lambda: client.status(model=UNKNOWN_MODEL),
        ),
    ]
    if isinstance(client, RestClient):
        missing = f'Serving signature name: "{UNKNOWN_SIGNATURE}" not found in signature def'
        path = f"/v1/models/{spec.name}"
        asked += [
            ("unknown signature", Code.INVALID_ARGUMENT, missing, predict(spec, UNKNOWN_SIGNATURE)),
            (
                "body that is no JSON",
                Code.INVALID_ARGUMENT,
                "JSON Parse error",
                _raw(client, f"{path}:predict", b"{"),
            ),
            (
                "body without inputs",
                Code.INVALID_ARGUMENT,
                "Missing 'inputs' or 'instances' key",
                _raw(client, f"{path}:predict", b"{}"),
            ),
            ("unknown verb", Code.INVALID_ARGUMENT, "Malformed request", _raw(client, f"{path}:name", b"{}")),
        ]
    else:
        missing = f'Serving signature key "{UNKNOWN_SIGNATURE}" not found.'
        nameless = "ModelSpec has no name specified."
        asked += [
            ("unknown signature", Code.FAILED_PRECONDITION, missing, predict(spec, UNKNOWN_SIGNATURE)),
            ("model without a name", Code.INVALID_ARGUMENT, nameless, predict(ModelSpec(""))),
        ]
    for subject, code, words, call in asked:
        yield Finding(subject, REST if rest else GRPC, _refusal_difference(code, words, call))


def _raw(client: RestClient, path: str, body: bytes) -> Callable[[], object]:
    def call() -> bytes:
        answer = client.request("POST", path, body)
        if answer.status != 200:
            raise error_of(answer)
        return answer.body

    return call


def _refusal_difference(code: Code, words: str, call: Callable[[], object]) -> str:
    try:
        call()
    except ServingError as error:
        _raise_unreached(error)
        fits = error.code == code and words in error.message
        return "" if fits else f"{error.code.name}: {error.message}; expected {code.name}: {words}"
    return f"answered; expected {code.name}: {words}"


def _finding_of(call: Callable[[], str]) -> str:
    try:
        return call()
    except ServingError as error:
        _raise_unreached(error)
        return f"{error.code.name}: {error.message}"


def _raise_unreached(error: ServingError) -> None:
    """Raises when the server is unreachable or wants a token: a mistake in the command, not a difference."""
    if isinstance(error, CallError) and error.code in (Code.UNAVAILABLE, Code.UNAUTHENTICATED):
        raise error


def _difference_of(
    call: Callable[[], dict[str, Any]], case: Case, expected: dict[str, Any], tolerance: Tolerance
) -> str:
    try:
        outputs = call()
    except ServingError as error:
        _raise_unreached(error)
        if case.outputs is None:
            return "" if error.code == case.code else f"{error.code.name}; TensorFlow says {case.code.name}"
        return f"{error.code.name}: {error.message}"
    if case.outputs is None:
        return f"answered; TensorFlow refuses with {case.code.name}"
    if set(outputs) != set(expected):
        return f"outputs {', '.join(sorted(outputs))}; expected {', '.join(sorted(expected))}"
    differences = [difference(key, outputs[key], expected[key], tolerance) for key in sorted(expected)]
    return "; ".join(filter(None, differences))


def _has_rows(case: Case) -> bool:
    """Whether the row form can express the request: all inputs and outputs share a leading dimension."""
    arrays = [*case.inputs.values(), *(case.outputs or {}).values()]
    if not case.inputs or any(array.ndim == 0 for array in arrays):
        return False
    return len({len(array) for array in arrays}) == 1
