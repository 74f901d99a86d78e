"""Classify, Regress and MultiInference: what they ask of a signature, and their answers, word for word."""

import numpy as np
import pytest

from serving.core import Core, InferenceTask
from serving.errors import Code
from serving.model import inference
from serving.model.inference import CLASSIFY_METHOD, REGRESS_METHOD
from serving.specs import ModelSpec
from tests.support.saved_models import example
from tests.support.serving_errors import error_of

A = np.array([[1, 2]], np.float32)
B = np.array([[10, 20]], np.int32)


EXAMPLES = [example(x=0.25), example(x=1.0)]


def test_classify(servable):
    assert servable.classify("classify", EXAMPLES) == [
        [(b"yes", 0.25), (b"no", 0.75)],
        [(b"yes", 1.0), (b"no", 0.0)],
    ]


def test_regress(servable):
    assert servable.regress("regress", EXAMPLES) == [2.5, 10.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.classify("absent", EXAMPLES), "No signature was found with the name: absent"),
        (lambda s: s.regress("absent", EXAMPLES), "No signature was found with the name: absent"),
        (lambda s: s.classify("", EXAMPLES), "Expected one input Tensor."),
        (lambda s: s.classify("classify", []), "Input is empty."),
        (lambda s: s.regress("classify", EXAMPLES), "Expected one output Tensor."),
    ],
)
def test_wrong_classify_and_regress_calls(servable, call, message):
    assert error_of(lambda: call(servable)) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("call", "start"),
    [
        (
            lambda s: s.classify("scalar", EXAMPLES),
            "No classification inputs found in SignatureDef: inputs {",
        ),
        (lambda s: s.regress("scalar", EXAMPLES), "No regression inputs found in SignatureDef: inputs {"),
        (
            lambda s: s.classify("regress", EXAMPLES),
            'Expected classification signature outputs to contain at least one of "classes" or "scores". ',
        ),
    ],
)
def test_errors_that_show_the_signature(servable, call, start):
    code, message = error_of(lambda: call(servable))
    assert code == Code.INVALID_ARGUMENT
    assert message.startswith(start)
    assert "\n" not in message


CLASSES = np.array([[b"a", b"b"]], object)
SCORES = np.array([[0.5, 0.25]], np.float32)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"classes": CLASSES[0]}, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ({"scores": SCORES[0]}, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ({"scores": np.repeat(SCORES, 3, 0)}, "Expected scores output batch size of 1. Got: 3"),
        ({"classes": SCORES}, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        (
            {"classes": CLASSES, "scores": SCORES[:, :1]},
            "Tensors class and score should match in dim_size(1). Got 2 vs. 1",
        ),
    ],
)
def test_classify_answers_of_a_wrong_shape(outputs, message):
    assert error_of(lambda: inference.classifications(outputs, 1)) == (Code.INVALID_ARGUMENT, message)


def test_classes_alone_and_scores_alone():
    assert inference.classifications({"classes": CLASSES}, 1) == [[(b"a", 0.0), (b"b", 0.0)]]
    assert inference.classifications({"scores": SCORES}, 1) == [[(b"", 0.5), (b"", 0.25)]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros([2, 2], np.float32),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
        ),
        (np.zeros([3], np.float32), "Input batch size did not match output batch size: 2 vs. 3"),
        (np.zeros([2], np.int64), "Expected output Tensor of DT_FLOAT. Got: DT_INT64"),
    ],
)
def test_regress_answers_of_a_wrong_shape(array, message):
    assert error_of(lambda: inference.regressions(array, 2)) == (Code.INVALID_ARGUMENT, message)


def test_regress_takes_a_column():
    assert inference.regressions(np.array([[1], [2]], np.float32), 2) == [1, 2]


@pytest.fixture
def core(versions):
    versions.runs.clear()
    return Core(versions)


def task(signature, method, name="kinds"):
    return InferenceTask(ModelSpec(name, signature_name=signature), method)


def test_multi_inference_runs_once_and_keeps_the_order(core, versions):
    tasks = [task("regress", REGRESS_METHOD), task("classify", CLASSIFY_METHOD)]
    regression, classification = core.multi_inference(tasks, EXAMPLES)
    assert regression.values == [2.5, 10]
    assert regression.spec == ModelSpec("kinds", 7, None, "regress")
    assert classification.rows[0] == [(b"yes", 0.25), (b"no", 0.75)]
    assert versions.runs == ["MultiInference"]


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ([], Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (
            [task("regress", REGRESS_METHOD), task("", REGRESS_METHOD, "")],
            Code.INVALID_ARGUMENT,
            "Found ModelSpec with an empty model name.",
        ),
        (
            [task("regress", REGRESS_METHOD), task("classify", CLASSIFY_METHOD, "other")],
            Code.INVALID_ARGUMENT,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            [task("regress", REGRESS_METHOD)] * 2,
            Code.INVALID_ARGUMENT,
            "Duplicate evaluation of signature: regress",
        ),
        (
            [task("absent", REGRESS_METHOD)],
            Code.INVALID_ARGUMENT,
            "Requested signature not found in model graph: absent",
        ),
        (
            [task("", "tensorflow/serving/predict")],
            Code.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            [task("regress", REGRESS_METHOD, "absent")],
            Code.NOT_FOUND,
            "Servable not found for request: Latest(absent)",
        ),
    ],
)
def test_wrong_multi_inference_calls(core, tasks, code, message):
    assert error_of(lambda: core.multi_inference(tasks, EXAMPLES)) == (code, message)


def test_answers_name_the_version_and_the_signature(core):
    by_label = ModelSpec("kinds", label="stable")
    answer = core.predict(by_label, lambda _: {"a": A, "b": B})
    assert answer.spec == ModelSpec("kinds", 7, None, "serving_default")
    assert core.metadata(by_label).spec == ModelSpec("kinds", 7)


def test_models_lists_states(core):
    assert [(s.version, s.state.name) for s in core.models()["kinds"]] == [(7, "AVAILABLE")]


def test_runs_are_observed_under_tf_serving_s_names(core, versions):
    core.predict(ModelSpec("kinds"), lambda _: {"a": A, "b": B})
    core.classify(ModelSpec("kinds", signature_name="classify"), EXAMPLES)
    core.regress(ModelSpec("kinds", signature_name="regress"), EXAMPLES)
    assert versions.runs == ["Predict", "Classify", "Regress"]
