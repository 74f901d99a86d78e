"""JSON of classify and regress: requests to serialized tf.Examples, results to answers.

A feature's kind follows from its JSON values: numbers with a fraction or an exponent are floats, integers
and booleans int64, strings and b64 objects bytes. https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature

from serving.codec.predict import Request
from serving.codec.tensor import B64_KEY, decode_b64, is_b64
from serving.codec.text import float_texts, format_error, string_text, type_name
from serving.errors import invalid

INT64_RANGE = range(-(2**63), 2**63)
UINT64_END = 2**64


def decode(request: Request) -> list[bytes]:
    """Converts a request's examples to serialized tf.Examples.

    A context's features come before each example's own: concatenated messages parse as one.

    Raises:
      ServingError: INVALID_ARGUMENT, TF Serving's text.
    """
    document = request.document
    context = b""
    if "context" in document:
        context = _serialized_example(document["context"])
    if "examples" not in document:
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    return [context + _serialized_example(example) for example in examples]


def _serialized_example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    example = Example()
    features = example.features.feature
    for name, content in value.items():
        # A protobuf string is UTF-8; a name that is not can belong to no model.
        key = name.encode("utf-8", "replace").decode()
        _fill(features[key], key, content if isinstance(content, list) else [content])
    serialized: bytes = example.SerializeToString()
    return serialized


def _fill(feature: Feature, name: str, values: Sequence[Any]) -> None:
    kind, items = "", []
    for value in values:
        item_kind, item = _item(value, name)
        if kind and item_kind != kind:
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {kind}")
        kind = item_kind
        items.append(item)
    if kind == "float":
        with np.errstate(over="ignore"):  # what a float cannot hold becomes infinite
            feature.float_list.value.extend(np.array(items, np.float64).astype(np.float32).tolist())
    elif kind == "int64":
        feature.int64_list.value.extend(items)
    elif kind == "bytes":
        feature.bytes_list.value.extend(items)


def _item(value: Any, name: str) -> tuple[str, Any]:
    """A JSON value's kind of feature (float, int64, bytes) and its value there."""
    if isinstance(value, str):
        return "bytes", value.encode("utf-8", "surrogateescape")
    if is_b64(value):
        return "bytes", decode_b64(value[B64_KEY])
    if isinstance(value, (int, float)):
        whole = isinstance(value, int)
        if whole and value in INT64_RANGE:
            return "int64", int(value)
        if whole and 0 < value < UINT64_END:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return "float", float(value)
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def encode_classifications(rows: Sequence[Sequence[tuple[bytes, float]]]) -> bytes:
    """The answer's body: `results` holds a list of [label, score] for each example."""
    scores = iter(float_texts(np.array([score for row in rows for _, score in row], np.float32)))
    lines = [
        "[" + ", ".join(f"[{string_text(label)}, {next(scores)}]" for label, _ in row) + "]" for row in rows
    ]
    return _results(lines, ",\n        ")


def encode_regressions(values: Sequence[float]) -> bytes:
    """The answer's body: `results` holds a number for each example."""
    return _results(float_texts(np.array(values, np.float32)), ", ")


def _results(texts: Sequence[str], separator: str) -> bytes:
    return f'{{\n    "results": [{separator.join(texts)}]\n}}'.encode("utf-8", "surrogateescape")
