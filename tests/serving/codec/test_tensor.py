"""JSON values to tensors: types, strings, depth."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.codec.text import quote
from tests.support.rest_fakes import check_equal, decode, infos, refusal

FLOAT, DOUBLE, INT32, UINT8, STRING, INT64, BOOL, UINT64 = 1, 2, 3, 4, 7, 9, 10, 23


@pytest.mark.parametrize(
    ("dtype", "name", "good", "kind", "bad"),
    [
        (FLOAT, "float", [1, -2.5, 2**70], np.float32, [True, "1", None]),
        (DOUBLE, "double", [1, 0.1, 2**70], np.float64, [False, "1", None]),
        (INT32, "int32", [2**31 - 1, -(2**31)], np.int32, [1.0, 2**31, -(2**31) - 1, True, "1", None]),
        (INT64, "int64", [2**63 - 1, -(2**63)], np.int64, [1.0, 2**63, False]),
        (22, "uint32", [0, 2**32 - 1], np.uint32, [-1, 2**32]),
        (UINT64, "uint64", [0, 2**64 - 1], np.uint64, [-1, 2**64, 0.5]),
        (BOOL, "bool", [True, False], np.bool_, [0, 1, "true", None]),
        (STRING, "string", [], object, [1, 0.5, True, None]),
    ],
)
def test_types(dtype, name, good, kind, bad):
    check_equal(decode({"inputs": good}, infos(x=dtype))["x"], good, kind)
    for value in bad:
        message = refusal({"inputs": value}, infos(x=dtype)).message
        assert message.startswith(f"JSON Value: {quote(value)} Type: ")
        assert message.endswith(f" is not of expected type: {name}")


def test_small_integers_keep_the_low_bits_of_an_int32():
    check_equal(decode({"inputs": [300, -1, 7]}, infos(x=UINT8))["x"], [44, 255, 7], np.uint8)
    assert "expected type: int8" in refusal({"inputs": 2**31}, infos(x=6)).message


def test_floats_beyond_their_range_are_infinite():
    found = decode(b'{"inputs": [1e39, -1e39, NaN, Infinity]}', infos(x=FLOAT))["x"]
    np.testing.assert_array_equal(found, np.float32([np.inf, -np.inf, np.nan, np.inf]))


def test_strings():
    body = {"inputs": [["é", {"b64": base64.b64encode(b"\xff\x00").decode()}], ["", {"b64": "aGk"}]]}
    array = decode(body, infos(x=STRING))["x"]
    assert array.tolist() == [["é".encode(), b"\xff\x00"], [b"", b"hi"]]
    assert decode({"inputs": {"b64": "aGk="}}, infos(x=STRING))["x"].tolist() == b"hi"
    assert decode({"instances": [{"b64": "aGk="}]}, infos(b64=STRING))["b64"].tolist() == [b"hi"]
    assert decode(b'{"inputs": "\xff"}', infos(x=STRING))["x"].tolist() == b"\xff"


@pytest.mark.parametrize("text", ["a", "a===", "aGk==", "aGk=x", "-_-_", "é", "=", "aG\x00k"])
def test_what_is_no_base64(text):
    assert refusal({"inputs": {"b64": text}}, infos(x=STRING)).message == "Unable to base64 decode"


@given(st.binary())
def test_base64_with_and_without_padding_and_line_breaks(data):
    text = base64.encodebytes(data).decode()
    for form in (text, text.replace("\n", ""), text.replace("\n", "").rstrip("=")):
        assert decode({"inputs": {"b64": form}}, infos(x=STRING))["x"].tolist() == data


@pytest.mark.parametrize("depth", [65, 300, 10_000])
def test_more_dimensions_than_an_array_can_have(depth):
    nested = b"[" * depth + b"]" * depth
    for body in (b'{"inputs": ' + nested + b"}", b'{"instances": ' + nested + b"}"):
        assert refusal(body, infos(x=FLOAT)).message == "tensor parsing error: x"


def test_quoted_values_are_cut():
    message = refusal({"inputs": ["é" * 1000]}, infos(x=FLOAT)).message
    quoted = message.removeprefix("JSON Value: ").partition(" Type: ")[0]
    assert 250 < len(quoted.removesuffix("...").encode()) <= 256
    assert len(refusal({"inputs": "x", "more": list(range(10**5))}, infos(a=1, b=1)).message) < 400
