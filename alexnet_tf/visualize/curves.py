"""Method `curves`: how a run went, from its metrics.csv: loss, error, rate, speed and dead units."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run

WIDTH, HEIGHT = 1500, 940
DEAD = "dead_"
EMPTY = "untrained: the run has no evaluation yet"

Columns = dict[str, list[float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: all there is to draw is in the run folder."""


def draw(run: Run, out: Path) -> dict[str, Any]:
    """Writes curves.png, curves.svg and curves.json into an existing folder.

    Returns:
      The files, the number of evaluations and the best validation error.
    """
    from alexnet_tf.figures import style

    rows = run.read_metrics()
    columns: Columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    if not rows:
        print(f"warning: {run.workdir}: {EMPTY}", file=sys.stderr)
    with style.sheet(WIDTH, HEIGHT) as figure:
        _lay_out(figure, columns, len(run.class_names))
        style.title(figure, "How the training went", style.subject(run), left=0.05)
        style.warn(figure, "" if rows else EMPTY)
        pictures = [style.save(figure, out / f"curves.{form}") for form in ("png", "svg")]
    numbers = out / "curves.json"
    known = {name: [v if math.isfinite(v) else None for v in values] for name, values in columns.items()}
    write_text(numbers, json.dumps(known) + "\n")
    best = _best(columns)
    return {
        "files": [str(path) for path in (*pictures, numbers)],
        "evaluations": len(rows),
        "best_val_top1_error": columns["val_top1_error"][best] if best is not None else None,
        "warning": "" if rows else EMPTY,
    }


def _lay_out(figure: Figure, columns: Columns, classes: int) -> None:
    """Two large panels over three small ones, all against the epoch."""
    above = figure.add_gridspec(1, 2, left=0.05, right=0.985, top=0.855, bottom=0.49, wspace=0.12)
    below = figure.add_gridspec(1, 3, left=0.05, right=0.925, top=0.375, bottom=0.085, wspace=0.2)
    panels: tuple[tuple[Any, Callable[[Axes, Columns], None]], ...] = (
        (above[0], lambda axes, c: _losses(axes, c, classes)),
        (above[1], _errors),
        (below[0], _rate),
        (below[1], _speed),
        (below[2], _dead_units),
    )
    for place, panel in panels:
        axes = figure.add_subplot(place)
        axes.set_xlabel("epoch")
        axes.set_xlim(0, max(columns.get("epoch", []), default=1.0) * 1.02)
        panel(axes, columns)


def _line(axes: Axes, columns: Columns, name: str, colour: Any, label: str, factor: float = 1.0) -> None:
    """One column against the epoch; few points get marks."""
    values = [factor * value for value in columns.get(name, [])]
    mark = "o" if len(values) <= 30 else ""
    axes.plot(
        columns.get("epoch", []),
        values,
        color=colour,
        label=label,
        linewidth=1.8,
        marker=mark,
        markersize=4.5,
    )


def _losses(axes: Axes, columns: Columns, classes: int) -> None:
    from alexnet_tf.figures import style

    axes.set_title("loss")
    chance = math.log(classes)
    axes.axhline(chance, color=style.MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.annotate(
        f"guessing: ln {classes} = {chance:.2f}",
        (1.0, chance),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        color=style.MUTED,
        fontsize=9,
    )
    _line(axes, columns, "train_loss", style.SECOND, "training")
    _line(axes, columns, "val_loss", style.FIRST, "validation")
    _from_zero(axes)
    axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.98), ncols=2)


def _errors(axes: Axes, columns: Columns) -> None:
    from alexnet_tf.figures import style

    axes.set_title("top-1 error, per cent")
    _line(axes, columns, "train_top1_error", style.SECOND, "training (augmented)", 100.0)
    _line(axes, columns, "val_top1_error", style.FIRST, "validation", 100.0)
    _from_zero(axes)
    axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.98), ncols=2)
    best = _best(columns)
    if best is not None:
        epoch, error = columns["epoch"][best], 100.0 * columns["val_top1_error"][best]
        axes.scatter(
            [epoch], [error], s=80, facecolors="none", edgecolors=style.FIRST, linewidths=1.6, zorder=3
        )
        text = f"best: {error:.2f} % at epoch {epoch:.4g}"
        axes.text(0.98, 0.93, text, transform=axes.transAxes, ha="right", color=style.FIRST, weight="bold")


def _from_zero(axes: Axes, least: float = 0.0) -> None:
    """Lets the axis start at 0 and end somewhat above the highest line, or above `least`."""
    axes.set_ylim(0, max(least, 1.1 * axes.get_ylim()[1]))


def _rate(axes: Axes, columns: Columns) -> None:
    from alexnet_tf.figures import style

    axes.set_title("learning rate")
    if any(rate > 0 for rate in columns.get("learning_rate", [])):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        axes.yaxis.set_minor_formatter(lambda rate, _: "")
    _line(axes, columns, "learning_rate", style.FIRST, "")


def _speed(axes: Axes, columns: Columns) -> None:
    from alexnet_tf.figures import style

    axes.set_title("pictures per second")
    _line(axes, columns, "images_per_second", style.FIRST, "")
    _from_zero(axes)


def _dead_units(axes: Axes, columns: Columns) -> None:
    import matplotlib as mpl

    axes.set_title("units that never fire, per cent")
    layers = [name for name in columns if name.startswith(DEAD)]
    # From light for the first layer to dark for the last.
    shades = mpl.colormaps["viridis_r"]
    for number, name in enumerate(layers):
        shade = shades(0.08 + 0.84 * number / max(len(layers) - 1, 1))
        _line(axes, columns, name, shade, name.removeprefix(DEAD), 100.0)
    _from_zero(axes, least=5.0)
    if layers:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.04), handlelength=1.2)


def _best(columns: Columns) -> int | None:
    """Index of the evaluation with the lowest validation error."""
    errors = columns.get("val_top1_error", [])
    known = [index for index, error in enumerate(errors) if math.isfinite(error)]
    return min(known, key=lambda index: errors[index], default=None)
