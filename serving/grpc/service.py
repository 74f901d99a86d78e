"""PredictionService and ModelService: adapters between gRPC's messages and the core."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.core import ClassifyResult, Core, InferenceTask, RegressResult
from serving.errors import Code, ServingError, invalid
from serving.model import inference, tensors
from serving.monitoring.metrics import ServerMetrics
from serving.specs import ModelSpec

SIGNATURE_DEF = "signature_def"
ENTRYPOINT = "GRPC"
LONGEST_DEADLINE = 366 * 24 * 3600.0
STATUS_CODES = {Code(status.value[0]): status for status in grpc.StatusCode}

T = TypeVar("T")
ResultT = TypeVar("ResultT", ClassifyResult, RegressResult)

log = logging.getLogger("serving")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The service of tensorflow_serving/apis/prediction_service.proto.

    Args:
      core: answers requests.
      metrics: counts requests.
      as_content: writes numbers into tensor_content (--enable_serialization_as_tensor_content).
    """

    def __init__(self, core: Core, metrics: ServerMetrics, as_content: bool = False) -> None:
        self._core = core
        self._metrics = metrics
        self._as_content = as_content

    def Predict(  # noqa: N802 - gRPC's names
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        return self._counted(
            "Predict", request.model_spec.name, context, lambda: self._predict(request, context)
        )

    def Classify(  # noqa: N802
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        response = classification_pb2.ClassificationResponse()
        return self._examples_answered(
            "Classify", request, context, self._core.classify, response, _fill_classifications
        )

    def Regress(  # noqa: N802
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        response = regression_pb2.RegressionResponse()
        return self._examples_answered(
            "Regress", request, context, self._core.regress, response, _fill_regressions
        )

    def MultiInference(  # noqa: N802
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        def answer() -> Any:
            tasks = [InferenceTask(_named_spec(task.model_spec), task.method_name) for task in request.tasks]
            examples = inference.serialized_examples(request.input)
            response = inference_pb2.MultiInferenceResponse()
            for result in self._core.multi_inference(tasks, examples, _deadline(context)):
                filled = response.results.add(model_spec=_message(result.spec))
                if isinstance(result, ClassifyResult):
                    _fill_classifications(filled.classification_result, result)
                else:
                    _fill_regressions(filled.regression_result, result)
            return response

        return _answered(context, answer)

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        def answer() -> Any:
            spec = _spec(request)
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
            for name in request.metadata_field:
                if name != SIGNATURE_DEF:
                    raise invalid(f"Metadata field {name} is not supported")
            metadata = self._core.metadata(spec)
            response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=_message(metadata.spec))
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in metadata.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.metadata[SIGNATURE_DEF].Pack(signatures)
            return response

        return _answered(context, answer)

    def _predict(self, request: Any, context: grpc.ServicerContext) -> tuple[Any, float]:
        spec, inputs = _spec(request), tensors.TensorInputs(request.inputs)
        answer, seconds = _timed(
            lambda: self._core.predict(spec, lambda _: inputs, request.output_filter, _deadline(context))
        )
        response = predict_pb2.PredictResponse(model_spec=_message(answer.spec))
        for alias, array in answer.outputs.items():
            response.outputs[alias].CopyFrom(tensors.to_proto(array, self._as_content))
        return response, seconds

    def _examples_answered(
        self,
        api: str,
        request: Any,
        context: grpc.ServicerContext,
        run: Callable[[ModelSpec, Sequence[bytes], float | None], ResultT],
        response: Any,
        fill: Callable[[Any, ResultT], None],
    ) -> Any:
        """Runs the request's tf.Examples and fills `response` with the results."""

        def answer() -> tuple[Any, float]:
            spec, examples = _spec(request), inference.serialized_examples(request.input)
            result, seconds = _timed(lambda: run(spec, examples, _deadline(context)))
            response.model_spec.CopyFrom(_message(result.spec))
            fill(response.result, result)
            return response, seconds

        return self._counted(api, request.model_spec.name, context, answer)

    def _counted(
        self,
        api: str,
        model_name: str,
        context: grpc.ServicerContext,
        answer: Callable[[], tuple[Any, float]],
    ) -> Any:
        """Answers a request, and counts it whether or not it succeeds."""
        began, code = time.perf_counter(), Code.OK
        try:
            response, inside = answer()
        except Exception as error:  # noqa: BLE001 - every failure is an answer
            failure = _failure(error)
            code = failure.code
            _abort(context, failure)
        else:
            outside = time.perf_counter() - began - inside
            self._metrics.transport_done(model_name, api, ENTRYPOINT, outside)
            return response
        finally:
            self._metrics.request_done(model_name, code, api, ENTRYPOINT, time.perf_counter() - began)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """The service of tensorflow_serving/apis/model_service.proto."""

    def __init__(self, core: Core, metrics: ServerMetrics) -> None:
        self._core = core
        self._metrics = metrics

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        def answer() -> Any:
            response = get_model_status_pb2.GetModelStatusResponse()
            for status in self._core.status(_spec(request)):
                filled = response.model_version_status.add(version=status.version, state=int(status.state))
                filled.status.error_code = int(status.code)
                filled.status.error_message = status.message
            return response

        return _answered(context, answer)

    def HandleReloadConfigRequest(  # noqa: N802
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        def answer() -> Any:
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                    "ModelConfigList is currently supported"
                )
            before = self._metrics.counters()
            self._core.reload(request.config)
            after = self._metrics.counters()
            response = model_management_pb2.ReloadConfigResponse()
            response.status.SetInParent()
            for name in request.metric_names:
                increase = after.get(name, 0) - before.get(name, 0)
                response.metric.add(name=name, int64_value_increase=increase)
            return response

        return _answered(context, answer)


def _spec(request: Any) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return _named_spec(request.model_spec)


def _named_spec(message: Any) -> ModelSpec:
    choice = message.WhichOneof("version_choice")
    return ModelSpec(
        message.name,
        message.version.value if choice == "version" else None,
        message.version_label if choice == "version_label" else None,
        message.signature_name,
    )


def _message(spec: ModelSpec) -> model_pb2.ModelSpec:
    message = model_pb2.ModelSpec(name=spec.name, signature_name=spec.signature_name)
    if spec.version is not None:
        message.version.value = spec.version
    return message


def _fill_classifications(result: classification_pb2.ClassificationResult, answer: ClassifyResult) -> None:
    for row in answer.rows:
        classes = result.classifications.add().classes
        for label, score in row:
            # The field is a string: bytes that are none lose what cannot be shown, rather than the answer.
            classes.add(label=label.decode("utf-8", "replace"), score=score)


def _fill_regressions(result: regression_pb2.RegressionResult, answer: RegressResult) -> None:
    for value in answer.values:
        result.regressions.add(value=value)


def _deadline(context: grpc.ServicerContext) -> float | None:
    """The call's deadline by time.monotonic(); None without one."""
    left = context.time_remaining()
    # Without a deadline gRPC counts down from the end of its clock.
    return None if left is None or left > LONGEST_DEADLINE else time.monotonic() + left


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    """The call's result, and the seconds it took."""
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def _answered(context: grpc.ServicerContext, answer: Callable[[], Any]) -> Any:
    try:
        return answer()
    except Exception as error:  # noqa: BLE001 - every failure is an answer
        _abort(context, _failure(error))


def _failure(error: Exception) -> ServingError:
    """The error for the client; an unexpected one is logged with its traceback."""
    if isinstance(error, ServingError):
        return error
    log.exception("a request failed in an unforeseen way")
    return ServingError(Code.INTERNAL, "Internal error")


def _abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    context.abort(STATUS_CODES[error.code], error.grpc_details)
    raise AssertionError("abort always raises")
