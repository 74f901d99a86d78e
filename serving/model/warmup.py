"""Warm-up: a version answers recorded requests before it is available, so that no user waits for a first run.

The requests are a TFRecord of PredictionLog messages in the version's folder
(www.tensorflow.org/tfx/serving/saved_model_warmup); rules and error texts are those of
tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import tensorflow as tf
from google.protobuf import message
from tensorflow.python.lib.io import _pywrap_record_io
from tensorflow_serving.apis import prediction_log_pb2

from serving.errors import Code, ServingError, from_tensorflow, invalid
from serving.model import inference
from serving.model.servable import Servable
from serving.model.tensors import TensorInputs
from serving.settings import file_system

log = logging.getLogger("serving")

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
# The version's path, the code of the result, the seconds that it took, and the number of records.
OnDone = Callable[[str, Code, float, int], None]


def run(
    servable: Servable,
    iterations: int = 1,
    on_done: OnDone = lambda path, code, seconds, records: None,
) -> int:
    """Sends a version the warm-up requests in its folder; does nothing without such a file.

    Args:
      servable: the version; it answers requests for any name and version.
      iterations: how often each request is sent; below 1 is once (--num_request_iterations_for_warmup).
      on_done: called at the end when there is a file.

    Returns:
      The number of records.

    Raises:
      ServingError: the first request that fails; DATA_LOSS when the file is no TFRecord; INVALID_ARGUMENT
        for a record that is no PredictionLog, and for more than 1000 records; UNIMPLEMENTED for kinds of
        requests that cannot be sent.
    """
    path = file_system.join(servable.path, WARMUP_FILE)
    if not file_system.exists(path):
        log.info("No warmup data file found at %s", path)
        return 0
    log.info("Starting to read warmup data for model at %s", path)
    begun = time.monotonic()
    records, code = 0, Code.UNKNOWN
    try:
        for record in _read(path):
            _send(servable, record, records + 1, path, iterations)
            records += 1
        code = Code.OK
    except ServingError as error:
        code = error.code
        raise
    finally:
        seconds = time.monotonic() - begun
        on_done(servable.path, code, seconds, records)
    log.info(
        "Finished reading warmup data for model at %s. Number of warmup records read: %d. "
        "Elapsed time (microseconds): %d.",
        path,
        records,
        int(seconds * 1e6),
    )
    return records


def _read(path: str) -> Iterator[bytes]:
    """Yields the records."""
    try:
        for number, record in enumerate(_pywrap_record_io.RecordIterator(path, "")):
            if number == MAX_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
            yield record
    except tf.errors.DataLossError as error:
        raise ServingError(
            Code.DATA_LOSS,
            f"{error.message}. Please verify your warmup data is in TFRecord format: {path}",
        ) from None
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from None


def _send(servable: Servable, record: bytes, number: int, path: str, iterations: int) -> None:
    try:
        recorded = prediction_log_pb2.PredictionLog.FromString(record)
    except message.DecodeError:
        raise invalid(f"Failed to parse warmup record: {number} from {path}") from None
    try:
        for _ in range(max(iterations, 1)):
            _answer(servable, recorded)
    except ServingError as error:
        raise ServingError(error.code, f"{error.message} (warmup record {number} from {path})") from None


def _answer(servable: Servable, recorded: prediction_log_pb2.PredictionLog) -> None:
    kind = recorded.WhichOneof("log_type")
    if kind == "predict_log":
        predict = recorded.predict_log.request
        signature_name = predict.model_spec.signature_name
        servable.predict(signature_name, lambda _: TensorInputs(predict.inputs), predict.output_filter)
    elif kind == "classify_log":
        classify = recorded.classify_log.request
        servable.classify(classify.model_spec.signature_name, inference.serialized_examples(classify.input))
    elif kind == "regress_log":
        regress = recorded.regress_log.request
        servable.regress(regress.model_spec.signature_name, inference.serialized_examples(regress.input))
    elif kind == "multi_inference_log":
        multi = recorded.multi_inference_log.request
        tasks = [(task.method_name, task.model_spec.signature_name) for task in multi.tasks]
        servable.multi_inference(tasks, inference.serialized_examples(multi.input))
    elif kind is not None:
        number = recorded.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
