"""What a version checks before and after it runs: TensorFlow Serving's answers, word for word."""

import time

import numpy as np
import pytest
import tensorflow as tf

from serving.errors import Code, ServingError, from_tensorflow
from serving.model import session as saved_model
from serving.model.servable import Servable
from serving.model.tensors import TensorInputs, to_proto
from serving.specs import ServableId
from tests.support.saved_models import example
from tests.support.serving_errors import error_of

A = np.array([[1, 2]], np.float32)
B = np.array([[10, 20]], np.int32)


def predict(servable, signature="", output_filter=(), deadline=None, **inputs):
    return servable.predict(signature, lambda _: inputs, output_filter, deadline)


def test_all_outputs_by_alias(servable):
    answer = predict(servable, a=A, b=B)
    assert {alias: array.tolist() for alias, array in answer.items()} == {"sum": [[11, 22]], "rows": [1]}


def test_only_the_outputs_asked_for(servable):
    assert list(predict(servable, output_filter=["rows"], a=A, b=B)) == ["rows"]


def test_an_unknown_signature(servable):
    assert error_of(lambda: predict(servable, "absent", x=A)) == (
        Code.FAILED_PRECONDITION,
        'Serving signature key "absent" not found.',
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"a": A, "b": B, "z": A, "c": A},
            "input size does not match signature: 4!=2 len({a,b,c,z}) != len({a,b}). "
            "Sent extra: {c,z}. Missing but required: {}.",
        ),
        (
            {"a": A},
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
            "Missing but required: {b}.",
        ),
        (
            {},
            "input size does not match signature: 0!=2 len({}) != len({a,b}). Sent extra: {}. "
            "Missing but required: {a,b}.",
        ),
    ],
)
def test_a_wrong_number_of_inputs(servable, inputs, message):
    assert error_of(lambda: predict(servable, **inputs)) == (Code.INVALID_ARGUMENT, message)


def test_a_wrong_name(servable):
    code, message = error_of(lambda: predict(servable, a=A, c=B))
    assert code == Code.INVALID_ARGUMENT
    feed = servable.signatures["serving_default"].inputs["b"].name
    assert message == (
        f"Signature input alias: b(feed name: {feed}) not found in request and no default value provided. "
        "Inputs expected to be in the request {a,b}, or default input alias set: {}"
    )


def test_a_tensor_that_does_not_parse(servable):
    broken = to_proto(A)
    broken.tensor_content = b"abc"
    inputs = TensorInputs({"a": broken, "b": to_proto(B)})
    assert error_of(lambda: servable.predict("", lambda _: inputs)) == (
        Code.INVALID_ARGUMENT,
        "tensor parsing error: a",
    )


def test_a_wrong_type(servable):
    assert error_of(lambda: predict(servable, "scalar", x=np.array(b"a", object))) == (
        Code.INVALID_ARGUMENT,
        "Expects arg[0] to be float but string is provided",
    )


@pytest.mark.parametrize(
    ("output_filter", "message"),
    [
        (
            ["sum", "none"],
            "output tensor alias not found in signature: none Outputs expected to be in the set {rows,sum}.",
        ),
        (["sum", "sum"], "duplicate output tensor alias: sum"),
    ],
)
def test_a_wrong_output_filter(servable, output_filter, message):
    assert error_of(lambda: predict(servable, output_filter=output_filter, a=A, b=B)) == (
        Code.INVALID_ARGUMENT,
        message,
    )


def test_inputs_are_looked_at_before_the_output_filter(servable):
    assert "input size" in error_of(lambda: predict(servable, output_filter=["none"], a=A))[1]


def test_predict_works_on_classify_signatures_unless_the_check_is_on(servable, versions):
    examples = np.array([example(x=0.25)], object)
    assert predict(servable, "classify", inputs=examples)["scores"].tolist() == [[0.25, 0.75]]
    strict = Servable(
        servable.id, "", {"odd": _with_method(servable, "mine")}, servable._runner, check_method_name=True
    )
    code, message = error_of(lambda: predict(strict, "odd", a=A, b=B))
    assert code == Code.INVALID_ARGUMENT
    assert message.endswith("Was: mine")


def _with_method(servable, method):
    copy = type(servable.signatures["serving_default"])()
    copy.CopyFrom(servable.signatures["serving_default"])
    copy.method_name = method
    return copy


def test_defaults_fill_what_a_request_leaves_out(tmp_path):
    module = tf.Module()
    module.scaled = tf.function(
        lambda x, factor=3.0: {"y": x * factor},
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([], tf.float32, name="factor"),
        ],
    )
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.scaled)
    session = saved_model.load(str(tmp_path / "1"))
    signature = session.signatures["serving_default"]
    # tf.saved_model.save keeps defaults in some cases only; a server reads them wherever they came from.
    signature.defaults["factor"].CopyFrom(tf.make_tensor_proto(3.0))
    servable = Servable(ServableId("m", 1), str(tmp_path), session.signatures, session)
    x = np.array([1, 2], np.float32)
    assert predict(servable, x=x)["y"].tolist() == [3, 6]
    assert predict(servable, x=x, factor=np.float32(5))["y"].tolist() == [5, 10]
    assert error_of(lambda: predict(servable, factor=np.float32(5)))[1] == (
        f"Signature input alias: x(feed name: {signature.inputs['x'].name}) not found in request and no "
        "default value provided. Inputs expected to be in the request {x}, or default input alias set: "
        "{factor}"
    )
    assert error_of(lambda: predict(servable, x=x, other=x))[1] == (
        "Inputs contains invalid name. Used request inputs: {x}, request input: {other,x}"
    )
    servable.close()


def test_a_deadline_reaches_the_session(servable):
    late = time.monotonic() - 1
    assert error_of(lambda: predict(servable, deadline=late, a=A, b=B))[0] == Code.DEADLINE_EXCEEDED


def test_errors_of_tensorflow_keep_their_code():
    error = from_tensorflow(tf.errors.ResourceExhaustedError(None, None, "too much"))
    assert (error.code, error.message, error.http_status) == (Code.RESOURCE_EXHAUSTED, "too much", 429)


def test_grpc_details_are_cut():
    assert ServingError(Code.INTERNAL, "a" * 1024).grpc_details == "a" * 1024
    assert ServingError(Code.INTERNAL, "a" * 1025).grpc_details == "a" * 1024 + "...TRUNCATED"
