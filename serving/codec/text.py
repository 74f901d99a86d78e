"""Writes tensors as JSON text with TF Serving's formats of numbers, strings and bytes.

A float is written with six significant digits where these read back to the same value, else with as many
as every value needs (9 for float32, 17 for float64), and with `.0` where the text would look like an
integer: 2.5, 3.0, 9e+06, 717887168.0 (tensorflow_serving/util/json_tensor.cc).
"""

from __future__ import annotations

import binascii
import itertools
import json
import json.encoder
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.errors import ServingError, invalid

SHORT_DIGITS = 6
VALUES_A_CALL = 20_000
FULL_DIGITS = {4: 9, 8: 17}  # by the bytes of a value
# numpy's name -> TensorFlow's, where they differ
TYPE_NAMES = {"float16": "half"}
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
BOOLEANS = ("false", "true")
QUOTED_BYTES = 256
CUT = "..."
INDENTATION = "    "


def number_text(value: float) -> str:
    """The text of one double."""
    return float_texts(np.asarray([value], np.float64))[0]


def float_texts(values: np.ndarray) -> list[str]:
    """The text of every value, in row-major order.

    Args:
      values: float32 or float64, of any shape.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    finite = np.isfinite(flat)
    if finite.all():
        return _finite_texts(flat)
    names = iter(_finite_texts(flat[finite]))
    return [
        next(names) if ordinary else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        for ordinary, value in zip(finite.tolist(), flat.tolist(), strict=True)
    ]


def _finite_texts(flat: np.ndarray) -> list[str]:
    texts = _formatted(flat, SHORT_DIGITS)
    with np.errstate(over="ignore"):  # 3.40282e+38 is the short form of a number and larger than any float32
        read_back = np.array(list(map(float, texts)), np.float64).astype(flat.dtype)
    inexact = np.flatnonzero(read_back != flat)
    for index, text in zip(
        inexact.tolist(), _formatted(flat[inexact], FULL_DIGITS[flat.itemsize]), strict=True
    ):
        texts[index] = text
    for index in np.flatnonzero(flat == np.trunc(flat)).tolist():  # only these can look like integers
        if "." not in texts[index] and "e" not in texts[index]:
            texts[index] += ".0"
    return texts


def _formatted(flat: np.ndarray, digits: int) -> list[str]:
    """Formats all values in few calls, between which other threads can run."""
    texts: list[str] = []
    for begin in range(0, flat.size, VALUES_A_CALL):
        part = tuple(flat[begin : begin + VALUES_A_CALL].tolist())
        texts += (f"%.{digits}g " * len(part) % part).split()
    return texts


def string_text(value: bytes) -> str:
    """A JSON string; bytes that are not UTF-8 pass through (as lone surrogates), as in TF Serving."""
    return json.encoder.encode_basestring(value.decode("utf-8", "surrogateescape"))


def bytes_text(value: bytes) -> str:
    """`{"b64": ".."}`."""
    return '{"b64": "' + binascii.b2a_base64(value, newline=False).decode("ascii") + '"}'


def array_text(array: np.ndarray, as_bytes: bool = False) -> str:
    """The text of a whole tensor: a bare value for rank 0, else nested lists."""
    texts = row_texts(array, as_bytes)
    return f"[{', '.join(texts)}]" if array.ndim else texts[0]


def row_texts(array: np.ndarray, as_bytes: bool = False) -> list[str]:
    """The text of each element along the first dimension; for rank 0 that of the value."""
    texts = element_texts(array, as_bytes)
    for axis in range(array.ndim - 1, 0, -1):
        size, count = array.shape[axis], math.prod(array.shape[:axis])
        texts = [f"[{', '.join(texts[i * size : (i + 1) * size])}]" for i in range(count)]
    return texts


def element_texts(array: np.ndarray, as_bytes: bool = False) -> list[str]:
    """The text of each element, in row-major order.

    Args:
      array: float32, float64, an integer type but uint16, bool, or bytes objects.
      as_bytes: whether strings are written as b64 objects.

    Raises:
      ServingError: INVALID_ARGUMENT for a type that TF Serving cannot write either.
    """
    values: Any = array.reshape(-1)
    name = array.dtype.name
    if name in ("float32", "float64"):
        return float_texts(values)
    if name in INTEGERS:
        return list(map(str, values.tolist()))
    if name == "bool":
        return [BOOLEANS[value] for value in values.tolist()]
    if name == "object":
        return list(map(bytes_text if as_bytes else string_text, values.tolist()))
    raise invalid(f"Failed to write JSON value for tensor type: {TYPE_NAMES.get(name, name)}")


def quote(value: object) -> str:
    """A value as indented JSON, cut after 256 bytes; no more of it is formatted than that."""
    pieces, length = [], 0
    for piece in _pieces(value):
        pieces.append(piece)
        length += len(piece)
        if length > QUOTED_BYTES:
            break
    text = "".join(pieces)
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) <= QUOTED_BYTES:
        return text
    return encoded[:QUOTED_BYTES].decode("utf-8", "ignore") + CUT


def type_name(value: object) -> str:
    """RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, (int, float)):
        return "Number"
    if isinstance(value, str):
        return "String"
    return "Array" if isinstance(value, list) else "Object"


def format_error(value: object, reason: str) -> ServingError:
    """The error `JSON Value: V REASON`."""
    return invalid(f"JSON Value: {quote(value)} {reason}")


def _pieces(value: object) -> Iterator[str]:
    """The text of a value in pieces, without recursion: bodies may be nested ten thousand deep."""
    stack: list[Iterator[Any]] = [iter([("", value)])]
    closers = [""]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            closer = closers.pop()
            if closer:
                yield f"\n{INDENTATION * (len(stack) - 1)}{closer}"
            continue
        before, item = entry
        yield before
        if not isinstance(item, (list, dict)) or not item:
            yield _scalar(item)
            continue
        yield "[" if isinstance(item, list) else "{"
        stack.append(_members(item, f"\n{INDENTATION * len(stack)}"))
        closers.append("]" if isinstance(item, list) else "}")


def _members(container: list[Any] | dict[str, Any], line: str) -> Iterator[tuple[str, Any]]:
    """Every element of a container with the text before it."""
    commas = itertools.chain(("",), itertools.repeat(","))
    if isinstance(container, list):
        return ((comma + line, item) for comma, item in zip(commas, container, strict=False))
    return (
        (f"{comma}{line}{_string(key)}: ", item)
        for comma, (key, item) in zip(commas, container.items(), strict=False)
    )


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, (list, dict)):
        return "[]" if isinstance(value, list) else "{}"
    return json.dumps(value)


def _string(value: str) -> str:
    return json.encoder.encode_basestring(value[: QUOTED_BYTES + 1])
