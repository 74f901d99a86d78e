"""The confusion matrix as a picture, for ten classes or a thousand."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_tf.figures import fonts, text

# Up to so many classes every cell carries its number, and every row and column its name.
MOST_NUMBERED, MOST_NAMED = 20, 60
# Beyond, a class gets so many pixels, and the pairs most often confused are listed beside the matrix.
PIXELS_PER_CLASS, WIDEST_INCHES, PAIRS_PER_INCH = 2, 14.0, 2.5
DPI = 150
LONGEST_NAME = 24


class Scale(NamedTuple):
    """Colour map and tick marks for shares of 0..1; a `gamma` below 1 makes small shares stand out."""

    colours: str
    gamma: float
    ticks: tuple[float, ...]


LINEAR = Scale("Blues", 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
# Among a thousand classes one looks for single cells of a few per cent: bright specks on a dark ground.
LIFTED = Scale("inferno", 0.4, (0.0, 0.01, 0.1, 0.25, 0.5, 1.0))


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Counts [classes, classes] as shares of their rows; a class without examples stays zero."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def most_confused(counts: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """The pairs (true, predicted) most often confused, by share of their row, largest first.

    Of equal shares the larger count comes first, then the order of the classes.
    """
    rows, columns = np.nonzero(counts - np.diag(np.diag(counts)))
    order = np.lexsort((columns, rows, -counts[rows, columns], -row_shares(counts)[rows, columns]))[:limit]
    return [(int(rows[i]), int(columns[i])) for i in order]


def draw(path: str | os.PathLike[str], counts: np.ndarray, class_names: Sequence[str], title: str) -> None:
    """Writes the matrix as a PNG: row = true class, column = predicted class, colour = share of the row.

    Args:
      path: file to write.
      counts: integers [classes, classes].
      class_names: names of rows and columns.
      title: one line above the picture.
    """
    shares, names = row_shares(counts), [text.shorten(name, LONGEST_NAME) for name in class_names]
    # Names are text, whatever dollar signs they hold.
    with mpl.rc_context({"text.parse_math": False}):
        if len(names) <= MOST_NAMED:
            figure = _draw_named(shares, names, title)
        else:
            figure = _draw_many(shares, counts, names, title)
        save(figure, path)


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = DPI) -> None:
    """Writes a figure as a PNG; characters that no font has become boxes."""
    fonts.adapt(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, dpi=dpi, format="png")


def _draw_named(shares: np.ndarray, names: list[str], title: str) -> Figure:
    classes = len(names)
    side = max(4.0, (0.5 if classes <= MOST_NUMBERED else 0.22) * classes)
    figure = Figure(figsize=(side + 3.2, side + 2.6), layout="constrained")
    axes = figure.add_subplot()
    _show(figure, axes, shares, title, LINEAR)
    axes.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), names)
    axes.tick_params(labelsize=9 if classes <= MOST_NUMBERED else 7, length=0)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    if classes <= MOST_NUMBERED:
        for row, column in zip(*np.nonzero(shares >= 0.0005), strict=True):
            share = float(shares[row, column])
            colour = "white" if share > 0.5 else "black"
            axes.text(
                column, row, text.percent_in_cell(share), ha="center", va="center", color=colour, fontsize=8
            )
    return figure


def _draw_many(shares: np.ndarray, counts: np.ndarray, names: list[str], title: str) -> Figure:
    classes = len(names)
    side = min(max(6.5, classes * PIXELS_PER_CLASS / DPI), WIDEST_INCHES)
    figure = Figure(figsize=(side + 6.0, side + 1.2), layout="constrained")
    axes, beside = figure.subplots(1, 2, width_ratios=(side + 1.0, 4.6))
    _show(figure, axes, shares, title, LIFTED)
    axes.set_xlabel("predicted class, by number")
    axes.set_ylabel("true class, by number")
    beside.set_axis_off()
    beside.set_title("most confused", loc="left", fontsize=11)
    lines = int(side * PAIRS_PER_INCH)
    for line, (true, predicted) in enumerate(most_confused(counts, lines)):
        words = (
            f"{text.percent_in_cell(float(shares[true, predicted])):>4} %  {names[true]} ({true})\n"
            f"            taken for {names[predicted]} ({predicted})"
        )
        beside.text(
            0.0, 1.0 - (line + 0.5) / lines, words, va="center", fontsize=9, transform=beside.transAxes
        )
    return figure


def _show(figure: Figure, axes: Axes, shares: np.ndarray, title: str, scale: Scale) -> None:
    norm = mpl.colors.PowerNorm(scale.gamma, 0.0, 1.0)
    image = axes.imshow(shares, cmap=scale.colours, norm=norm, interpolation="nearest")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02, ticks=scale.ticks)
    bar.ax.set_yticklabels([f"{tick:.0%}" for tick in scale.ticks])
    bar.set_label("share of the true class")
