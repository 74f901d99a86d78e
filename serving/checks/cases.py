"""Requests for every signature of an export, with the answers that TensorFlow gives in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

from serving.clients.client import Example, Signature, TensorInfo
from serving.clients.grpc import feature_of, signature_of
from serving.command import UserError
from serving.errors import Code, ServingError, from_tensorflow
from serving.specs import version_number

MODEL_FILE = "saved_model.pb"
SERVE = "serve"
ROWS = 2
INNER = 4  # size of free dimensions after the first
DRAWN_SIDE = 96
SEED = 20120930
IMAGE_BYTES = "image_bytes"
PARSED_METHODS = ("tensorflow/serving/classify", "tensorflow/serving/regress")
WORDS = (b"word", b"another word")


class Feature(NamedTuple):
    """A feature that a graph parses out of tf.Examples: its type and its number of values."""

    dtype: str
    size: int


class Export(NamedTuple):
    """One version of an export.

    Attributes:
      path: its folder.
      version: the folder's name.
      signatures: by name, as the file declares them.
      features: those that it parses out of tf.Examples, by name; empty when it parses none.
    """

    path: Path
    version: int
    signatures: dict[str, Signature]
    features: dict[str, Feature]


def open_export(path: Path) -> Export:
    """Reads an export: the newest version of a folder, or one version's own folder.

    Raises:
      UserError: when there is none.
    """
    if not (path / MODEL_FILE).is_file():
        versions = [
            (number, folder.name)
            for folder in path.glob("*")
            if (number := version_number(folder.name)) is not None and (folder / MODEL_FILE).is_file()
        ]
        if not versions:
            raise UserError(
                f"{path}: no export; a folder with a numbered folder, and {MODEL_FILE} in it, is one"
            )
        path /= max(versions)[1]
    version = version_number(path.resolve().name)
    if version is None:
        raise UserError(f"{path}: a version's folder is called by its number")
    saved_model = saved_model_pb2.SavedModel()
    try:
        saved_model.ParseFromString((path / MODEL_FILE).read_bytes())
    except DecodeError as error:
        raise UserError(f"{path / MODEL_FILE}: no SavedModel") from error
    served = [found for found in saved_model.meta_graphs if SERVE in found.meta_info_def.tags]
    if not served:
        raise UserError(f"{path}: no graph in it is tagged {SERVE!r}")
    found = served[0].signature_def
    signatures = {name: signature_of(found[name]) for name in sorted(found)}
    return Export(path, version, signatures, _features(served[0].graph_def))


def _features(graph: graph_pb2.GraphDef) -> dict[str, Feature]:
    """The dense features of every parsing node of the graph and its functions."""
    found: dict[str, Feature] = {}
    for nodes in [graph.node, *(function.node_def for function in graph.library.function)]:
        by_name = {node.name: node for node in nodes}
        for node in nodes:
            if node.op == "ParseExampleV2":
                keys = by_name[node.input[3].partition(":")[0]]  # serialized, names, sparse keys, dense keys
                found.update(_dense(node, keys))
    return found


def _dense(node: Any, keys: Any) -> dict[str, Feature]:
    if keys.op != "Const":
        return {}
    names = tf.make_ndarray(keys.attr["value"].tensor).ravel()
    shapes = [tf.TensorShape(shape) for shape in node.attr["dense_shapes"].list.shape]
    types = [tf.dtypes.as_dtype(kind).name for kind in node.attr["Tdense"].list.type]
    return {
        name.decode(): Feature(kind, shape.num_elements() or 1)
        for name, kind, shape in zip(names, types, shapes, strict=True)
    }


class Case(NamedTuple):
    """One request with TensorFlow's answer.

    Attributes:
      signature_name: which signature.
      signature: as the export declares it.
      inputs: arrays by input name; strings as objects.
      examples: the examples whose serialized form `inputs` holds; None when it holds something else.
      outputs: arrays by output name; None when TensorFlow refuses, with `code`.
    """

    signature_name: str
    signature: Signature
    inputs: dict[str, np.ndarray]
    examples: Sequence[Example] | None
    outputs: dict[str, np.ndarray] | None
    code: Code = Code.OK


def cases(export: Export, pictures: Sequence[bytes]) -> Iterator[Case]:
    """Makes a case for each signature that can be called.

    Args:
      pictures: encoded; sent to inputs that take strings, where the model can read them.
    """
    loaded = tf.saved_model.load(str(export.path))
    for name, signature in export.signatures.items():
        if name in loaded.signatures:  # the initialisation of tables is listed too, but takes no calls
            yield _case(name, signature, loaded.signatures[name], export, pictures)


def draw_pictures(count: int = ROWS) -> list[bytes]:
    """Encoded pictures of smooth colours and noise; the same at each call."""
    generator = np.random.default_rng(SEED)
    drawn = []
    for _ in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8))
        smooth = np.asarray(coarse.resize((DRAWN_SIDE, DRAWN_SIDE), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + generator.integers(-20, 21, smooth.shape, np.int16)
        tensor = tf.constant(np.clip(noisy, 0, 255).astype(np.uint8))
        drawn.append(tf.io.encode_jpeg(tensor, quality=95).numpy())
    return drawn


def _case(name: str, signature: Signature, function: Any, export: Export, pictures: Sequence[bytes]) -> Case:
    """The first request that TensorFlow answers; when it answers none, the last one with its error."""
    for strings, examples in _strings(signature, export.features, pictures):
        generator = np.random.default_rng(SEED)
        inputs = {key: _array(info, strings, generator) for key, info in signature.inputs.items()}
        case = _answered(Case(name, signature, inputs, examples, None), function)
        if case.outputs is not None or not _takes_strings(signature):
            break
    return case


def _answered(case: Case, function: Any) -> Case:
    try:
        outputs = function(**{key: tf.constant(value) for key, value in case.inputs.items()})
        return case._replace(outputs={key: _strings_as_objects(out.numpy()) for key, out in outputs.items()})
    except tf.errors.OpError as error:
        failure: ServingError = from_tensorflow(error)
        return case._replace(code=failure.code)


def _strings(
    signature: Signature, features: Mapping[str, Feature], pictures: Sequence[bytes]
) -> Iterator[tuple[Sequence[bytes], Sequence[Example] | None]]:
    """Candidates for string inputs, the likeliest first: pictures, tf.Examples, words."""
    parsed: dict[str, Feature] = dict(features) or {IMAGE_BYTES: Feature("string", 1)}
    examples = [{name: _values(one, picture) for name, one in parsed.items()} for picture in pictures]
    as_examples = ([serialized(example) for example in examples], examples)
    as_pictures = (list(pictures), None)
    likeliest = signature.method_name in PARSED_METHODS
    yield from (as_examples, as_pictures) if likeliest else (as_pictures, as_examples)
    yield [WORDS[row % len(WORDS)] for row in range(len(pictures))], None


def serialized(example: Example) -> bytes:
    """Serializes a tf.Example that is given as feature names with lists of values."""
    features = tf.train.Features(feature={name: feature_of(name, value) for name, value in example.items()})
    content: bytes = tf.train.Example(features=features).SerializeToString()
    return content


def _values(feature: Feature, picture: bytes) -> list[Any]:
    one = {"string": picture, "int64": 1}.get(feature.dtype, 0.5)
    return [one] * feature.size


def _array(info: TensorInfo, strings: Sequence[bytes], generator: np.random.Generator) -> np.ndarray:
    """Values for an input: `strings`, or small numbers in as many rows as there are strings."""
    declared = (-1,) if info.shape is None else info.shape
    shape = tuple(
        size if size >= 0 else (INNER if axis else len(strings)) for axis, size in enumerate(declared)
    )
    if info.dtype == "DT_STRING":
        filled = np.resize(np.array(list(strings), object), shape)
        return filled if shape else np.array(strings[0], object)
    kind = np.dtype(tf.dtypes.as_dtype(info.dtype.removeprefix("DT_").lower()).as_numpy_dtype)
    if kind.kind in "iub":
        return generator.integers(0, 2, shape).astype(kind)
    return generator.uniform(0.0, 1.0, shape).astype(kind)


def _takes_strings(signature: Signature) -> bool:
    return any(info.dtype == "DT_STRING" for info in signature.inputs.values())


def _strings_as_objects(value: Any) -> np.ndarray:
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
