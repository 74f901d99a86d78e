"""Concatenates the input tensors of a batch's members and checks that the outputs can be split again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.errors import Code, ServingError, invalid

# Of tensors whose other dimensions are padded, as tensorflow/core/kernels/pad_op.cc has it.
LARGEST_RANK = 6


def rows_of(feeds: Mapping[str, np.ndarray]) -> int:
    """Size of the first dimension, which all inputs share.

    Raises:
      ServingError: INVALID_ARGUMENT without inputs, for a scalar, or when the first dimensions differ.
    """
    if not feeds:
        raise invalid("Batching Run() must have at least one input tensor")
    rows = None
    for array in feeds.values():
        if array.ndim == 0:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if rows is None:
            rows = array.shape[0]
        elif array.shape[0] != rows:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return rows or 0


def join(name: str, arrays: Sequence[np.ndarray], extra_rows: int, pad: bool) -> np.ndarray:
    """Concatenates the members' arrays of one tensor; returns a single array without `extra_rows` as it is.

    Args:
      name: the tensor's, for error messages.
      arrays: one for each member, in order; all of one dtype, at least one row each.
      extra_rows: padding rows: copies of the last array's first row, added at the end.
      pad: whether dimensions other than the first may differ and are padded to the largest, with the first
        value of the array that is padded.

    Raises:
      ServingError: FAILED_PRECONDITION for shapes that differ; INVALID_ARGUMENT for what cannot be padded.
    """
    if pad:
        arrays = _padded(name, arrays)
    elif any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        raise _shapes_differ(name)
    if extra_rows:
        arrays = [*arrays, np.repeat(arrays[-1][:1], extra_rows, axis=0)]
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def check_outputs(outputs: Sequence[np.ndarray], rows: int) -> None:
    """Raises FAILED_PRECONDITION for outputs that cannot be split into `rows` rows."""
    for output in outputs:
        if output.ndim == 0:
            raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if output.shape[0] != rows:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                "the input tensors",
            )


def _padded(name: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    rank = arrays[0].ndim
    if any(array.ndim != rank for array in arrays):
        raise _shapes_differ(name)
    if rank > LARGEST_RANK:
        raise invalid("Only tensors with rank from 1 to 6 can be padded.")
    largest = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    return [_padded_to(array, largest) for array in arrays]


def _padded_to(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array with the dimensions after the first padded to `shape`."""
    whole = (array.shape[0], *shape)
    # An array that would stay empty is not padded at all.
    if array.shape == whole or 0 in whole:
        return array.reshape(whole)
    if array.size == 0:
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    padded = np.empty(whole, array.dtype)
    padded[...] = array.reshape(-1)[:1]
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def _shapes_differ(name: str) -> ServingError:
    return ServingError(
        Code.FAILED_PRECONDITION,
        f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off."
        "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
        "have equal dimensions starting with the first dim.",
    )
