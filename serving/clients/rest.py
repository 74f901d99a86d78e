"""The client over REST, with the standard library alone: no TensorFlow, no NumPy, no gRPC."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from serving.clients.addresses import Address
from serving.clients.client import (
    Client,
    ClientSettings,
    Example,
    Inputs,
    Metadata,
    Prediction,
    Signature,
    TensorInfo,
)
from serving.clients.http import HttpResponse, HttpTransport, error_of
from serving.clients.retry import CallError, call
from serving.errors import Code, ServingError
from serving.specs import ModelSpec, State, VersionStatus


class RestClient(Client):
    """A client over HTTP/1.1.

    Args:
      address: the server's.
      settings: model, timeout, retries, token.
      tls: TLS settings; None for plain HTTP.
    """

    def __init__(self, address: Address, settings: ClientSettings, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(settings)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token}"
        self._http = HttpTransport(address, tls, headers)

    def _predict(self, inputs: Inputs, signature_name: str, spec: ModelSpec, deadline: float) -> Prediction:
        form = "inputs" if isinstance(inputs, Mapping) else "instances"
        body: dict[str, Any] = {form: inputs}
        if signature_name:
            body["signature_name"] = signature_name
        answer = self._post(spec, "predict", body, deadline)
        named = columns_of(answer)
        if isinstance(named, UnnamedOutput):
            named = {self.name_of_only_output(signature_name, spec, deadline): named.value}
        return Prediction({name: with_bytes(value) for name, value in named.items()})

    def _classify(
        self, examples: Sequence[Example], signature_name: str, spec: ModelSpec, deadline: float
    ) -> list[list[tuple[str, float]]]:
        rows = self._examples("classify", examples, signature_name, spec, deadline)
        return [[(str(label), float(score)) for label, score in row] for row in rows]

    def _regress(
        self, examples: Sequence[Example], signature_name: str, spec: ModelSpec, deadline: float
    ) -> list[float]:
        values = self._examples("regress", examples, signature_name, spec, deadline)
        return [float(value) for value in values]

    def _status(self, spec: ModelSpec, deadline: float) -> list[VersionStatus]:
        answer = self._get(_path(spec), deadline)
        try:
            return [
                VersionStatus(
                    int(one["version"]),
                    State[one["state"]],
                    Code[one["status"]["error_code"]],
                    one["status"]["error_message"],
                )
                for one in answer["model_version_status"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed("a status") from error

    def _metadata(self, spec: ModelSpec, deadline: float) -> Metadata:
        answer = self._get(f"{_path(spec)}/metadata", deadline)
        try:
            found = answer["metadata"]["signature_def"]["signature_def"]
            return Metadata(
                answer["model_spec"]["name"],
                int(answer["model_spec"]["version"]),
                {name: _signature(found[name]) for name in sorted(found)},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed("metadata") from error

    def models(self, timeout: float | None = None) -> list[str]:
        """The names of all models. TF Serving has no such call; this project's server has.

        Raises:
          ServingError: NOT_FOUND from any other server.
        """
        answer = self._get("/models", self.deadline(timeout))
        try:
            return [str(one["name"]) for one in answer["models"]]
        except (KeyError, TypeError) as error:
            raise _malformed("a list of models") from error

    def request(
        self, method: str, path: str, body: bytes | None = None, timeout: float | None = None
    ) -> HttpResponse:
        """Sends one request without retries and returns the response, whatever its status.

        Raises:
          ServingError: UNAVAILABLE or DEADLINE_EXCEEDED when there is no response.
        """
        return self._http.request(method, path, body, self.deadline(timeout))

    def close(self) -> None:
        self._closed.set()
        self._http.close()

    def _examples(
        self,
        verb: str,
        examples: Sequence[Example],
        signature_name: str,
        spec: ModelSpec,
        deadline: float,
    ) -> list[Any]:
        body: dict[str, Any] = {"examples": list(examples)}
        if signature_name:
            body["signature_name"] = signature_name
        answer = self._post(spec, verb, body, deadline)
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list):
            raise _malformed("results")
        return results

    def _post(self, spec: ModelSpec, verb: str, body: dict[str, Any], deadline: float) -> Any:
        content = json.dumps(body, default=_json_default, separators=(",", ":")).encode()
        return self._call("POST", f"{_path(spec)}:{verb}", content, deadline)

    def _get(self, path: str, deadline: float) -> Any:
        return self._call("GET", path, None, deadline)

    def _call(self, method: str, path: str, body: bytes | None, deadline: float) -> Any:
        def attempt() -> HttpResponse:
            answer = self._http.request(method, path, body, deadline)
            if answer.status != 200:
                raise error_of(answer)
            return answer

        answer = call(attempt, self.settings.policy, deadline, self._closed)
        if time.monotonic() > deadline:
            raise CallError(Code.DEADLINE_EXCEEDED, "no answer in time")
        try:
            # Labels may hold any bytes, and the server sends them unchanged.
            return json.loads(answer.body.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise _malformed("JSON") from error


class UnnamedOutput:
    """The value of a single output, which REST's answers do not name."""

    def __init__(self, value: object) -> None:
        self.value = value


def columns_of(answer: object) -> dict[str, Any] | UnnamedOutput:
    """The outputs by name of a predict answer in row or columnar form.

    Raises:
      ServingError: when it has none.
    """
    if isinstance(answer, dict) and "outputs" in answer:
        outputs = answer["outputs"]
        several = isinstance(outputs, dict) and set(outputs) != {"b64"}
        return outputs if several else UnnamedOutput(outputs)
    rows = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise _malformed("predictions")
    if not rows or not isinstance(rows[0], dict) or set(rows[0]) == {"b64"}:
        return UnnamedOutput(rows)
    return {name: [row[name] for row in rows] for name in rows[0]}


def with_bytes(value: object) -> object:
    """Nested lists with their b64 objects decoded to bytes."""
    if isinstance(value, list):
        return [with_bytes(one) for one in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    return value


def _json_default(value: object) -> object:
    """The JSON form of bytes, arrays and NumPy scalars."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"no tensor can be made of {type(value).__name__}")


def _path(spec: ModelSpec) -> str:
    path = f"/v1/models/{quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return path if spec.label is None else f"{path}/labels/{quote(spec.label, safe='')}"


def _signature(message: dict[str, Any]) -> Signature:
    return Signature(
        _tensors(message["inputs"]), _tensors(message["outputs"]), message.get("method_name", "")
    )


def _tensors(infos: dict[str, Any]) -> dict[str, TensorInfo]:
    found = {}
    for name in sorted(infos):
        shape = infos[name].get("tensor_shape", {})
        sizes = None if shape.get("unknown_rank") else tuple(int(d["size"]) for d in shape.get("dim", []))
        found[name] = TensorInfo(infos[name]["dtype"], sizes, infos[name].get("name", ""))
    return found


def _malformed(what: str) -> ServingError:
    return CallError(Code.INTERNAL, f"the server's answer holds no {what} in TF Serving's form", final=True)
