"""Predict requests and answers: JSON <-> tensors, with TF Serving's rules and words."""

import json

import numpy as np
import pytest

from serving.codec import predict as json_codec
from serving.codec.text import quote
from serving.errors import Code, ServingError
from tests.support.rest_fakes import check_equal, decode, infos, refusal

FLOAT, DOUBLE, INT32, STRING, INT64, HALF = 1, 2, 3, 7, 9, 19
IN_ROW = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: "


# --- before the model is looked at


@pytest.mark.parametrize("body", [b"[1, 2]", b'"x"', b"null", b"2.5"])
def test_the_top_level_is_an_object(body):
    with pytest.raises(ServingError) as caught:
        json_codec.read_request(body)
    assert caught.value.message == f"JSON Value: {quote(json.loads(body))} Is not object"


def test_signature_name():
    assert json_codec.read_request(b'{"signature_name": "a", "instances": [1]}').signature_name == "a"
    assert json_codec.read_request(b'{"instances": [1]}').signature_name == ""
    with pytest.raises(ServingError) as caught:
        json_codec.read_request(b'{"signature_name": 5}')
    assert caught.value.message == (
        'JSON Value: {\n    "signature_name": 5\n} not formatted correctly. '
        "'signature_name' key must be a string value."
    )


def test_unknown_signature():
    assert (
        json_codec.missing_signature("S").message == 'Serving signature name: "S" not found in signature def'
    )


# --- which form


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        (
            {"instances": 5},
            "JSON Value: {\n    \"instances\": 5\n} Expecting 'instances' to be an list/array",
        ),
        ({"instances": []}, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        (
            {"instances": [1], "inputs": [1]},
            'JSON Value: {\n    "instances": [\n        1\n    ],\n    "inputs": [\n        1\n    ]\n} '
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
    ],
)
def test_keys(body, message):
    error = refusal(body, infos(x=FLOAT))
    assert (error.code, error.message) == (Code.INVALID_ARGUMENT, message)


def test_other_keys_are_ignored():
    check_equal(decode({"instances": [1], "parameters": [{}], "id": 1}, infos(x=INT32))["x"], [1], np.int32)


def test_a_signature_without_inputs():
    assert refusal({"instances": [1]}, {}).message == "Failed to get input map for signature: DEFAULT"


# --- rows


def test_rows_of_one_input():
    check_equal(decode({"instances": [1, 2.5]}, infos(x=FLOAT))["x"], [1, 2.5], np.float32)
    check_equal(decode({"instances": [[[1], [2]]]}, infos(x=INT64))["x"], [[[1], [2]]], np.int64)
    check_equal(decode({"instances": [{"x": 1}, {"x": 2}]}, infos(x=INT32))["x"], [1, 2], np.int32)
    check_equal(decode({"instances": [[], []]}, infos(x=FLOAT))["x"], np.zeros((2, 0)), np.float32)


def test_rows_of_several_inputs():
    body = {"instances": [{"a": 1, "b": [1, 2]}, {"b": [3, 4], "a": 5}]}
    found = decode(body, infos(a=INT32, b=DOUBLE))
    check_equal(found["a"], [1, 5], np.int32)
    check_equal(found["b"], [[1, 2], [3, 4]], np.float64)


TWO = {"a": INT32, "b": FLOAT}


@pytest.mark.parametrize(
    ("rows", "inputs", "message"),
    [
        (
            [1, "a"],
            {"x": FLOAT},
            IN_ROW.format(1) + 'JSON Value: "a" Type: String is not of expected type: float',
        ),
        ([[1, 2], [3]], {"x": FLOAT}, IN_ROW.format(1) + "Expecting tensor size: 2 but got: 1"),
        ([[[1, 2]], [[1], [2]]], {"x": FLOAT}, IN_ROW.format(1) + "Expecting shape [1,2] but got: [2,1]"),
        (
            [[[1, 2], [3]]],
            {"x": FLOAT},
            IN_ROW.format(0) + "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            [[[1, 2], 3]],
            {"x": FLOAT},
            IN_ROW.format(0)
            + "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            [[1, [2]]],
            {"x": FLOAT},
            IN_ROW.format(0) + "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            [{"a": 1, "b": 2}, {"a": 1, "b": [2]}],
            TWO,
            "Failed to process element: 1 key: b of 'instances' list. "
            "Error: INVALID_ARGUMENT: Expecting shape [] but got: [1]",
        ),
        (
            [{"a": 1, "c": 2}],
            TWO,
            "Failed to process element: 0 key: c of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: c",
        ),
        (
            [{"a": 1}],
            TWO,
            "Failed to process element: 0 of 'instances' list. "
            'JSON object: {\n    "a": 1\n} keys must be equal to: a,b',
        ),
        ([{"x": 1}, 2], {"x": FLOAT}, "Expecting object but got list at item 1 of input list"),
        ([1, {"x": 1}], {"x": FLOAT}, "Expecting value/list but got object at item 1 of input list"),
        (
            [[1], [2]],
            TWO,
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map",
        ),
        (
            [1],
            {"x": HALF},
            "Failed to process element: 0 of 'instances' list. "
            "Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half",
        ),
        ([{"b64": "@"}], {"x": STRING}, IN_ROW.format(0) + "Unable to base64 decode"),
        (
            [{"b64": "aGk=", "more": 1}],
            {"x": STRING},
            "Failed to process element: 0 key: b64 of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: b64",
        ),
    ],
)
def test_errors_of_rows(rows, inputs, message):
    error = refusal({"instances": rows}, infos(**inputs))
    assert (error.code, error.message) == (Code.INVALID_ARGUMENT, message)


# --- columns


def test_columns():
    check_equal(decode({"inputs": 2.5}, infos(x=FLOAT))["x"], 2.5, np.float32)
    check_equal(decode({"inputs": [[1], [2]]}, infos(x=INT32))["x"], [[1], [2]], np.int32)
    found = decode({"inputs": {"a": 1, "b": [1, 2, 3], "extra": "x"}}, infos(**TWO))
    check_equal(found["a"], 1, np.int32)
    check_equal(found["b"], [1, 2, 3], np.float32)
    assert set(found) == {"a", "b"}


@pytest.mark.parametrize(
    ("value", "inputs", "message"),
    [
        (
            [1],
            TWO,
            "inputs is a plain value/list, but expecting an object as multiple input tensors required "
            "as per tensorinfo_map",
        ),
        ({"a": 1}, TWO, "Missing named input: b in 'inputs' object."),
        (
            [[1, 2], [3]],
            {"x": INT32},
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ([1, True], {"x": INT32}, "JSON Value: true Type: True is not of expected type: int32"),
        (
            {"x": {"y": 1}},
            {"x": STRING},
            'JSON Value: {\n    "y": 1\n} not formatted correctly for base64 data',
        ),
        (
            {"b64": "aGk="},
            {"x": FLOAT},
            'JSON Value: {\n    "b64": "aGk="\n} Type: Object is not of expected type: float',
        ),
    ],
)
def test_errors_of_columns(value, inputs, message):
    error = refusal({"inputs": value}, infos(**inputs))
    assert (error.code, error.message) == (Code.INVALID_ARGUMENT, message)


def test_a_type_without_a_json_form_is_unimplemented():
    error = refusal({"inputs": [1]}, infos(x=HALF))
    assert (error.code, error.message) == (Code.UNIMPLEMENTED, "Conversion of JSON Value: 1 to type: half")


# --- answers


def answer(outputs, is_row):
    return json.loads(json_codec.encode(outputs, is_row))


def test_answers_by_row():
    y = np.float32([[1, 2], [3, 4.5]])
    assert answer({"y": y}, True) == {"predictions": [[1.0, 2.0], [3.0, 4.5]]}
    both = {"y": y, "name": np.array([b"a", b"b"], object)}
    assert answer(both, True) == {"predictions": [{"y": [1, 2], "name": "a"}, {"y": [3, 4.5], "name": "b"}]}
    assert answer({"y": np.zeros((0, 3), np.float32)}, True) == {"predictions": []}
    assert json_codec.encode({"y": np.float32([2.5, 3])}, True) == b'{\n    "predictions": [2.5, 3.0]\n}'


def test_answers_by_column():
    assert answer({"y": np.float32(2.5)}, False) == {"outputs": 2.5}
    outputs = {"y": np.int64([[1]]), "flag": np.array(True)}
    assert answer(outputs, False) == {"outputs": {"y": [[1]], "flag": True}}


def test_outputs_whose_names_end_in_bytes_are_b64_objects():
    outputs = {"png_bytes": np.array([b"\xff"], object), "text": np.array([b"\xff"], object)}
    body = json_codec.encode(outputs, False)
    assert b'"png_bytes": [{"b64": "/w=="}]' in body
    assert b'"text": ["\xff"]' in body  # as TF Serving has it


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.float32(1)}, "Tensor name: y has no shape information "),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({"c": np.zeros(1, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_errors_of_row_answers(outputs, message):
    with pytest.raises(ServingError) as caught:
        json_codec.encode(outputs, True)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


def test_error_bodies_are_utf8_whatever_they_quote():
    assert json.loads(json_codec.error_body('a "b"\n\udcff é')) == {"error": 'a "b"\n? é'}
