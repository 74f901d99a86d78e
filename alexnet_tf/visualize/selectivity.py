"""Method `selectivity`: how selective each kernel of conv1 is for colour and orientation, by tower.

Section 6.1 of the paper: in every run one GPU's kernels were largely colour-agnostic and the other's largely
colour-specific. Here that is a number a kernel, a histogram a tower and a test.

Colour: the share of a kernel's energy (sum of squared weights) that is off the grey axis, where red, green
and blue are equal. 0 for a kernel that sees brightness alone, 1 for one that is blind to it, and 2/3 on
average for random weights, since two of the three axes of colour are not grey. It is the linear kernel's
own form of the response index of Rafegas and Vanrell (2018), which compares coloured with grey pictures.

Orientation: one minus the circular variance (Ringach, Shapley and Hawken 2002) of the kernel's power
spectrum: |sum of P exp(2i angle)| / sum of P over all frequencies but zero, P summed over the colours. 1 for
a grating, 0 for a round spot or for two gratings at right angles; noise of 11 x 11 weights has about 0.06.

Frequency: the mean of the spectrum's frequencies weighted by power, zero included, in cycles a pixel.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.figures import text
from alexnet_tf.visualize.measures import tuning
from pipelines.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run


BINS = 20
# Pixels: margins, a histogram, room between histograms, the kernels' rows and their places.
LEFT, RIGHT, TOP, HISTOGRAM, BETWEEN, FOOT = 66, 30, 112, 230, 96, 44
KERNELS_TOP, TOWER_NAME, MAGNIFICATION, COLUMNS = 62, 34, 4, 24
HEADROOM = 1.5  # above the highest bar, for the legend
TITLES = {
    "colour": "colour: share of energy off the grey axis",
    "orientation": "orientation: 1 − circular variance",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options: there are none."""


def draw(run: Run, out: Path) -> dict[str, Any]:
    """Writes selectivity.png, .svg, .npz (values of every kernel) and .json (towers and their difference).

    Args:
      run: the run folder.
      out: an existing folder.

    Returns:
      The files and what the JSON file says.
    """
    from alexnet_tf import model
    from alexnet_tf.figures import style
    from alexnet_tf.figures.kernels import tower_labels
    from alexnet_tf.visualize import network

    trained, warning = network.load(run)
    kernels = model.conv1_kernels(trained)
    labels = tower_labels(run.recipe.variant)
    found = tuning.indices(kernels)
    summary = tuning.summarise(found, labels)
    page = figure(kernels, found, labels, style.subject(run), summary, warning)
    files = [style.save(page, out / f"selectivity.{form}") for form in ("png", "svg")]
    numbers = style.save_arrays(out / "selectivity.npz", {**found._asdict(), "towers": labels})
    words = out / "selectivity.json"
    write_text(words, json.dumps(summary, indent=2) + "\n")
    return {"files": [str(path) for path in (*files, numbers, words)], **summary, "warning": warning}


def figure(
    kernels: np.ndarray,
    found: tuning.Indices,
    labels: tuple[str, ...],
    line: str,
    summary: dict[str, Any],
    warning: str = "",
) -> Figure:
    """Page of the histograms and the kernels, by tower.

    Args:
      kernels: [h, w, 3, n].
      found: their indices.
      labels: names of the towers, the kernels' equal shares in order.
      line: stands below the title.
      summary: from `tuning.summarise`.
      warning: across the foot; empty for none.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.figures.kernels import GAP, tile, unit_kernels

    pitch = (kernels.shape[0] + GAP) * MAGNIFICATION
    wide = COLUMNS * pitch - GAP * MAGNIFICATION
    high = -(-(kernels.shape[-1] // len(labels)) // COLUMNS) * pitch
    width = LEFT + wide + RIGHT
    height = TOP + HISTOGRAM + KERNELS_TOP + len(labels) * (TOWER_NAME + high) + FOOT
    with style.sheet(width, height) as page:
        style.title(page, "Selectivity of conv1's kernels", line, LEFT / width)
        towers = tuning.split(found, labels)
        room = (wide - BETWEEN) / 2
        for number, name in enumerate(TITLES):
            place = (LEFT + number * (room + BETWEEN), height - TOP - HISTOGRAM, room, HISTOGRAM)
            axes = page.add_axes(_shares(place, width, height))
            values = {label: getattr(own, name) for label, own in towers.items()}
            _draw_histogram(axes, name, values, summary)
        top = TOP + HISTOGRAM + KERNELS_TOP
        scaled = unit_kernels(kernels)
        share = len(scaled) // len(labels)
        for number, label in enumerate(labels):
            own = slice(number * share, (number + 1) * share)
            order = np.argsort(found.colour[own], kind="stable")
            picture = tile(scaled[own][order], COLUMNS, MAGNIFICATION)
            y = height - top - number * (TOWER_NAME + high)
            words = f"{label or 'all'}, from the least to the most coloured"
            page.text(LEFT / width, (y - TOWER_NAME / 2 - 3) / height, words, va="center", color=style.MUTED)
            place = (LEFT, y - TOWER_NAME - picture.shape[0], picture.shape[1], picture.shape[0])
            axes = page.add_axes(_shares(place, width, height))
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
        style.warn(page, warning)
    return page


def _shares(place: Sequence[float], width: float, height: float) -> tuple[float, float, float, float]:
    """Left, bottom, width and height in pixels as shares of the page."""
    x, y, wide, high = place
    return x / width, y / height, wide / width, high / height


def _draw_histogram(axes: Axes, name: str, towers: dict[str, np.ndarray], summary: dict[str, Any]) -> None:
    """Bars of the towers side by side in each bin, medians as marks on the axis, the test's result above."""
    from matplotlib.ticker import MaxNLocator

    from alexnet_tf.figures import style

    edges = np.linspace(0.0, 1.0, BINS + 1)
    slot = 0.84 / BINS / len(towers)
    highest = 0
    for number, (label, values) in enumerate(towers.items()):
        colour = (style.FIRST, style.SECOND)[number]
        counts, _ = np.histogram(values, edges)
        highest = max(highest, counts.max())
        places = edges[:-1] + 0.08 / BINS + (number + 0.5) * slot
        median = float(np.median(values))
        axes.bar(places, counts, slot, color=colour, label=f"{label or 'all'}, median {median:.2f}")
        # A line in a bar's own colour would be lost in it.
        axes.plot(
            median,
            0,
            marker="^",
            markersize=9,
            color=colour,
            markeredgecolor=style.PAGE,
            clip_on=False,
            zorder=4,
        )
    if name == "colour":
        axes.axvline(tuning.RANDOM_COLOUR, ymax=1 / HEADROOM, color=style.MUTED, linewidth=1, linestyle=":")
        axes.text(
            tuning.RANDOM_COLOUR,
            highest * 1.02,
            "random weights",
            fontsize=9,
            color=style.MUTED,
            ha="center",
            va="bottom",
        )
    axes.set(xlim=(0, 1), ylim=(0, highest * HEADROOM), ylabel="kernels")
    axes.set_xlabel(TITLES[name])
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right", fontsize=9.5, handlelength=1.0)
    difference = summary.get("difference")
    if difference:
        test = difference[name]
        p = "p < 0.001" if test["p"] < 0.001 else f"p = {test['p']:.3f}"
        pairs = text.percent(test["ahead"], 0)
        words = f"a kernel of tower b is ahead of one of tower a in {pairs} of pairs; {p}"
        axes.text(0, 1.03, words, transform=axes.transAxes, fontsize=10, va="bottom")
