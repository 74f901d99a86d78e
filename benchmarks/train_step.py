"""Pictures a second in training: the paper's network, batch 64, as this package and as others write it.

    python -m benchmarks.train_step                 # some four minutes on two cores, 12 GB of memory
    python -m benchmarks.train_step --rounds 1 --only ours_float32 tuned_torch_float32

Every contender has a process of its own and all its machine's cores while it has its turn; the turns go
round, so that a slow spell of the machine hits all. Beside the wall time stands the processor time of the
step over all threads: where other work shares the machine, its ratios are the steadier ones, above all
with `--threads 1` (PyTorch's threads spin while they wait for each other).

The kernels of the network called one after the other give the time that no step can be brought far below
without other kernels; its share of our step is one figure (in a step the kernels of the two towers
may run side by side, so that it can pass 100 %). The other is the rate at which the step does the
multiplications and additions of the layers' definitions, beside that of one large matrix product.

Contenders in bfloat16 are left out where the processor only emulates it, and PyTorch's where it is not
installed, each with a note. `ONEDNN_MAX_CPU_ISA=AVX2` in front of the command has TensorFlow and PyTorch
both take the kernels of an older processor.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import sys
from typing import Any, NamedTuple

from benchmarks import train_step_kernels, turns
from benchmarks.train_step_contenders import CONTENDERS, Contender
from pipelines import command

THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
PRECISIONS = ("float32", "bfloat16")
KERNELS = {
    f"{name}_{dtype}": Contender(f"{description}, {dtype}", functools.partial(make, dtype))
    for dtype in PRECISIONS
    for name, description, make in (
        ("kernels", "the kernels alone", train_step_kernels.make),
        ("product", "one product of 4096 x 4096", train_step_kernels.make_product),
    )
}
ALL = {**CONTENDERS, **KERNELS}


class Ratio(NamedTuple):
    """Which of ours against which peer, and what it should reach."""

    name: str
    ours: str
    peer: str
    target: float
    aim: float | None = None


RATIOS = (
    Ratio("ours float32 / usual Keras", "ours_float32", "usual_keras", 2.5),
    Ratio("ours bfloat16 / usual Keras", "ours_bfloat16", "usual_keras", 4.0),
    Ratio("ours float32 / usual PyTorch", "ours_float32", "usual_torch", 2.0),
    Ratio("ours float32 / tuned PyTorch float32", "ours_float32", "tuned_torch_float32", 1.4),
    Ratio("ours bfloat16 / tuned PyTorch bfloat16", "ours_bfloat16", "tuned_torch_bfloat16", 1.2, 1.5),
)
# Of our own kernels alone, and of the large product's rate.
SHARE_AIM, RATE_AIM = 0.95, 0.9


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="turns each contender gets (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=3, help="steps in a turn (default %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="pictures in a batch (default %(default)s)")
    parser.add_argument("--threads", type=int, help="threads a contender may use (default: as it likes)")
    parser.add_argument("--only", nargs="+", choices=ALL, metavar="NAME", help=f"some of {', '.join(ALL)}")
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    turns.check_counts(parser, arguments, "rounds", "steps", "batch", "threads")
    if arguments.threads:
        os.environ.update(
            dict.fromkeys(THREAD_VARIABLES, str(arguments.threads))
        )  # the processes inherit them
    return command.run(lambda: _measure(arguments), as_json=arguments.json, tensorflow=False)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    names = arguments.only or _worth_timing()
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its contenders are left out (pip install 'alexnet-tf[compare]')")
        names = [name for name in names if "torch" not in name]
    makers = {name: [functools.partial(_make, name, arguments.batch)] for name in names}
    taken = turns.take(makers, rounds=arguments.rounds, steps=arguments.steps)
    return _report(taken, arguments.batch)


def _worth_timing() -> list[str]:
    """All contenders, without those in bfloat16 where it is only emulated: they take a minute a step."""
    from alexnet_tf.training import precision

    speeds = precision.measure()
    if not speeds.emulated:
        return list(ALL)
    slower = f"{1 / speeds.factor:.0f} times slower than" if speeds.factor else "and fails, unlike"
    print(f"bfloat16 is left out: here it is emulated, {slower} float32")
    return [name for name in ALL if not name.endswith("bfloat16")]


def _make(name: str, batch: int) -> turns.Step:
    """A contender by its name, which can be sent to another process."""
    return ALL[name].make(batch)


def _report(taken: dict[str, list[turns.Cost]], batch: int) -> dict[str, Any]:
    """Prints the table, the ratios and the shares; returns them."""
    costs = {name: turns.median(of_name) for name, of_name in taken.items()}
    print(f"{'':48} pictures/s   ms a step (slowest, fastest turn)   processor s a step")
    for name, cost in costs.items():
        walls = [1000 * turn.wall for turn in taken[name]]
        spread = f"{1000 * cost.wall:7.0f} ({max(walls):.0f}, {min(walls):.0f})"
        print(f"{ALL[name].description:48} {batch / cost.wall:10.1f}   {spread:34} {cost.processor:10.2f}")
    figures: dict[str, Any] = {
        "images_per_second": {name: batch / cost.wall for name, cost in costs.items()},
        "processor_seconds": {name: cost.processor for name, cost in costs.items()},
        "ratios": {},
        "processor_ratios": {},
    }
    for ratio in RATIOS:
        if ratio.ours not in costs or ratio.peer not in costs:
            continue
        ours, peer = costs[ratio.ours], costs[ratio.peer]
        by_clock, by_processor = peer.wall / ours.wall, peer.processor / ours.processor
        wish = f"at least {ratio.target}" + ("" if ratio.aim is None else f", aim {ratio.aim}")
        print(f"{ratio.name}: {by_clock:.2f} by the clock, {by_processor:.2f} by processor time ({wish})")
        figures["ratios"][ratio.name], figures["processor_ratios"][ratio.name] = by_clock, by_processor
    for dtype in PRECISIONS:
        figures |= _shares(dtype, costs, batch)
    return figures


def _shares(dtype: str, costs: dict[str, turns.Cost], batch: int) -> dict[str, float]:
    """Prints and returns how near our step comes to its kernels alone and to the rate of one product."""
    figures: dict[str, float] = {}
    whole = costs.get(f"ours_{dtype}")
    if whole is None:
        return figures
    if kernels := costs.get(f"kernels_{dtype}"):
        by_clock, by_processor = kernels.wall / whole.wall, kernels.processor / whole.processor
        print(
            f"kernels alone / step, {dtype}: {by_clock:.0%} by the clock, {by_processor:.0%} by processor "
            f"time (aim {SHARE_AIM:.0%})"
        )
        figures |= {f"kernel_share_{dtype}": by_clock, f"processor_kernel_share_{dtype}": by_processor}
    if product := costs.get(f"product_{dtype}"):
        work = train_step_kernels.step_operations(batch) / (2.0 * train_step_kernels.PRODUCT**3)
        by_clock, by_processor = work * product.wall / whole.wall, work * product.processor / whole.processor
        print(
            f"the step's operations a second / one large product's, {dtype}: {by_clock:.0%} by the clock, "
            f"{by_processor:.0%} by processor time (aim {RATE_AIM:.0%})"
        )
        figures |= {f"rate_share_{dtype}": by_clock, f"processor_rate_share_{dtype}": by_processor}
    return figures


if __name__ == "__main__":
    sys.exit(main())
