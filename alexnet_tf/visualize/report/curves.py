"""The report's section of curves: how a training went, from its metrics.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alexnet_tf.visualize.measures.training_curves import (
    TRAINING,
    VALIDATION,
    Panel,
    Series,
    best_evaluation,
    training_curves,
)
from alexnet_tf.visualize.report import charts
from alexnet_tf.visualize.report.html import Content, note, percent

COLOURS: dict[str | float, str] = {TRAINING: "var(--second)", VALIDATION: "var(--first)"}


def section(rows: Sequence[Mapping[str, float]], classes: int) -> Content:
    """Loss, errors, dead units, learning rate and speed over the epochs.

    Args:
      rows: of metrics.csv, oldest first.
      classes: how many there are, for the loss of guessing.
    """
    if not rows:
        return note("The run has no evaluation yet: there is nothing to draw.")
    curves = training_curves(rows, classes)
    drawn = [_chart(panel, curves.epochs) for panel in curves.panels]
    caption = _caption(rows, dead=curves.dead_units.has_values)
    return Content("charts.html", {"charts": drawn, "caption": caption})


def _chart(panel: Panel, epochs: Sequence[float]) -> charts.Chart:
    lines = [charts.Line(series.name, _colour(series), series.values) for series in panel.series]
    return charts.lines(
        panel.title, epochs, lines, level=panel.level, log=panel.logarithmic, least=panel.least
    )


def _colour(series: Series) -> str:
    """The series' colour in CSS; a place on the scale of shades as a mixture of its two ends."""
    if series.colour in COLOURS:
        return COLOURS[series.colour]
    return f"color-mix(in oklab, var(--deep) {int(100 * float(series.colour) + 1e-6)}%, var(--shallow))"


def _caption(rows: Sequence[Mapping[str, float]], *, dead: bool) -> str:
    best = best_evaluation(rows)
    text = ""
    if best is not None:
        error, epoch = rows[best]["val_top1_error"], rows[best]["epoch"]
        text = f"The best validation error is {percent(error, 2)}, at epoch {epoch:.4g}. "
    text += "Training errors are those of augmented pictures, while the weights change."
    return text + (" Dead are units that no picture of a validation batch activates." if dead else "")
