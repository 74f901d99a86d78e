"""Converts nested JSON lists to NumPy arrays of TensorFlow's types.

In two steps: `fast_array` flattens the lists level by level with built-ins that run in C and converts all
leaves in one call; where that fails, `check` walks the values one by one, in TF Serving's order
(tensorflow_serving/util/json_tensor.cc), to find the error for the client.
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from serving.codec.text import format_error, quote, type_name
from serving.errors import Code, ServingError, invalid

# tensorflow/core/framework/types.proto: number -> the name that TensorFlow's messages show
FLOAT, DOUBLE, STRING, BOOL = 1, 2, 7, 10
TYPE_NAMES = {
    1: "float", 2: "double", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64",
    9: "int64", 10: "bool", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16",
    16: "quint16", 17: "uint16", 18: "complex128", 19: "half", 20: "resource", 21: "variant", 22: "uint32",
    23: "uint64", 24: "float8_e5m2", 25: "float8_e4m3fn", 29: "int4", 30: "uint4",
}  # fmt: skip
INT32_RANGE = (-(2**31), 2**31 - 1)
# The small types take whatever an int32 holds, and keep its low bits.
INTEGER_TYPES = {
    3: (np.int32, INT32_RANGE),
    4: (np.uint8, INT32_RANGE),
    5: (np.int16, INT32_RANGE),
    6: (np.int8, INT32_RANGE),
    9: (np.int64, (-(2**63), 2**63 - 1)),
    22: (np.uint32, (0, 2**32 - 1)),
    23: (np.uint64, (0, 2**64 - 1)),
}
NUMPY_TYPES: dict[int, Any] = {
    FLOAT: np.float32,
    DOUBLE: np.float64,
    STRING: object,
    BOOL: np.bool_,
    **{number: kind for number, (kind, _) in INTEGER_TYPES.items()},
}
B64_KEY = "b64"
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
MAX_RANK = 64  # NumPy's; TensorFlow's is 254


def is_b64(value: object) -> TypeGuard[dict[str, str]]:
    """Whether a value is binary data: an object with the single key `b64` and a string as its value."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(B64_KEY), str)


def decode_b64(text: str) -> bytes:
    """Decodes base64 of the standard alphabet; padding may be missing, white space is skipped.

    Raises:
      ServingError: INVALID_ARGUMENT `Unable to base64 decode`.
    """
    try:
        data = binascii.a2b_base64(text)
    except ValueError:  # binascii.Error too
        data = b""
    # The decoder drops what is not of its alphabet; it dropped nothing when the lengths agree.
    if text and len(data) == len(text) // 4 * 3 - text.count("=", -2) and not len(text) % 4:
        return data
    text = "".join(text.split()).replace(".", "=")
    bare = text.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    if not BASE64.fullmatch(text) or len(bare) % 4 == 1 or text not in (bare, padded):
        raise invalid("Unable to base64 decode")
    return binascii.a2b_base64(padded)


def shape_of(value: object) -> list[int]:
    """The shape of a value by its first elements; [] for a scalar."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def to_array(value: object, dtype: int, name: str) -> np.ndarray:
    """Converts a value to a whole tensor (columnar form).

    Args:
      value: a scalar, nested lists, or b64 objects in either.
      dtype: number of the type in types.proto.
      name: the input's name.

    Raises:
      ServingError: INVALID_ARGUMENT or UNIMPLEMENTED, TF Serving's text.
    """
    array = fast_array(value, dtype)
    if array is None:
        check(value, shape_of(value), dtype)
        raise invalid(f"tensor parsing error: {name}")  # valid, but with more dimensions than NumPy allows
    return array


def fast_array(value: object, dtype: int) -> np.ndarray | None:
    """Converts a value to an array; None when anything is wrong with it.

    The first dimension of a list of rows is the batch; each row's shape must then be the first row's,
    which is what a tensor's rule amounts to.
    """
    shape = shape_of(value)
    if len(shape) > MAX_RANK:
        return None
    leaves: list[Any] = [value]
    for size in shape:
        if set(map(type, leaves)) - {list} or set(map(len, leaves)) - {size}:
            return None
        leaves = list(itertools.chain.from_iterable(leaves))
    flat = _leaves_array(leaves, dtype)
    return None if flat is None else flat.reshape(shape)


def _leaves_array(leaves: list[Any], dtype: int) -> np.ndarray | None:
    kinds = set(map(type, leaves))
    if dtype not in NUMPY_TYPES:
        return None if kinds else np.zeros(0, np.float32)
    if dtype == STRING:
        return _strings_array(leaves) if kinds <= {str, dict} else None
    if dtype == BOOL:
        return np.array(leaves, np.bool_) if kinds <= {bool} else None
    if dtype in (FLOAT, DOUBLE):
        if not kinds <= {int, float}:
            return None
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            return np.array(leaves, np.float64).astype(NUMPY_TYPES[dtype])
    kind, (low, high) = INTEGER_TYPES[dtype]
    if not kinds <= {int} or (leaves and (min(leaves) < low or max(leaves) > high)):
        return None
    return np.array(leaves, np.uint64 if low == 0 else np.int64).astype(kind)


def _strings_array(leaves: Sequence[Any]) -> np.ndarray | None:
    array = np.empty(len(leaves), object)
    try:
        array[:] = [
            leaf.encode("utf-8", "surrogateescape") if isinstance(leaf, str) else _binary(leaf)
            for leaf in leaves
        ]
    except ServingError:
        return None
    return array


def _binary(value: dict[str, Any]) -> bytes:
    if not is_b64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    return decode_b64(value[B64_KEY])


def check(value: object, shape: Sequence[int], dtype: int) -> int:
    """Checks a value element by element, depth first.

    Args:
      value: a scalar or nested lists.
      shape: `shape_of(value)`.
      dtype: number of the leaves' type.

    Returns:
      The number of leaves.

    Raises:
      ServingError: for the first element that does not fit, TF Serving's text.
    """
    rank, count = len(shape), 0
    stack = [iter([value])]  # one level of lists each, so that depth costs no recursion
    while stack:
        level = len(stack) - 1
        for element in stack[-1]:
            if isinstance(element, list):
                _check_list(element, level, shape)
                stack.append(iter(element))
                break
            if level != rank:
                reason = f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
                raise format_error(element, reason)
            _check_leaf(element, dtype)
            count += 1
        else:
            stack.pop()
    return count


def _check_list(value: list[Any], level: int, shape: Sequence[int]) -> None:
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        found = f"unexpected size: {len(value)} at level: {level}"
        raise invalid(f"Encountered list at {found} expected size: {shape[level]}")


def _check_leaf(value: object, dtype: int) -> None:
    if isinstance(value, dict):
        if dtype != STRING:
            raise type_error(value, dtype)
        _binary(value)
        return
    if dtype not in NUMPY_TYPES:
        name = TYPE_NAMES.get(dtype, "unknown")
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {quote(value)} to type: {name}")
    if not _fits(value, dtype):
        raise type_error(value, dtype)


def _fits(value: object, dtype: int) -> bool:
    if dtype in (FLOAT, DOUBLE):
        return type(value) in (int, float)
    if dtype in INTEGER_TYPES:
        low, high = INTEGER_TYPES[dtype][1]
        return type(value) is int and low <= value <= high
    return isinstance(value, bool if dtype == BOOL else str)


def type_error(value: object, dtype: int) -> ServingError:
    """The error `JSON Value: V Type: T is not of expected type: D`."""
    expected = TYPE_NAMES.get(dtype, "unknown")
    return format_error(value, f"Type: {type_name(value)} is not of expected type: {expected}")
