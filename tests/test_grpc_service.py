"""The gRPC side, asked by TF Serving's own stubs over loopback."""

import threading
import time

import grpc
import numpy as np
import pytest
import saved_models
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from one_version import OneVersion
from saved_models import example
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving import grpc_server
from serving.core import Core
from serving.errors import ServingError
from serving.grpc_server import GrpcServer
from serving.metrics import ServerMetrics
from serving.tensors import to_proto

VERSION = 7


class Client:
    """Both stubs on one channel."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    found = OneVersion("kinds", saved_models.kinds(tmp_path_factory.mktemp("kinds"), version=VERSION))
    yield found
    found.loaded.close()


@pytest.fixture
def started(versions):
    """A function that starts a server with options and gives its client and metrics."""
    servers, channels = [], []

    def start(**options):
        metrics = ServerMetrics()
        server = GrpcServer(Core(versions, metrics.examples_counted), metrics, max_threads=4, **options)
        client = Client(f"127.0.0.1:{server.listen('127.0.0.1:0')}")
        server.start()
        servers.append(server)
        channels.append(client.channel)
        return client, metrics, server

    yield start
    for channel in channels:
        channel.close()
    for server in servers:
        server.stop(0)


@pytest.fixture
def client(started):
    return started()[0]


def predict_request(name="kinds", signature="", output_filter=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(to_proto(np.asarray(array)))
    return request


def two(**changes):
    return predict_request(a=np.array([[1, 2]], np.float32), b=np.array([[10, 20]], np.int32), **changes)


def failure(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def test_predict_answers_in_typed_lists_with_a_filled_spec(client):
    answer = client.predictions.Predict(two())
    assert list(answer.outputs["sum"].float_val) == [11, 22]
    assert [dim.size for dim in answer.outputs["sum"].tensor_shape.dim] == [1, 2]
    assert list(answer.outputs["rows"].int_val) == [1]
    assert not answer.outputs["sum"].tensor_content
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("kinds", VERSION, "serving_default")
    assert spec.WhichOneof("version_choice") == "version"


def test_tensor_content_goes_in_and_on_request_out(started):
    client, _, _ = started(as_content=True)
    request = two()
    request.inputs["a"].CopyFrom(tf.make_tensor_proto(np.array([[1, 2]], np.float32)))
    assert request.inputs["a"].tensor_content
    answer = client.predictions.Predict(request)
    assert np.frombuffer(answer.outputs["sum"].tensor_content, np.float32).tolist() == [11, 22]


def test_strings_and_bytes(client):
    text = np.array([b"\xff\x00", "é".encode()], object)
    answer = client.predictions.Predict(predict_request(signature="texts", text=text))
    assert list(answer.outputs["echo"].string_val) == [b"\xff\x00", b"\xc3\xa9"]
    assert list(answer.outputs["length"].int_val) == [2, 2]


def test_the_version_by_number_and_by_label(client):
    request = two()
    request.model_spec.version.value = VERSION
    assert client.predictions.Predict(request).model_spec.version.value == VERSION
    request.model_spec.version_label = "stable"
    spec = client.predictions.Predict(request).model_spec
    assert (spec.version.value, spec.version_label) == (VERSION, "")


@pytest.mark.parametrize(
    ("request_made", "code", "details"),
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (two(name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (two(name="none"), "NOT_FOUND", "Servable not found for request: Latest(none)"),
        (
            two(signature="none"),
            "FAILED_PRECONDITION",
            'Serving signature key "none" not found.',
        ),
    ],
)
def test_predict_errors(client, request_made, code, details):
    assert failure(lambda: client.predictions.Predict(request_made)) == (code, details)


def test_long_errors_are_cut(client):
    code, details = failure(lambda: client.predictions.Predict(two(output_filter=["x" * 5000])))
    assert code == "INVALID_ARGUMENT"
    assert details.endswith("...TRUNCATED")
    assert len(details) == 1024 + len("...TRUNCATED")


def test_a_deadline_reaches_the_model(client):
    request = predict_request(signature="slow", x=np.array([1000], np.float32))
    began = time.monotonic()
    assert failure(lambda: client.predictions.Predict(request, timeout=0.3))[0] == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began < 10
    # The model has stopped too: otherwise the few threads would soon be gone.
    for _ in range(6):
        failure(lambda: client.predictions.Predict(request, timeout=0.05))
    assert client.predictions.Predict(two(), timeout=20).model_spec.version.value == VERSION


def test_messages_of_more_than_four_mebibytes(client):
    text = np.array([b"a" * 6_000_000], object)
    answer = client.predictions.Predict(predict_request(signature="texts", text=text))
    assert len(answer.outputs["echo"].string_val[0]) == 6_000_000


def filled(request, signature, *examples, context=None):
    request.model_spec.name, request.model_spec.signature_name = "kinds", signature
    into = request.input.example_list if context is None else request.input.example_list_with_context
    for serialized in examples:
        into.examples.add().ParseFromString(serialized)
    if context is not None:
        into.context.ParseFromString(context)
    return request


def test_classify(client):
    request = filled(classification_pb2.ClassificationRequest(), "classify", example(x=0.25), example(x=1.0))
    answer = client.predictions.Classify(request)
    pairs = [[(c.label, c.score) for c in classes.classes] for classes in answer.result.classifications]
    assert pairs == [[("yes", 0.25), ("no", 0.75)], [("yes", 1.0), ("no", 0.0)]]
    assert answer.model_spec.signature_name == "classify"


def test_the_context_joins_every_example(client):
    request = filled(regression_pb2.RegressionRequest(), "regress", b"", example(x=4), context=example(x=3))
    answer = client.predictions.Regress(request)
    assert [regression.value for regression in answer.result.regressions] == [30, 40]


def test_no_examples(client):
    request = filled(regression_pb2.RegressionRequest(), "regress")
    assert failure(lambda: client.predictions.Regress(request)) == ("INVALID_ARGUMENT", "Input is empty.")


def test_multi_inference(started):
    client, metrics, _ = started()
    request = inference_pb2.MultiInferenceRequest()
    for name in ("regress", "classify"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{name}")
        task.model_spec.name, task.model_spec.signature_name = "kinds", name
    request.input.example_list.examples.add().ParseFromString(example(x=0.5))
    first, second = client.predictions.MultiInference(request).results
    assert first.regression_result.regressions[0].value == 5
    assert second.classification_result.classifications[0].classes[0].label == "yes"
    assert second.model_spec.version.value == VERSION
    assert ':tensorflow:serving:request_example_count_total{model="kinds"} 1' in metrics.render()


def test_metadata(client):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "kinds"
    answer = client.predictions.GetModelMetadata(request)
    assert (answer.model_spec.version.value, answer.model_spec.signature_name) == (VERSION, "")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "classify", "__saved_model_init_op"} <= set(signatures.signature_def)
    assert signatures.signature_def["classify"].method_name == "tensorflow/serving/classify"


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["graph"], "Metadata field graph is not supported"),
    ],
)
def test_metadata_errors(client, fields, details):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "kinds"
    assert failure(lambda: client.predictions.GetModelMetadata(request)) == ("INVALID_ARGUMENT", details)


def test_status(client):
    request = get_model_status_pb2.GetModelStatusRequest()
    assert failure(lambda: client.models.GetModelStatus(request)) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "kinds"
    (status,) = client.models.GetModelStatus(request).model_version_status
    assert (status.version, status.state, status.status.error_code) == (VERSION, 30, 0)


def test_reload_hands_the_list_on_and_reports_metrics(client, versions):
    request = model_management_pb2.ReloadConfigRequest()
    assert failure(lambda: client.models.HandleReloadConfigRequest(request)) == (
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
        "currently supported",
    )
    request.config.model_config_list.config.add(name="m", base_path="/m")
    request.metric_names.append("/tensorflow/serving/request_count")
    answer = client.models.HandleReloadConfigRequest(request)
    assert answer.status.error_code == 0
    assert [(m.name, m.int64_value_increase) for m in answer.metric] == [
        ("/tensorflow/serving/request_count", 0)
    ]
    assert versions.reloaded[-1].model_config_list.config[0].name == "m"


def test_requests_are_counted(started):
    client, metrics, _ = started()
    client.predictions.Predict(two())
    failure(lambda: client.predictions.Predict(two(name="none")))
    page = metrics.render()
    assert ':tensorflow:serving:request_count{model_name="kinds",status="OK"} 1' in page
    assert ':tensorflow:serving:request_count{model_name="none",status="NOT_FOUND"} 1' in page
    latency = (
        ':tensorflow:serving:request_latency_count{model_name="kinds",API="Predict",entrypoint="GRPC"} 1'
    )
    assert latency in page


def test_health_only_when_asked_for(started):
    asked = [health_pb2.HealthCheckRequest(service=name) for name in grpc_server.HEALTH_NAMES]
    without = health_pb2_grpc.HealthStub(started()[0].channel)
    assert failure(lambda: without.Check(asked[0]))[0] == "UNIMPLEMENTED"
    stub = health_pb2_grpc.HealthStub(started(health_service=True)[0].channel)
    assert [stub.Check(request).status for request in asked] == [1, 1, 1]


def test_reflection_names_the_services(client):
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} <= names


def test_a_token_is_asked_for(started):
    client, _, _ = started(api_token="secret")
    code, details = failure(lambda: client.predictions.Predict(two()))
    assert (code, details) == ("UNAUTHENTICATED", grpc_server.UNAUTHENTICATED)
    wrong = [("authorization", "Bearer secre")]
    assert failure(lambda: client.predictions.Predict(two(), metadata=wrong))[0] == "UNAUTHENTICATED"
    right = [("authorization", "Bearer secret")]
    assert client.predictions.Predict(two(), metadata=right).model_spec.name == "kinds"


def test_stopping_finishes_what_was_begun(started):
    client, _, server = started()
    request = predict_request(signature="slow", x=np.array([0.3], np.float32))
    client.predictions.Predict(two())  # the channel stands
    begun = client.predictions.Predict.future(request)
    time.sleep(0.1)
    stopping = threading.Thread(target=server.stop, args=(60,))
    stopping.start()
    assert begun.result(60).model_spec.name == "kinds"
    stopping.join()
    assert failure(lambda: client.predictions.Predict(two()))[0] == "UNAVAILABLE"


def test_a_port_that_is_taken(versions, started):
    _, _, server = started()
    taken = server.listen("127.0.0.1:0")
    other = GrpcServer(Core(versions), ServerMetrics(), max_threads=1)
    with pytest.raises(ServingError, match=f"gRPC cannot listen on 127.0.0.1:{taken}"):
        other.listen(f"127.0.0.1:{taken}")
    other.stop(0)


def test_a_unix_socket(versions, tmp_path):
    server = GrpcServer(Core(versions), ServerMetrics(), max_threads=1)
    server.listen(f"unix:{tmp_path}/grpc.sock")
    server.start()
    client = Client(f"unix:{tmp_path}/grpc.sock")
    assert client.predictions.Predict(two()).model_spec.name == "kinds"
    client.channel.close()
    server.stop(0)


def test_channel_arguments(versions):
    server = GrpcServer(
        Core(versions), ServerMetrics(), max_threads=1, channel_arguments="grpc.max_concurrent_streams=8,a=b"
    )
    server.stop(0)
    with pytest.raises(ServingError, match="--grpc_channel_arguments: expected key=value"):
        GrpcServer(Core(versions), ServerMetrics(), max_threads=1, channel_arguments="novalue")
