"""Grid of pictures with captions: the layout of most figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alexnet_tf.figures import style, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pixels: margins, room between cells, the title's height, one line of a caption, a row's name.
SIDE, GAP, TITLE, LINE, HEADING, FOOT, ROW_NAME = 32, 14, 88, 18, 26, 40, 30
NARROWEST = 520  # so that the title has room
POINTS_PER_PIXEL = 0.72
CHARACTER, LINE_CHARACTER = 7.0, 8.2  # pixels, roughly, at the caption's size and at the line's


class Cell(NamedTuple):
    """One picture, uint8 or 0..1 [H, W, 3] or [H, W], and the lines of its caption.

    `frame` is a colour for a border, empty for none; no picture leaves the place empty.
    """

    image: np.ndarray | None
    lines: tuple[str, ...] = ()
    frame: str = ""


def draw(
    rows: Sequence[Sequence[Cell]],
    heading: str,
    line: str,
    *,
    size: int = 200,
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    warning: str = "",
    smooth: bool = True,
) -> Figure:
    """Draws a page of cells in rows and columns.

    Args:
      rows: cells from left to right, top to bottom; rows may differ in length.
      heading: the title.
      line: one line below the title.
      size: side of a picture in pixels.
      columns: a name above each column, if any.
      names: a name at the left of each row, if any.
      warning: across the foot; empty for none.
      smooth: False shows each value as a square, as kernels need.
    """
    caption = LINE * max((len(cell.lines) for row in rows for cell in row), default=0)
    left = SIDE + (ROW_NAME if any(names) else 0)
    top = TITLE + (HEADING if any(columns) else 0)
    wide, high = max(len(row) for row in rows), len(rows)
    width = max(NARROWEST, left + wide * (size + GAP) - GAP + SIDE)
    pitch = size + caption + GAP
    height = top + high * pitch - GAP + FOOT
    with style.sheet(width, height) as figure:
        style.title(figure, heading, _fit(line, width - 2 * SIDE, LINE_CHARACTER), SIDE / width)
        for column, name in enumerate(columns):
            middle = (left + column * (size + GAP) + size / 2) / width
            place = 1 - (TITLE + HEADING / 2 - 4) / height
            figure.text(middle, place, _fit(name, size), ha="center", va="center", color=style.MUTED)
        for number, row in enumerate(rows):
            y = top + number * pitch
            if number < len(names):
                _write_row_name(
                    figure, names[number], (SIDE + ROW_NAME / 2) / width, 1 - (y + size / 2) / height
                )
            for column, cell in enumerate(row):
                x = left + column * (size + GAP)
                _draw_cell(figure, cell, (x, y, width, height), size, smooth)
        style.warn(figure, warning)
    return figure


def in_rows(cells: Sequence[Cell], columns: int) -> list[Sequence[Cell]]:
    """Cells in rows of `columns`, the last row perhaps shorter."""
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


def _write_row_name(figure: Figure, name: str, x: float, y: float) -> None:
    figure.text(x, y, name, rotation=90, ha="center", va="center", color=style.MUTED, fontsize=10.5)


def _draw_cell(
    figure: Figure, cell: Cell, place: tuple[float, float, float, float], size: int, smooth: bool
) -> None:
    x, y, width, height = place
    if cell.image is not None:
        axes = figure.add_axes((x / width, 1 - (y + size) / height, size / width, size / height))
        # Enlarged smoothly or as squares, shrunk without losing lines.
        kind = "antialiased" if smooth else "nearest"
        axes.imshow(cell.image, cmap="gray", interpolation=kind, aspect="auto")
        axes.set_axis_off()
        if cell.frame:
            axes.set_axis_on()
            axes.grid(visible=False)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(visible=True, color=cell.frame, linewidth=2.5)
    for number, words in enumerate(cell.lines):
        figure.text(
            (x + size / 2) / width,
            1 - (y + size + LINE * (number + 0.62)) / height,
            _fit(words, size + GAP),
            ha="center",
            va="center",
            fontsize=9.5,
            color=style.INK if number == 0 else style.MUTED,
        )


def _fit(words: str, pixels: float, character: float = CHARACTER) -> str:
    """Words cut so that they fit into so many pixels, roughly."""
    most = max(4, int(pixels / character))
    return (
        textwrap.shorten(words, most, placeholder=text.ELLIPSIS)
        if " " in words
        else text.shorten(words, most)
    )
