"""Loads a version folder as a servable: session, batching, warm-up; each is timed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tensorflow.core.protobuf import config_pb2

from serving.batching import parameters as batching_parameters
from serving.batching.parameters import BatchingParameters
from serving.batching.scheduler import BatchScheduler
from serving.batching.session import BatchingSession
from serving.errors import Code, ServingError
from serving.model import session as saved_model
from serving.model import warmup
from serving.model.servable import Servable
from serving.model.session import Runner
from serving.monitoring.metrics import ServerMetrics
from serving.specs import ServableId


@dataclass(frozen=True)
class Loader:
    """Loads versions; called by the manager's threads.

    Attributes:
      metrics: counts and times loads, warm-ups and runs.
      tags: of the graph in the SavedModel.
      session_config: of every session.
      scheduler: None for no batching.
      parameters: batching parameters of all models, without `per_model_parameters`.
      per_model_parameters: reads batching parameters from each version's own file; versions without one are
        not batched.
      warmup_iterations: runs of each warm-up request; 0 for no warm-up.
      check_method_name: see `Servable`.
    """

    metrics: ServerMetrics
    tags: tuple[str, ...] = (saved_model.SERVE_TAG,)
    session_config: config_pb2.ConfigProto | None = None
    scheduler: BatchScheduler | None = None
    parameters: BatchingParameters | None = None
    per_model_parameters: bool = False
    warmup_iterations: int = 1
    check_method_name: bool = False

    def __call__(self, servable_id: ServableId, path: str) -> Servable:
        """Loads one version and warms it up.

        Raises:
          ServingError: the version cannot be loaded or warmed up.
        """
        servable = self._servable(servable_id, path)
        try:
            if self.warmup_iterations:
                warmup.run(servable, self.warmup_iterations, self.metrics.warmup_done)
        except BaseException:
            servable.close()
            raise
        return servable

    def _servable(self, servable_id: ServableId, path: str) -> Servable:
        # First: a version with invalid parameters need not be read.
        parameters = self._parameters(path)
        began, code = time.perf_counter(), Code.UNKNOWN
        try:
            session = saved_model.load(path, self.tags, self.session_config, self.metrics)
            code = Code.OK
        except ServingError as error:
            code = error.code
            raise
        finally:
            self.metrics.load_done(path, code, time.perf_counter() - began)
        runner: Runner = session
        if self.scheduler is not None and parameters is not None:
            runner = BatchingSession(session, self.scheduler, parameters, self.metrics)
        return Servable(
            servable_id,
            path,
            session.signatures,
            runner,
            lambda api, seconds: self.metrics.run_done(servable_id.name, api, seconds),
            self.check_method_name,
        )

    def _parameters(self, path: str) -> BatchingParameters | None:
        """The version's batching parameters; None for no batching."""
        if self.scheduler is None or not self.per_model_parameters:
            return self.parameters
        return batching_parameters.read_per_model(path)
