"""Warm-up requests of a version's own: every kind, what fails, and what the log says."""

from __future__ import annotations

import logging
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import input_pb2, prediction_log_pb2

from serving.errors import Code
from serving.model import session as saved_model
from serving.model import warmup
from serving.model.servable import Servable
from serving.specs import ServableId
from tests.support.saved_models import example, half_plus, kinds
from tests.support.serving_errors import error_of


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A servable of every kind of signature, and its calls: (method, signature name, rest) each."""
    path = str(kinds(tmp_path_factory.mktemp("models") / "kinds"))
    session = saved_model.load(path)
    yield Recorded(ServableId("kinds", 1), path, session.signatures, session)
    session.close()


class Recorded(Servable):
    """Remembers what it is asked and answers."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls = []

    def _noted(self, method, signature, answer):
        self.calls.append((method, signature, answer))
        return answer

    def predict(self, signature_name, *rest):
        return self._noted("predict", signature_name, super().predict(signature_name, *rest))

    def classify(self, signature_name, *rest):
        return self._noted("classify", signature_name, super().classify(signature_name, *rest))

    def regress(self, signature_name, *rest):
        return self._noted("regress", signature_name, super().regress(signature_name, *rest))

    def multi_inference(self, tasks, *rest):
        return self._noted("multi_inference", tasks, super().multi_inference(tasks, *rest))


@pytest.fixture
def servable(served):
    served.calls.clear()
    yield served
    if tf.io.gfile.exists(f"{served.path}/assets.extra"):
        tf.io.gfile.rmtree(f"{served.path}/assets.extra")


def write(servable, records):
    """Writes the warm-up file; records are messages or bytes."""
    tf.io.gfile.makedirs(f"{servable.path}/assets.extra")
    with tf.io.TFRecordWriter(f"{servable.path}/{warmup.WARMUP_FILE}") as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else record.SerializeToString())


def predict_log(x=3.0, signature="scalar", output_filter=()):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.version.value = "quite another", 77
    request.model_spec.signature_name = signature
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32(x)))
    request.output_filter.extend(output_filter)
    return log


def examples(*values):
    message = input_pb2.Input()
    for value in values:
        message.example_list.examples.add().ParseFromString(example(x=value))
    return message


def classify_log(*values):
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.signature_name = "classify"
    log.classify_log.request.input.CopyFrom(examples(*values))
    return log


def regress_log(*values):
    log = prediction_log_pb2.PredictionLog()
    log.regress_log.request.model_spec.signature_name = "regress"
    log.regress_log.request.input.CopyFrom(examples(*values))
    return log


def multi_inference_log(*values):
    log = prediction_log_pb2.PredictionLog()
    request = log.multi_inference_log.request
    for name in ("regress", "classify"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{name}")
        task.model_spec.name, task.model_spec.signature_name = "kinds", name
    request.input.CopyFrom(examples(*values))
    return log


def test_every_kind(servable, caplog):
    caplog.set_level(logging.INFO)
    write(servable, [predict_log(3), classify_log(0.25), regress_log(0.5, 2.0), multi_inference_log(0.25)])
    assert warmup.run(servable) == 4
    classes = [[(b"yes", 0.25), (b"no", 0.75)]]
    tasks = [("tensorflow/serving/regress", "regress"), ("tensorflow/serving/classify", "classify")]
    assert servable.calls == [
        ("predict", "scalar", {"double": 6.0}),
        ("classify", "classify", classes),
        ("regress", "regress", [5.0, 20.0]),
        ("multi_inference", tasks, [[2.5], classes]),
    ]
    path = f"{servable.path}/{warmup.WARMUP_FILE}"
    assert caplog.messages[0] == f"Starting to read warmup data for model at {path}"
    assert caplog.messages[1].startswith(
        f"Finished reading warmup data for model at {path}. Number of warmup records read: 4. Elapsed time "
        "(microseconds): "
    )


@pytest.mark.parametrize(("iterations", "times"), [(0, 1), (1, 1), (3, 3)])
def test_iterations(servable, iterations, times):
    write(servable, [predict_log(1), predict_log(2)])
    assert warmup.run(servable, iterations) == 2
    assert [answer["double"] for _, _, answer in servable.calls] == [2.0] * times + [4.0] * times


def test_only_the_outputs_that_the_request_asks_for(servable):
    log = predict_log(signature="texts", output_filter=["length"])
    del log.predict_log.request.inputs["x"]
    log.predict_log.request.inputs["text"].CopyFrom(tf.make_tensor_proto([b"abc"]))
    write(servable, [log])
    warmup.run(servable)
    assert [list(answer) for _, _, answer in servable.calls] == [["length"]]


def test_no_file(servable, caplog):
    caplog.set_level(logging.INFO)
    done = []
    assert warmup.run(servable, on_done=lambda *what: done.append(what)) == 0
    assert caplog.messages == [f"No warmup data file found at {servable.path}/{warmup.WARMUP_FILE}"]
    assert done == []


def test_what_is_reported(servable):
    done = []
    write(servable, [predict_log(), predict_log(), predict_log(signature="none")])
    error_of(warmup.run, servable, on_done=lambda *what: done.append(what))
    write(servable, [predict_log()])
    warmup.run(servable, on_done=lambda *what: done.append(what))
    paths, codes, seconds, records = zip(*done, strict=True)
    assert (paths, codes, records) == ((servable.path,) * 2, (Code.FAILED_PRECONDITION, Code.OK), (2, 1))
    assert all(0 < second < 30 for second in seconds)


def test_other_files_beside_it_are_nothing(servable):
    write(servable, [predict_log()])
    for name in ("saved_model_config.pb", "mlmd_uuid"):
        with tf.io.gfile.GFile(f"{servable.path}/assets.extra/{name}", "wb") as file:
            file.write(b"\xff\x00")
    assert warmup.run(servable) == 1


def test_an_empty_file_and_a_record_of_no_kind(servable):
    write(servable, [])
    assert warmup.run(servable) == 0
    write(servable, [b""])
    assert warmup.run(servable) == 1
    assert servable.calls == []


def test_a_request_that_fails(servable):
    write(servable, [predict_log(), predict_log(signature="none")])
    path = f"{servable.path}/{warmup.WARMUP_FILE}"
    assert error_of(warmup.run, servable) == (
        Code.FAILED_PRECONDITION,
        f'Serving signature key "none" not found. (warmup record 2 from {path})',
    )


def test_a_graph_that_fails(servable):
    log = predict_log(signature="fails")
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([-1.0]))
    write(servable, [log])
    code, message = error_of(warmup.run, servable)
    assert code == Code.INVALID_ARGUMENT
    assert "x must be positive" in message


@pytest.mark.parametrize(("kind", "number"), [("session_run_log", 5), ("predict_streamed_log", 7)])
def test_kinds_that_cannot_be_sent(servable, kind, number):
    log = prediction_log_pb2.PredictionLog()
    getattr(log, kind).SetInParent()
    write(servable, [log])
    code, message = error_of(warmup.run, servable)
    assert code == Code.UNIMPLEMENTED
    assert message.startswith(f"Unsupported log_type for warmup: {number}")


def test_a_record_that_is_no_message(servable):
    write(servable, [predict_log(), b"\xff\xff"])
    path = f"{servable.path}/{warmup.WARMUP_FILE}"
    assert error_of(warmup.run, servable) == (
        Code.INVALID_ARGUMENT,
        f"Failed to parse warmup record: 2 from {path}",
    )


@pytest.mark.parametrize("content", [b"these are not records, but a line of text\n", b"\x00" * 64])
def test_a_file_that_is_no_record_file(servable, content):
    write(servable, [])
    path = f"{servable.path}/{warmup.WARMUP_FILE}"
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content)
    code, message = error_of(warmup.run, servable)
    assert code == Code.DATA_LOSS
    assert message.endswith(f". Please verify your warmup data is in TFRecord format: {path}")


def test_a_file_cut_short(servable):
    write(servable, [predict_log(), predict_log()])
    path = f"{servable.path}/{warmup.WARMUP_FILE}"
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content[:-5])
    assert error_of(warmup.run, servable)[0] == Code.DATA_LOSS
    assert len(servable.calls) == 1


def test_a_thousand_records_and_one_more(servable):
    # Records of no kind cost nothing, and count.
    write(servable, [b""] * 1000)
    assert warmup.run(servable) == 1000
    write(servable, [b""] * 1001)
    path = f"{servable.path}/{warmup.WARMUP_FILE}"
    assert error_of(warmup.run, servable) == (
        Code.INVALID_ARGUMENT,
        f"Number of warmup records exceeds the maximum (1000) at {path}",
    )


def test_through_a_uri(tmp_path):
    folder = half_plus(tmp_path)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    write(types.SimpleNamespace(path=str(folder)), [log])
    session = saved_model.load(f"file://{folder}")
    servable = Servable(ServableId("m", 1), f"file://{folder}", session.signatures, session)
    assert warmup.run(servable) == 1
    servable.close()
