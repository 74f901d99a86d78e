"""A core without models, counters without a page, and requests without a socket: for the tests of REST."""

import asyncio
import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from tensorflow.core.protobuf import meta_graph_pb2

from serving.codec import predict as json_codec
from serving.core import ClassifyResult, MetadataResult, PredictResult, RegressResult
from serving.errors import Code, ServingError
from serving.rest.app import RestApp
from serving.rest.options import RestOptions
from serving.specs import State, VersionStatus


def infos(**dtypes):
    """A signature's inputs: name -> TensorInfo's one field that the codec reads."""
    return {name: SimpleNamespace(dtype=dtype) for name, dtype in dtypes.items()}


def decode(body, inputs):
    """A predict request's tensors, from the body as JSON or as what becomes JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json_codec.decode(json_codec.read_request(content), inputs)


def refusal(body, inputs):
    """The error that a predict request gives."""
    with pytest.raises(ServingError) as caught:
        decode(body, inputs)
    return caught.value


def check_equal(array, expected, kind):
    """The same type, shape and values."""
    wanted = np.array(expected, kind)
    assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(array, wanted)


def half_plus_two_signature():
    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    signature.inputs["x"].dtype = 1
    signature.inputs["x"].name = "x:0"
    signature.inputs["x"].tensor_shape.dim.add(size=-1)
    signature.outputs["y"].dtype = 1
    signature.outputs["y"].name = "y:0"
    signature.outputs["y"].tensor_shape.unknown_rank = True
    return signature


class FakeCore:
    """One model `half`, version 3, x / 2 + 2; waits at `gate` when x begins with 99, fails at 500."""

    def __init__(self):
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.calls = []
        self.state = State.AVAILABLE

    def _check(self, spec):
        self.calls.append(spec)
        if spec.name != "half":
            raise ServingError(Code.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")

    def predict(self, spec, decode, output_filter=(), deadline=None, missing_signature=None):
        self._check(spec)
        if spec.signature_name not in ("", "serving_default"):
            raise missing_signature(spec.signature_name)
        x = decode(half_plus_two_signature())["x"]
        first = float(x.flat[0]) if x.size else 0.0
        if first == 99:
            self.waiting.release()
            self.gate.wait(20)
        if first == 500:
            raise RuntimeError("a mistake of ours")
        return PredictResult(spec._replace(version=3), {"y": x / 2 + 2}, half_plus_two_signature())

    def classify(self, spec, examples, deadline=None):
        self._check(spec)
        return ClassifyResult(spec, [[(b"yes", 0.75), (b"no", 0.25)] for _ in examples])

    def regress(self, spec, examples, deadline=None):
        self._check(spec)
        return RegressResult(spec, [float(len(examples))] * len(examples))

    def metadata(self, spec):
        self._check(spec)
        return MetadataResult(spec._replace(version=3), {"serving_default": half_plus_two_signature()})

    def status(self, spec):
        self._check(spec)
        return [VersionStatus(3, self.state)]

    def models(self):
        return {"half": [VersionStatus(3, self.state)]}

    def labels(self, name):
        return {"stable": 3}

    def retry(self, name, version):
        if version != 4:
            raise ServingError(Code.FAILED_PRECONDITION, "Version 3 of model half has not failed")

    def ready(self):
        return self.state is State.AVAILABLE


class Recorder:
    """Keeps what the metrics are told."""

    def __init__(self):
        self.requests = []
        self.transports = []

    def request_done(self, model_name, code, api, entrypoint, seconds):
        assert seconds >= 0
        self.requests.append((model_name, code.name, api, entrypoint))

    def transport_done(self, model_name, api, entrypoint, seconds):
        assert seconds >= 0
        self.transports.append((model_name, api, entrypoint))

    def render(self):
        return "# TYPE :tensorflow:serving:request_count counter\n"


class Reply:
    """What an application sent."""

    def __init__(self, messages):
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0].get("headers", [])}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        assert list(self.json) == ["error"]
        return self.json["error"]


class Browser:
    """Sends requests to an application, each in an event loop of its own."""

    def __init__(self, core=None, **options):
        self.core = core or FakeCore()
        self.metrics = Recorder()
        self.app = RestApp(self.core, self.metrics, RestOptions(**{"num_threads": 2, **options}))

    def close(self):
        self.core.gate.set()
        self.app.close()

    def send(self, method, target, body=b"", headers=(), pieces=None):
        """One request; `pieces` are a body that comes in parts, None among them for a client that leaves."""
        path, _, query = target.encode("latin-1").partition(b"?")
        scope = {
            "type": "http",
            "method": method,
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in dict(headers).items()],
            "client": ("10.0.0.1", 4000),
        }
        parts = [body] if pieces is None else list(pieces)
        sent = []

        async def receive():
            part = parts.pop(0) if parts else None
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        return Reply(sent) if sent else None

    def get(self, target, **headers):
        return self.send(
            "GET", target, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )

    def post(self, target, body, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(
            "POST", target, content, {key.replace("_", "-"): value for key, value in headers.items()}
        )
