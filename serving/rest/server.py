"""The REST server: uvicorn in a thread of its own, which finishes requests in progress when it stops."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import ssl
import threading
from typing import Any, cast

import uvicorn

from serving.errors import Code, ServingError
from serving.rest.app import RestApp
from serving.rest.options import RestOptions
from serving.rest.protocol import GuardedProtocol
from serving.security import server_context

NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)

PORTS = 2**16

log = logging.getLogger("serving")


class RestServer:
    """Serves an application over HTTP/1.1, or HTTPS.

    Args:
      app: answers requests; its threads end with the server.
      port: TCP port; 0 for any free one.
      host: address or name to listen on; empty for all interfaces, IPv6 and IPv4.
      options: the application's.

    Raises:
      ServingError: INVALID_ARGUMENT: the TLS settings cannot be used.
    """

    def __init__(self, app: RestApp, port: int, host: str, options: RestOptions) -> None:
        self._app = app
        self._port = port
        self._host = host
        self._server = _Server(_config(app, options))
        self._thread = threading.Thread(target=self._serve, name="rest-server", daemon=True)
        self._socket: socket.socket | None = None
        self._stopped = threading.Event()

    def start(self) -> int:
        """Opens the port.

        Returns:
          The port that was bound.

        Raises:
          ServingError: UNAVAILABLE: it cannot be bound.
        """
        self._socket = listening_socket(self._host, self._port)
        port: int = self._socket.getsockname()[1]
        self._thread.start()
        self._server.ready.wait()
        if self._stopped.is_set():
            raise ServingError(Code.INTERNAL, "the REST server ended while it started")
        return port

    def begin_stop(self, grace_seconds: float) -> threading.Event:
        """Refuses new connections, answers requests in progress, closes idle connections.

        Args:
          grace_seconds: after which requests still running are answered with 503.

        Returns:
          An event that is set when the server has ended.
        """
        if self._thread.ident is None:  # never started
            self._app.close()
            self._stopped.set()
        self._server.config.timeout_graceful_shutdown = cast("int", grace_seconds)
        self._server.should_exit = True
        return self._stopped

    def stop(self, grace_seconds: float) -> None:
        """Calls `begin_stop` and waits for its end."""
        self.begin_stop(grace_seconds).wait()
        if self._thread.ident is not None:
            self._thread.join()

    def _serve(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[cast("socket.socket", self._socket)]))
        except Exception:
            log.exception("REST server")
        finally:
            self._app.close()
            self._stopped.set()
            self._server.ready.set()


class _Server(uvicorn.Server):
    """A uvicorn server that reports when its port is open.

    Attributes:
      ready: set then, or when the server has ended.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _config(app: RestApp, options: RestOptions) -> uvicorn.Config:
    config = uvicorn.Config(
        cast("Any", app),
        loop="asyncio",
        http=cast("Any", functools.partial(GuardedProtocol, options=options)),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=options.keep_alive_seconds,
    )
    config.load()
    config.ssl = _tls(options)
    return config


def _tls(options: RestOptions) -> ssl.SSLContext | None:
    return None if options.ssl_config is None else server_context(options.ssl_config)


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound TCP socket, with its protocol number set, for which asyncio disables Nagle's delay.

    Args:
      host: empty for all interfaces: both protocols where the machine has IPv6, else IPv4.
      port: 0 for any free one.

    Raises:
      ServingError: UNAVAILABLE, with the reason.
    """
    try:
        if not 0 <= port < PORTS:  # getaddrinfo would take the port modulo 65536
            raise OverflowError("there is no such port")
        if host:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )[0]
            return _bound(socket.socket(family, kind, protocol), address)
        try:
            both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            return _bound(both, ("::", port))
        except OSError as error:
            if error.errno not in NO_IPV6:
                raise
            return _bound(
                socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP), ("0.0.0.0", port)
            )
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServingError(Code.UNAVAILABLE, f"cannot listen on {host or '[::]'}:{port}: {reason}") from error


def _bound(unbound: socket.socket, address: Any) -> socket.socket:
    try:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        unbound.bind(address)
    except BaseException:
        unbound.close()
        raise
    return unbound
