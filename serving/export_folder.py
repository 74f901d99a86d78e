"""An export on disk, as check reads it: which version, its signatures, what its tf.Examples must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

from serving.client_base import Signature
from serving.command import UserError
from serving.grpc_client import signature_of

MODEL_FILE = "saved_model.pb"
SERVE = "serve"


class Feature(NamedTuple):
    """A feature that a graph parses out of tf.Examples: its type, and how many values it has."""

    dtype: str
    size: int


class Export(NamedTuple):
    """One version of an export.

    Attributes:
      path: its folder.
      version: the folder's name.
      signatures: by name, as the file declares them.
      features: of the tf.Examples that it parses, by name; empty when it parses none.
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
        versions = [p for p in path.glob("*") if p.name.isdecimal() and (p / MODEL_FILE).is_file()]
        if not versions:
            raise UserError(
                f"{path}: no export; a folder with a numbered folder, and {MODEL_FILE} in it, is one"
            )
        path = max(versions, key=lambda p: int(p.name))
    if not path.resolve().name.isdecimal():
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
    return Export(path, int(path.resolve().name), signatures, _features(served[0].graph_def))


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
