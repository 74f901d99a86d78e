"""A run that is killed at random moments beside one that is left alone, and what saving costs.

    python -m benchmarks.resume                    # 20 kills of the full network, some ten minutes
    python -m benchmarks.resume --kills 0          # only what saving costs

Both runs follow the same recipe with `--deterministic`; the killed one gets SIGKILL after a random time,
again and again, and then may finish. Everything in the last checkpoint (weights, velocities, dropout states)
and in metrics.csv, but for times, must be equal to the bit.

Saving: steps are taken with and without a checkpoint among them. `held` is how long the call that saves
holds up the loop; `in all` is what the writing in the background takes from the steps beside that.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import command
from pipelines.errors import DataError

TIMES = ("seconds", "images_per_second")  # columns of metrics.csv
SETTINGS = {"batch_size": "16", "epochs": "20", "evaluate_every": "4", "checkpoint_every": "3"}
PRECISION = "bfloat16"
DATA = "synthetic:192,24"  # 12 steps an epoch
LONGEST_LIFE = 1.6  # times as long as to the first save
SAVES = 3
STALL_TARGET = 0.05  # of the time between two saves


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how often (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default %(default)s)")
    parser.add_argument("--devices", default="one", help="as alexnet_tf.train takes it (default %(default)s)")
    parser.add_argument(
        "--between", type=int, default=20, help="steps between two saves, where they are timed; 0 times none"
    )
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    return command.run(lambda: _measure(arguments), as_json=arguments.json, tensorflow=False)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if arguments.between > 0:
        figures |= _cost_of_saving(arguments.between)
    if arguments.kills > 0:
        figures |= _kill(arguments.kills, arguments.seed, arguments.devices)
    return figures


def _kill(kills: int, seed: int, devices: str) -> dict[str, Any]:
    """Trains the same run twice, once with interruptions; compares."""
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        started = time.monotonic()
        process = _start(whole, devices)
        while not _newest(whole) and process.poll() is None:
            time.sleep(0.05)
        start_up = time.monotonic() - started
        _end(process)
        took = time.monotonic() - started
        print(f"left alone: {took:.0f} s, of which {start_up:.0f} s to the first save", flush=True)
        steps = []
        for number in range(1, kills + 1):
            process = _start(parts, devices)
            try:
                process.wait(timeout=generator.uniform(0.0, LONGEST_LIFE * start_up))
                raise DataError(f"the run was through before kill {number}: ask for fewer --kills")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            steps.append(_newest(parts))
            print(f"kill {number} of {kills}: the newest checkpoint is of step {steps[-1]}", flush=True)
        _end(_start(parts, devices))
        different = _differences(whole, parts)
    print(f"after {kills} kills: {', '.join(different) or 'every bit is the same'}", flush=True)
    return {"kills": kills, "different": different, "steps_at_kills": steps}


def _start(workdir: Path, devices: str) -> subprocess.Popen[bytes]:
    settings = {**SETTINGS, "precision": PRECISION}
    sets = [word for field, value in settings.items() for word in ("--set", f"{field}={value}")]
    words = ["--recipe", "quickstart", "--data", DATA, "--workdir", str(workdir), "--devices", devices]
    # A log level that this process has set for itself would make the other show its notices.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    command_line = [sys.executable, "-m", "alexnet_tf.train", *words, "--deterministic", *sets]
    return subprocess.Popen(command_line, env=environment, stdout=subprocess.DEVNULL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise DataError(f"the training ended with status {process.returncode}; the reason stands above")


def _newest(workdir: Path) -> int:
    """Step of the newest checkpoint; 0 where there is none."""
    from alexnet_tf.checkpoint import Checkpoints

    paths = Checkpoints(workdir / "checkpoints").newest()
    return int(paths[0].stem.partition("-")[2]) if paths else 0


def _differences(whole: Path, parts: Path) -> list[str]:
    """Names of arrays, and columns of metrics.csv, that are not the same."""
    from alexnet_tf.checkpoint import Checkpoints
    from alexnet_tf.run_record import Run

    expected, found = (Checkpoints(w / "checkpoints").load_newest() for w in (whole, parts))
    if expected is None or found is None:
        return ["no checkpoint"]
    names = sorted({*expected[0], *found[0]})
    different = [n for n in names if not np.array_equal(expected[0].get(n, 0), found[0].get(n, 1))]
    rows, others = Run.open(whole).read_metrics(), Run.open(parts).read_metrics()
    if len(rows) != len(others):
        return [*different, "rows of metrics.csv"]
    columns = [name for name in rows[0] if name not in TIMES]
    same = {n: np.array_equal([r[n] for r in rows], [r[n] for r in others], equal_nan=True) for n in columns}
    return [*different, *(name for name in columns if not same[name])]


def _cost_of_saving(between: int) -> dict[str, Any]:
    """Times steps with and without a save among them, in turn."""
    command.quiet_tensorflow()
    from alexnet_tf import recipe
    from alexnet_tf.checkpoint import Checkpoints
    from alexnet_tf.training import placement
    from alexnet_tf.training.checkpoint_writer import CheckpointWriter
    from benchmarks.train_step_contenders import ours_at

    step, state = ours_at(placement.place("one"), recipe.get("small_data").replace({"precision": PRECISION}))
    for _ in range(3):
        step()
    held, plain, saving = [], [], []
    with tempfile.TemporaryDirectory() as folder, CheckpointWriter(Checkpoints(Path(folder))) as writer:
        for _ in range(SAVES):
            plain.append(_timed(step, between))
            started = time.perf_counter()
            state.step += between
            writer.wait()
            writer.save(state.step, *state.capture(), best=True)
            held.append(time.perf_counter() - started)
            saving.append(_timed(step, between) + held[-1])
    interval, stall = statistics.median(plain), statistics.median(held)
    slower = statistics.median(saving) / interval - 1.0
    print(
        f"saving every {between} steps of {interval / between:.2f} s: the loop is held for {stall:.2f} s, "
        f"{stall / interval:.1%} of the time between; in all {slower:.1%} (at most {STALL_TARGET:.0%})"
    )
    return {"held_seconds": stall, "held_share": stall / interval, "slower": slower}


def _timed(step: Any, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
