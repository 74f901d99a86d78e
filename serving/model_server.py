"""The whole server: repository, core and both transports, put together as the flags say."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving import config_messages, flags as flag_module, grpc_server
from serving.batching import BatchScheduler
from serving.batching_parameters import BatchingParameters
from serving.core import Core
from serving.errors import Code, ServingError, invalid
from serving.flags import Flags
from serving.grpc_server import GrpcServer
from serving.loader import Loader
from serving.metrics import ServerMetrics
from serving.repository import Repository, RepositorySettings
from serving.rest_app import RestApp, RestOptions
from serving.rest_server import RestServer

ANY_HOST = "[::]"
THREADS_PER_CPU = 4

log = logging.getLogger("serving")


class ModelServer:
    """A server, not yet started.

    Args:
      flags: its settings.
      host: address that both ports are bound to; every interface by default.
      pick_ports: binds gRPC and REST to free ports, whatever the flags say.

    Attributes:
      core: for calls without a transport.
      metrics: what it counts.
      grpc_port: bound port, once started; 0 for none.
      rest_port: likewise.

    Raises:
      ServingError: a setting or configuration file that cannot be used.
    """

    def __init__(self, flags: Flags, *, host: str = "", pick_ports: bool = False) -> None:
        self._flags = flags
        self._host = host
        self._pick_ports = pick_ports
        self.metrics = ServerMetrics()
        self._scheduler, parameters = _batching(flags, self.metrics)
        loader = Loader(
            metrics=self.metrics,
            tags=tuple(filter(None, flags.saved_model_tags.split(","))),
            session_config=session_config(flags),
            scheduler=self._scheduler,
            parameters=parameters,
            per_model_parameters=flags.enable_per_model_batching_parameters,
            warmup_iterations=max(1, flags.num_request_iterations_for_warmup) if flags.enable_model_warmup else 0,
            check_method_name=flags.enable_signature_method_name_check,
        )
        self._repository = Repository(loader, _repository_settings(flags))
        self.core = Core(self._repository, self.metrics.examples_counted)
        self.metrics.watch_models(self._repository.models, self._repository.statuses)
        self._token = _read_token(flags.api_token_file)
        self._credentials = _grpc_credentials(flags)
        self._rest_options = _rest_options(flags, self._token)
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None
        self.grpc_port = 0
        self.rest_port = 0

    def start(self) -> None:
        """Loads the models, then opens the ports: whoever can connect can be answered.

        Raises:
          ServingError: a model that does not load, or a port that cannot be bound.
        """
        began = time.monotonic()
        try:
            self._repository.start()
            self._start_grpc()
            self._start_rest()
        except BaseException:
            self.stop(0)
            raise
        log.info("ready %.1f s after the start of loading", time.monotonic() - began)

    def stop(self, grace: float | None = None) -> None:
        """Refuses new requests, finishes those begun within `grace` seconds, unloads everything."""
        seconds = self._flags.drain_timeout_seconds if grace is None else grace
        ends = time.monotonic() + seconds
        stopping = [server.begin_stop(seconds) for server in (self._rest, self._grpc) if server is not None]
        for finished in stopping:
            finished.wait(max(0.0, ends - time.monotonic()) + 1.0)
        self._repository.stop()
        if self._scheduler is not None:
            self._scheduler.close()

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _start_grpc(self) -> None:
        flags = self._flags
        server = GrpcServer(
            self.core,
            self.metrics,
            max_threads=flags.grpc_max_threads or THREADS_PER_CPU * flag_module.cpus(),
            channel_arguments=flags.grpc_channel_arguments,
            health_service=flags.enable_grpc_healthcheck_service,
            as_content=flags.enable_serialization_as_tensor_content,
            api_token=self._token,
        )
        if flags.port or self._pick_ports:
            port = 0 if self._pick_ports else flags.port
            self.grpc_port = server.listen(f"{self._host or ANY_HOST}:{port}", self._credentials)
        if flags.grpc_socket_path:
            server.listen(f"unix:{flags.grpc_socket_path}", self._credentials)
        server.start()
        self._grpc = server
        log.info("Running gRPC ModelServer at %s:%d ...", self._host or "0.0.0.0", self.grpc_port)

    def _start_rest(self) -> None:
        flags = self._flags
        if not flags.rest_api_port and not self._pick_ports:
            return
        app = RestApp(self.core, self.metrics, self._rest_options)
        port = 0 if self._pick_ports else flags.rest_api_port
        server = RestServer(app, port, self._host, self._rest_options)
        self.rest_port = server.start()
        self._rest = server
        log.info("Exporting HTTP/REST API at:%s:%d ...", self._host or "localhost", self.rest_port)
