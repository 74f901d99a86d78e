"""The dialect of JSON that requests are written in."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.codec import reader as json_reader
from serving.errors import Code, ServingError
from tests.support.serving_errors import code_of


def refusal(body):
    with pytest.raises(ServingError) as caught:
        json_reader.read(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "reason", "offset"),
    [
        (b" \n", "The document is empty.", 2),
        (b"{", "Missing a name for object member.", 1),
        (b'{"a":1,}', "Missing a name for object member.", 7),
        (b"{'a': 1}", "Missing a name for object member.", 1),
        (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
        (b'{"a": 1 "b": 2}', "Missing a comma or } after an object member.", 8),
        (b"[1 2]", "Missing a comma or ] after an array element.", 3),
        (b"[01]", "Missing a comma or ] after an array element.", 2),
        (b"[1,]", "Invalid value.", 3),
        (b"[1, // one\n]", "Invalid value.", 4),
        (b"[tru]", "Invalid value.", 4),
        (b"[infinity]", "Invalid value.", 1),
        (b"[Infi]", "Invalid value.", 5),
        (b"[+1]", "Invalid value.", 1),
        (b"[1.]", "Miss fraction part in number.", 3),
        (b"[1e+]", "Miss exponent in number.", 3),
        (b"[1, -1e999]", "Number too big to be stored in double.", 4),
        (b"[1, 2E+400]", "Number too big to be stored in double.", 4),
        (b"[" + b"9" * 400 + b"]", "Number too big to be stored in double.", 1),
        (b"[" + b"1" * 211 + b"e99]", "Number too big to be stored in double.", 1),
        (b"[" + b"9" * 5000 + b"]", "Number too big to be stored in double.", 1),
        (b'"\\ud83d alone"', "The surrogate pair in string is invalid.", 1),
        (b'["\\udc00"]', "The surrogate pair in string is invalid.", 2),
        (b'"ab\\x"', "Invalid escape character in string.", 3),
        (b'"\\u12G4"', "Incorrect hex digit after \\u escape in string.", 1),
        (b'"a\x01"', "Invalid encoding in string.", 2),
        (b'{"a": "b', "Missing a closing quotation mark in string.", 8),
        ('{"é": x}'.encode(), "Invalid value.", 7),  # offsets are bytes
        (b"\xef\xbb\xbf[x]", "Invalid value.", 4),
        (b"[" * 20_000, "Invalid value.", 20_000),
    ],
)
def test_reasons_and_offsets(body, reason, offset):
    assert refusal(body) == f"JSON Parse error: {reason} at offset: {offset}"


def test_an_empty_body_has_a_text_of_its_own():
    assert refusal(b"") == "JSON Parse error: The document is empty"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        ("Inf", math.inf),
        ("-Inf", -math.inf),
        ("1e308", 1e308),
        ("0.1e+0", 0.1),
        ("1e-999", 0.0),
        ("0e999", 0.0),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("-0", 0),
    ],
)
def test_numbers(text, value):
    for body in (f'{{"n": [{text}, 0]}}', f'{{"n": [{text}, 0], "i": Inf}}'):  # both readers
        number = json_reader.read(body.encode())["n"][0]
        assert number == value
        assert type(number) is type(value)


@pytest.mark.parametrize("text", ["NaN", "-NaN"])
def test_not_a_number(text):
    assert math.isnan(json_reader.read(f"[{text}]".encode())[0])


@pytest.mark.parametrize("rest", [b"garbage", b'{"second": 1}', b"\xff", b"\n\n]"])
def test_what_follows_the_first_value_is_ignored(rest):
    assert json_reader.read(b'{"a": [1]}' + rest) == {"a": [1]}
    assert json_reader.read(b'{"a": [Inf]}' + rest) == {"a": [math.inf]}


def test_a_byte_order_mark_is_no_content():
    assert json_reader.read(b"\xef\xbb\xbf [true, null]") == [True, None]


def test_bytes_that_are_no_utf8_survive():
    value = json_reader.read(b'["\xff\x00"]'.replace(b"\x00", b"\xc3\xa9"))[0]
    assert value.encode("utf-8", "surrogateescape") == b"\xff\xc3\xa9"


def test_escapes():
    assert json_reader.read(b'"\\ud83d\\ude00 \\\\ud800 \\u00e9\\n"') == "\U0001f600 \\ud800 é\n"


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_costs_no_recursion(brackets):
    opening, closing = brackets
    value = json_reader.read(opening * 100_000 + b"1" + closing * 100_000)
    depth = 0
    while not isinstance(value, int):
        value = value[0] if isinstance(value, list) else value["a"]
        depth += 1
    assert (depth, value) == (100_000, 1)


def test_brackets_without_end_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(json_reader, "MAX_DEPTH", 5000)
    assert refusal(b"[" * 6000 + b"]" * 6000) == "JSON Parse error: Nested too deep. at offset: 5001"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_reads_what_the_standard_library_writes(value, ascii_only, indent):
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert json_reader.read(body) == value
    # The exact reader, reached through the one word that the fast one does not know.
    assert json_reader.read(b"[Inf, " + body + b"]") == [math.inf, value]


@settings(max_examples=300)
@given(
    st.binary()
    | st.text(alphabet='[]{},:"\\ue+-.01dINafinty \t').map(str.encode)
    | values.map(lambda value: json.dumps(value).encode()).flatmap(
        lambda body: st.integers(0, len(body)).map(lambda end: body[:end])
    )
)
def test_any_bytes_give_a_value_or_a_serving_error(body):
    assert code_of(lambda: json_reader.read(body)) in (Code.OK, Code.INVALID_ARGUMENT)
