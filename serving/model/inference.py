"""Classify, Regress and MultiInference: which tensors of a signature to run, and results from its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.python.framework import dtypes
from tensorflow_serving.apis import input_pb2

from serving.errors import invalid

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
PREDICTABLE_METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
INPUTS, CLASSES, SCORES, OUTPUTS = "inputs", "classes", "scores", "outputs"

# One example's (label, score) pairs.
ClassRows = list[tuple[bytes, float]]


def serialized_examples(source: input_pb2.Input) -> list[bytes]:
    """The tf.Examples of a request, serialized.

    A context's features are added to every example: two concatenated messages parse as one (protobuf's
    encoding guide), and of a feature in both the example's value counts.
    """
    kind = source.WhichOneof("kind")
    if kind == "example_list":
        return [example.SerializeToString() for example in source.example_list.examples]
    if kind == "example_list_with_context":
        with_context = source.example_list_with_context
        context = with_context.context.SerializeToString()
        return [context + example.SerializeToString() for example in with_context.examples]
    return []


def classify_tensors(signature: SignatureDef) -> tuple[str, dict[str, str]]:
    """The graph tensor to feed, and those to fetch by alias; INVALID_ARGUMENT for other signatures."""
    feed = _only_input(signature, "classification")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    outputs = {
        alias: signature.outputs[alias].name for alias in (CLASSES, SCORES) if alias in signature.outputs
    }
    if not outputs:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_one_line(signature)}"
        )
    return feed, outputs


def regress_tensors(signature: SignatureDef) -> tuple[str, str]:
    """The graph tensor to feed and the one to fetch; INVALID_ARGUMENT for other signatures."""
    feed = _only_input(signature, "regression")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if OUTPUTS not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {_one_line(signature)}")
    return feed, signature.outputs[OUTPUTS].name


def classifications(outputs: Mapping[str, np.ndarray], examples: int) -> list[ClassRows]:
    """Pairs of label and score for each example.

    Args:
      outputs: `classes` string [N, K], `scores` float32 [N, K], or one of them.
      examples: N.

    Returns:
      N lists of K pairs; empty labels without `classes`, zeros without `scores`.

    Raises:
      ServingError: INVALID_ARGUMENT when an output has another type or shape.
    """
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    if classes is not None:
        _check_matrix(classes, examples, CLASSES, np.dtype(object), types_pb2.DT_STRING)
    if scores is not None:
        _check_matrix(scores, examples, SCORES, np.dtype(np.float32), types_pb2.DT_FLOAT)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )
    if scores is None:
        return [[(label, 0.0) for label in row] for row in _rows(classes)]
    if classes is None:
        return [[(b"", score) for score in row] for row in _rows(scores)]
    return [list(zip(*pair, strict=True)) for pair in zip(_rows(classes), _rows(scores), strict=True)]


def regressions(outputs: np.ndarray, examples: int) -> list[float]:
    """A value for each example, from float32 [N] or [N, 1]; INVALID_ARGUMENT for anything else."""
    if outputs.ndim not in (1, 2) or (outputs.ndim == 2 and outputs.shape[1] != 1):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(outputs)}"
        )
    if outputs.shape[0] != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {outputs.shape[0]}")
    if outputs.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT. Got: {_type_name(outputs)}")
    values: list[float] = outputs.ravel().tolist()
    return values


def _only_input(signature: SignatureDef, kind: str) -> str:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if INPUTS not in signature.inputs:
        raise invalid(f"No {kind} inputs found in SignatureDef: {_one_line(signature)}")
    return str(signature.inputs[INPUTS].name)


def _check_matrix(array: np.ndarray, examples: int, alias: str, dtype: np.dtype, enum: int) -> None:
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    if array.dtype != dtype:
        raise invalid(f"Expected {alias} Tensor of {types_pb2.DataType.Name(enum)}. Got: {_type_name(array)}")
    if array.shape[0] != examples:
        raise invalid(f"Expected {alias} output batch size of {examples}. Got: {array.shape[0]}")


def _rows(array: np.ndarray | None) -> list[list[Any]]:
    return [] if array is None else array.tolist()


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(str(size) for size in array.shape)}]"


def _type_name(array: np.ndarray) -> str:
    return str(types_pb2.DataType.Name(dtypes.as_dtype(array.dtype).as_datatype_enum))


def _one_line(signature: SignatureDef) -> str:
    return " ".join(str(signature).split())
