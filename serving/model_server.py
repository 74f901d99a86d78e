"""The whole server: repository, core and both transports, configured by flags."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.batching import parameters as batching_parameters
from serving.batching.parameters import BatchingParameters
from serving.batching.scheduler import BatchScheduler
from serving.core import Core
from serving.grpc import server as grpc_server
from serving.grpc.server import GrpcServer
from serving.lifecycle.loader import Loader
from serving.lifecycle.model_config import single_model
from serving.lifecycle.repository import Repository
from serving.lifecycle.settings import RepositorySettings
from serving.model import bfloat16
from serving.monitoring.metrics import ServerMetrics
from serving.rest.app import RestApp
from serving.rest.options import RestOptions
from serving.rest.server import RestServer
from serving.security import server_token, ssl_config
from serving.settings import file_system
from serving.settings import flags as flag_module
from serving.settings import messages as config_messages
from serving.settings.flags import Flags

ANY_HOST = "[::]"
THREADS_PER_CPU = 4
PROMETHEUS_PATH = "/monitoring/prometheus/metrics"
DEMO_FOLDER = Path(__file__).parent / "demo"

log = logging.getLogger("serving")


class ModelServer:
    """A server of models over gRPC and REST.

    Args:
      flags: its settings.
      host: address that both ports are bound to; every interface by default.
      pick_ports: binds gRPC and REST to free ports, whatever the flags say.

    Attributes:
      core: for calls without a transport.
      metrics: its counters and timings.
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
        self._session_config = session_config(flags)
        loader = Loader(
            metrics=self.metrics,
            tags=tuple(filter(None, flags.saved_model_tags.split(","))),
            session_config=self._session_config,
            scheduler=self._scheduler,
            parameters=parameters,
            per_model_parameters=flags.enable_per_model_batching_parameters,
            warmup_iterations=max(1, flags.num_request_iterations_for_warmup)
            if flags.enable_model_warmup
            else 0,
            check_method_name=flags.enable_signature_method_name_check,
        )
        self._repository = Repository(loader, _repository_settings(flags))
        self.core = Core(self._repository, self.metrics.examples_counted)
        self.metrics.watch_models(self.core.models)
        self._token = server_token(flags.api_token_file)
        self._credentials = _grpc_credentials(flags)
        self._rest_options = _rest_options(flags, self._token)
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None
        self.grpc_port = 0
        self.rest_port = 0

    def start(self) -> None:
        """Loads the models, then opens the ports, so that every client that can connect gets answers.

        Raises:
          ServingError: a model that does not load, or a port that cannot be bound.
        """
        if self._flags.mixed_precision and (notice := bfloat16.warning(self._session_config)):
            log.warning(notice)
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
        """Refuses new requests, waits up to `grace` seconds for those in progress, and unloads all models."""
        seconds = self._flags.drain_timeout_seconds if grace is None else grace
        # In parallel, so that each transport has the whole grace period.
        stopping = [
            threading.Thread(target=server.stop, args=(seconds,), name="drain")
            for server in (self._rest, self._grpc)
            if server is not None
        ]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        self._rest = self._grpc = None
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


def session_config(flags: Flags) -> config_pb2.ConfigProto:
    """The TensorFlow configuration of every session.

    Raises:
      ServingError: --tensorflow_session_config_file cannot be read.
    """
    config = config_pb2.ConfigProto()
    if flags.tensorflow_session_config_file:
        config_messages.read_text_file(flags.tensorflow_session_config_file, config)
    both = flags.tensorflow_session_parallelism
    # 0 keeps the file's value.
    if both or flags.tensorflow_intra_op_parallelism:
        config.intra_op_parallelism_threads = both or flags.tensorflow_intra_op_parallelism
    if both or flags.tensorflow_inter_op_parallelism:
        config.inter_op_parallelism_threads = both or flags.tensorflow_inter_op_parallelism
    if flags.mixed_precision:
        rewriting = config.graph_options.rewrite_options
        rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    if flags.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = flags.per_process_gpu_memory_fraction
    config.allow_soft_placement = True  # as TF Serving does: a pinned graph runs where it can
    return config


def model_config(flags: Flags) -> model_server_config_pb2.ModelServerConfig:
    """The models to serve: those of the configuration file, or the single model of the flags."""
    if flags.model_config_file:
        config = model_server_config_pb2.ModelServerConfig()
        return config_messages.read_text_file(flags.model_config_file, config)
    base_path = flags.model_base_path
    if not file_system.is_uri(base_path):
        # On a command line the folder may be relative.
        base_path = str(Path(base_path).absolute())
    return single_model(flags.model_name, base_path)


def _batching(
    flags: Flags, metrics: ServerMetrics
) -> tuple[BatchScheduler | None, BatchingParameters | None]:
    """The batch scheduler, and the parameters of models without their own; (None, None) without batching."""
    if not flags.enable_batching:
        return None, None
    if flags.batching_parameters_file:
        parameters = batching_parameters.read_file(flags.batching_parameters_file)
    else:
        parameters = batching_parameters.without_file()
    return BatchScheduler(parameters, metrics), parameters


def _warmup_iterations(flags: Flags) -> int:
    return max(1, flags.num_request_iterations_for_warmup) if flags.enable_model_warmup else 0


def _repository_settings(flags: Flags) -> RepositorySettings:
    return RepositorySettings(
        model_config=model_config(flags),
        file_system_poll_wait_seconds=flags.file_system_poll_wait_seconds,
        max_num_load_retries=flags.max_num_load_retries,
        load_retry_interval_micros=flags.load_retry_interval_micros,
        num_load_threads=flags.num_load_threads,
        num_unload_threads=flags.num_unload_threads,
        allow_version_labels_for_unavailable_models=flags.allow_version_labels_for_unavailable_models,
        model_config_file=flags.model_config_file,
        model_config_file_poll_wait_seconds=flags.model_config_file_poll_wait_seconds,
    )


def _grpc_credentials(flags: Flags) -> Any:
    if flags.use_alts_credentials:
        return grpc_server.alts_credentials()
    config = ssl_config(flags.ssl_config_file)
    if config is None:
        return None
    return grpc_server.tls_credentials(config)


def _rest_options(flags: Flags, token: str) -> RestOptions:
    monitoring = config_messages.MonitoringConfig()
    if flags.monitoring_config_file:
        config_messages.read_text_file(flags.monitoring_config_file, monitoring)
    prometheus = monitoring.prometheus_config
    return RestOptions(
        num_threads=flags.rest_api_num_threads or THREADS_PER_CPU * flag_module.cpus(),
        timeout_in_ms=flags.rest_api_timeout_in_ms,
        enable_cors_support=flags.rest_api_enable_cors_support,
        prometheus_path=(prometheus.path or PROMETHEUS_PATH) if prometheus.enable else "",
        api_token=token,
        max_request_bytes=flags.rest_api_max_request_bytes,
        max_decompressed_bytes=flags.rest_api_max_decompressed_bytes,
        header_timeout_in_ms=flags.rest_api_header_timeout_in_ms,
        access_log=flags.access_log,
        demo_folder=DEMO_FOLDER if flags.enable_demo_page else None,
        ssl_config=ssl_config(flags.rest_ssl_config_file),
    )
