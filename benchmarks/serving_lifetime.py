"""What a server does over its life: versions that change under load, and memory after many of them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving_clients import TRANSPORTS, Load, clients, percentile
from benchmarks.serving_processes import MODEL, Server, grpc_requests, rest_requests, serve
from pipelines.errors import DataError

SWITCH_CLIENTS = 16
STEADY_SECONDS = 20.0
SETTLE_SECONDS = 5.0
SWITCHES = 5
SMALL = "half_plus_two"
SMALL_CLIENTS = 4
MEGABYTE = 1e6
SWITCH_DEADLINE = 120.0


def switch(version: Path, pictures: Sequence[bytes], flags: Sequence[str], batching: str) -> dict[str, Any]:
    """Replaces the version several times under 16 clients, half of them over each transport."""
    requests = {"gRPC": grpc_requests(pictures), "REST": rest_requests(pictures)}
    seconds = SETTLE_SECONDS + STEADY_SECONDS + SWITCHES * 20.0
    with _copies(version) as base, ExitStack() as stack:
        server = stack.enter_context(
            serve(
                [f"--model_name={MODEL}", f"--model_base_path={base}", *flags],
                {"batching.config": batching},
            )
        )
        runs = [stack.enter_context(clients(t, server.port(t), requests[t])) for t in TRANSPORTS]
        waits = [run(SWITCH_CLIENTS // 2, seconds, wait=False) for run in runs]
        time.sleep(SETTLE_SECONDS)
        steady = time.monotonic(), time.monotonic() + STEADY_SECONDS
        time.sleep(STEADY_SECONDS)
        switches = []
        for number in range(2, 2 + SWITCHES):
            began = time.monotonic()
            _appear(version, base, number)
            _wait_for(server, number)
            switches.append((began, time.monotonic()))
            time.sleep(2.0)
        loads: list[Load] = [wait() for wait in waits]
    return _shown_switch(loads, steady, switches)


def _shown_switch(
    loads: Sequence[Load], steady: tuple[float, float], switches: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    failures = [failure for load in loads for failure in load.failures]
    before = [value for load in loads for value in load.latencies(*steady)]
    during = [value for load in loads for stretch in switches for value in load.latencies(*stretch)]
    quiet, busy = percentile(before, 99), percentile(during, 99)
    lasted = sum(end - begin for begin, end in switches) / len(switches)
    answered = sum(len(load.times) for load in loads)
    print(
        f"\n{len(switches)} switches of {lasted:.1f} s each under {SWITCH_CLIENTS} clients: {len(failures)} "
        f"failures, {answered} answers; 99th percentile {busy * 1e3:.0f} ms during them, "
        f"{quiet * 1e3:.0f} ms steady: {busy / quiet:.2f}x"
    )
    if failures:
        print(f"  first failure: {failures[0]}")
    return {"switch_failures": len(failures), "switch_p99": busy / quiet, "switch_seconds": lasted}


def memory(version: Path, count: int, reloads: int) -> dict[str, Any]:
    """Sends small requests and changes versions of the large model; watches resident memory."""
    with tempfile.TemporaryDirectory(prefix="benchmark_serving_small_") as folder, ExitStack() as stack:
        _save_small(Path(folder) / "1")
        base = stack.enter_context(_copies(version))
        models = {SMALL: folder, MODEL: base}
        entries = [
            f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
            for name, path in models.items()
        ]
        config = f"model_config_list {{ {' '.join(entries)} }}"
        flags = ["--model_config_file={folder}/models.config"]
        server = stack.enter_context(serve(flags, {"models.config": config}))
        runs = [
            stack.enter_context(clients(t, server.port(t), [request]))
            for t, request in zip(TRANSPORTS, _small_requests(), strict=True)
        ]
        number = 1
        sent = 0
        sizes: list[int] = []
        # The first tenth of all fills caches and pools; growth counts from there.
        for part in range(11):
            goal = count * (part + 1) // 11
            while sent < goal:
                for run in runs:
                    load = run(SMALL_CLIENTS, 2.0)
                    if load.failures:
                        raise DataError(f"a small request failed: {load.failures[0]}")
                    sent += len(load.times)
            for _ in range(max(1, round(reloads / 11))):
                number += 1
                _appear(version, base, number)
                _wait_for(server, number)
            time.sleep(1.0)
            sizes.append(server.resident_bytes())
            print(f"{sent} requests, {number - 1} reloads: {sizes[-1] / MEGABYTE:.0f} MB", file=sys.stderr)
    growth = sizes[-1] / sizes[0] - 1
    print(
        f"\n{sent} small requests and {number - 1} reloads: {sizes[0] / MEGABYTE:.0f} MB after the first "
        f"eleventh, {sizes[-1] / MEGABYTE:.0f} MB at the end ({growth:+.1%}), "
        f"{max(sizes) / MEGABYTE:.0f} MB at most"
    )
    return {"memory_growth": growth, "megabytes": [round(size / MEGABYTE) for size in sizes]}


@contextmanager
def _copies(version: Path) -> Iterator[str]:
    """A base path with version 1, beside which others can appear."""
    with tempfile.TemporaryDirectory(prefix="benchmark_serving_") as folder:
        _appear(version, folder, 1)
        yield folder


def _appear(version: Path, base: str, number: int) -> None:
    """Makes a version appear whole, as an upload should: written under another name, then renamed."""
    hidden = Path(base) / f"{number}.uploading"
    shutil.copytree(version, hidden, copy_function=os.link if _same_disk(version, base) else shutil.copy2)
    hidden.rename(Path(base) / str(number))


def _same_disk(version: Path, base: str) -> bool:
    return version.stat().st_dev == os.stat(base).st_dev


def _wait_for(server: Server, number: int) -> None:
    """Returns once the version answers and every other one has ended."""
    ends = time.monotonic() + SWITCH_DEADLINE
    while time.monotonic() < ends:
        entries = json.loads(server.get(f"/v1/models/{MODEL}"))["model_version_status"]
        states = {int(entry["version"]): entry["state"] for entry in entries}
        if states.pop(number, "") == "AVAILABLE" and set(states.values()) <= {"END"}:
            return
        time.sleep(0.05)
    raise DataError(f"version {number} did not take over within {SWITCH_DEADLINE:.0f} s: {states}")


def _save_small(folder: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.two = tf.Variable(2.0)
    module.predict = tf.function(
        lambda x: {"y": x / 2 + module.two}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")]
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})


def _small_requests() -> tuple[bytes, bytes]:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = SMALL
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0]))
    return (
        request.SerializeToString(),
        f'/v1/models/{SMALL}:predict\n{{"instances": [1.0, 2.0, 5.0]}}'.encode(),
    )
