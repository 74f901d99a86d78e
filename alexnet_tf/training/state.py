"""The state of a run: everything that changes while it trains, and that a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from alexnet_tf import checkpoint
from alexnet_tf.training.optimizer import PaperMomentum
from alexnet_tf.training.schedule import Schedule
from alexnet_tf.training.step import Sums

SMOOTHING = 0.95  # of the loss, error and speed on the progress line


class TrainState:
    """The state of a run after some steps.

    The input's position needs no entry, since the batches are a pure function of the step; nor do the
    seeds of the augmentation, which the recipe gives. The dropout generators are part of the network.

    Attributes:
      network, optimizer, schedule: with their weights, velocities and plateau counters.
      step: updates taken.
      seconds: spent on them, evaluations left out.
      best_error: lowest validation top-1 error so far.
      sums: of the steps since the last evaluation.
      last: smoothed loss, error and images/s.
    """

    def __init__(self, network: keras.Model, optimizer: PaperMomentum, schedule: Schedule) -> None:
        self.network, self.optimizer, self.schedule = network, optimizer, schedule
        self.step, self.seconds, self.best_error = 0, 0.0, math.inf
        self.sums = Sums(0.0, 0.0, 0.0, 0.0)
        self.last: dict[str, float] = {}
        self.first_step = 0  # of this process
        self._copy: checkpoint.Arrays = {}

    def advance(self, sums: Sums, seconds: float) -> None:
        """Adds one step's sums and seconds."""
        self.step += 1
        self.seconds += seconds
        self.sums = Sums(*(old + new for old, new in zip(self.sums, sums, strict=True)))
        new = {
            "loss": sums.loss / sums.examples,
            "error": 1.0 - sums.top1 / sums.examples,
            "speed": sums.examples / seconds,
        }
        # The first steps compile: their speed says nothing.
        keep = SMOOTHING if self.last and self.step - self.first_step > 2 else 0.0
        self.last = {k: keep * self.last.get(k, v) + (1.0 - keep) * v for k, v in new.items()}

    def take_means(self) -> dict[str, float]:
        """Loss and errors over the steps since the last call."""
        count = max(1.0, self.sums.examples)
        means = {
            "train_loss": self.sums.loss / count,
            "train_top1_error": 1.0 - self.sums.top1 / count,
            "train_top5_error": 1.0 - self.sums.top5 / count,
        }
        self.sums = Sums(0.0, 0.0, 0.0, 0.0)
        return means

    def capture(self) -> tuple[checkpoint.Arrays, dict[str, Any]]:
        """A copy of the state, which stays as it is until the next call while training goes on."""
        state = {
            "schedule": self.schedule.state(),
            "seconds": self.seconds,
            "best_error": self.best_error,
            "sums": list(self.sums),
            "last": self.last,
        }
        self._copy = checkpoint.training_arrays(self.network, self.optimizer, into=self._copy)
        return self._copy, state

    def restore(self, arrays: checkpoint.Arrays, state: dict[str, Any], where: str) -> None:
        """The inverse of `capture`.

        Raises:
          UserError: the arrays belong to another network.
        """
        checkpoint.restore_training(self.network, self.optimizer, arrays, where)
        self.schedule.restore(state["schedule"])
        self.step = self.first_step = int(state["step"])
        self.seconds, self.best_error = float(state["seconds"]), float(state["best_error"])
        sums: Sequence[float] = state["sums"]
        self.sums, self.last = Sums(*sums), dict(state["last"])
