"""JSON of predict: requests to tensors, tensors to answers.

A request gives its tensors by rows (`instances`) or by columns (`inputs`); the answer has the same form
(`predictions` or `outputs`). https://www.tensorflow.org/tfx/serving/api_rest describes both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.codec import reader as json_reader
from serving.codec.tensor import MAX_RANK, check, fast_array, is_b64, shape_of, to_array
from serving.codec.text import array_text, format_error, quote, row_texts, string_text
from serving.errors import ServingError, invalid

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

BYTES_SUFFIX = "_bytes"


class Request(NamedTuple):
    """A parsed request body.

    Attributes:
      document: the top-level object.
      signature_name: empty when the body names none.
    """

    document: dict[str, Any]
    signature_name: str

    @property
    def is_row(self) -> bool:
        """Whether tensors are in row form, in the request and so in the answer."""
        return "instances" in self.document


def read_request(body: bytes) -> Request:
    """Parses a body as far as that does not depend on the model.

    Raises:
      ServingError: INVALID_ARGUMENT: no JSON, no object, or a signature name that is no string.
    """
    document = json_reader.read(body)
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    signature_name = document.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return Request(document, signature_name)


def missing_signature(signature_name: str) -> ServingError:
    """The error of REST predict for an unknown signature; gRPC has another code and text."""
    return invalid(f'Serving signature name: "{signature_name}" not found in signature def')


def decode(request: Request, inputs: Mapping[str, TensorInfo]) -> dict[str, np.ndarray]:
    """Converts the request's tensors to arrays.

    Args:
      request: from `read_request`.
      inputs: the signature's inputs, name -> TensorInfo, of which only `dtype` is used. The graph checks the
        shapes.

    Returns:
      Input name -> array; strings are bytes in object arrays. Row form has a new leading batch dimension.

    Raises:
      ServingError: INVALID_ARGUMENT, or UNIMPLEMENTED for types without a JSON form; TF Serving's texts.
    """
    if not inputs:
        raise invalid(f"Failed to get input map for signature: {request.signature_name or 'DEFAULT'}")
    dtypes = {name: info.dtype for name, info in inputs.items()}
    document = request.document
    if request.is_row:
        if "inputs" in document:
            reason = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            raise format_error(document, reason)
        if not isinstance(document["instances"], list):
            raise format_error(document, "Expecting 'instances' to be an list/array")
        if not document["instances"]:
            raise format_error(document, "No values in 'instances' array")
        return _decode_rows(document["instances"], dtypes)
    if "inputs" in document:
        return _decode_columns(document["inputs"], dtypes)
    raise invalid("Missing 'inputs' or 'instances' key")


def _decode_columns(value: Any, dtypes: Mapping[str, int]) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_b64(value):
        if len(dtypes) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        ((name, dtype),) = dtypes.items()
        return {name: to_array(value, dtype, name)}
    arrays = {}
    for name, dtype in dtypes.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = to_array(value[name], dtype, name)
    return arrays


def _decode_rows(rows: list[Any], dtypes: Mapping[str, int]) -> dict[str, np.ndarray]:
    by_name = _is_named(rows[0])
    if not by_name and len(dtypes) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    arrays: dict[str, np.ndarray | None] = {}
    if by_name:
        if all(map(_is_named, rows)) and all(row.keys() == dtypes.keys() for row in rows):
            arrays = {name: fast_array([row[name] for row in rows], dtype) for name, dtype in dtypes.items()}
    elif not any(map(_is_named, rows)):
        ((name, dtype),) = dtypes.items()
        arrays = {name: fast_array(rows, dtype)}
    decoded = {name: array for name, array in arrays.items() if array is not None}
    if len(decoded) < len(dtypes):
        raise _rows_error(rows, by_name, dtypes)
    return decoded


def _is_named(row: object) -> bool:
    """Whether an element is an object of named tensors."""
    return isinstance(row, dict) and not is_b64(row)


def _rows_error(rows: list[Any], by_name: bool, dtypes: Mapping[str, int]) -> ServingError:
    """The first error of a row request in TF Serving's order: element by element, key by key."""
    first_shapes: dict[str, Sequence[int]] = {}
    for index, row in enumerate(rows):
        if by_name != _is_named(row):
            expected, got = ("object", "list") if by_name else ("value/list", "object")
            return invalid(f"Expecting {expected} but got {got} at item {index} of input list")
        for name, value in row.items() if by_name else [(next(iter(dtypes)), row)]:
            try:
                _check_row(value, name, dtypes, first_shapes)
            except ServingError as error:
                key = f" key: {name}" if by_name else ""
                return invalid(
                    f"Failed to process element: {index}{key} of 'instances' list. "
                    f"Error: {error.code.name}: {error.message}"
                )
        if by_name and row.keys() != dtypes.keys():
            return invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {quote(row)} "
                f"keys must be equal to: {','.join(sorted(dtypes))}"
            )
    # Every element is valid, and they agree: only the rank can be beyond NumPy's limit.
    name = next((name for name, shape in first_shapes.items() if len(shape) >= MAX_RANK), next(iter(dtypes)))
    return invalid(f"tensor parsing error: {name}")


def _check_row(
    value: Any, name: str, dtypes: Mapping[str, int], first_shapes: dict[str, Sequence[int]]
) -> None:
    """Raises the error of one element's tensor, which must fit its type and the first element's shape."""
    if name not in dtypes:
        raise invalid(f"JSON object: does not have named input: {name}")
    shape = shape_of(value)
    size = check(value, shape, dtypes[name])
    first = first_shapes.setdefault(name, shape)
    first_size = math.prod(first)
    if size != first_size:
        raise invalid(f"Expecting tensor size: {first_size} but got: {size}")
    if shape != first:
        raise invalid(f"Expecting shape {_shape_text(first)} but got: {_shape_text(shape)}")


def _shape_text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def encode(outputs: Mapping[str, np.ndarray], is_row: bool) -> bytes:
    """Writes an answer's body.

    Args:
      outputs: name -> array. A single one is written without its name.
      is_row: `predictions`, one element an example, instead of `outputs`.

    Raises:
      ServingError: INVALID_ARGUMENT: a type without a JSON form; in row form an output without, or with
        another, batch dimension.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    text = _row_answer(outputs) if is_row else _column_answer(outputs)
    return text.encode("utf-8", "surrogateescape")


def _holds_bytes(name: str) -> bool:
    return name.endswith(BYTES_SUFFIX)


def _column_answer(outputs: Mapping[str, np.ndarray]) -> str:
    texts = {name: array_text(array, _holds_bytes(name)) for name, array in outputs.items()}
    if len(texts) == 1:
        return f'{{\n    "outputs": {next(iter(texts.values()))}\n}}'
    members = ",\n".join(f"        {_key(name)}: {text}" for name, text in texts.items())
    return f'{{\n    "outputs": {{\n{members}\n    }}\n}}'


def _row_answer(outputs: Mapping[str, np.ndarray]) -> str:
    batch_size: int | None = None
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch_size not in (None, len(array)):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch_size}"
            )
        batch_size = len(array)
    columns = [row_texts(array, _holds_bytes(name)) for name, array in outputs.items()]
    if len(columns) == 1:
        rows = columns[0]
    else:
        keys = [_key(name) for name in outputs]
        rows = [
            "{" + ", ".join(f"{key}: {text}" for key, text in zip(keys, row, strict=True)) + "}"
            for row in zip(*columns, strict=True)
        ]
    separator = ", " if len(columns) == 1 and next(iter(outputs.values())).ndim == 1 else ",\n        "
    return f'{{\n    "predictions": [{separator.join(rows)}]\n}}'


def _key(name: str) -> str:
    return string_text(name.encode("utf-8", "surrogateescape"))


def error_body(message: str) -> bytes:
    """`{"error": ".."}`, always valid UTF-8, even where the message quotes invalid bytes of the request."""
    text = string_text(message.encode("utf-8", "replace"))
    return f'{{\n    "error": {text}\n}}'.encode()
