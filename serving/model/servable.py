"""A servable, one loaded version of a model: checks a call by its signature, runs it, checks the outputs.

The order of the checks and the error texts are those of tensorflow_serving/servables/tensorflow:
predict_util.cc, classifier.cc, regressor.cc, multi_inference.cc.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.python.framework import tensor_util

from serving.errors import Code, ServingError, invalid
from serving.model import inference
from serving.model.inference import CLASSIFY_METHOD, REGRESS_METHOD, ClassRows
from serving.model.session import Runner
from serving.specs import DEFAULT_SIGNATURE, ServableId

Decode = Callable[[SignatureDef], Mapping[str, np.ndarray]]
# The API's name as TF Serving's runtime_latency metric has it, and the seconds that the session took.
OnRun = Callable[[str, float], None]


def signature_key_not_found(name: str) -> ServingError:
    """The error of Predict over gRPC for an unknown signature."""
    return ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')


class Servable:
    """One version of one model, ready to answer.

    Args:
      servable_id: name and version.
      path: its folder.
      signatures: by name.
      runner: runs its graph; closed with the servable.
      on_run: called after every run.
      check_method_name: refuses Predict on signatures of other methods
        (--enable_signature_method_name_check).
    """

    def __init__(
        self,
        servable_id: ServableId,
        path: str,
        signatures: Mapping[str, SignatureDef],
        runner: Runner,
        on_run: OnRun = lambda api, seconds: None,
        check_method_name: bool = False,
    ) -> None:
        self.id = servable_id
        self.path = path
        self.signatures = signatures
        self._runner = runner
        self._on_run = on_run
        self._check_method_name = check_method_name

    def predict(
        self,
        signature_name: str,
        decode: Decode,
        output_filter: Sequence[str] = (),
        deadline: float | None = None,
        missing_signature: Callable[[str], ServingError] = signature_key_not_found,
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
          signature_name: empty for `serving_default`.
          decode: makes the inputs, by alias, once the signature is known. A mapping that parses an input
            only on access keeps the order of TF Serving's checks.
          output_filter: aliases of the outputs wanted; empty for all.
          deadline: second of `time.monotonic()` by which the run must be finished.
          missing_signature: makes the error for an unknown signature; REST has another text.

        Returns:
          Arrays by output alias.

        Raises:
          ServingError: the request does not fit the signature, or the graph's own error.
        """
        name = signature_name or DEFAULT_SIGNATURE
        signature = self.signatures.get(name)
        if signature is None:
            raise missing_signature(name)
        if self._check_method_name and signature.method_name not in inference.PREDICTABLE_METHODS:
            raise invalid(
                f"Expected prediction signature method_name to be one of {{{inference.PREDICT_METHOD}, "
                f"{CLASSIFY_METHOD}, {REGRESS_METHOD}}}. Was: {signature.method_name}"
            )
        feeds = _feeds(signature, decode(signature))
        aliases = _wanted(signature, output_filter)
        arrays = self._run("Predict", feeds, [signature.outputs[alias].name for alias in aliases], deadline)
        return dict(zip(aliases, arrays, strict=True))

    def classify(
        self, signature_name: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> list[ClassRows]:
        """Labels and scores of each serialized tf.Example, in the model's own order."""
        signature = self._inference_signature(signature_name)
        feed, outputs = inference.classify_tensors(signature)
        arrays = self._run_examples("Classify", [feed], outputs.values(), examples, deadline)
        return inference.classifications(dict(zip(outputs, arrays, strict=True)), len(examples))

    def regress(
        self, signature_name: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> list[float]:
        """A value for each serialized tf.Example."""
        signature = self._inference_signature(signature_name)
        feed, output = inference.regress_tensors(signature)
        (array,) = self._run_examples("Regress", [feed], [output], examples, deadline)
        return inference.regressions(array, len(examples))

    def multi_inference(
        self, tasks: Sequence[tuple[str, str]], examples: Sequence[bytes], deadline: float | None = None
    ) -> list[list[ClassRows] | list[float]]:
        """Classifications and regressions of the same examples in one run.

        Args:
          tasks: (method name, signature name) each.
          examples: serialized tf.Examples.
          deadline: second of `time.monotonic()` by which the run must be finished.

        Returns:
          For each task, in order, the result of `classify` or `regress`.
        """
        feeds: set[str] = set()
        plans: list[tuple[str, dict[str, str]]] = []
        for method, name in tasks:
            signature = self.signatures.get(name or DEFAULT_SIGNATURE)
            if signature is None:
                raise invalid(f"Requested signature not found in model graph: {name or DEFAULT_SIGNATURE}")
            if method == CLASSIFY_METHOD:
                feed, outputs = inference.classify_tensors(signature)
            elif method == REGRESS_METHOD:
                feed, output = inference.regress_tensors(signature)
                outputs = {"outputs": output}
            else:
                raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")
            feeds.add(feed)
            plans.append((method, outputs))
        fetches = list(dict.fromkeys(name for _, outputs in plans for name in outputs.values()))
        arrays = self._run_examples("MultiInference", sorted(feeds), fetches, examples, deadline)
        fetched = dict(zip(fetches, arrays, strict=True))
        return [
            inference.classifications(
                {alias: fetched[name] for alias, name in outputs.items()}, len(examples)
            )
            if method == CLASSIFY_METHOD
            else inference.regressions(fetched[outputs["outputs"]], len(examples))
            for method, outputs in plans
        ]

    def close(self) -> None:
        """Frees the model; no call may be in progress."""
        self._runner.close()

    def _inference_signature(self, signature_name: str) -> SignatureDef:
        name = signature_name or DEFAULT_SIGNATURE
        signature = self.signatures.get(name)
        if signature is None:
            raise invalid(f"No signature was found with the name: {name}")
        return signature

    def _run_examples(
        self,
        api: str,
        feeds: Iterable[str],
        fetches: Iterable[str],
        examples: Sequence[bytes],
        deadline: float | None,
    ) -> list[np.ndarray]:
        if not examples:
            raise invalid("Input is empty.")
        batch = np.empty(len(examples), object)
        batch[:] = list(examples)
        return self._run(api, dict.fromkeys(feeds, batch), list(fetches), deadline)

    def _run(
        self, api: str, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: float | None
    ) -> list[np.ndarray]:
        began = time.perf_counter()
        arrays = self._runner.run(feeds, fetches, deadline)
        self._on_run(api, time.perf_counter() - began)
        return arrays


def _feeds(signature: SignatureDef, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by graph tensor: the request's inputs, and the signature's defaults for missing ones."""
    sent, required, defaults = set(inputs), set(signature.inputs), _defaults(signature)
    if len(sent) > len(required) or (len(sent) < len(required) and not defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(required)} "
            f"len({_names(sent)}) != len({_names(required)}). Sent extra: {_names(sent - required)}. "
            f"Missing but required: {_names(required - sent)}."
        )
    feeds = {}
    for alias in sorted(required):
        if alias in sent:
            feeds[signature.inputs[alias].name] = inputs[alias]
        elif alias in defaults:
            feeds[signature.inputs[alias].name] = tensor_util.MakeNdarray(defaults[alias])
        else:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in "
                f"request and no default value provided. Inputs expected to be in the request "
                f"{_names(required - set(defaults))}, or default input alias set: {_names(set(defaults))}"
            )
    if sent - required:
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_names(sent & required)}, "
            f"request input: {_names(sent)}"
        )
    return feeds


def _defaults(signature: SignatureDef) -> Mapping[str, Any]:
    """Default values of inputs, in SavedModels of a format that has them."""
    return getattr(signature, "defaults", {})


def _wanted(signature: SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """Aliases of the outputs to fetch; sorted, so that equal sets give equal fetches."""
    if not output_filter:
        return sorted(signature.outputs)
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_names(set(signature.outputs))}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return sorted(seen)


def _names(names: set[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
