"""The gRPC server: ports, TLS, threads, health service, reflection, API token."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.core import Core
from serving.errors import Code, ServingError, invalid
from serving.grpc.service import ModelService, PredictionService
from serving.monitoring.metrics import ServerMetrics
from serving.security import SslConfig

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
# Names under which TF Serving reports its health: the whole server, and both services without their package.
HEALTH_NAMES = ("", "ModelService", "PredictionService")
LARGEST_MESSAGE = 2**31 - 1  # gRPC's own default of 4 MiB is less than a batch of photographs
UNAUTHENTICATED = "a valid API token is needed: metadata 'authorization: Bearer TOKEN'"


class GrpcServer:
    """Serves the core over gRPC.

    Args:
      core: answers requests.
      metrics: counts requests.
      max_threads: requests that run at once; more wait.
      channel_arguments: `key=value` separated by commas (--grpc_channel_arguments).
      health_service: whether to offer grpc.health.v1.Health (--enable_grpc_healthcheck_service).
      as_content: see `PredictionService`.
      api_token: token that every call must carry; empty for none.
    """

    def __init__(
        self,
        core: Core,
        metrics: ServerMetrics,
        *,
        max_threads: int,
        channel_arguments: str = "",
        health_service: bool = False,
        as_content: bool = False,
        api_token: str = "",
    ) -> None:
        self._threads = futures.ThreadPoolExecutor(max_threads, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._threads,
            interceptors=[_TokenInterceptor(api_token)] if api_token else [],
            options=_options(channel_arguments),
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(core, metrics, as_content), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core, metrics), self._server)
        names = [PREDICTION_SERVICE, MODEL_SERVICE, reflection.SERVICE_NAME]
        if health_service:
            servicer = health.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
            for name in HEALTH_NAMES:
                servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
            names.append(health.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Adds an address to listen on; before `start`.

        Args:
          address: `HOST:PORT` (port 0 for any) or `unix:PATH`.
          credentials: None for an insecure port.

        Returns:
          The bound port; 1 for a UNIX socket.

        Raises:
          ServingError: UNAVAILABLE when it cannot be bound.
        """
        try:
            if credentials is None:
                port: int = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise ServingError(
                Code.UNAVAILABLE,
                f"gRPC cannot listen on {address}; does another program? (--port, --grpc_socket_path)",
            )
        return port

    def start(self) -> None:
        """Starts to answer calls."""
        self._server.start()

    def stop(self, grace: float) -> None:
        """Refuses new calls at once, and waits up to `grace` seconds for those in progress."""
        self._server.stop(grace).wait()
        self._threads.shutdown(wait=False)


def tls_credentials(config: SslConfig) -> grpc.ServerCredentials:
    """TLS credentials from an SSLConfig message that `serving.security.server_context` has checked."""
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def alts_credentials() -> grpc.ServerCredentials:
    """Credentials of Google's Application Layer Transport Security, which works only inside its cloud."""
    return grpc.alts_server_credentials()


def _options(channel_arguments: str) -> Sequence[tuple[str, Any]]:
    """Options of the server's channels: our own and the user's, whole numbers converted to int."""
    options: dict[str, Any] = {
        "grpc.max_receive_message_length": LARGEST_MESSAGE,
        "grpc.max_send_message_length": LARGEST_MESSAGE,
        "grpc.so_reuseport": 0,  # a port that another server has is an error, not a share
    }
    for argument in filter(None, channel_arguments.split(",")):
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise invalid(
                f"--grpc_channel_arguments: expected key=value, separated by commas; received {argument!r}"
            )
        options[key] = int(value) if value.lstrip("-").isdigit() else value
    return list(options.items())


class _TokenInterceptor(grpc.ServerInterceptor):
    """Refuses calls without the API token."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        received = dict(details.invocation_metadata).get("authorization", "")
        if hmac.compare_digest(str(received).encode(), self._expected):
            return continuation(details)
        return self._refusal


def _refuse(request: Any, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, UNAUTHENTICATED)
