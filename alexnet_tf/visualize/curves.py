"""Method `curves`: how a run went, from its metrics.csv: loss, error, learning rate, speed and dead units."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf.figures import text
from alexnet_tf.visualize.measures.training_curves import (
    TRAINING,
    VALIDATION,
    Panel,
    Series,
    best_evaluation,
    training_curves,
)
from pipelines.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run

WIDTH, HEIGHT = 1500, 940
MOST_MARKED = 30  # points of a line that get marks
EMPTY = "untrained: the run has no evaluation yet"

Rows = Sequence[Mapping[str, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: all there is to draw is in the run folder."""


def draw(run: Run, out: Path) -> dict[str, Any]:
    """Writes curves.png, curves.svg and curves.json into an existing folder.

    Returns:
      The files, the number of evaluations and the best validation error.
    """
    from alexnet_tf.figures import style

    rows = run.read_metrics()
    if not rows:
        print(f"warning: {run.workdir}: {EMPTY}", file=sys.stderr)
    with style.sheet(WIDTH, HEIGHT) as figure:
        _lay_out(figure, rows, len(run.class_names))
        style.title(figure, "How the training went", style.subject(run), left=0.05)
        style.warn(figure, "" if rows else EMPTY)
        pictures = [style.save(figure, out / f"curves.{form}") for form in ("png", "svg")]
    numbers = out / "curves.json"
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    known = {name: [v if math.isfinite(v) else None for v in values] for name, values in columns.items()}
    write_text(numbers, json.dumps(known) + "\n")
    best = best_evaluation(rows)
    return {
        "files": [str(path) for path in (*pictures, numbers)],
        "evaluations": len(rows),
        "best_val_top1_error": rows[best]["val_top1_error"] if best is not None else None,
        "warning": "" if rows else EMPTY,
    }


def _lay_out(figure: Figure, rows: Rows, classes: int) -> None:
    """Two large panels over three small ones, all against the epoch."""
    curves = training_curves(rows, classes)
    above = figure.add_gridspec(1, 2, left=0.05, right=0.985, top=0.855, bottom=0.49, wspace=0.12)
    below = figure.add_gridspec(1, 3, left=0.05, right=0.925, top=0.375, bottom=0.085, wspace=0.2)
    for place, panel in (
        (above[0], curves.loss),
        (above[1], curves.top1_error),
        (below[0], curves.learning_rate),
        (below[1], curves.speed),
        (below[2], curves.dead_units),
    ):
        axes = figure.add_subplot(place)
        axes.set_xlabel("epoch")
        axes.set_xlim(0, max(curves.epochs, default=1.0) * 1.02)
        _draw(axes, panel, curves.epochs)
        if panel is curves.top1_error:
            _mark_best(axes, rows)


def _draw(axes: Axes, panel: Panel, epochs: Sequence[float]) -> None:
    """One panel: its level, its lines, its vertical axis and its legend."""
    axes.set_title(panel.title)
    if panel.level:
        _draw_level(axes, panel.level.value, f"{panel.level.name} = {panel.level.value:.2f}")
    for series in panel.series:
        axes.plot(
            epochs,
            series.values,
            color=_colour(series),
            label=f"{series.name} ({series.remark})" if series.remark else series.name,
            linewidth=1.8,
            marker="o" if len(epochs) <= MOST_MARKED else "",
            markersize=4.5,
        )
    if not panel.logarithmic:
        # From 0 to somewhat above the highest line.
        axes.set_ylim(0, max(panel.least, 1.1 * axes.get_ylim()[1]))
    elif any(value > 0 for series in panel.series for value in series.values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    named = [series for series in panel.series if series.name]
    if len(named) > 2:  # too many to stand above the panel
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.04), handlelength=1.2)
    elif named:
        axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.98), ncols=2)


def _colour(series: Series) -> Any:
    """The series' colour in matplotlib; a place on the scale of shades as one of a colour map."""
    import matplotlib as mpl

    from alexnet_tf.figures import style

    if isinstance(series.colour, str):
        return {TRAINING: style.SECOND, VALIDATION: style.FIRST}[series.colour]
    return mpl.colormaps["viridis_r"](0.08 + 0.84 * series.colour)


def _draw_level(axes: Axes, value: float, words: str) -> None:
    """A dashed line across a panel with its name at the right."""
    from alexnet_tf.figures import style

    axes.axhline(value, color=style.MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.annotate(
        words,
        (1.0, value),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        color=style.MUTED,
        fontsize=9,
    )


def _mark_best(axes: Axes, rows: Rows) -> None:
    """A ring around the lowest validation error, and its value in words."""
    from alexnet_tf.figures import style

    best = best_evaluation(rows)
    if best is None:
        return
    epoch, error = rows[best]["epoch"], rows[best]["val_top1_error"]
    axes.scatter(
        [epoch], [100 * error], s=80, facecolors="none", edgecolors=style.FIRST, linewidths=1.6, zorder=3
    )
    words = f"best: {text.percent(error, 2)} at epoch {epoch:.4g}"
    axes.text(0.98, 0.93, words, transform=axes.transAxes, ha="right", color=style.FIRST, weight="bold")
