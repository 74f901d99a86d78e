"""Numbers, strings and bytes as answers show them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.codec import text as json_text
from serving.errors import ServingError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.5, "2.5"),
        (3, "3.0"),
        (2.1, "2.1"),
        (999999, "999999.0"),
        (1000000, "1e+06"),
        (9e6, "9e+06"),
        (3e-5, "3e-05"),
        (6e-7, "6e-07"),
        (717887168, "717887168.0"),
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (-0.0, "-0.0"),
        (1e-45, "1.4013e-45"),
        (3.4028235e38, "3.40282347e+38"),
        (np.nan, "NaN"),
        (np.inf, "Infinity"),
        (-np.inf, "-Infinity"),
    ],
)
def test_float32(value, text):
    assert json_text.float_texts(np.array([value], np.float32)) == [text]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.1, "2.1"),
        (1 / 3, "0.33333333333333331"),
        (123456789.0, "123456789.0"),
        (1e300, "1e+300"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (2.0**60, "1.152921504606847e+18"),
    ],
)
def test_float64(value, text):
    assert json_text.float_texts(np.array([value])) == [text]
    assert json_text.number_text(value) == text


def test_non_finite_values_keep_their_places():
    texts = json_text.float_texts(np.float32([1, np.nan, 0.5, np.inf, -np.inf, 7]))
    assert texts == ["1.0", "NaN", "0.5", "Infinity", "-Infinity", "7.0"]


@given(st.lists(st.floats(width=32)))
def test_float32_reads_back(values):
    array = np.array(values, np.float32)
    texts = json_text.float_texts(array)
    np.testing.assert_array_equal(np.array(list(map(float, texts)), np.float64).astype(np.float32), array)
    for text in texts:
        assert "." in text or "e" in text or text in ("NaN", "Infinity", "-Infinity")


@given(st.lists(st.floats()))
def test_float64_reads_back(values):
    np.testing.assert_array_equal(list(map(float, json_text.float_texts(np.array(values)))), values)


@pytest.mark.parametrize("kind", json_text.INTEGERS)
def test_integers(kind):
    limits = np.iinfo(kind)
    assert json_text.element_texts(np.array([limits.min, limits.max], kind)) == [
        str(limits.min),
        str(limits.max),
    ]


def test_many_values_keep_their_order():
    values = np.arange(3 * json_text.VALUES_A_CALL + 5, dtype=np.float32) / 8
    assert list(map(float, json_text.float_texts(values))) == values.tolist()


def test_booleans():
    assert json_text.array_text(np.array([[True, False]])) == "[[true, false]]"


def test_strings_and_bytes():
    array = np.array([b'quote " \\ \n', "é".encode(), b"\x00\x1f", b"\xff"], object)
    texts = json_text.element_texts(array)
    assert texts[:2] == ['"quote \\" \\\\ \\n"', '"é"']
    assert json.loads(texts[2]) == "\x00\x1f"
    assert texts[3].encode("utf-8", "surrogateescape") == b'"\xff"'
    assert json_text.element_texts(array[3:], as_bytes=True) == ['{"b64": "/w=="}']


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (0, 2), (2, 0, 3), (2, 3, 4)])
def test_shapes(shape):
    array = np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)
    assert json.loads(json_text.array_text(array)) == array.tolist()
    if shape:
        assert [json.loads(text) for text in json_text.row_texts(array)] == array.tolist()


@pytest.mark.parametrize(
    ("kind", "name"),
    [(np.complex64, "complex64"), (np.complex128, "complex128"), (np.float16, "half"), (np.uint16, "uint16")],
)
def test_types_without_a_form(kind, name):
    with pytest.raises(ServingError, match=f"^Failed to write JSON value for tensor type: {name}$"):
        json_text.array_text(np.zeros(1, kind))
