"""The choice of `precision=auto`: bfloat16 where it is measured to be faster, else float32.

Processor flags do not say it: oneDNN can be held to older instructions, a container can hide some, and
kernels change. So one convolution and its gradients are timed both ways, in a few tenths of a second, on the
device that the run computes on.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_tf.run_record import RECIPE_FILE, Run
from pipelines.errors import UserError

if TYPE_CHECKING:
    from alexnet_tf.training.placement import Placement

# So many times as fast bfloat16 must be to be taken: less is within a busy machine's noise, and not worth the
# rounding.
WORTHWHILE = 1.15
EMULATED = 0.8  # below this bfloat16 is not merely no faster
ROUNDS = 8
MOST_SECONDS = 0.5  # for the timing, without tracing; what has begun is ended
# Pictures at a time: of four, one emulated pass takes 0.1 to 0.2 s on two cores; a GPU needs more of them
# before anything but the start of its kernels is measured.
BATCH, BATCH_ON_GPU = 4, 64

Work = Callable[[], None]


class Speeds(NamedTuple):
    """Seconds for the same work in both types; infinite where a type cannot be computed."""

    float32: float
    bfloat16: float

    @property
    def factor(self) -> float:
        """How many times as fast bfloat16 is; 0 where it cannot be computed."""
        return self.float32 / self.bfloat16

    @property
    def worthwhile(self) -> bool:
        """Whether bfloat16 is enough faster to be taken."""
        return self.factor >= WORTHWHILE

    @property
    def emulated(self) -> bool:
        """Whether bfloat16 is clearly slower."""
        return self.factor < EMULATED


@dataclasses.dataclass(frozen=True)
class Precision:
    """The type that a run computes in, and why.

    Attributes:
      name: `float32` or `bfloat16`.
      requested: what the recipe says, `auto` among others.
      speeds: as measured by this process; None where that was not needed.
      line: a line for the person who started the run; may be empty.
    """

    name: str
    requested: str
    speeds: Speeds | None = None
    line: str = ""

    def environment(self) -> dict[str, Any]:
        """The entry of environment.json: what was asked for and what was measured."""
        if self.speeds is None:
            return {}
        return {"precision": {"asked": self.requested, "bfloat16_speedup": round(self.speeds.factor, 2)}}


def settle(requested: str, workdirs: list[Path], placement: Placement) -> Precision:
    """Decides on the precision of some runs of one recipe, for all of them and for all processes.

    A run that has begun keeps its own, whatever would be faster here. Every process must call this.

    Args:
      requested: `auto`, `float32` or `bfloat16`.
      workdirs: the run folders; those that are there already have a precision.
      placement: the processes that train together.

    Raises:
      UserError: bfloat16 is asked for, or the run began in it, and it cannot be computed here.
    """
    if requested == "float32":
        return Precision(requested, requested)
    speeds = measure()
    begun = _begun(workdirs) if placement.is_chief else None
    votes = (
        float(speeds.worthwhile),
        float(speeds.factor > 0),
        *(float(begun == name) for name in ("float32", "bfloat16")),
    )
    worthwhile, possible, in_float32, in_bfloat16 = placement.mean(votes)
    begun = "float32" if in_float32 else "bfloat16" if in_bfloat16 else None
    name = requested
    if requested == "auto":
        name = begun or ("bfloat16" if worthwhile == 1.0 else "float32")
    if name == "bfloat16" and possible < 1.0:
        raise UserError(_impossible(begun, everywhere=placement.cluster is None))
    others_slower = speeds.worthwhile and worthwhile < 1.0
    return Precision(name, requested, speeds, _line(name, requested, begun, speeds, others_slower))


def _begun(workdirs: list[Path]) -> str | None:
    """The precision of the first of the runs that has begun; None if none has."""
    runs = (Run.open(workdir) for workdir in workdirs if (workdir / RECIPE_FILE).exists())
    return next((run.recipe.precision for run in runs if run.has_checkpoint), None)


def _impossible(begun: str | None, *, everywhere: bool) -> str:
    where = "here" if everywhere else "on all workers"
    if begun:
        return (
            f"this run began in bfloat16, in which convolutions cannot be computed {where}; go on with it "
            "elsewhere, or start anew in another --workdir with precision=float32"
        )
    return (
        f"precision=bfloat16: convolutions cannot be computed in it {where}; "
        "legal here: precision=float32 or auto"
    )


def _line(name: str, requested: str, begun: str | None, speeds: Speeds, others_slower: bool) -> str:
    """The line for the person who started the run: a warning, or the choice where there was one."""
    slower = f"{1 / speeds.factor:.1f} times slower" if speeds.factor > 0 else ""
    faster = f"{speeds.factor:.1f} times as fast as float32 here"
    if name == "bfloat16":
        if speeds.emulated and begun:
            return f"warning: bfloat16, in which this run began, is emulated here, {slower} than float32"
        if speeds.emulated:
            return f"warning: bfloat16 is emulated here, {slower} than float32; precision=auto avoids that"
        if requested == "bfloat16":
            return ""
        return f"bfloat16, in which this run began: {faster}" if begun else f"bfloat16: {faster}"
    if begun and speeds.worthwhile:
        return f"float32, in which this run began; bfloat16 would be {speeds.factor:.1f} times as fast here"
    if others_slower:
        return "float32: bfloat16 is no faster on some of the workers"
    if not slower:
        return "float32: bfloat16 convolutions cannot be computed here"
    if speeds.emulated:
        return f"float32: bfloat16 is emulated here, {slower}"
    return f"float32: bfloat16 is no faster here ({speeds.factor:.2f} times the speed)"


def measure() -> Speeds:
    """Times one tower's conv2, forward and backward, on the device that computes by default.

    Of the layers it says most: it has the most multiplications, and both types compute it the same way,
    where float32 has an algorithm of its own for 3 x 3 kernels (`winograd`). On one processor, with all its
    instructions and held to those before bfloat16, whole steps had 1.65 and 0.36, and this 1.60 and 0.31.
    """
    import tensorflow as tf

    batch = BATCH_ON_GPU if tf.config.list_logical_devices("GPU") else BATCH
    maps = tf.fill([batch, 27, 27, 48], 0.01)
    kernel = tf.fill([5, 5, 48, 128], 0.01)

    def work(dtype: str) -> Work:
        @tf.function(autograph=False)
        def forward_and_backward(maps: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch((maps, kernel))
                answer = tf.nn.conv2d(tf.cast(maps, dtype), tf.cast(kernel, dtype), 1, "SAME")
                loss = tf.reduce_sum(tf.square(tf.cast(answer, tf.float32)))
            return tf.add_n([tf.reduce_sum(part) for part in tape.gradient(loss, (maps, kernel))])

        traced = forward_and_backward.get_concrete_function(maps, kernel)
        return lambda: traced(maps, kernel).numpy()  # which waits for a GPU

    try:
        return race(work("float32"), work("bfloat16"))
    except tf.errors.OpError:  # where TensorFlow and its kernels differ about what the processor can do
        return Speeds(1.0, math.inf)


def race(float32: Work, bfloat16: Work, clock: Callable[[], float] = time.perf_counter) -> Speeds:
    """Times both alternately and takes the shortest time of each: a busy machine only ever adds to a time.

    It ends after ROUNDS, after MOST_SECONDS, or once bfloat16 has been clearly slower twice; the first round,
    in which there is something to set up, is never the only one.

    Args:
      float32, bfloat16: do the work once.
      clock: seconds.
    """
    least = [math.inf, math.inf]
    began = clock()
    for number in range(ROUNDS):
        for side, work in enumerate((float32, bfloat16)):
            started = clock()
            work()
            least[side] = min(least[side], clock() - started)
        speeds = Speeds(*least)
        if number and (clock() - began > MOST_SECONDS or speeds.factor < EMULATED / 2):
            break
    return Speeds(*least)
