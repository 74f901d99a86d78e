"""The client's interface, the same over REST and gRPC, and the types of its answers."""

from __future__ import annotations

import abc
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from serving.clients.retry import RetryPolicy
from serving.errors import Code, ServingError
from serving.specs import DEFAULT_SIGNATURE, ModelSpec, VersionStatus

# TF Serving's own --model_name when none is given.
DEFAULT_MODEL = "default"
TIMEOUT_SECONDS = 30.0
UNNAMED_OUTPUT = "outputs"
BINARY = "_bytes"  # outputs whose name ends so hold bytes, over REST as b64 objects

Inputs = Mapping[str, Any] | Sequence[Any]
Example = Mapping[str, Any]


class Prediction(NamedTuple):
    """The answer to `predict`.

    Attributes:
      outputs: a tensor each, as nested lists. Elements of strings are bytes where the output's name ends
        in `_bytes` and str elsewhere (bytes that are no UTF-8 as surrogate escapes), over both transports.
      version: which version answered; None over REST, whose answers do not name it.
    """

    outputs: dict[str, Any]
    version: int | None = None


class TensorInfo(NamedTuple):
    """One input or output of a signature.

    Attributes:
      dtype: as `DT_FLOAT`.
      shape: -1 for a free dimension; None where even the rank is free.
      name: of the graph's tensor.
    """

    dtype: str
    shape: tuple[int, ...] | None
    name: str


class Signature(NamedTuple):
    """One signature of a model."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    method_name: str


class Metadata(NamedTuple):
    """The answer to `metadata`: which version answered, and its signatures by name."""

    model: str
    version: int
    signatures: dict[str, Signature]


class ClientSettings(NamedTuple):
    """Settings of a client.

    Attributes:
      model: the model to use where a call names none.
      timeout: seconds for one call, its retries included.
      policy: when a call is tried again.
      token: sent as `authorization: Bearer TOKEN`; None for none.
    """

    model: ModelSpec
    timeout: float = TIMEOUT_SECONDS
    policy: RetryPolicy = RetryPolicy()
    token: str | None = None


class Client(abc.ABC):
    """A connection to a server that speaks TF Serving's interfaces; threads may share it.

    Every call takes `model`, a name or a ModelSpec (name with version or label); None is the client's own.
    `timeout` is in seconds, retries included; None is the client's own. All raise ServingError with the
    server's code and text, with UNAVAILABLE where no server was reached, and DEADLINE_EXCEEDED.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._closed = threading.Event()
        self._signatures: dict[ModelSpec, dict[str, Signature]] = {}

    def predict(
        self,
        inputs: Inputs,
        *,
        signature_name: str = "",
        model: str | ModelSpec | None = None,
        timeout: float | None = None,
    ) -> Prediction:
        """Runs a signature.

        Args:
          inputs: a mapping from input names to whole tensors (the columnar form), or a list of rows, each
            the value of the only input or a mapping from input names to values (the row form: the tensors
            get a leading dimension). Values are numbers, str, bytes, nested lists or NumPy arrays.
          signature_name: empty for `serving_default`.
        """
        return self._predict(inputs, signature_name, self.spec(model), self.deadline(timeout))

    def classify(
        self,
        examples: Sequence[Example],
        *,
        signature_name: str = "",
        model: str | ModelSpec | None = None,
        timeout: float | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Labels with scores for each example, in the model's order.

        Args:
          examples: each from feature names to a value or a list of values: float, int, str or bytes; a bool
            counts as an int.
        """
        return self._classify(examples, signature_name, self.spec(model), self.deadline(timeout))

    def regress(
        self,
        examples: Sequence[Example],
        *,
        signature_name: str = "",
        model: str | ModelSpec | None = None,
        timeout: float | None = None,
    ) -> list[float]:
        """One number for each example."""
        return self._regress(examples, signature_name, self.spec(model), self.deadline(timeout))

    def status(
        self, *, model: str | ModelSpec | None = None, timeout: float | None = None
    ) -> list[VersionStatus]:
        """The versions of a model and their states, highest first."""
        return self._status(self.spec(model), self.deadline(timeout))

    def metadata(self, *, model: str | ModelSpec | None = None, timeout: float | None = None) -> Metadata:
        """The signatures of a model."""
        return self._metadata(self.spec(model), self.deadline(timeout))

    def models(self, timeout: float | None = None) -> list[str]:
        """The names of all models. TF Serving has no such call; this project's server has one, over REST.

        Raises:
          ServingError: UNIMPLEMENTED over gRPC, NOT_FOUND from other servers.
        """
        raise ServingError(Code.UNIMPLEMENTED, "a server tells the names of its models over REST only")

    @abc.abstractmethod
    def close(self) -> None:
        """Closes connections and ends retries; calls in progress fail."""

    # What a transport implements for each call, given the model and the deadline.

    @abc.abstractmethod
    def _predict(
        self, inputs: Inputs, signature_name: str, spec: ModelSpec, deadline: float
    ) -> Prediction: ...

    @abc.abstractmethod
    def _classify(
        self, examples: Sequence[Example], signature_name: str, spec: ModelSpec, deadline: float
    ) -> list[list[tuple[str, float]]]: ...

    @abc.abstractmethod
    def _regress(
        self, examples: Sequence[Example], signature_name: str, spec: ModelSpec, deadline: float
    ) -> list[float]: ...

    @abc.abstractmethod
    def _status(self, spec: ModelSpec, deadline: float) -> list[VersionStatus]: ...

    @abc.abstractmethod
    def _metadata(self, spec: ModelSpec, deadline: float) -> Metadata: ...

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def signature(self, signature_name: str, spec: ModelSpec, deadline: float) -> Signature | None:
        """A signature from the model's metadata, which is kept; None when the model lacks the signature."""
        known = self._signatures.get(spec)
        if known is None:
            left = self.left(deadline)
            known = self._signatures[spec] = self.metadata(model=spec, timeout=left).signatures
        return known.get(signature_name or DEFAULT_SIGNATURE)

    def forget_signatures(self, spec: ModelSpec) -> None:
        """Drops the kept metadata: another version may be the latest by now."""
        self._signatures.pop(spec, None)

    def spec(self, model: str | ModelSpec | None) -> ModelSpec:
        """The model of a call."""
        if model is None:
            return self.settings.model
        return ModelSpec(model) if isinstance(model, str) else model

    def deadline(self, timeout: float | None) -> float:
        """The deadline, by time.monotonic(), of a call that starts now."""
        return time.monotonic() + (self.settings.timeout if timeout is None else timeout)

    def left(self, deadline: float) -> float:
        """Seconds until a deadline; once it has passed a tiny positive number, so that calls time out."""
        return max(0.001, deadline - time.monotonic())

    def name_of_only_output(self, signature_name: str, spec: ModelSpec, deadline: float) -> str:
        """The name of a single output from the metadata, since REST's answers lack it; else `outputs`."""
        try:
            signature = self.signature(signature_name, spec, deadline)
        except ServingError:
            return UNNAMED_OUTPUT
        if signature is None or len(signature.outputs) != 1:
            return UNNAMED_OUTPUT
        return next(iter(signature.outputs))
