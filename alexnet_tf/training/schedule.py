"""Learning-rate schedules: by plateau (the text), as logged in 2012 (the source), by cosine."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from alexnet_tf.recipe import Recipe


class LoggedRates(NamedTuple):
    """Learning rates and colour noise from the start of `epoch` (counted from 1) on."""

    epoch: int
    weights: float
    biases: float
    conv1: float
    colour: float  # share of `colour_std` that is left


# The diary of the 2012 run [S layer-params-145.cfg]. Row 7: biases keep 0.02 while the weights fall,
# conv1 slows down at epoch 67 and stops at 72. Row 8: the colour noise ends at epoch 67. Not in the diary,
# but our reading: the biases' 0.02 before the end, and that conv1's follow its weights from epoch 67 to 71.
LOGGED_2012 = (
    LoggedRates(1, 0.01, 0.02, 0.01, 1.0),
    LoggedRates(25, 0.001, 0.02, 0.001, 1.0),
    LoggedRates(51, 0.0001, 0.02, 0.0001, 1.0),
    LoggedRates(67, 0.0001, 0.02, 0.00001, 0.0),
    LoggedRates(72, 0.0001, 0.02, 0.0, 0.0),
    LoggedRates(79, 0.00001, 0.02, 0.0, 0.0),
)


class Rates(NamedTuple):
    """Learning rates and colour noise of one step.

    Attributes:
      weights, biases: learning rates.
      conv1: learning rate of conv1's weights; conv1's biases are scaled alike.
      colour: share of the colour noise that is left.
    """

    weights: float
    biases: float
    conv1: float
    colour: float


def total_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """The number of steps of the whole run, at least one."""
    return max(1, round(exact(recipe.epochs) * steps_per_epoch))


def exact(number: float) -> Fraction:
    """A float as the decimal fraction that was written: 0.1 is a tenth, the float is a little more."""
    return Fraction(repr(float(number)))


class Schedule:
    """The rates of every step of a run; a state of its own only for the plateau rule.

    Args:
      recipe: its `schedule`, rates and epochs.
      steps_per_epoch: batches in one pass over the training set.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.recipe, self.steps_per_epoch = recipe, steps_per_epoch
        self.total_steps = total_steps(recipe, steps_per_epoch)
        self.evaluation_interval = exact(recipe.evaluate_every) * steps_per_epoch  # not always whole
        self.drops = 0
        self.best_error = math.inf
        self.waited = 0

    def rates(self, step: int) -> Rates:
        """The rates of the step that comes after `step` finished ones."""
        scale = self.recipe.scaled_learning_rate
        warm = min(1.0, (step + 1) / self.recipe.warmup_steps) if self.recipe.warmup_steps else 1.0
        if self.recipe.schedule == "logged":
            return self._logged(step, warm)
        if self.recipe.schedule == "cosine":
            progress = self._progress(step)
            weights = scale * warm * _cosine(progress)
            conv1 = scale * warm * _cosine(progress / self.recipe.freeze_conv1)
        else:
            weights = conv1 = scale * warm / 10.0**self.drops
        return Rates(weights, weights * self.recipe.bias_rate, conv1, 1.0)

    def evaluation_due(self, step: int) -> bool:
        """Whether the network is measured after `step` steps: past each interval, and at the end."""
        interval = self.evaluation_interval
        return step // interval > (step - 1) // interval or step == self.total_steps

    def evaluated(self, error: float) -> bool:
        """Adds a validation error; returns whether the plateau rule divides the rate by 10 now."""
        if error < self.best_error:
            self.best_error, self.waited = error, 0
            return False
        self.waited += 1
        if self.recipe.schedule != "plateau" or self.waited < self.recipe.plateau_patience:
            return False
        if self.drops == self.recipe.plateau_drops:
            return False
        self.drops, self.waited = self.drops + 1, 0
        return True

    def state(self) -> dict[str, float]:
        """The schedule's entries in a checkpoint."""
        return {"drops": self.drops, "best_error": self.best_error, "waited": self.waited}

    def restore(self, state: dict[str, float]) -> None:
        """The inverse of `state`."""
        self.drops, self.waited = int(state["drops"]), int(state["waited"])
        self.best_error = float(state["best_error"])

    def _progress(self, step: int) -> float:
        """Fraction of the steps after the warm-up that is done, 0 to 1."""
        after = step - self.recipe.warmup_steps
        return min(1.0, max(0.0, after / max(1, self.total_steps - self.recipe.warmup_steps)))

    def _logged(self, step: int, warm: float) -> Rates:
        epoch = step // self.steps_per_epoch + 1
        row = max((row for row in LOGGED_2012 if row.epoch <= epoch), key=lambda row: row.epoch)
        # The diary is that of a rate of 0.01, twice that for biases; others scale all of it.
        start = LOGGED_2012[0]
        scale = warm * self.recipe.scaled_learning_rate / start.weights
        biases = row.biases * scale * self.recipe.bias_rate * start.weights / start.biases
        return Rates(row.weights * scale, biases, row.conv1 * scale, row.colour)


def _cosine(progress: float) -> float:
    """Half a cosine: 1 at progress 0, 0 from progress 1 on."""
    return 0.5 * (1.0 + math.cos(math.pi * progress)) if progress < 1.0 else 0.0
