"""Command `data_service`: decodes and augments training pictures for other processes.

    python -m pipelines.data_service --port 5050
    python -m alexnet_tf.train ... --data-service HOST:5050[,HOST2:5050...]

One service a machine; it reads the data under the same absolute paths as the process that trains. It runs
whatever graph it is sent, for everybody who reaches its ports: only in a network that you trust.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from pipelines import command
from pipelines.errors import DataError

LOOPBACK = "127.0.0.1"
GLANCE = 0.2  # seconds between two looks for a signal
EVERYWHERE = "0.0.0.0"  # TensorFlow's servers take connections on every address of the machine
# How soon a stream that nobody reads any more gives its memory back; TensorFlow's own choice is a quarter
# of an hour, in which a run that goes on would need it twice.
SWEEP_MILLISECONDS = 5000


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and serves until SIGINT, SIGTERM or SIGHUP; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.data_service", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--port", type=int, default=5050, help="where clients ask; 0 takes a free one (default %(default)s)"
    )
    parser.add_argument(
        "--worker-port", type=int, help="where batches are fetched (default: the one after --port)"
    )
    parser.add_argument(
        "--host",
        default=EVERYWHERE,
        help="name or address by which clients reach this machine (default: its own name); connections are "
        "taken on all of its addresses",
    )
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    return command.run(lambda: _serve(arguments), as_json=arguments.json)


def _serve(arguments: argparse.Namespace) -> dict[str, Any]:
    received: list[int] = []
    began = time.monotonic()
    with serve(arguments.port, arguments.host, worker_port=arguments.worker_port) as address:
        handlers = {
            n: signal.signal(n, lambda number, _: received.append(number)) for n in command.stop_signals()
        }
        try:
            print(f"data service ready: --data-service {address}", flush=True)
            # No lock: to set one in a signal handler can hang, and a signal just before a wait is lost on it.
            while not received:
                time.sleep(GLANCE)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return {"address": address, "seconds": round(time.monotonic() - began, 1)}


@contextlib.contextmanager
def serve(port: int = 0, host: str = LOOPBACK, *, worker_port: int | None = None) -> Iterator[str]:
    """Runs a service of one worker in this process.

    Args:
      port: where clients ask; 0 takes a free one.
      host: name or address by which clients reach this machine; 0.0.0.0 stands for the machine's name.
      worker_port: where batches are fetched; 0 takes a free one; None the one after `port`.

    Yields:
      The address to give to clients, HOST:PORT.

    Raises:
      DataError: a port is no port, or taken, or TensorFlow's servers do not start.
    """
    if worker_port is None:
        worker_port = port + 1 if port else 0
    if port and port == worker_port:
        raise DataError(f"--worker-port must be another than --port; received {port} for both")
    for option, number in (("--port", port), ("--worker-port", worker_port)):
        _check_free(option, number)
    host = own_name() if host == EVERYWHERE else host

    import tensorflow as tf

    service = tf.data.experimental.service
    with contextlib.ExitStack() as running:
        try:
            dispatcher = service.DispatchServer(
                service.DispatcherConfig(
                    port=port,
                    protocol="grpc",
                    job_gc_check_interval_ms=SWEEP_MILLISECONDS,
                    job_gc_timeout_ms=SWEEP_MILLISECONDS,
                )
            )
            running.callback(dispatcher.stop)
            port = int(dispatcher.target.rpartition(":")[2])
            worker = service.WorkerServer(
                service.WorkerConfig(
                    dispatcher_address=f"{LOOPBACK}:{port}",
                    worker_address=f"{host}:%port%",
                    port=worker_port,
                    protocol="grpc",
                    heartbeat_interval_ms=SWEEP_MILLISECONDS,
                )
            )
            running.callback(worker.stop)
        except tf.errors.OpError as error:
            raise DataError(
                f"the data service cannot start on ports {port} and {worker_port or 'any other'} "
                f"({error.message}); choose another --port, --worker-port or --host"
            ) from None
        yield f"{host}:{port}"


def own_name() -> str:
    """This machine's name where it can be looked up, else the loopback address."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return LOOPBACK
    return name


def _check_free(option: str, port: int) -> None:
    """Raises DataError for a port in use; gRPC would share it with whoever has it."""
    if not 0 <= port <= 65535:
        raise DataError(f"{option} must lie between 0 and 65535; received {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not taken: what a dead service left
        try:
            probe.bind(("", port))
        except OSError as error:
            raise DataError(
                f"port {port}: cannot be used ({error.strerror}); choose another {option}"
            ) from None


if __name__ == "__main__":
    sys.exit(main())
