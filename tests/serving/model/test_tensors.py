"""TensorProto to arrays and back, held against TensorFlow's own C++ parser (tf.io.parse_tensor)."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.errors import Code, ServingError
from serving.model import tensors
from serving.model.tensors import TensorInputs, to_array, to_proto

NUMERIC = {
    types_pb2.DT_FLOAT: ("float_val", st.floats(width=32)),
    types_pb2.DT_DOUBLE: ("double_val", st.floats()),
    types_pb2.DT_INT32: ("int_val", st.integers(-(2**31), 2**31 - 1)),
    types_pb2.DT_UINT8: ("int_val", st.integers(-300, 300)),
    types_pb2.DT_INT16: ("int_val", st.integers(-40000, 40000)),
    types_pb2.DT_INT8: ("int_val", st.integers(-300, 300)),
    types_pb2.DT_UINT16: ("int_val", st.integers(-70000, 70000)),
    types_pb2.DT_STRING: ("string_val", st.binary(max_size=6)),
    types_pb2.DT_COMPLEX64: ("scomplex_val", st.floats(width=32)),
    types_pb2.DT_COMPLEX128: ("dcomplex_val", st.floats()),
    types_pb2.DT_INT64: ("int64_val", st.integers(-(2**63), 2**63 - 1)),
    types_pb2.DT_BOOL: ("bool_val", st.booleans()),
    types_pb2.DT_HALF: ("half_val", st.integers(0, 2**16 - 1)),
    types_pb2.DT_BFLOAT16: ("half_val", st.integers(0, 2**16 - 1)),
    types_pb2.DT_UINT32: ("uint32_val", st.integers(0, 2**32 - 1)),
    types_pb2.DT_UINT64: ("uint64_val", st.integers(0, 2**64 - 1)),
}


@st.composite
def protos(draw):
    """Tensors whose content and shape may or may not agree."""
    dtype = draw(st.sampled_from(sorted(NUMERIC)))
    field, values = NUMERIC[dtype]
    proto = tensor_pb2.TensorProto(dtype=dtype)
    for size in draw(st.lists(st.integers(-1, 4), max_size=3)):
        proto.tensor_shape.dim.add(size=size)
    if draw(st.integers(0, 9)) == 0:
        proto.tensor_shape.unknown_rank = True
    if draw(st.booleans()):
        getattr(proto, field).extend(draw(st.lists(values, max_size=8)))
    else:
        proto.tensor_content = draw(st.binary(max_size=64))
    return proto


def by_tensorflow(proto):
    """TensorFlow's reading as an array, or None when it refuses."""
    try:
        read = tf.io.parse_tensor(proto.SerializeToString(), tf.dtypes.as_dtype(proto.dtype)).numpy()
    except tf.errors.InvalidArgumentError:
        return None
    # A single string comes as bytes, of which an array of NumPy's own strings would drop zeros at the end.
    return np.asarray(read, object if isinstance(read, bytes) else None)


@settings(max_examples=600, deadline=None)
@given(protos())
def test_reads_what_tensorflow_reads(proto):
    expected = by_tensorflow(proto)
    if expected is None:
        with pytest.raises(ServingError, match=r"^tensor parsing error: x$") as failure:
            to_array(proto, "x")
        assert failure.value.code == Code.INVALID_ARGUMENT
        return
    found = to_array(proto, "x")
    assert found.shape == expected.shape
    if found.dtype == object:
        assert found.tolist() == expected.tolist()
    else:
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("content", [b"\0\1", b"\0\2", b"\xff\1"])
def test_truths_are_zeros_and_ones(content):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_BOOL, tensor_content=content)
    proto.tensor_shape.dim.add(size=2)
    expected = by_tensorflow(proto)
    assert (expected is None) == (max(content) > 1)
    if expected is None:
        with pytest.raises(ServingError, match=r"^tensor parsing error: x$"):
            to_array(proto, "x")
    else:
        assert to_array(proto, "x").tolist() == expected.tolist() == [False, True]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(0, 3), max_size=2))
def test_strings_in_tensor_content_are_read_as_tensorflow_does(content, shape):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=content)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    expected = by_tensorflow(proto)
    if expected is None:
        with pytest.raises(ServingError):
            to_array(proto, "x")
    else:
        assert to_array(proto, "x").tolist() == expected.tolist()


ARRAYS = [
    np.array([[1.5, -0.0], [np.inf, 3e-40]], np.float32),
    np.array(2.25),
    np.array([], np.int64).reshape(0, 3),
    np.array([-128, 127], np.int8),
    np.array([2**64 - 1], np.uint64),
    np.array([True, False]),
    np.array([1 + 2j, -3j], np.complex64),
    np.array([1 + 2j], np.complex128),
    np.array([0.5, 65504], np.float16),
    np.array([1.5, -3], tf.bfloat16.as_numpy_dtype),
    np.array([b"a\xff", b""], object),
    np.array(b"scalar", object),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
def test_writes_every_element_into_the_typed_list(array):
    proto = to_proto(array)
    assert proto.tensor_content == b""
    read = tf.make_ndarray(proto)
    assert read.shape == array.shape
    assert np.asarray(read).tolist() == array.tolist()
    assert to_array(proto, "x").tolist() == array.tolist()
    assert proto.HasField("tensor_shape")


def test_float_val_holds_the_numbers_that_clients_read():
    assert list(to_proto(np.array([[2.5, 3.0]], np.float32)).float_val) == [2.5, 3.0]


def test_tensor_content_on_request_but_never_for_strings():
    proto = to_proto(np.array([1, 2], np.int32), as_content=True)
    assert proto.tensor_content == np.array([1, 2], np.int32).tobytes()
    assert not proto.int_val
    assert list(to_proto(np.array([b"a"], object), as_content=True).string_val) == [b"a"]


def test_a_short_list_is_filled_with_its_last_element():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1, 2])
    proto.tensor_shape.dim.add(size=4)
    assert to_array(proto, "x").tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize("sizes", [[2**40], [2**31, 2**31], [2**62, 2], [1] * 300, [2**63 - 1] * 3])
@pytest.mark.parametrize("dtype", [types_pb2.DT_FLOAT, types_pb2.DT_STRING])
def test_a_shape_that_lies_costs_nothing(sizes, dtype):
    proto = tensor_pb2.TensorProto(dtype=dtype, float_val=[1], string_val=[b"a"])
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(ServingError, match=r"^tensor parsing error: huge$"):
        to_array(proto, "huge")


def test_the_largest_filling_is_bounded_and_honest_ones_pass():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[7])
    for size in (8, 224, 224, 3):
        proto.tensor_shape.dim.add(size=size)
    assert to_array(proto, "x").shape == (8, 224, 224, 3)
    proto.tensor_shape.dim[0].size = tensors.MAX_FILLED_BYTES
    with pytest.raises(ServingError):
        to_array(proto, "x")


@pytest.mark.parametrize("dtype", [types_pb2.DT_INVALID, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT])
def test_types_that_no_request_can_hold(dtype):
    with pytest.raises(ServingError, match="tensor parsing error"):
        to_array(tensor_pb2.TensorProto(dtype=dtype), "x")


def test_inputs_are_parsed_when_they_are_asked_for():
    broken = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"abc")
    inputs = TensorInputs({"good": to_proto(np.array([1.0])), "broken": broken})
    assert set(inputs) == {"good", "broken"}
    assert inputs["good"].tolist() == [1.0]
    with pytest.raises(ServingError, match="broken"):
        inputs["broken"]
    with pytest.raises(KeyError):
        inputs["absent"]
