"""Method `filters`: a convolution's kernels; those of the first as figure 3 of the paper shows them.

96 kernels in six rows of 16: the upper 48 are tower a's, the lower 48 tower b's (section 6.1). All are
scaled together, from the smallest weight of all to black and the largest to white (shownet.py of the
2012 source), so that strong kernels stand out from weak ones. The kernels of the other layers, which read
maps instead of colours, are drawn as tables by `figures.kernels`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.network import variants
from alexnet_tf.visualize import options
from pipelines.errors import UserError

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run

FIRST = variants.PAPER.first_layer.name
# A picked kernel's weight in screen pixels, how many stand in a row, and how many a page holds.
PICKED_MAGNIFICATION, PICKED_IN_ROW, MOST_PICKED = 16, 6, 32
# Margins of the page and room between the towers, in pixels.
LEFT, RIGHT, TOP, BOTTOM, BETWEEN = 58, 24, 84, 44, 26


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_layer(parser, FIRST)
    options.add_units(parser, "all")
    options.add_scaling(parser, "kernels")


def draw(
    run: Run, out: Path, *, layer: str = FIRST, units: Sequence[int] = (), scaling: str = "joint"
) -> dict[str, Any]:
    """Writes filters.png and filters.npz.

    Args:
      run: the run folder.
      out: an existing folder.
      layer: a convolution, of both towers without a suffix.
      units: numbers of kernels to show, larger; none shows all.
      scaling: `joint` or `filter`.

    Returns:
      The files, the number of kernels and the range of their weights.

    Raises:
      UserError: no such convolution or kernel, or more kernels than a page holds.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.visualize import network

    trained, warning = network.load(run)
    page, kernels, labels = _page_of(run, trained, layer, units, scaling, warning)
    picture = style.save(page, out / "filters.png")
    arrays = {"kernels": kernels, "towers": labels, "scaling": scaling}
    numbers = style.save_arrays(out / "filters.npz", arrays)
    return {
        "files": [str(picture), str(numbers)],
        "layer": layer,
        "kernels": int(kernels.shape[-1]),
        "smallest": float(kernels.min()),
        "largest": float(kernels.max()),
        "scaling": scaling,
        "warning": warning,
    }


def _page_of(
    run: Run, trained: keras.Model, layer: str, units: Sequence[int], scaling: str, warning: str
) -> tuple[Figure, np.ndarray, tuple[str, ...]]:
    """The page, all kernels of the layer and the names of its towers."""
    from alexnet_tf import model
    from alexnet_tf.figures import kernels as drawings
    from alexnet_tf.figures import style
    from alexnet_tf.network import graph

    labels, subject = drawings.tower_labels(run.recipe.variant), style.subject(run)
    shown: dict[str, Any] = {"scaling": scaling, "units": units, "warning": warning}
    first = variants.get(run.recipe.variant).first_layer.name
    if layer in (first, *(first + tower for tower in graph.TOWERS)):
        if layer == first:
            kernels = model.conv1_kernels(trained)
        else:
            kernels = np.asarray(graph.parts(trained, layer)[0].kernel)
            labels = (f"tower {layer[-1]}",)
        check_picked(units, layer, kernels.shape[-1])
        return figure(kernels, labels, subject, layer=layer, **shown), kernels, labels
    found = drawings.banks(trained, layer, labels)
    kernels = np.concatenate([bank.kernels for bank in found], axis=-1)
    check_picked(units, layer, kernels.shape[-1])
    page = drawings.figure(layer, found, subject, **shown)
    return page, kernels, tuple(bank.tower for bank in found)


def check_picked(units: Sequence[int], layer: str, width: int) -> None:
    """Raises UserError for kernels that do not exist, or for more than a page holds."""
    options.check_units(list(units), layer, width)
    if len(units) > MOST_PICKED:
        raise UserError(f"--units: a figure holds {MOST_PICKED}; received {len(units)}")


def figure(
    kernels: np.ndarray,
    labels: tuple[str, ...],
    line: str,
    *,
    layer: str = FIRST,
    scaling: str = "joint",
    units: Sequence[int] = (),
    warning: str = "",
) -> Figure:
    """Page of conv1's kernels in colour, tower a's above tower b's; or of some of them, larger.

    Args:
      kernels: [k, k, 3, n].
      labels: names of the towers, the kernels' equal shares in order.
      line: stands at the end of the line below the title.
      layer: `conv1`, or one tower's.
      scaling: `joint` or `filter`.
      units: numbers of kernels; none shows all.
      warning: across the foot; empty for none.
    """
    from alexnet_tf.figures import grid, style
    from alexnet_tf.figures.kernels import describe, unit_kernels

    scaled, line = unit_kernels(kernels, scaling), f"{describe([kernels], scaling)}; {line}"
    if units:
        share = len(scaled) // len(labels)
        cells = [grid.Cell(scaled[unit], (f"kernel {unit}", labels[unit // share])) for unit in units]
        rows = grid.in_rows(cells, PICKED_IN_ROW)
        heading = f"{len(units)} of the {len(scaled)} kernels of {layer}"
        size = PICKED_MAGNIFICATION * kernels.shape[0]
        return grid.draw(rows, heading, line, size=size, warning=warning, smooth=False)
    side = kernels.shape[0]
    with style.sheet(*_page(len(scaled), len(labels), side)) as page:
        _lay_out(page, scaled, labels)
        heading = f"The {len(scaled)} kernels of {layer}"
        style.title(page, heading, line, LEFT / _page(len(scaled), 1, side)[0])
        style.warn(page, warning)
    return page


def _block_size(count: int, side: int) -> tuple[int, int]:
    """Width and height in pixels of `count` kernels of `side` x `side` weights, laid out by `tile`."""
    from alexnet_tf.figures.kernels import COLUMNS, GAP, MAGNIFICATION

    pitch = (side + GAP) * MAGNIFICATION
    return COLUMNS * pitch - GAP * MAGNIFICATION, -(-count // COLUMNS) * pitch - GAP * MAGNIFICATION


def _page(count: int, parts: int, side: int) -> tuple[int, int]:
    width, height = _block_size(count // parts, side)
    return LEFT + width + RIGHT, TOP + parts * height + (parts - 1) * BETWEEN + BOTTOM


def _lay_out(figure: Figure, stack: np.ndarray, labels: tuple[str, ...]) -> None:
    """Places each tower's kernels, pixel for pixel, with its name at the side and a line between towers."""
    from matplotlib.lines import Line2D

    from alexnet_tf.figures import style
    from alexnet_tf.figures.kernels import tile

    side = stack.shape[1]
    page_width, page_height = _page(len(stack), len(labels), side)
    share = len(stack) // len(labels)
    width, height = _block_size(share, side)
    for part, label in enumerate(labels):
        bottom = page_height - TOP - (part + 1) * height - part * BETWEEN
        block = tile(stack[part * share : (part + 1) * share])
        figure.figimage(block, xo=LEFT, yo=bottom, origin="upper")
        figure.text(
            LEFT / 2 / page_width,
            (bottom + height / 2) / page_height,
            label,
            rotation=90,
            ha="center",
            va="center",
            fontsize=13,
            color=style.MUTED,
        )
        if part:
            y = (bottom + height + BETWEEN / 2) / page_height
            ends = [LEFT / page_width, (LEFT + width) / page_width]
            figure.add_artist(Line2D(ends, [y, y], color=style.MUTED, linewidth=0.8))
