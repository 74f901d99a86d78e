"""Whatever a gRPC client sends, it gets an answer or an error of its own making, and the next one is served.

The services are called without a network: their messages are parsed from bytes as gRPC would do it.
"""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.core import Core
from serving.grpc.service import ModelService, PredictionService
from serving.model.tensors import to_proto
from serving.monitoring.metrics import ServerMetrics
from tests.support import saved_models
from tests.support.one_version import OneVersion

# What a client can be told of its own request; INTERNAL, UNKNOWN or DATA_LOSS would blame the server.
THEIRS = {
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "DEADLINE_EXCEEDED",
}
SIGNATURES = [
    "",
    "serving_default",
    "texts",
    "scalar",
    "lookup",
    "flags",
    "classify",
    "regress",
    "fails",
    "x",
]
ALIASES = ["a", "b", "x", "text", "index", "flag", "d", "inputs", "", "é", "a" * 300]


class Aborted(Exception):
    """What gRPC's context raises."""


class Context:
    """A call that has a second."""

    def time_remaining(self):
        return 1.0

    def abort(self, code, details):
        self.code, self.details = code, details
        raise Aborted


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    versions = OneVersion("kinds", saved_models.kinds(tmp_path_factory.mktemp("kinds")))
    core, metrics = Core(versions), ServerMetrics()
    yield PredictionService(core, metrics), ModelService(core, metrics)
    versions.loaded.close()


def call(method, request):
    """The answer, or the name of the code."""
    context = Context()
    try:
        return method(request, context)
    except Aborted:
        assert len(context.details) <= 1024 + len("...TRUNCATED")
        return context.code.name


def served(services):
    """What the next good request gets."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "kinds"
    request.inputs["a"].CopyFrom(to_proto(np.array([[1, 2]], np.float32)))
    request.inputs["b"].CopyFrom(to_proto(np.array([[1, 2]], np.int32)))
    return list(call(services[0].Predict, request).outputs["sum"].float_val)


@st.composite
def tensors(draw):
    """TensorProtos of every type, whose parts need not fit each other."""
    proto = predict_pb2.PredictRequest().inputs["x"]
    proto.dtype = draw(st.sampled_from([*types_pb2.DataType.values(), 999]))
    for size in draw(st.lists(st.sampled_from([-1, 0, 1, 2, 3, 2**20, 2**31, 2**62]), max_size=4)):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.booleans())
    proto.float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    proto.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
    proto.int64_val.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)))
    proto.string_val.extend(draw(st.lists(st.binary(max_size=20), max_size=3)))
    proto.bool_val.extend(draw(st.lists(st.booleans(), max_size=2)))
    if draw(st.integers(0, 3)) == 0:
        proto.tensor_content = draw(st.binary(max_size=40))
    return proto


@st.composite
def predictions(draw):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = draw(st.sampled_from(["kinds", "kinds", "kinds", "", "../kinds", "x\0"]))
    request.model_spec.signature_name = draw(st.sampled_from(SIGNATURES))
    choice = draw(st.integers(0, 3))
    if choice == 1:
        request.model_spec.version.value = draw(st.sampled_from([1, 0, -1, 2**63 - 1]))
    elif choice == 2:
        request.model_spec.version_label = draw(st.sampled_from(["stable", "", "unknown"]))
    for alias in draw(st.lists(st.sampled_from(ALIASES), max_size=3, unique=True)):
        request.inputs[alias].CopyFrom(draw(tensors()))
    request.output_filter.extend(draw(st.lists(st.sampled_from(["sum", "rows", "y", ""]), max_size=2)))
    return request


STRANGE = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@STRANGE
@given(request_made=predictions())
def test_predict_with_parts_that_do_not_fit(services, request_made):
    outcome = call(services[0].Predict, request_made)
    assert isinstance(outcome, predict_pb2.PredictResponse) or outcome in THEIRS
    assert served(services) == [2, 4]


METHODS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}


def damaged(message):
    """Strategies that change a serialized message a little."""
    whole = message.SerializeToString()

    def change(position, byte, cut):
        data = bytearray(whole)
        data[position % len(data)] = byte
        return bytes(data[: len(data) - cut % len(data)] if cut % 3 == 0 else data)

    return st.builds(change, st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000))


def filled(name):
    request = METHODS[name]()
    if name == "MultiInference":
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = "kinds", "regress"
    else:
        request.model_spec.name = "kinds"
        request.model_spec.signature_name = {"Classify": "classify", "Regress": "regress"}.get(name, "")
    if hasattr(request, "input"):
        request.input.example_list.examples.add().ParseFromString(saved_models.example(x=0.5))
    if name == "Predict":
        request.inputs["a"].CopyFrom(to_proto(np.array([[1, 2]], np.float32)))
        request.inputs["b"].CopyFrom(to_proto(np.array([[1, 2]], np.int32)))
    if name == "GetModelMetadata":
        request.metadata_field.append("signature_def")
    return request


@pytest.mark.parametrize("name", METHODS)
@settings(STRANGE, max_examples=120)
@given(data=st.data())
def test_damaged_messages(services, name, data):
    method = getattr(services[0], name, None) or getattr(services[1], name)
    received = data.draw(st.one_of(st.binary(max_size=60), damaged(filled(name))))
    try:
        request = METHODS[name].FromString(received)
    except DecodeError:
        return  # gRPC itself answers it
    outcome = call(method, request)
    assert not isinstance(outcome, str) or outcome in THEIRS
    assert served(services) == [2, 4]


def test_a_million_rows_are_an_answer_or_a_refusal(services):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "kinds", "lookup"
    request.inputs["index"].CopyFrom(to_proto(np.zeros(1_000_000, np.int64)))
    answer = call(services[0].Predict, request)
    assert len(answer.outputs["label"].string_val) == 1_000_000
    assert served(services) == [2, 4]


@pytest.mark.parametrize(
    "name", ["../kinds", "kinds/../kinds", "/etc/passwd", "kinds\0", "k" * 100_000, "%2e%2e"]
)
def test_names_are_names_and_no_paths(services, name):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    assert call(services[1].GetModelStatus, request) == "NOT_FOUND"
