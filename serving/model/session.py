"""A SavedModel in a session of its own, loaded in the same steps as by TF Serving's C++ loader.

The session is TensorFlow's DirectSession, called without Python's checks: it feeds graph tensors by name,
checks their types but not the shapes that the signature declares, fetches only the named tensors, and its
errors have TF Serving's texts. Closing it frees the variables: they belong to the session.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from google.protobuf import message, text_format
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2
from tensorflow.python.client import pywrap_tf_session

from serving.errors import Code, ServingError, from_tensorflow

SERVE_TAG = "serve"
INIT_OP = "__saved_model_init_op"
# Collections for the initialisation of tables, from before SavedModels had a signature for it; newest first.
INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


class Runner(Protocol):
    """Runs a graph: a session, or a batching session around it."""

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: float | None = None
    ) -> list[np.ndarray]:
        """Feeds some graph tensors and fetches others.

        Args:
          feeds: arrays by tensor name (`x:0`); string tensors are object arrays of bytes.
          fetches: tensor names.
          deadline: second of `time.monotonic()` by which the run must be finished; None for no limit.

        Returns:
          An array for each fetch, also of rank 0; string tensors as in `feeds`.

        Raises:
          ServingError: an operation's own code and text; DEADLINE_EXCEEDED.
        """

    def close(self) -> None:
        """Frees the model; no run may be in progress."""


class Observer(Protocol):
    """Records durations; see `serving.monitoring.metrics.ServerMetrics`."""

    def graph_run_done(self, seconds: float) -> None:
        """Records a request's or batch's run."""

    def load_stage_done(self, path: str, stage: str, seconds: float) -> None:
        """Records a stage of a successful load, under the name that TensorFlow's own loader gives it."""


class SavedModelSession:
    """A loaded SavedModel.

    Attributes:
      signatures: every SignatureDef of the MetaGraph, by name.
    """

    def __init__(
        self,
        meta_graph: meta_graph_pb2.MetaGraphDef,
        config: config_pb2.ConfigProto | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer
        # Copies, so that the MetaGraph can be freed once TensorFlow has imported it.
        self.signatures = {
            name: _copied(definition) for name, definition in sorted(meta_graph.signature_def.items())
        }
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.graph_util.import_graph_def(meta_graph.graph_def, name="")
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self._outputs: dict[str, Any] = {}
        self._lock = threading.Lock()

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: float | None = None
    ) -> list[np.ndarray]:
        began = time.perf_counter()
        arrays = self._run(feeds, fetches, [], deadline)
        if self._observer is not None:
            self._observer.graph_run_done(time.perf_counter() - began)
        return arrays

    def close(self) -> None:
        self._session.close()
        # The session and the graph refer to each other, and keep all variables alive.
        self._outputs.clear()
        del self._session, self._graph

    def restore(self, path: str, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
        """Restores the variables; does nothing without files for them, as TF Serving."""
        prefix = os.path.join(path, "variables", "variables")
        saver = meta_graph.saver_def
        if not saver.restore_op_name or not tf.io.gfile.exists(f"{prefix}.index"):
            return
        feeds = {saver.filename_tensor_name: _scalar(prefix), **_asset_feeds(path, meta_graph)}
        self._run(feeds, [], [saver.restore_op_name], None)

    def initialize(self, path: str, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
        """Runs the operation that initialises tables, if there is one."""
        operation = _init_operation(meta_graph)
        if operation:
            self._run(_asset_feeds(path, meta_graph), [], [operation], None)

    def _run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        targets: Sequence[str],
        deadline: float | None,
    ) -> list[np.ndarray]:
        options = _timeout(deadline)
        try:
            fetched = pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session,
                options,
                {self._output(name): value for name, value in feeds.items()},
                [self._output(name) for name in fetches],
                [self._graph.get_operation_by_name(name)._c_op for name in targets],
                None,
            )
        except tf.errors.OpError as error:
            raise from_tensorflow(error) from None
        except UnicodeDecodeError as error:  # TensorFlow's binding, about an error that quotes other bytes
            raise ServingError(Code.INVALID_ARGUMENT, error.object.decode("utf-8", "replace")) from None
        except (TypeError, ValueError) as error:  # an array that TensorFlow has no type for
            raise ServingError(Code.INVALID_ARGUMENT, str(error)) from None
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return [_array(value) for value in fetched]

    def _output(self, name: str) -> Any:
        """TensorFlow's handle of a graph tensor; cached."""
        found = self._outputs.get(name)
        if found is None:
            try:
                # Some old exports leave out the `:0`.
                found = self._graph.get_tensor_by_name(name if ":" in name else f"{name}:0")._as_tf_output()
            except (KeyError, ValueError):
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"Tensor {name}, specified in either feed_devices or "
                    "fetch_devices was not found in the Graph",
                ) from None
            with self._lock:
                self._outputs[name] = found
        return found


def load(
    path: str,
    tags: Sequence[str] = (SERVE_TAG,),
    config: config_pb2.ConfigProto | None = None,
    observer: Observer | None = None,
) -> SavedModelSession:
    """Loads one version folder.

    Args:
      path: folder that holds saved_model.pb or saved_model.pbtxt; a path or URI that tf.io.gfile opens.
      tags: of the MetaGraph, all of them and no others.
      config: of the session.
      observer: records how long loading and every run take.

    Raises:
      ServingError: NOT_FOUND without the file or the tags; DATA_LOSS when the file is damaged; the
        operation's own code and text when variables or tables cannot be read.
    """
    began = time.perf_counter()
    meta_graph = read_meta_graph(path, tags)
    try:
        session = SavedModelSession(meta_graph, config, observer)
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from None
    except (TypeError, ValueError) as error:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"The graph of {path} cannot be imported: {error}"
        ) from None
    try:
        session.restore(path, meta_graph)
        restored = time.perf_counter()
        session.initialize(path, meta_graph)
    except BaseException:
        session.close()
        raise
    if observer is not None:
        observer.load_stage_done(path, "restore_graph", restored - began)
        observer.load_stage_done(path, "init_graph", time.perf_counter() - restored)
    return session


def read_meta_graph(path: str, tags: Sequence[str] = (SERVE_TAG,)) -> meta_graph_pb2.MetaGraphDef:
    """Reads the MetaGraph that carries exactly these tags; see `load` for the errors."""
    saved_model = saved_model_pb2.SavedModel()
    binary, text = os.path.join(path, "saved_model.pb"), os.path.join(path, "saved_model.pbtxt")
    try:
        if tf.io.gfile.exists(binary):
            with tf.io.gfile.GFile(binary, "rb") as file:
                saved_model.ParseFromString(file.read())
        elif tf.io.gfile.exists(text):
            with tf.io.gfile.GFile(text, "r") as file:
                text_format.Parse(file.read(), saved_model)
        else:
            raise ServingError(
                Code.NOT_FOUND,
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. Check "
                "that the directory exists and that you have the right permissions for accessing it.",
            )
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from None
    except (message.DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise ServingError(
            Code.DATA_LOSS, f"Can't parse {path}/saved_model.pb as a SavedModel: {error}"
        ) from None
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise ServingError(
        Code.NOT_FOUND,
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }} in {path}",
    )


def _init_operation(meta_graph: meta_graph_pb2.MetaGraphDef) -> str:
    """Name of the operation to run once after the variables are restored; empty when there is none."""
    signature = meta_graph.signature_def.get(INIT_OP)
    if signature is not None and INIT_OP in signature.outputs:
        return str(signature.outputs[INIT_OP].name).partition(":")[0]
    for collection in INIT_COLLECTIONS:
        if collection in meta_graph.collection_def:
            nodes = meta_graph.collection_def[collection].node_list.value
            if len(nodes) == 1:
                return str(nodes[0]).partition(":")[0]
    return ""


def _asset_feeds(path: str, meta_graph: meta_graph_pb2.MetaGraphDef) -> dict[str, np.ndarray]:
    return {
        asset.tensor_info.name: _scalar(os.path.join(path, "assets", asset.filename))
        for asset in meta_graph.asset_file_def
    }


def _scalar(text: str) -> np.ndarray:
    """A scalar string tensor."""
    return np.array(os.fsencode(text), object)


def _array(fetched: Any) -> np.ndarray:
    """A fetched value as an array; for rank 0 TensorFlow's binding returns bytes or a NumPy scalar."""
    # NumPy would convert bytes to a fixed-length type, which loses trailing zeros.
    return np.array(fetched, object) if isinstance(fetched, bytes) else np.asarray(fetched)


def _timeout(deadline: float | None) -> Any:
    """RunOptions with the time limit in a TensorFlow buffer, which the caller deletes; None for no limit."""
    if deadline is None:
        return None
    left = int((deadline - time.monotonic()) * 1000)
    if left <= 0:
        raise ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
    options = config_pb2.RunOptions(timeout_in_ms=left)
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


def _copied(definition: meta_graph_pb2.SignatureDef) -> meta_graph_pb2.SignatureDef:
    copy = meta_graph_pb2.SignatureDef()
    copy.CopyFrom(definition)
    return copy
