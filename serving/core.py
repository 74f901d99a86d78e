"""The server's calls without gRPC or HTTP; both transports are thin adapters of this.

Every call chooses a version, holds it while it runs, and names the version that answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import Code, ServingError, invalid
from serving.model.inference import CLASSIFY_METHOD, ClassRows
from serving.model.servable import Decode, Servable, signature_key_not_found
from serving.specs import DEFAULT_SIGNATURE, ModelSpec, VersionStatus


class Versions(Protocol):
    """What the core uses of the model repository, `lifecycle.repository.Repository`."""

    def servable(self, spec: ModelSpec) -> AbstractContextManager[Servable]:
        """Holds the version that a request means, for a `with` block."""

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of a model's versions, highest first."""

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Replaces the configuration."""

    def models(self) -> list[str]:
        """Names of the configured models."""

    def labels(self, name: str) -> dict[str, int]:
        """A model's version labels."""

    def retry(self, name: str, version: int) -> None:
        """Loads a failed version again."""

    def ready(self) -> bool:
        """Whether every configured model has an available version."""


class PredictResult(NamedTuple):
    """The result of Predict: outputs by alias, their signature, and the spec of the version that answered."""

    spec: ModelSpec
    outputs: dict[str, np.ndarray]
    signature: SignatureDef


class ClassifyResult(NamedTuple):
    """The result of Classify: (label, score) pairs for each example, and the spec that answered."""

    spec: ModelSpec
    rows: list[ClassRows]


class RegressResult(NamedTuple):
    """The result of Regress: a value for each example, and the spec that answered."""

    spec: ModelSpec
    values: list[float]


class InferenceTask(NamedTuple):
    """One task of MultiInference."""

    spec: ModelSpec
    method_name: str


class MetadataResult(NamedTuple):
    """The result of GetModelMetadata: a version's signatures by name."""

    spec: ModelSpec
    signatures: Mapping[str, SignatureDef]


class Core:
    """Answers requests with the models of a repository.

    All methods may be called by many threads, and raise ServingError with TF Serving's code and words.

    Args:
      versions: the repository.
      on_examples: called with the model and the number of examples of each MultiInference request.
    """

    def __init__(
        self, versions: Versions, on_examples: Callable[[str, int], None] = lambda model, count: None
    ) -> None:
        self._versions = versions
        self._on_examples = on_examples

    def predict(
        self,
        spec: ModelSpec,
        decode: Decode,
        output_filter: Sequence[str] = (),
        deadline: float | None = None,
        missing_signature: Callable[[str], ServingError] = signature_key_not_found,
    ) -> PredictResult:
        """Runs a signature; see `Servable.predict`."""
        with self._versions.servable(spec) as servable:
            outputs = servable.predict(
                spec.signature_name, decode, output_filter, deadline, missing_signature
            )
            resolved = _resolved(spec, servable)
            return PredictResult(resolved, outputs, servable.signatures[resolved.signature_name])

    def classify(
        self, spec: ModelSpec, examples: Sequence[bytes], deadline: float | None = None
    ) -> ClassifyResult:
        """Classifies serialized tf.Examples."""
        with self._versions.servable(spec) as servable:
            rows = servable.classify(spec.signature_name, examples, deadline)
            return ClassifyResult(_resolved(spec, servable), rows)

    def regress(
        self, spec: ModelSpec, examples: Sequence[bytes], deadline: float | None = None
    ) -> RegressResult:
        """A value for each serialized tf.Example."""
        with self._versions.servable(spec) as servable:
            values = servable.regress(spec.signature_name, examples, deadline)
            return RegressResult(_resolved(spec, servable), values)

    def multi_inference(
        self, tasks: Sequence[InferenceTask], examples: Sequence[bytes], deadline: float | None = None
    ) -> list[ClassifyResult | RegressResult]:
        """Classifies and regresses the same examples, several tasks in one run of one version."""
        chosen = tasks[0].spec if tasks else ModelSpec("")
        with self._versions.servable(chosen) as servable:
            _check_tasks(tasks)
            answers = servable.multi_inference(
                [(task.method_name, task.spec.signature_name) for task in tasks], examples, deadline
            )
            self._on_examples(chosen.name, len(examples))
            return [
                _result(task, _resolved(task.spec, servable), answer)
                for task, answer in zip(tasks, answers, strict=True)
            ]

    def metadata(self, spec: ModelSpec) -> MetadataResult:
        """Every signature of a version; the spec in the answer names no signature."""
        with self._versions.servable(spec) as servable:
            return MetadataResult(ModelSpec(spec.name, servable.id.version), servable.signatures)

    def status(self, spec: ModelSpec) -> list[VersionStatus]:
        """States of the requested version, or of all versions ever managed; a label has no effect."""
        return self._versions.statuses(spec.name, spec.version)

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Replaces the list of models, and waits for the new ones."""
        self._versions.reload(config)

    def models(self) -> dict[str, list[VersionStatus]]:
        """The states of every configured model's versions; an empty list before the first is known."""
        found: dict[str, list[VersionStatus]] = {}
        for name in self._versions.models():
            try:
                found[name] = self._versions.statuses(name)
            except ServingError as error:
                if error.code != Code.NOT_FOUND:
                    raise
                found[name] = []
        return found

    def labels(self, name: str) -> dict[str, int]:
        """A model's version labels."""
        return self._versions.labels(name)

    def retry(self, name: str, version: int) -> None:
        """Loads a failed version again."""
        self._versions.retry(name, version)

    def ready(self) -> bool:
        """Whether every configured model has an available version."""
        return self._versions.ready()


def _resolved(spec: ModelSpec, servable: Servable) -> ModelSpec:
    """The spec in an answer, with the version itself however it was chosen."""
    return ModelSpec(spec.name, servable.id.version, None, spec.signature_name or DEFAULT_SIGNATURE)


def _check_tasks(tasks: Sequence[InferenceTask]) -> None:
    name, seen = tasks[0].spec.name, set()
    for task in tasks:
        if not task.spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.spec.name != name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        signature = task.spec.signature_name or DEFAULT_SIGNATURE
        if signature in seen:
            raise invalid(f"Duplicate evaluation of signature: {signature}")
        seen.add(signature)


def _result(task: InferenceTask, spec: ModelSpec, answer: Any) -> ClassifyResult | RegressResult:
    kind = ClassifyResult if task.method_name == CLASSIFY_METHOD else RegressResult
    return kind(spec, answer)
