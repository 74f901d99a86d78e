"""Servers in processes of their own, as their users start them, and what the clients send."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import DataError

READY_SECONDS = 120
MODEL = "alexnet"


class Server(NamedTuple):
    """A running server.

    Attributes:
      pid: of its process.
      grpc_port, rest_port: on the loopback interface.
      ready_seconds: from the start of the process to the first answer that it is ready.
      metrics_path: where its figures stand.
    """

    pid: int
    grpc_port: int
    rest_port: int
    ready_seconds: float

    def port(self, transport: str) -> int:
        """The port of one of serving_clients.TRANSPORTS."""
        return self.grpc_port if transport == "gRPC" else self.rest_port

    def get(self, path: str) -> bytes:
        """The body of an answer to GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}{path}", timeout=30) as answer:
            return answer.read()

    def resident_bytes(self) -> int:
        """Memory that the process holds now."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def metric(self, start: str) -> float:
        """The sum of all samples whose line starts so."""
        page = self.get("/monitoring/prometheus/metrics").decode()
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(start))

    def load_seconds(self) -> float:
        """What the models themselves took: loading and warm-up."""
        prefix = ":tensorflow:"
        micros = self.metric(f"{prefix}cc:saved_model:load_latency{{")
        return (micros + self.metric(f"{prefix}serving:model_warmup_latency_sum{{")) / 1e6


@contextlib.contextmanager
def serve(flags: Sequence[str], files: dict[str, str] | None = None) -> Iterator[Server]:
    """Starts `python -m serving.server` on free ports; ends it after the block.

    Args:
      flags: of the server, without ports; `{folder}` stands for a folder that holds `files`.
      files: texts by name.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark_serving_") as folder:
        written = {**(files or {}), "monitoring.config": "prometheus_config { enable: true }"}
        for name, text in written.items():
            (Path(folder) / name).write_text(text)
        grpc_port, rest_port = _free_ports()
        command = [
            *(sys.executable, "-m", "serving.server", f"--port={grpc_port}", f"--rest_api_port={rest_port}"),
            f"--monitoring_config_file={folder}/monitoring.config",
            *(flag.replace("{folder}", folder) for flag in flags),
        ]
        began = time.monotonic()
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(process, rest_port, Path(folder) / "log")
            yield Server(process.pid, grpc_port, rest_port, time.monotonic() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def grpc_requests(pictures: Sequence[bytes]) -> list[bytes]:
    """A serialized PredictRequest for each picture."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    requests = []
    for picture in pictures:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([picture]))
        requests.append(request.SerializeToString())
    return requests


def rest_requests(pictures: Sequence[bytes]) -> list[bytes]:
    """A path, a newline and a body for each picture."""
    path = f"/v1/models/{MODEL}:predict\n".encode()
    bodies = [{"instances": [{"b64": base64.b64encode(picture).decode()}]} for picture in pictures]
    return [path + json.dumps(body).encode() for body in bodies]


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns once the server says that it is ready."""
    ends = time.monotonic() + READY_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10).close()
            return
        time.sleep(0.01)
    raise DataError(f"the server did not become ready; its last words: {log.read_text()[-500:]}")
