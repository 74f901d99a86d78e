"""Sheet of the misclassified pictures to whose wrong class the network gave the highest probabilities."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_tf.figures import confusion, text

COLUMNS, FEWEST_COLUMNS = 6, 3
PICTURE, GAP, CAPTION, LINE, TITLE = 2.0, 0.15, 0.72, 0.17, 0.45  # inches
DPI = 112  # a crop of 224 pixels is shown as it is
LONGEST_NAME = 26
LONGEST_KEY = 34
TRUE_COLOUR, WRONG_COLOUR, KEY_COLOUR = "#1a6e2e", "#b3261e", "#555555"


class MisclassifiedPicture(NamedTuple):
    """A picture taken for another class: the network's crop, uint8 [side, side, 3], and both names."""

    image: np.ndarray
    true_name: str
    predicted_name: str
    probability: float
    key: str


def draw(path: str | os.PathLike[str], pictures: Sequence[MisclassifiedPicture], title: str) -> None:
    """Writes a PNG with each picture, its true name, what it was taken for and how surely.

    Args:
      path: file to write.
      pictures: at least one, the worst first.
      title: one line above the sheet.
    """
    columns = min(COLUMNS, max(FEWEST_COLUMNS, len(pictures)))
    rows = -(-len(pictures) // columns)
    width, height = columns * (PICTURE + GAP) + GAP, TITLE + rows * (PICTURE + CAPTION)
    with mpl.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(width, height))
        figure.text(GAP / width, 1.0 - TITLE / 2 / height, title, va="center", fontsize=11)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))  # measured in inches
        axes.set_axis_off()
        for number, picture in enumerate(pictures):
            row, column = divmod(number, columns)
            left = GAP + column * (PICTURE + GAP)
            bottom = height - TITLE - row * (PICTURE + CAPTION) - PICTURE
            axes.imshow(picture.image, extent=(left, left + PICTURE, bottom, bottom + PICTURE), aspect="auto")
            _write_caption(axes, picture, left, bottom)
        axes.set(xlim=(0.0, width), ylim=(0.0, height))  # imshow has moved them
        confusion.save(figure, path, dpi=DPI)


def _write_caption(axes: Axes, picture: MisclassifiedPicture, left: float, top: float) -> None:
    predicted = text.shorten(picture.predicted_name, LONGEST_NAME - 7)
    lines = (
        (text.shorten(picture.true_name, LONGEST_NAME), TRUE_COLOUR, 8.5),
        (f"{predicted}  {text.percent(picture.probability)}", WRONG_COLOUR, 8.5),
        (text.shorten_key(picture.key, LONGEST_KEY), KEY_COLOUR, 6.5),
    )
    for number, (words, colour, size) in enumerate(lines):
        axes.text(left, top - 0.06 - LINE * number, words, va="top", color=colour, fontsize=size)
