"""Converts TensorProto messages to NumPy arrays and back, as tensorflow::Tensor::FromProto and AsProtoField.

String tensors are object arrays of bytes. Written by hand because TensorFlow's converters for Python accept
other messages and raise other errors than those in C++, which TF Serving's answers come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.python.framework import dtypes

from serving.errors import ServingError, invalid

# Each type's repeated field; half and bfloat16 keep their bits in int32s, complex numbers stand as pairs.
_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_QINT8: "int_val",
    types_pb2.DT_QUINT8: "int_val",
    types_pb2.DT_QINT16: "int_val",
    types_pb2.DT_QUINT16: "int_val",
    types_pb2.DT_QINT32: "int_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
}
# A few bytes may declare any shape, since a short list is filled up with its last element. This limits the
# filled size; the size of a message limits the values that it carries.
MAX_FILLED_BYTES = 256 * 2**20
MAX_DIMENSIONS = 254  # tensorflow/core/framework/tensor_shape.h


class TensorInputs(Mapping[str, np.ndarray]):
    """The inputs of a PredictRequest, each parsed on access.

    Args:
      protos: the request's map from alias to TensorProto.
    """

    def __init__(self, protos: Mapping[str, tensor_pb2.TensorProto]) -> None:
        self._protos = protos

    def __getitem__(self, alias: str) -> np.ndarray:
        # Access to a missing key would add it to the protobuf map.
        if alias not in self._protos:
            raise KeyError(alias)
        return to_array(self._protos[alias], alias)

    def __iter__(self) -> Iterator[str]:
        return iter(self._protos)

    def __len__(self) -> int:
        return len(self._protos)


def to_array(proto: tensor_pb2.TensorProto, alias: str) -> np.ndarray:
    """Converts a TensorProto to an array.

    Both encodings are read: `tensor_content`, which must hold exactly the shape's elements, or the typed
    list, which is cut after them, or filled up with its last element (zeros when it is empty).

    Args:
      proto: the message.
      alias: the input's name, for the error.

    Raises:
      ServingError: INVALID_ARGUMENT `tensor parsing error: ALIAS`.
    """
    field = _FIELDS.get(proto.dtype)
    shape = _shape(proto.tensor_shape)
    if field is None or shape is None:
        raise _unparsable(alias)
    if 0 in shape:  # whatever came with it
        return np.empty(shape, dtypes.as_dtype(proto.dtype).as_numpy_dtype)
    if proto.tensor_content:
        return _from_content(proto, shape, alias)
    values = getattr(proto, field)
    return _from_list(proto.dtype, values, shape, alias)


def to_proto(array: np.ndarray, as_content: bool = False) -> tensor_pb2.TensorProto:
    """Converts an array to a TensorProto with all elements in the typed list, which clients read.

    Args:
      array: of any type that `to_array` gives.
      as_content: writes numbers into `tensor_content` instead (--enable_serialization_as_tensor_content).
    """
    string = array.dtype == object
    dtype = types_pb2.DT_STRING if string else dtypes.as_dtype(array.dtype).as_datatype_enum
    proto = tensor_pb2.TensorProto(dtype=dtype)
    # Also for a scalar: a message that is there, with no dimensions.
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_content and not string:
        proto.tensor_content = array.tobytes()
        return proto
    flat = array.ravel()
    if dtype in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        flat = flat.view(np.uint16)
    elif array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    getattr(proto, _FIELDS[dtype]).extend(flat.tolist())
    return proto


def _shape(proto: tensor_shape_pb2.TensorShapeProto) -> tuple[int, ...] | None:
    """The shape; None when no tensor can have it."""
    shape = tuple(dim.size for dim in proto.dim)
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        return None
    # NumPy knows up to 64 dimensions, and no model more than eight.
    return shape if len(shape) <= 64 and math.prod(size or 1 for size in shape) < 2**62 else None


def _from_content(proto: tensor_pb2.TensorProto, shape: tuple[int, ...], alias: str) -> np.ndarray:
    if proto.dtype == types_pb2.DT_STRING:
        return _strings_from_content(proto.tensor_content, shape, alias)
    dtype = np.dtype(dtypes.as_dtype(proto.dtype).as_numpy_dtype)
    if len(proto.tensor_content) != math.prod(shape) * dtype.itemsize:
        raise _unparsable(alias)
    if dtype == np.bool_ and np.frombuffer(proto.tensor_content, np.uint8).max() > 1:
        raise _unparsable(alias)  # TensorFlow accepts only 0 and 1
    return np.frombuffer(proto.tensor_content, dtype).reshape(shape)


def _strings_from_content(content: bytes, shape: tuple[int, ...], alias: str) -> np.ndarray:
    """Decodes strings as tensorflow::port::DecodeStringList: all lengths as varints, then all strings."""
    count = math.prod(shape)
    if count > len(content):
        raise _unparsable(alias)
    lengths, at = [], 0
    for _ in range(count):
        length, shift = 0, 0
        while True:
            if at >= len(content) or shift > 28:
                raise _unparsable(alias)
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise _unparsable(alias)
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return _objects(strings).reshape(shape)


def _from_list(dtype_enum: int, values: Any, shape: tuple[int, ...], alias: str) -> np.ndarray:
    dtype = np.dtype(dtypes.as_dtype(dtype_enum).as_numpy_dtype)
    per_element = 2 if dtype.kind == "c" else 1
    count = math.prod(shape)
    present = min(len(values) // per_element, count)
    if present < count and count * max(dtype.itemsize, 8) > MAX_FILLED_BYTES:
        raise _unparsable(alias)
    if dtype_enum == types_pb2.DT_STRING:
        flat = _objects(values[:present])
    elif dtype_enum in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        # The low sixteen bits of each int32; the others are ignored.
        bits = np.fromiter(values, np.int64, present) & 0xFFFF
        flat = bits.astype(np.uint16).view(dtype)
    elif per_element == 2:
        parts = np.zeros(0, dtype).real.dtype
        flat = np.fromiter(values, parts, present * 2).view(dtype)
    elif dtype.itemsize < 4 and dtype.kind != "b":
        flat = np.fromiter(values, np.int32, present).astype(dtype)  # wraps round, as a C cast does
    else:
        flat = np.fromiter(values, dtype, present)
    if present < count:
        flat = _filled(flat, count, b"" if dtype_enum == types_pb2.DT_STRING else 0)
    return flat.reshape(shape)


def _filled(flat: np.ndarray, count: int, empty: Any) -> np.ndarray:
    """`flat` filled up to `count` with its last element, or with `empty` when it has none."""
    whole = np.full(count, flat[-1] if len(flat) else empty, flat.dtype)
    whole[: len(flat)] = flat
    return whole


def _objects(strings: Any) -> np.ndarray:
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def _unparsable(alias: str) -> ServingError:
    return invalid(f"tensor parsing error: {alias}")
