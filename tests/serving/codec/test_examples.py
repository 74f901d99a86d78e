"""Classify and regress bodies: JSON <-> tf.Examples and results; status and metadata bodies."""

import json
import math

import numpy as np
import pytest
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.protobuf import meta_graph_pb2

from serving.codec import examples as json_examples
from serving.codec import predict as json_codec
from serving.codec import status as json_status
from serving.errors import Code, ServingError
from serving.specs import ModelSpec, State, VersionStatus
from tests.support.rest_fakes import half_plus_two_signature


def decode(document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return [
        Example.FromString(data).features.feature
        for data in json_examples.decode(json_codec.read_request(body))
    ]


def refusal(document):
    with pytest.raises(ServingError) as caught:
        decode(document)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_kinds_of_features():
    example = {
        "f": [0.5, 2.0],
        "i": [1, True, False],
        "s": ["é", {"b64": "/w=="}],
        "one": 7,
        "none": [],
    }
    (features,) = decode({"examples": [example]})
    assert features["f"].float_list.value == [0.5, 2.0]
    assert features["i"].int64_list.value == [1, 1, 0]
    assert features["s"].bytes_list.value == ["é".encode(), b"\xff"]
    assert features["one"].int64_list.value == [7]
    assert features["none"].WhichOneof("kind") is None


def test_a_context_is_part_of_every_example_and_gives_way_to_it():
    found = decode({"context": {"a": 1, "b": 1}, "examples": [{"b": 2}, {"c": 3.5}]})
    assert [features["a"].int64_list.value for features in found] == [[1], [1]]
    assert [features["b"].int64_list.value for features in found] == [[2], [1]]
    assert found[1]["c"].float_list.value == [3.5]


def test_numbers_beyond_their_range():
    (features,) = decode(
        b'{"examples": [{"f": [1e300, -1e300, NaN], "big": 1e19, "huge": 18446744073709551616}]}'
    )
    values = features["f"].float_list.value
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])
    assert features["big"].float_list.value == [float(np.float32(1e19))]
    assert features["huge"].float_list.value == [2.0**64]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        (
            {"examples": 1},
            "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
        ),
        ({"examples": []}, "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [[{}]]}, "Example must be JSON object but got JSON Array"),
        ({"context": "c", "examples": [{}]}, "Example must be JSON object but got JSON String"),
        ({"examples": [{"f": None}]}, "Feature: f has element with unexpected JSON type: Null"),
        ({"examples": [{"f": [[1]]}]}, "Feature: f has element with unexpected JSON type: Array"),
        ({"examples": [{"f": {"b64": 1}}]}, "Feature: f has element with unexpected JSON type: Object"),
        ({"examples": [{"f": [1, 2.5]}]}, "Unexpected element type in feature: f expecting type: int64"),
        ({"examples": [{"f": [1.5, 2]}]}, "Unexpected element type in feature: f expecting type: float"),
        ({"examples": [{"f": ["a", True]}]}, "Unexpected element type in feature: f expecting type: bytes"),
        (
            {"examples": [{"f": 2**63}]},
            "Feature: f has uint64_t element. Only int64_t is supported.",
        ),
        ({"examples": [{"f": {"b64": "!"}}]}, "Unable to base64 decode"),
    ],
)
def test_errors(document, message):
    assert refusal(document) == message


def test_results():
    rows = [[(b"cat", 0.1), (b'd"g', 1.0)], [(b"", 0.0)], []]
    assert json.loads(json_examples.encode_classifications(rows)) == {
        "results": [[["cat", 0.1], ['d"g', 1.0]], [["", 0.0]], []]
    }
    assert json_examples.encode_regressions([2.5, 3.0]) == b'{\n    "results": [2.5, 3.0]\n}'


def test_status_body():
    statuses = [
        VersionStatus(2, State.END, Code.NOT_FOUND, "gone"),
        VersionStatus(1, State.AVAILABLE),
    ]
    assert json.loads(json_status.status_body(statuses)) == {
        "model_version_status": [
            {"version": "2", "state": "END", "status": {"error_code": "NOT_FOUND", "error_message": "gone"}},
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
        ]
    }


def test_metadata_body():
    init = meta_graph_pb2.SignatureDef()
    signatures = {"serving_default": half_plus_two_signature(), "__saved_model_init_op": init}
    found = json.loads(json_status.metadata_body(ModelSpec("m", 123), signatures))
    assert found["model_spec"] == {"name": "m", "signature_name": "", "version": "123"}
    assert found["metadata"]["signature_def"]["signature_def"] == {
        "__saved_model_init_op": {"inputs": {}, "outputs": {}, "method_name": "", "defaults": {}},
        "serving_default": {
            "inputs": {
                "x": {
                    "name": "x:0",
                    "dtype": "DT_FLOAT",
                    "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
                }
            },
            "outputs": {
                "y": {"name": "y:0", "dtype": "DT_FLOAT", "tensor_shape": {"dim": [], "unknown_rank": True}}
            },
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        },
    }
