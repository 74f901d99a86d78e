"""Estimates of a run's remaining time, and advice for a long one; no TensorFlow import."""

from __future__ import annotations

import collections
import math
import statistics
from fractions import Fraction

from alexnet_tf.recipe import Recipe
from alexnet_tf.training.precision import Speeds

LONG = 3600.0  # seconds that are left, from which on a run is called long
RECENT = 21  # calls whose median is the pace: one that was held up or compiled a program does not count
ENOUGH = 2  # calls before a run is called long


class Pace:
    """Estimates the time that is left from the last steps and evaluations.

    Args:
      total: steps of the whole run.
      steps_between: steps between two evaluations; the last step is followed by one in any case.
    """

    def __init__(self, total: int, steps_between: float | Fraction) -> None:
        self._total, self._between = total, steps_between
        self._recent: collections.deque[float] = collections.deque(maxlen=RECENT)
        self._evaluation = 0.0  # seconds; the least seen, as the first one compiles
        self._begun = False

    @property
    def known(self) -> bool:
        """Whether enough steps were measured for a warning."""
        return len(self._recent) >= ENOUGH

    @property
    def seconds_a_step(self) -> float:
        """Median over the last calls; NaN before there is one besides the first, which compiles."""
        return statistics.median(self._recent) if self._recent else math.nan

    def stepped(self, seconds: float) -> None:
        """Adds a call's seconds a step; the first call, which compiles, is left out."""
        if self._begun:
            self._recent.append(seconds)
        self._begun = True

    def evaluated(self, seconds: float) -> None:
        """Adds an evaluation's seconds."""
        self._evaluation = min(self._evaluation or math.inf, seconds)

    def left(self, step: int) -> float | None:
        """Seconds from the end of `step` to that of the run; None before the pace is known."""
        if step >= self._total:
            return 0.0
        if not self._recent:
            return None
        evaluations = math.ceil(self._total / self._between) - math.floor(step / self._between)
        return (self._total - step) * self.seconds_a_step + evaluations * self._evaluation


def cures(recipe: Recipe, kind: str, *, gpus: int, replicas: int, speeds: Speeds | None) -> list[str]:
    """Ways to make this run shorter, the most effective first.

    Args:
      recipe: of the run.
      kind: of its data set, as `DataConfig.kind`.
      gpus: how many TensorFlow sees.
      replicas: how many copies of the network share a batch.
      speeds: of bfloat16, where it is known.
    """
    found = []
    if speeds is not None and recipe.precision == "float32" and speeds.worthwhile:
        found.append(f"precision=bfloat16 ({speeds.factor:.1f} times as fast in convolutions here)")
    if speeds is not None and recipe.precision == "bfloat16" and speeds.emulated:
        found.append("precision=float32 (bfloat16 is emulated here)")
    if not gpus:
        found.append("a GPU (TensorFlow sees none)")
    elif replicas < gpus:
        found.append(f"--devices mirrored (TensorFlow sees {gpus} GPUs)")
    if gpus and kind in ("folder", "imagenet", "tfds"):
        found.append("records, which decode faster (python -m pipelines.prepare)")
    if recipe.epochs > 1:
        found.append(f"fewer epochs (now {recipe.epochs:g})")
    return found


def explain(seconds: float, pace: float, steps: int, found: list[str]) -> str:
    """One line that warns of a long run.

    Args:
      seconds: that are left.
      pace: seconds a step.
      steps: that are left.
      found: what would help (`cures`).
    """
    line = f"at this pace {in_words(seconds)} are left ({steps:,} steps of {pace:.2g} s)"
    if not found:
        return line
    return f"{line}; what would help, in a new --workdir: {', '.join(found)}"


def in_words(seconds: float) -> str:
    """Seconds as `1 hour 20 minutes` or `3 days 4 hours`."""
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = ((days, "day"), (hours, "hour"), (0 if days else minutes, "minute"))
    return " ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in parts if count) or "0 minutes"
