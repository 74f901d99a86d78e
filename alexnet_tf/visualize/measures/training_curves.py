"""The curves of a training: which columns of metrics.csv form a panel, with their names, scales and axes.

Both drawings of them, the figure of `visualize curves` and the report's charts, draw these panels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

DEAD = "dead_"
# What a series' colour says; each drawing has colours of its own for them.
TRAINING, VALIDATION = "training", "validation"


class Series(NamedTuple):
    """One line over the epochs.

    Attributes:
      name: such as `validation` or `conv5`; empty where a panel has only one line.
      colour: TRAINING, VALIDATION, or a place from 0 (light) to 1 (dark) on a scale of shades.
      values: as many as there are evaluations; NaN where a row has none.
      remark: on the name, for a drawing without a caption that says it.
    """

    name: str
    colour: str | float
    values: list[float]
    remark: str = ""


class Level(NamedTuple):
    """A value to compare a panel's lines with."""

    value: float
    name: str


class Panel(NamedTuple):
    """Lines that share two axes.

    Attributes:
      title: what is drawn, with its unit.
      series: the lines.
      level: a value to compare with.
      logarithmic: whether the vertical axis is; it leaves out what is 0 or less.
      least: a linear vertical axis goes from 0 to this at least.
    """

    title: str
    series: tuple[Series, ...]
    level: Level | None = None
    logarithmic: bool = False
    least: float = 0.0

    @property
    def has_values(self) -> bool:
        """Whether there is anything to draw but of the training pictures."""
        measured = (series for series in self.series if series.colour != TRAINING)
        return any(math.isfinite(value) for series in measured for value in series.values)


class TrainingCurves(NamedTuple):
    """The panels of one training.

    Attributes:
      epochs: of the evaluations, oldest first.
      dead_units: by layer, the share of units that no picture of a validation batch activates.
    """

    epochs: list[float]
    loss: Panel
    top1_error: Panel
    top5_error: Panel
    dead_units: Panel
    learning_rate: Panel
    speed: Panel

    @property
    def panels(self) -> list[Panel]:
        """Those with values, in the order of the fields."""
        return [panel for panel in self[1:] if isinstance(panel, Panel) and panel.has_values]


def training_curves(rows: Sequence[Mapping[str, float]], classes: int) -> TrainingCurves:
    """The panels of the rows of a metrics.csv.

    Args:
      rows: oldest first.
      classes: how many there are, for the loss of guessing.
    """

    def column(name: str, factor: float = 1.0) -> list[float]:
        return [factor * row.get(name, math.nan) for row in rows]

    def both(name: str, factor: float = 1.0, remark: str = "") -> tuple[Series, ...]:
        return (
            Series("training", TRAINING, column(f"train_{name}", factor), remark),
            Series("validation", VALIDATION, column(f"val_{name}", factor)),
        )

    def error(k: int) -> Panel:
        return Panel(f"top-{k} error, per cent", both(f"top{k}_error", 100.0, "augmented"))

    def one(title: str, name: str, *, logarithmic: bool = False) -> Panel:
        return Panel(title, (Series("", VALIDATION, column(name)),), logarithmic=logarithmic)

    dead = [name for name in (rows[-1] if rows else ()) if name.startswith(DEAD)]
    shares = tuple(
        Series(name.removeprefix(DEAD), number / max(len(dead) - 1, 1), column(name, 100.0))
        for number, name in enumerate(dead)
    )
    return TrainingCurves(
        epochs=column("epoch"),
        loss=Panel("loss", both("loss"), Level(math.log(classes), f"guessing: ln {classes}")),
        top1_error=error(1),
        top5_error=error(5),
        dead_units=Panel("dead units, per cent", shares, least=5.0),
        learning_rate=one("learning rate", "learning_rate", logarithmic=True),
        speed=one("pictures per second", "images_per_second"),
    )


def best_evaluation(rows: Sequence[Mapping[str, float]]) -> int | None:
    """Index of the row with the lowest top-1 validation error, of equal ones the first; None without any."""
    errors = [row.get("val_top1_error", math.nan) for row in rows]
    known = [index for index, error in enumerate(errors) if math.isfinite(error)]
    return min(known, key=lambda index: errors[index], default=None)
