"""A string of rank 0 is a tensor like any other: over both transports, in batches, in every call."""

import http.client
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, prediction_log_pb2, regression_pb2

from serving import check
from serving.errors import ServingError
from serving.model import session as saved_model
from serving.model import warmup
from serving.model.servable import Servable
from serving.model_server import ModelServer
from serving.settings.flags import Flags
from serving.specs import ServableId
from tests.support.grpc_running import Client, failure, predict_request
from tests.support.saved_models import example

HOST = "127.0.0.1"
METHODS = {"label": "tensorflow/serving/classify", "value": "tensorflow/serving/regress"}
BYTES = b"\xff\x00"


class Words(tf.Module):
    """Signatures that answer one string, and some that should answer a row an example but do so too."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
    def word(self, text):
        return {"word": tf.identity(text)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
    def both(self, text):
        return {"word": tf.identity(text), "word_bytes": tf.identity(text), "length": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
    def only_bytes(self, text):
        return {"word_bytes": tf.identity(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def joined(self, text):
        return {"joined": tf.strings.reduce_join(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def label(self, inputs):
        return {"classes": tf.strings.reduce_join(inputs)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def value(self, inputs):
        return {"outputs": tf.strings.reduce_join(inputs)}


def words(base):
    """BASE/1 with the signatures of `Words`."""
    folder, module = Path(base) / "1", Words()
    names = ("both", "only_bytes", "joined", "label", "value")
    signatures = {name: getattr(module, name) for name in names}
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.word, **signatures})
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name, method in METHODS.items():
        updater.replace_method_name(signature_key=name, method_name=method)
    updater.save()
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return words(tmp_path_factory.mktemp("models") / "words")


@pytest.fixture(scope="module")
def server(export):
    flags = Flags(model_name="words", model_base_path=str(export.parent))
    with ModelServer(flags, host=HOST, pick_ports=True) as started:
        yield started


@pytest.fixture(scope="module")
def batching_server(export):
    flags = Flags(model_name="words", model_base_path=str(export.parent), enable_batching=True)
    with ModelServer(flags, host=HOST, pick_ports=True) as started:
        yield started


def post(server, verb, **body):
    connection = http.client.HTTPConnection(HOST, server.rest_port, timeout=60)
    try:
        connection.request("POST", f"/v1/models/words:{verb}", json.dumps(body))
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read().decode("utf-8", "surrogateescape"))
    finally:
        connection.close()


@pytest.fixture(scope="module")
def client(server):
    found = Client(f"{HOST}:{server.grpc_port}")
    yield found
    found.channel.close()


@pytest.fixture(scope="module")
def session(export):
    found = saved_model.load(str(export))
    yield found
    found.close()


@pytest.mark.parametrize("text", [b"hello", b"", BYTES])
def test_a_session_gives_arrays_of_rank_0_too(session, text):
    signature = session.signatures["both"]
    names = [signature.outputs[alias].name for alias in ("word", "word_bytes", "length")]
    found = session.run({signature.inputs["text"].name: np.array(text, object)}, names)
    assert all(isinstance(array, np.ndarray) and array.shape == () for array in found)
    assert [array.dtype for array in found] == [object, object, np.int32]
    assert [array.item() for array in found] == [text, text, len(text)]


def test_rest(server):
    hello = {"b64": "aGVsbG8="}
    assert post(server, "predict", inputs=hello) == (200, {"outputs": "hello"})
    assert post(server, "predict", inputs={"text": "hello"}) == (200, {"outputs": "hello"})
    assert post(server, "predict", signature_name="only_bytes", inputs="hello") == (200, {"outputs": hello})
    answer = {"outputs": {"word": "hello", "word_bytes": hello, "length": 5}}
    assert post(server, "predict", signature_name="both", inputs=hello) == (200, answer)


def test_rest_rows_lack_a_dimension(server):
    body = {"signature_name": "joined", "instances": ["a", "b"]}
    assert post(server, "predict", **body) == (
        400,
        {"error": "Tensor name: joined has no shape information "},
    )


@pytest.mark.parametrize("text", [b"hello", b"", BYTES])
def test_grpc(client, text):
    answer = client.predictions.Predict(predict_request("words", "both", text=np.array(text, object)))
    for alias in ("word", "word_bytes"):
        proto = answer.outputs[alias]
        assert (proto.dtype, list(proto.string_val)) == (tf.string.as_datatype_enum, [text])
        assert proto.HasField("tensor_shape")
        assert not proto.tensor_shape.dim
    assert list(answer.outputs["length"].int_val) == [len(text)]


def test_a_batch_cannot_be_cut_from_it(batching_server):
    no_rows = "Batched output tensor has 0 dimensions"
    assert post(batching_server, "predict", signature_name="joined", inputs=["a", "b"]) == (
        400,
        {"error": no_rows},
    )
    client = Client(f"{HOST}:{batching_server.grpc_port}")
    request = predict_request("words", "joined", text=np.array([b"a", b"b"], object))
    assert failure(lambda: client.predictions.Predict(request)) == ("FAILED_PRECONDITION", no_rows)
    client.channel.close()


NO_MATRIX = "Expected Tensor shape: [batch_size num_classes] but got []"
NO_COLUMN = "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []"


def test_classify_and_regress_want_a_row_an_example(server):
    examples = [{"x": 1.0}, {"x": 2.0}]
    assert post(server, "classify", signature_name="label", examples=examples) == (400, {"error": NO_MATRIX})
    assert post(server, "regress", signature_name="value", examples=examples) == (400, {"error": NO_COLUMN})


def test_classify_and_regress_over_grpc(client):
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "words", "label"
    classify.input.example_list.examples.add().ParseFromString(example(x=1.0))
    assert failure(lambda: client.predictions.Classify(classify)) == ("INVALID_ARGUMENT", NO_MATRIX)
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name, regress.model_spec.signature_name = "words", "value"
    regress.input.CopyFrom(classify.input)
    assert failure(lambda: client.predictions.Regress(regress)) == ("INVALID_ARGUMENT", NO_COLUMN)


def multi_inference_request():
    request = inference_pb2.MultiInferenceRequest()
    for name, method in METHODS.items():
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = "words", name
    request.input.example_list.examples.add().ParseFromString(example(x=1.0))
    return request


def test_multi_inference(client):
    request = multi_inference_request()
    assert failure(lambda: client.predictions.MultiInference(request)) == ("INVALID_ARGUMENT", NO_MATRIX)


def test_warm_up(export, session):
    servable = Servable(ServableId("words", 1), str(export), session.signatures, session)
    path = export / warmup.WARMUP_FILE
    path.parent.mkdir()
    asked = prediction_log_pb2.PredictionLog()
    asked.predict_log.request.CopyFrom(predict_request("words", text=np.array(b"hello", object)))
    several = prediction_log_pb2.PredictionLog()
    several.multi_inference_log.request.CopyFrom(multi_inference_request())
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(asked.SerializeToString())
        assert warmup.run(servable) == 1
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(several.SerializeToString())
        with pytest.raises(ServingError, match="Expected Tensor shape"):  # not an AttributeError
            warmup.run(servable)
    finally:
        path.unlink()
        path.parent.rmdir()


def test_the_check_finds_them_equal(server, export, capsys):
    words = ["--server", f"{HOST}:{server.rest_port}", "--grpc", f"{HOST}:{server.grpc_port}"]
    check.main(["--json", *words, "--export", str(export.parent), "--model", "words"])
    compared = json.loads(capsys.readouterr().out.splitlines()[-1])["compared"]
    differ = {one["subject"] for one in compared if not one["equal"]}
    assert differ == {"label (Classify)", "value (Regress)"}  # refused, while TensorFlow's function answers
    subjects = {(one["subject"], one["over"]) for one in compared}
    names = ("serving_default", "both", "only_bytes", "joined", "label")
    assert {(name, over) for name in names for over in ("REST", "gRPC")} <= subjects
