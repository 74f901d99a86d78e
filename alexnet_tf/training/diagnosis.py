"""Diagnosis of a run that does not learn: a non-finite loss, a loss that does not fall, dead units."""

from __future__ import annotations

import math
import re
from collections import deque

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.recipe import Recipe
from pipelines.errors import UserError

STUCK_WINDOW = 100  # steps over which the loss is averaged
STUCK_BAND = 0.005  # how near to ln(classes), as a share of it, counts as not having learned


class StuckLoss:
    """Detects a loss that stays at ln(classes): the network gives every picture the same scores.

    Args:
      classes: number of classes.
      recipe: names the settings that the advice is about.
      every: steps between two warnings.
    """

    def __init__(self, classes: int, recipe: Recipe, every: int = 500) -> None:
        self.chance, self.recipe, self.every = math.log(classes), recipe, every
        self.losses: deque[float] = deque(maxlen=STUCK_WINDOW)
        self.warned_at: int | None = None

    def add(self, step: int, loss: float) -> str | None:
        """Adds the mean loss of a step; returns advice for a loss that is stuck, else None."""
        self.losses.append(loss)
        if len(self.losses) < STUCK_WINDOW or (
            self.warned_at is not None and step - self.warned_at < self.every
        ):
            return None
        mean = sum(self.losses) / len(self.losses)
        if abs(mean - self.chance) > STUCK_BAND * self.chance:
            return None
        self.warned_at = step
        sits = f"step {step}: the loss sits at ln(classes) = {self.chance:.3f}: nothing is learned yet"
        return f"{sits}. {self._advice()}"

    def _advice(self) -> str:
        causes = []
        if self.recipe.initializer == "published":
            causes.append(
                "the published initial weights are tiny and need thousands of steps, and more on small "
                "data (cure: --set initializer=he --set pixel_divisor=30 --set clip_norm=5)"
            )
        if self.recipe.initializer == "he" and self.recipe.pixel_divisor < 5:
            causes.append("conv1 moves too fast on pixels this large (cure: --set pixel_divisor=30)")
        if not self.recipe.clip_norm:
            causes.append("one step threw the network off (cure: --set clip_norm=5)")
        causes.append(
            f"the rate is too high or too low (--set learning_rate, now {self.recipe.learning_rate:g})"
        )
        causes.append(
            "units are dead (the dead_ columns of metrics.csv; cure: a lower learning_rate, warmup_steps)"
        )
        causes.append("labels do not belong to their pictures")
        return "Likely causes: " + "; ".join(causes) + "."


def explain_non_finite(
    step: int, loss: float, network: keras.Model, recipe: Recipe, last_checkpoint: str
) -> UserError:
    """The error for a non-finite loss: names the step, the first non-finite quantity and the cures."""
    broken = [v.path for v in network.trainable_variables if not np.isfinite(np.asarray(v)).all()]
    quantity = f"weights {broken[0]}" if broken else "activations; all weights are finite"
    return UserError(
        f"step {step}: the loss is {loss} (first non-finite: {quantity}); lower learning_rate "
        f"(now {recipe.learning_rate:g}), raise warmup_steps (now {recipe.warmup_steps}) or pixel_divisor "
        f"(now {recipe.pixel_divisor:g}), or set clip_norm (now {recipe.clip_norm:g}); {last_checkpoint}"
    )


def explain_short_run(steps: int, recipe: Recipe) -> str:
    """The warning for a run that ends before its warm-up does."""
    return (
        f"{steps} steps end before the rate has risen (warmup_steps={recipe.warmup_steps}): raise epochs "
        f"(now {recipe.epochs:g}) for a set this small, or lower warmup_steps"
    )


class DeadUnits:
    """Fraction of dead units per ReLU layer: units that no picture of the batch activates.

    A unit of a convolution is a whole feature map.

    Args:
      network: the network whose ReLUs are watched.
    """

    def __init__(self, network: keras.Model) -> None:
        relus = [layer for layer in network.layers if re.fullmatch(r"relu\d(_conv)?(_[ab])?", layer.name)]
        self.names = [layer.name for layer in relus]
        # Units of feature maps [N, H, W, C] are convolutions'.
        self._kinds = {layer.name: "conv" if len(layer.output.shape) == 4 else "fc" for layer in relus}
        watched = keras.Model(network.inputs, [layer.output for layer in relus])

        @tf.function(autograph=False, reduce_retracing=True)
        def active(pixels: tf.Tensor) -> list[tf.Tensor]:
            return [
                tf.reduce_any(maps > 0, axis=list(range(len(maps.shape) - 1)))
                for maps in tf.nest.flatten(watched(pixels, training=False))
            ]

        self._active = active

    def measure(self, pixels: tf.Tensor) -> dict[str, float]:
        """Measures a batch.

        Args:
          pixels: float32 [N, S, S, 3].

        Returns:
          `dead_conv1` ... `dead_fc7`: fractions between 0 and 1, both towers together.
        """
        by_layer: dict[str, list[np.ndarray]] = {}
        for name, active in zip(self.names, self._active(pixels), strict=True):
            kind, number = self._kinds[name], name[4]
            by_layer.setdefault(f"dead_{kind}{number}", []).append(~active.numpy())
        return {name: float(np.concatenate(parts).mean()) for name, parts in by_layer.items()}
