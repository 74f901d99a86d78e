"""The gRPC side, asked by TF Serving's own stubs over loopback."""

import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.support.grpc_running import failure, predict_request, two
from tests.support.saved_models import example

VERSION = 7


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
    assert time.monotonic() - began < 60  # the run would take a quarter of an hour
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
