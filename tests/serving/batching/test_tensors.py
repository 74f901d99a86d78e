"""Joining tensors and the shapes that can be joined."""

import numpy as np
import pytest

from serving.batching import tensors as batch_tensors
from serving.errors import Code, ServingError
from tests.support.batch_runners import strings


def refusal(function, *arguments):
    with pytest.raises(ServingError) as caught:
        function(*arguments)
    return caught.value.code, caught.value.message


def test_rows_are_the_first_dimension_of_all_inputs():
    assert batch_tensors.rows_of({"a": np.zeros([3, 2]), "b": np.zeros(3)}) == 3
    assert batch_tensors.rows_of({"a": np.zeros([0, 2])}) == 0


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"a": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        (
            {"a": np.zeros(2), "b": np.zeros(3)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_inputs_that_cannot_be_batched(feeds, message):
    assert refusal(batch_tensors.rows_of, feeds) == (Code.INVALID_ARGUMENT, message)


def test_arrays_stand_in_order():
    joined = batch_tensors.join("x", [np.array([[1, 2]]), np.array([[3, 4], [5, 6]])], 0, False)
    assert joined.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert joined.dtype == np.array([1]).dtype


def test_a_single_array_is_not_copied():
    array = np.zeros([4, 2])
    assert batch_tensors.join("x", [array], 0, False) is array


def test_strings_are_not_copied():
    picture = b"\xff\xd8" * 1000
    joined = batch_tensors.join("x", [strings(picture), strings(b"")], 1, False)
    assert joined.dtype == object
    assert joined[0] is picture
    assert joined.tolist() == [picture, b"", b""]


def test_extra_rows_repeat_the_first_row_of_the_last_array():
    joined = batch_tensors.join("x", [np.array([1, 2]), np.array([3, 4])], 3, False)
    assert joined.tolist() == [1, 2, 3, 4, 3, 3, 3]


@pytest.mark.parametrize(
    "arrays",
    [
        [np.zeros([1, 2]), np.zeros([1, 3])],
        [np.zeros([1, 2]), np.zeros([1])],
        [np.zeros([1, 2]), np.zeros([1, 2, 1])],
    ],
)
def test_differing_shapes(arrays):
    assert refusal(batch_tensors.join, "x:0", arrays, 0, False) == (
        Code.FAILED_PRECONDITION,
        "Tensors with name 'x:0' from different tasks have different shapes and padding is turned off."
        "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
        "have equal dimensions starting with the first dim.",
    )


def test_padding_takes_each_arrays_own_first_value():
    arrays = [np.array([[[7, 8]]]), np.array([[[1], [2], [3]]])]  # [1, 1, 2] and [1, 3, 1]
    joined = batch_tensors.join("x", arrays, 0, True)
    assert joined.tolist() == [[[7, 8], [7, 7], [7, 7]], [[1, 1], [2, 1], [3, 1]]]


def test_padding_takes_the_first_value_of_the_array_not_of_the_row():
    joined = batch_tensors.join("x", [np.array([[5], [6]]), np.array([[1, 2, 3]])], 1, True)
    assert joined.tolist() == [[5, 5, 5], [6, 5, 5], [1, 2, 3], [1, 2, 3]]


def test_padding_of_strings_booleans_and_half():
    joined = batch_tensors.join("x", [np.array([[b"a"]], object), np.array([[b"b", b"c"]], object)], 0, True)
    assert joined.tolist() == [[b"a", b"a"], [b"b", b"c"]]
    flags = batch_tensors.join("x", [np.array([[True]]), np.array([[False, True]])], 0, True)
    assert flags.dtype == bool
    assert flags.tolist() == [[True, True], [False, True]]
    halves = batch_tensors.join("x", [np.ones([1, 1], np.float16), np.zeros([1, 2], np.float16)], 0, True)
    assert halves.dtype == np.float16


def test_padding_of_ranks_up_to_six():
    small, large = np.ones([1] * 6), np.zeros([1] + [2] * 5)
    assert batch_tensors.join("x", [small, large], 0, True).shape == (2, 2, 2, 2, 2, 2)
    assert batch_tensors.join("x", [np.ones(1), np.zeros(2)], 0, True).tolist() == [1, 0, 0]
    seven = np.ones([1] * 7)
    assert refusal(batch_tensors.join, "x", [seven, seven], 0, True) == (
        Code.INVALID_ARGUMENT,
        "Only tensors with rank from 1 to 6 can be padded.",
    )


def test_padding_of_an_empty_array():
    assert refusal(batch_tensors.join, "x", [np.zeros([1, 0]), np.zeros([1, 2])], 0, True) == (
        Code.INVALID_ARGUMENT,
        "Got empty tensor in batch of non-empty tensors.",
    )
    # All empty: nothing to pad with is needed.
    assert batch_tensors.join("x", [np.zeros([1, 0, 1]), np.zeros([1, 0, 2])], 0, True).shape == (2, 0, 2)


def test_padding_does_not_join_ranks():
    code, message = refusal(batch_tensors.join, "x", [np.zeros([1, 2]), np.zeros([1])], 0, True)
    assert code == Code.FAILED_PRECONDITION
    assert message.startswith("Tensors with name 'x' from different tasks have different shapes")


def test_outputs():
    batch_tensors.check_outputs([np.zeros([3, 2]), np.zeros(3)], 3)
    assert refusal(batch_tensors.check_outputs, [np.zeros(3), np.float32(1)], 3) == (
        Code.FAILED_PRECONDITION,
        "Batched output tensor has 0 dimensions",
    )
    assert refusal(batch_tensors.check_outputs, [np.zeros(2)], 3) == (
        Code.FAILED_PRECONDITION,
        "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
        "input tensors",
    )
