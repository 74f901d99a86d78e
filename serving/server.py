"""`python -m serving.server`: serves models over gRPC and REST, with TF Serving's flags.

    python -m serving.server --model_name=alexnet --model_base_path=export --port=8500 --rest_api_port=8501

On SIGTERM and Ctrl-C it refuses new requests, finishes those in progress, then ends.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from serving import command
from serving.errors import ServingError
from serving.monitoring import memory as process_memory
from serving.settings import flags as flag_module
from serving.settings.flags import FlagError, Flags

if TYPE_CHECKING:
    from serving.model_server import ModelServer

EXIT_STARTUP = 255  # TF Serving's exit status when the start fails
PROGRAM = "python -m serving.server"


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and serves until a signal; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if "--help" in arguments or "-h" in arguments:
        return command.run(_print_usage)
    if "--version" in arguments:
        print(f"TensorFlow ModelServer: alexnet_tf {importlib.metadata.version('alexnet-tf')}")
        print(f"TensorFlow Library: {importlib.metadata.version('tensorflow')}")
        return 0
    try:
        flags, notices = flag_module.parse(arguments)
    except FlagError as error:
        command.print_error(f"{error} ({PROGRAM} --help lists the flags)")
        return EXIT_STARTUP
    for notice in notices:
        print(command.printable(notice), file=sys.stderr)
    return _serve(flags)


def create_server(*, host: str = "", pick_ports: bool = False, **flags: str | float) -> ModelServer:
    """Makes a server that runs inside a Python program.

    Args:
      host: address that both ports are bound to; every interface by default.
      pick_ports: binds free ports; read them from `grpc_port` and `rest_port`.
      **flags: TF Serving's flags by name, such as `model_base_path="export"`.

    Returns:
      The server, to be used in a `with`, or with `start` and `stop`.

    Raises:
      ServingError: a configuration file is invalid.
      TypeError: a flag does not exist.
    """
    process_memory.use_system_allocator()
    from serving.model_server import ModelServer

    return ModelServer(Flags(**cast("dict[str, Any]", flags)), host=host, pick_ports=pick_ports)


def _print_usage() -> dict[str, Any]:
    print(flag_module.usage())
    return {}


class _Stopped(Exception):
    """A signal arrived before the models were loaded."""


class _Signals:
    """Handles SIGTERM and SIGINT: raises an exception while the server starts, later sets an event."""

    def __init__(self) -> None:
        self.starting = True
        self.received = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        again = self.received.is_set()
        self.received.set()
        if self.starting:
            raise _Stopped
        if again and number == signal.SIGINT:
            os._exit(command.EXIT_INTERRUPTED)  # a second Ctrl-C ends at once


def _serve(flags: Flags) -> int:
    """Starts the server, waits for a signal, finishes requests in progress; returns the exit status."""
    began = time.monotonic()
    signals = _Signals()
    try:
        process_memory.use_system_allocator()
        process_memory.keep_freed_memory()
        command.quiet_tensorflow()
        _log_to_stderr()
        from serving.model_server import ModelServer

        server = ModelServer(flags)
        process_memory.freeze()
        server.start()
    except _Stopped:
        return 0
    except ServingError as error:
        # On stdout, as TF Serving; the reason is on stderr as well.
        reason = f"Error: {error.code.name}: {error.message}"
        print(f"Failed to start server. {command.printable(reason)}", flush=True)
        command.print_error(error.message)
        return EXIT_STARTUP
    except OSError as error:
        command.print_error(command.describe_os_error(error))
        return EXIT_STARTUP
    signals.starting = False
    if not signals.received.is_set():
        signals.received.wait()
    server.stop()
    if flags.json:
        requests = server.metrics.counters()["/tensorflow/serving/request_count"]
        print(json.dumps({"seconds": round(time.monotonic() - began, 3), "requests": requests}), flush=True)
    return 0


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s"))
    log = logging.getLogger("serving")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
