"""Pictures a second of one training spread over devices and processes, and whether the weights stay the same.

    python -m benchmarks.scaling                       # on this machine's own devices
    python -m benchmarks.scaling --only mirrored towers

The network is the paper's, the batch 128 whatever it is spread over. `mirrored` and `towers` use two GPUs,
or two logical CPUs where there are none; the workers are processes on this machine. Devices that share
their processors cannot make it faster: what counts is how much of the speed of one they keep. What is lost
to communication is measured by the same step without the sum of gradients (each replica goes its own way).

For the weights every way takes the same few steps from the same start, in float32 and without dropout,
since replicas draw masks of their own. The figures are the length of the difference from one device's
weights, as a share of the length of their change, and the largest difference of a single weight: where
rounding decides which of two equal values is the maximum, one map of a layer goes another way.
"""

from __future__ import annotations

import argparse
import functools
import math
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import turns
from pipelines import command
from pipelines.errors import DataError

SAME_BATCH = 8  # pictures in the steps whose weights are compared
TARGET, AIM = 0.75, 0.9


class Way(NamedTuple):
    """How the training is spread.

    Attributes:
      devices: as `--devices` takes them.
      workers: processes.
      replicas: whether several copies of the network have gradients to sum.
    """

    devices: str
    workers: int = 1
    replicas: bool = False


WAYS = {
    "one": Way("one"),
    "mirrored": Way("mirrored:2", replicas=True),
    "towers": Way("towers"),
    "one worker": Way("multi-worker"),
    "two workers": Way("multi-worker", workers=2, replicas=True),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps in a turn (default %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="pictures in a batch (default %(default)s)")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--variant", default="paper", choices=("paper", "original"))
    parser.add_argument("--only", nargs="+", choices=list(WAYS)[1:], metavar="WAY", help=", ".join(WAYS))
    parser.add_argument(
        "--same-steps", type=int, default=3, help="steps for the comparison of weights; 0 leaves it out"
    )
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    turns.check_counts(parser, arguments, "rounds", "steps", "batch")
    return command.run(lambda: _measure(arguments), as_json=arguments.json, tensorflow=False)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ["one", *(name for name in WAYS if name in (arguments.only or WAYS) and name != "one")]
    figures = _measure_speed(names, arguments)
    if arguments.same_steps > 0:
        figures["weights"] = _compare_weights(names, arguments)
    return figures


def _measure_speed(names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {
        "batch_size": str(arguments.batch),
        "precision": arguments.precision,
        "variant": arguments.variant,
    }
    figures: dict[str, Any] = {}
    print(f"{'':12} pictures/s   of one device   lost to communication")
    # A few at a time, beside one device each time: all of them would not fit into memory.
    for group in [
        [n for n in names if WAYS[n].workers == 1 and n != "one"],
        [n for n in names if WAYS[n].workers > 1],
    ]:
        if not group:
            continue
        contenders = {"one": _makers(_stepping, WAYS["one"], settings)}
        for name in group:
            contenders[name] = _makers(_stepping, WAYS[name], settings)
            if WAYS[name].replicas:
                contenders[f"{name}, unsummed"] = _makers(_stepping, WAYS[name], settings, summed=False)
        taken = turns.take(contenders, rounds=arguments.rounds, steps=arguments.steps)
        speed = {name: arguments.batch / turns.median(cost).wall for name, cost in taken.items()}
        for name in ["one", *group]:
            if name in figures:
                continue
            kept, free = speed[name] / speed["one"], speed.get(f"{name}, unsummed")
            lost = None if free is None else 1.0 - speed[name] / free
            figures[name] = {"images_per_second": speed[name], "of_one_device": kept, "communication": lost}
            wish = f" (at least {TARGET:.0%}, aim {AIM:.0%})" if name in ("mirrored", "towers") else ""
            text = "" if lost is None else f"{lost:.1%}"
            print(f"{name:12} {speed[name]:10.1f}   {kept:13.1%}   {text}{wish}", flush=True)
    return figures


def _length(arrays: Iterable[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in arrays))


def _compare_weights(names: list[str], arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    settings = {
        "batch_size": str(SAME_BATCH),
        "variant": arguments.variant,
        "dropout_rate": "0",
        "initializer": "he",
        "pixel_divisor": "30",
        "clip_norm": "5",  # without it the steps are so long that rounding grows a thousandfold
    }
    context = multiprocessing.get_context("spawn")
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            makers = _makers(_saving, WAYS[name], settings, Path(folder) / name, arguments.same_steps)
            team = [context.Process(target=maker) for maker in makers]
            for process in team:
                process.start()
            for process in team:
                process.join()
            if any(process.exitcode for process in team):
                raise DataError(f"{name}: its process ended before its step; the reason stands above")
        start, one = (dict(np.load(Path(folder) / "one" / f"{when}.npz")) for when in ("before", "after"))
        change = _length(one[key] - start[key] for key in one)
        for name in names[1:]:
            with np.load(Path(folder) / name / "after.npz") as other:
                differences = [other[key] - one[key] for key in one]
            share = _length(differences) / change
            most = max(float(np.abs(difference).max()) for difference in differences)
            figures[name] = {"share_of_change": share, "largest": most}
            print(
                f"{name:12} weights after {arguments.same_steps} steps differ by {share:.1e} of the change, "
                f"one of them by {most:.1e}"
            )
    return figures


def _makers(
    function: Callable[..., Any], way: Way, *given: Any, **settings: Any
) -> Sequence[Callable[[], Any]]:
    """One a process of the way, each told its place in the cluster."""
    workers = tuple(f"127.0.0.1:{port}" for port in _free_ports(way.workers))
    return [
        functools.partial(function, way.devices, workers, index, *given, **settings)
        for index in range(way.workers)
    ]


def _stepping(
    devices: str, workers: tuple[str, ...], index: int, settings: dict[str, str], summed: bool = True
) -> turns.Step:
    from benchmarks import train_step_contenders

    return train_step_contenders.ours_at(*_placed(devices, workers, index, settings), summed=summed)[0]


def _saving(
    devices: str, workers: tuple[str, ...], index: int, settings: dict[str, str], folder: Path, steps: int
) -> None:
    """Takes some steps; the first process of a way writes its weights before and after."""
    command.quiet_tensorflow()
    from alexnet_tf import checkpoint
    from benchmarks import train_step_contenders

    step, state = train_step_contenders.ours_at(*_placed(devices, workers, index, settings))
    folder.mkdir(exist_ok=True)
    for when in ("before", "after"):
        if index == 0:
            arrays = checkpoint.join_halves(state.capture()[0])
            weights: dict[str, Any] = {k: v for k, v in arrays.items() if k.startswith("network/")}
            np.savez(folder / f"{when}.npz", **weights)
        for _ in range(steps if when == "before" else 0):
            step()


def _placed(devices: str, workers: tuple[str, ...], index: int, settings: dict[str, str]) -> Any:
    """A placement and a recipe; processes share out the processors, as the launcher has them do."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(workers)))
    from alexnet_tf import recipe
    from alexnet_tf.distribute.cluster import Cluster
    from alexnet_tf.training import placement

    cluster = Cluster(workers, index) if devices == "multi-worker" else None
    return placement.place(devices, cluster=cluster), recipe.get("paper").replace(settings)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    sys.exit(main())
