"""The client over gRPC. Importing this module imports TensorFlow, which the message types need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.clients.addresses import Address
from serving.clients.client import (
    BINARY,
    Client,
    ClientSettings,
    Example,
    Inputs,
    Metadata,
    Prediction,
    Signature,
    TensorInfo,
)
from serving.clients.retry import CallError, call
from serving.errors import Code, ServingError, invalid
from serving.model.tensors import to_array, to_proto
from serving.specs import ModelSpec, State, VersionStatus

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # gRPC's own limit of 4 MiB is too small for tensors
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # the default of a second is longer than our own waits
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class TlsFiles(NamedTuple):
    """PEM texts for the channel's TLS; None for the system's authorities, or for no client certificate."""

    authorities: bytes | None = None
    key: bytes | None = None
    certificate: bytes | None = None


class GrpcClient(Client):
    """A client over gRPC.

    Args:
      address: the server's.
      settings: model, timeout, retries, token.
      tls: TLS settings; None for plain connections.
    """

    def __init__(self, address: Address, settings: ClientSettings, tls: TlsFiles | None = None) -> None:
        super().__init__(settings)
        if tls is None:
            self._channel = grpc.insecure_channel(address.netloc, CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(*tls)
            self._channel = grpc.secure_channel(address.netloc, credentials, CHANNEL_OPTIONS)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._headers = (("authorization", f"Bearer {settings.token}"),) if settings.token is not None else ()
        self._where = address.netloc

    def _predict(self, inputs: Inputs, signature_name: str, spec: ModelSpec, deadline: float) -> Prediction:
        try:
            signature = self.signature(signature_name, spec, deadline)
        except ServingError as error:
            if error.code != Code.UNIMPLEMENTED:  # not every server gives its signatures
                raise
            signature = None
        request = predict_pb2.PredictRequest(model_spec=_message(spec, signature_name))
        types = signature.inputs if signature else {}
        for name, value in columns(inputs, types).items():
            request.inputs[name].CopyFrom(to_proto(_array(name, value, types.get(name)), as_content=True))
        try:
            answer = self._call(self._prediction.Predict, request, deadline)
        except ServingError:
            self.forget_signatures(spec)
            raise
        outputs = {name: lists_of(name, to_array(proto, name)) for name, proto in answer.outputs.items()}
        return Prediction(outputs, answer.model_spec.version.value)

    def _classify(
        self, examples: Sequence[Example], signature_name: str, spec: ModelSpec, deadline: float
    ) -> list[list[tuple[str, float]]]:
        request = classification_pb2.ClassificationRequest(
            model_spec=_message(spec, signature_name), input=_input(examples)
        )
        answer = self._call(self._prediction.Classify, request, deadline)
        return [[(one.label, one.score) for one in found.classes] for found in answer.result.classifications]

    def _regress(
        self, examples: Sequence[Example], signature_name: str, spec: ModelSpec, deadline: float
    ) -> list[float]:
        request = regression_pb2.RegressionRequest(
            model_spec=_message(spec, signature_name), input=_input(examples)
        )
        answer = self._call(self._prediction.Regress, request, deadline)
        return [found.value for found in answer.result.regressions]

    def _status(self, spec: ModelSpec, deadline: float) -> list[VersionStatus]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_message(spec))
        answer = self._call(self._models.GetModelStatus, request, deadline)
        return [
            VersionStatus(
                one.version, State(one.state), Code(one.status.error_code), one.status.error_message
            )
            for one in answer.model_version_status
        ]

    def _metadata(self, spec: ModelSpec, deadline: float) -> Metadata:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_message(spec), metadata_field=["signature_def"]
        )
        answer = self._call(self._prediction.GetModelMetadata, request, deadline)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        signatures = {name: signature_of(found.signature_def[name]) for name in sorted(found.signature_def)}
        return Metadata(answer.model_spec.name, answer.model_spec.version.value, signatures)

    def close(self) -> None:
        self._closed.set()
        self._channel.close()

    def _call(self, method: Callable[..., Any], request: Any, deadline: float) -> Any:
        def attempt() -> Any:
            try:
                return method(request, timeout=self.left(deadline), metadata=self._headers)
            except grpc.RpcError as error:
                raise self._error(error) from error
            except ValueError as error:  # what a closed channel raises
                raise CallError(Code.CANCELLED, "the client is closed") from error

        return call(attempt, self.settings.policy, deadline, self._closed)

    def _error(self, error: grpc.RpcError) -> CallError:
        code, details = Code(error.code().value[0]), error.details() or ""
        final = False
        if code == Code.DEADLINE_EXCEEDED and details == "Deadline Exceeded":  # gRPC's own, not the server's
            details = f"{self._where}: no answer in time"
        if code == Code.UNAVAILABLE and "CERTIFICATE_VERIFY_FAILED" in details:
            details, final = f"{self._where}: its certificate is not trusted", True
        if code == Code.UNAVAILABLE and "http1" in details:
            details, final = f"{self._where}: does not speak gRPC; is this the REST port?", True
        return CallError(code, details or code.name, final=final)


def signature_of(proto: SignatureDef) -> Signature:
    """Converts a SignatureDef to the client's own type."""
    return Signature(_tensors(proto.inputs), _tensors(proto.outputs), proto.method_name)


def columns(inputs: Inputs, types: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Converts inputs in row or columnar form to the columnar form.

    Args:
      inputs: as `Client.predict` takes them.
      types: the signature's inputs, where known.

    Raises:
      ServingError: INVALID_ARGUMENT when the rows do not say what is meant.
    """
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if not inputs:
        raise invalid("there must be one row or more")
    if isinstance(inputs[0], Mapping):
        names = set(inputs[0])
        if not all(isinstance(row, Mapping) and set(row) == names for row in inputs):
            raise invalid("all rows must have the same inputs")
        return {name: [row[name] for row in inputs] for name in inputs[0]}
    if len(types) != 1:
        raise invalid(
            f"rows without names fit a signature with one input; this one has {', '.join(types) or 'none'}"
        )
    return {next(iter(types)): list(inputs)}


def _array(name: str, value: object, info: TensorInfo | None) -> np.ndarray:
    """A value as an array of the signature's type, or of the value's own where that is unknown."""
    try:
        if info is not None and info.dtype != "DT_STRING":
            array = np.asarray(value)
            kind = tf.dtypes.as_dtype(types_pb2.DataType.Value(info.dtype)).as_numpy_dtype
            return array.astype(kind, casting="same_kind")
        array = np.asarray(value, object if info is not None else None)
        if array.dtype.kind in "OSU":
            array = np.asarray(value, object)
            return np.asarray(np.frompyfunc(_bytes, 1, 1)(array), object)  # of rank 0 it gives bytes
    except (TypeError, ValueError) as error:
        raise invalid(f"input {name!r}: {error}") from error
    if isinstance(value, (np.ndarray, np.generic)):
        return array
    return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"a string is needed; received {type(value).__name__}")


def lists_of(name: str, array: np.ndarray) -> Any:
    """An array as nested lists; strings as bytes where the output's name ends in `_bytes`, else as text."""
    lists = array.tolist()
    if array.dtype != object or name.endswith(BINARY):
        return lists
    return _decoded(lists)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(one) for one in value]
    return value.decode("utf-8", "surrogateescape")


def _message(spec: ModelSpec, signature_name: str = "") -> model_pb2.ModelSpec:
    message = model_pb2.ModelSpec(name=spec.name, signature_name=signature_name)
    if spec.version is not None:
        message.version.value = spec.version
    elif spec.label is not None:
        message.version_label = spec.label
    return message


def _input(examples: Sequence[Example]) -> input_pb2.Input:
    found = input_pb2.Input()
    found.example_list.SetInParent()
    for example in examples:
        features = {name: feature_of(name, value) for name, value in example.items()}
        found.example_list.examples.append(tf.train.Example(features=tf.train.Features(feature=features)))
    return found


def feature_of(name: str, value: object) -> tf.train.Feature:
    """A feature of the kind that TF Serving's REST interface would make of the same value."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    values = list(plain) if isinstance(plain, (list, tuple)) else [plain]
    if all(isinstance(one, int) for one in values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if all(isinstance(one, float) for one in values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if all(isinstance(one, (str, bytes)) for one in values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[_bytes(one) for one in values]))
    raise invalid(f"feature {name!r} must hold floats, integers or strings, and one kind of them")


def _tensors(protos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    found = {}
    for name in sorted(protos):
        shape = protos[name].tensor_shape
        sizes = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
        found[name] = TensorInfo(types_pb2.DataType.Name(protos[name].dtype), sizes, protos[name].name)
    return found
