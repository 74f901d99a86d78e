"""What serving costs: this server against the exported graph called in-process, in one run.

    python -m benchmarks.serving --export runs/quickstart/export            # pictures drawn on the spot
    python -m benchmarks.serving --export E --photos DIR --only throughput,latency

throughput  32 clients, one JPEG a request: over gRPC and REST, with batching and without, against
            `tf.saved_model.load(...).signatures["serving_default"]` at batch 32, and with batching and
            --mixed_precision=bfloat16, which the signature cannot have. All take turns; clients and server
            share this machine, and the clients' own processor time is stated.
latency     one client, one JPEG: medians of the call in-process and over both transports, in turns.
start       from the start of the process to the answer that it is ready, less the model's own loading.
switch      16 clients while a new version appears: failures, and the 99th percentile during the switch
            (from the folder's appearance until the old version is gone) against the steady one.
memory      100,000 small requests and 50 reloads of the model: growth of resident memory.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import serving_lifetime
from benchmarks.input import SUFFIXES, draw
from benchmarks.serving_clients import TRANSPORTS, Load, clients
from benchmarks.serving_peer import in_process
from benchmarks.serving_processes import MODEL, grpc_requests, rest_requests, serve
from pipelines import command
from pipelines.errors import DataError

PICTURES = 64
CLIENTS = 32
BATCH = 32
# Two batches at a time keep two processors busy while requests of the next ones arrive.
BATCHING = (
    "max_batch_size { value: 16 } batch_timeout_micros { value: 20000 } "
    "num_batch_threads { value: 2 } max_enqueued_batches { value: 100 }"
)
BATCHING_FLAGS = ("--enable_batching", "--batching_parameters_file={folder}/batching.config")
THREADS = (f"--grpc_max_threads={2 * CLIENTS}", f"--rest_api_num_threads={2 * CLIENTS}")
PARTS = ("throughput", "latency", "start", "switch", "memory")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--export",
        required=True,
        type=lambda text: Path(command.path(text)),
        help="folder of versions, as `export` writes it",
    )
    parser.add_argument(
        "--photos",
        metavar="DIR",
        type=lambda text: Path(command.path(text)),
        help="JPEG files to use instead of drawn ones",
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a turn (default %(default)s)")
    parser.add_argument("--requests", type=int, default=100_000, help="of `memory` (default %(default)s)")
    parser.add_argument("--reloads", type=int, default=50, help="of `memory` (default %(default)s)")
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    unknown = set(arguments.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--only: choose from {', '.join(PARTS)}; received {', '.join(sorted(unknown))}")
    return command.run(lambda: _measure(arguments), as_json=arguments.json)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    version = _newest(arguments.export)
    pictures = _pictures(arguments.photos)
    size = sum(map(len, pictures)) / len(pictures) / 1000
    print(f"{len(pictures)} pictures of {size:.0f} kB on average, {version}")
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "throughput": lambda: _throughput(arguments, version, pictures),
        "latency": lambda: _latency(arguments, version, pictures),
        "start": lambda: _start(arguments),
        "switch": lambda: serving_lifetime.switch(version, pictures, [*THREADS, *BATCHING_FLAGS], BATCHING),
        "memory": lambda: serving_lifetime.memory(version, arguments.requests, arguments.reloads),
    }
    figures: dict[str, Any] = {"kilobytes": round(size, 1)}
    for part in arguments.only.split(","):
        figures |= measures[part]()
    return figures


def _throughput(arguments: argparse.Namespace, version: Path, pictures: list[bytes]) -> dict[str, Any]:
    base = [f"--model_name={MODEL}", f"--model_base_path={version.parent.absolute()}", *THREADS]
    requests = {"gRPC": grpc_requests(pictures), "REST": rest_requests(pictures)}
    rates: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    ways = {
        "batching": BATCHING_FLAGS,
        "no batching": (),
        "batching, bfloat16": (*BATCHING_FLAGS, "--mixed_precision=bfloat16"),
    }
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serve([*base, *flags], {"batching.config": BATCHING}))
            for name, flags in ways.items()
        }
        runs = {
            f"{transport}, {name}": stack.enter_context(
                clients(transport, server.port(transport), requests[transport])
            )
            for name, server in servers.items()
            for transport in TRANSPORTS
        }
        peer = stack.enter_context(in_process(version, pictures))
        for run in runs.values():  # first calls compile nothing, but fill caches
            run(CLIENTS, 2)
        peer(BATCH, 2)
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
            rates.setdefault("in-process", []).append(peer(BATCH, arguments.seconds))
            for name, run in runs.items():
                load = _flawless(run(CLIENTS, arguments.seconds))
                rates.setdefault(name, []).append(load.rate)
                processor.setdefault(name, []).append(load.processor / load.seconds)
    return _shown_throughput(rates, processor)


def _shown_throughput(rates: dict[str, list[float]], processor: dict[str, list[float]]) -> dict[str, Any]:
    import statistics

    middle = {name: statistics.median(values) for name, values in rates.items()}
    whole = middle["in-process"]
    print(f"\n{'pictures a second':26}{'median':>8}{'of in-process':>15}{'clients, processors':>21}")
    for name, rate in middle.items():
        cost = f"{statistics.median(processor[name]):.2f}" if name in processor else ""
        print(f"{name:26}{rate:8.1f}{rate / whole:14.1%} {cost:>20}")
    gains = {t: middle[f"{t}, batching"] / middle[f"{t}, no batching"] for t in TRANSPORTS}
    for transport, gain in gains.items():
        print(f"batching gains {gain:.2f}x over {transport}")
    return {"throughput": middle, "batching_gain": gains}


def _latency(arguments: argparse.Namespace, version: Path, pictures: list[bytes]) -> dict[str, Any]:
    import statistics

    base = [f"--model_name={MODEL}", f"--model_base_path={version.parent.absolute()}"]
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(serve(base))
        requests = {"gRPC": grpc_requests(pictures), "REST": rest_requests(pictures)}
        runs: dict[str, Callable[[float], list[float]]] = {}
        peer = stack.enter_context(in_process(version, pictures))
        runs["in-process"] = lambda seconds: peer(1, seconds, times=True)
        for transport in TRANSPORTS:
            run = stack.enter_context(clients(transport, server.port(transport), requests[transport]))
            runs[transport] = functools.partial(_single, run)
        for run_one in runs.values():
            run_one(1.0)
        for _ in range(4 * arguments.rounds):
            for name, run_one in runs.items():
                times.setdefault(name, []).extend(run_one(arguments.seconds / 8))
    middle = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    print(f"\n{'one client, one picture':24}{'median ms':>10}{'added ms':>10}{'calls':>8}")
    for name, value in middle.items():
        print(f"{name:24}{value:10.2f}{value - middle['in-process']:10.2f}{len(times[name]):8}")
    return {"latency_ms": middle}


def _single(run: Callable[..., Load], seconds: float) -> list[float]:
    return _flawless(run(1, seconds)).latencies()


def _start(arguments: argparse.Namespace) -> dict[str, Any]:
    import statistics

    base = [f"--model_name={MODEL}", f"--model_base_path={arguments.export.absolute()}"]
    ready, own = [], []
    for _ in range(arguments.rounds):
        with serve(base) as server:
            ready.append(server.ready_seconds)
            own.append(server.load_seconds())
    rest = [a - b for a, b in zip(ready, own, strict=True)]
    print(
        f"\nready {statistics.median(ready):.2f} s after the start, of which the model's loading and warm-up "
        f"took {statistics.median(own):.2f} s: {statistics.median(rest):.2f} s are the server's "
        f"(slowest {max(rest):.2f} s)"
    )
    return {"ready_seconds": statistics.median(ready), "start_seconds": statistics.median(rest)}


def _flawless(load: Load) -> Load:
    if load.failures:
        raise DataError(f"{len(load.failures)} requests failed, the first: {load.failures[0]}")
    return load


def _newest(export: Path) -> Path:
    versions = [path for path in export.glob("*") if path.name.isdigit()] if export.is_dir() else []
    if not versions:
        raise DataError(
            f"--export {export}: no version folder there; `python -m alexnet_tf.export` writes one"
        )
    return max(versions, key=lambda path: int(path.name))


def _pictures(photos: Path | None) -> list[bytes]:
    if photos is None:
        return [draw(number) for number in range(PICTURES)]
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES)[:PICTURES]
    if not files:
        raise DataError(f"--photos {photos}: no JPEG files below this folder")
    return [path.read_bytes() for path in files]


if __name__ == "__main__":
    sys.exit(main())
