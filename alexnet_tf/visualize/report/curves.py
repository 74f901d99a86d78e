"""The report's section of curves: how a training went, from its metrics.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from alexnet_tf.visualize.report import charts as report_charts
from alexnet_tf.visualize.report.charts import Level, Line, percentage
from alexnet_tf.visualize.report.html import Html, element, figure, paragraph

FIRST, SECOND = "var(--first)", "var(--second)"
DEAD = "dead_"


class Columns:
    """Rows of metrics.csv as columns; what a row lacks is NaN."""

    def __init__(self, rows: Sequence[Mapping[str, float]]) -> None:
        self.rows = rows

    def __call__(self, name: str, factor: float = 1.0) -> list[float]:
        """A column's values, times a factor."""
        return [factor * row.get(name, math.nan) for row in self.rows]

    def known(self, name: str) -> bool:
        """Whether a column has any value."""
        return any(math.isfinite(value) for value in self(name))


def section(rows: Sequence[Mapping[str, float]], classes: int) -> Html:
    """Loss, errors, dead units, rate and speed over the epochs.

    Args:
      rows: of metrics.csv, oldest first.
      classes: how many there are, for what guessing would lose.
    """
    if not rows:
        return paragraph("The run has no evaluation yet: there is nothing to draw.")
    columns = Columns(rows)
    epochs = columns("epoch")

    def both(name: str, factor: float = 1.0) -> list[Line]:
        splits = (("training", SECOND, "train"), ("validation", FIRST, "val"))
        return [Line(word, colour, columns(f"{split}_{name}", factor)) for word, colour, split in splits]

    def one(name: str) -> list[Line]:
        return [Line("", FIRST, columns(name))]

    guess = Level(math.log(classes), f"guessing: ln {classes}")
    charts = [report_charts.lines("loss", epochs, both("loss"), level=guess)]
    for k in (1, 5):
        if columns.known(f"val_top{k}_error"):
            name = f"top-{k} error, per cent"
            charts.append(report_charts.lines(name, epochs, both(f"top{k}_error", 100.0)))
    dead = [name for name in rows[-1] if name.startswith(DEAD)]
    if dead:
        lines = [
            Line(name.removeprefix(DEAD), _shade(number, len(dead)), columns(name, 100.0))
            for number, name in enumerate(dead)
        ]
        charts.append(report_charts.lines("never firing, per cent", epochs, lines, least=5.0))
    charts.append(report_charts.lines("learning rate", epochs, one("learning_rate"), log=True))
    charts.append(report_charts.lines("pictures per second", epochs, one("images_per_second")))
    return figure(element("div", *charts, class_="charts"), _caption(rows, bool(dead)))


def _caption(rows: Sequence[Mapping[str, float]], dead: bool) -> str:
    known = [row for row in rows if math.isfinite(row.get("val_top1_error", math.nan))]
    text = ""
    if known:
        best = min(known, key=lambda row: row["val_top1_error"])
        text = (
            f"The best validation error is {percentage(best['val_top1_error'], 2)}, at epoch "
            f"{best['epoch']:.4g}. "
        )
    text += "Training errors are those of augmented pictures, while the weights change."
    return text + (" Never firing are units that no picture of a validation batch wakes." if dead else "")


def _shade(number: int, count: int) -> str:
    """From light for the first layer to dark for the last."""
    return f"color-mix(in oklab, var(--deep) {100 * number // max(count - 1, 1)}%, var(--shallow))"
