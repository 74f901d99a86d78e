"""Method `panels`: pictures with their true class and the five best (figure 4 of the paper, left).

Eight pictures in two rows; below each its true class and a bar for each of the five most probable, the
correct one in pink and the others in light blue (shownet.py of the 2012 source).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_tf.figures import text
from alexnet_tf.visualize import options
from pipelines.files import write_text

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.pictures import Pictures

MOST, COLUMNS = 8, 4
# A cell's picture and caption, the height of one bar, and the page's margins, in pixels.
PICTURE, CAPTION, BAR, GAP, TOP, SIDE, BOTTOM = 340, 40, 30, 36, 96, 40, 16
LONGEST_NAME = 30


class Panel(NamedTuple):
    """One picture with its most probable classes; `true_name` is empty where the class is unknown."""

    key: str
    image: np.ndarray  # uint8 [crop, crop, 3], what the network sees
    true_name: str
    classes: list[str]
    scores: list[float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_image(parser, MOST)


def draw(run: Run, out: Path, *, image: Sequence[str] = ()) -> dict[str, Any]:
    """Writes panels.png and panels.json into an existing folder.

    Args:
      run: the run folder.
      out: the folder.
      image: files to show; none takes pictures of the run's validation split.

    Raises:
      UserError: more than eight files, or one that is no picture.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.visualize import network, pictures

    shown = pictures.choose(run, image, MOST)
    trained, warning = network.load(run)
    panels = panels_of(run, trained, shown)
    path = style.save(figure_of(panels, style.subject(run), warning), out / "panels.png")
    rows = [{name: value for name, value in panel._asdict().items() if name != "image"} for panel in panels]
    numbers = out / "panels.json"
    write_text(numbers, json.dumps(rows, indent=2) + "\n")
    known = [panel for panel in panels if panel.true_name]
    return {
        "files": [str(path), str(numbers)],
        "pictures": len(panels),
        "right": sum(panel.classes[0] == panel.true_name for panel in known),
        "among_five": sum(panel.true_name in panel.classes for panel in known),
        "warning": warning,
    }


def panels_of(run: Run, trained: keras.Model, shown: Pictures) -> list[Panel]:
    """The panels of some pictures: their most probable classes by name."""
    from alexnet_tf.visualize.network import top_classes

    labels, scores = top_classes(trained, shown.pixels)
    return [
        Panel(key, image, name, [run.readable_names[label] for label in best], values)
        for key, image, name, best, values in zip(
            shown.keys, shown.images, shown.true_names, labels.tolist(), scores.tolist(), strict=True
        )
    ]


def figure_of(panels: list[Panel], line: str, warning: str = "") -> Figure:
    """The panels as a page, with `line` below its title."""
    from alexnet_tf.figures import style

    with style.sheet(*_page(len(panels))) as figure:
        _lay_out(figure, panels)
        style.title(figure, "The five best classes", line, SIDE / _page(len(panels))[0])
        _write_key(figure)
        style.warn(figure, warning)
    return figure


def _page(count: int) -> tuple[int, int]:
    """Width and height of a page of so many pictures, in pixels."""
    from alexnet_tf.visualize.network import SHOWN_CLASSES

    columns, rows = max(2, min(COLUMNS, count)), -(-count // COLUMNS)
    cell = PICTURE + CAPTION + SHOWN_CLASSES * BAR + GAP
    return 2 * SIDE + columns * (PICTURE + GAP) - GAP, TOP + rows * cell + BOTTOM


def _lay_out(figure: Figure, panels: list[Panel]) -> None:
    """Places each picture with its caption and its bars."""
    from alexnet_tf.figures import style
    from alexnet_tf.visualize.network import SHOWN_CLASSES

    width, height = _page(len(panels))
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        left = SIDE + column * (PICTURE + GAP)
        top = height - TOP - row * (PICTURE + CAPTION + SHOWN_CLASSES * BAR + GAP)
        axes = figure.add_axes((left / width, (top - PICTURE) / height, PICTURE / width, PICTURE / height))
        axes.imshow(panel.image, interpolation="lanczos")
        axes.set_axis_off()
        figure.text(
            (left + PICTURE / 2) / width,
            (top - PICTURE - CAPTION / 2) / height,
            text.shorten(panel.true_name or panel.key, LONGEST_NAME),
            ha="center",
            va="center",
            fontsize=13,
            weight="bold" if panel.true_name else "normal",
            color=style.INK if panel.true_name else style.MUTED,
        )
        bars = len(panel.classes) * BAR
        bottom = top - PICTURE - CAPTION - bars
        _draw_bars(figure, (left / width, bottom / height, PICTURE / width, bars / height), panel)


def _draw_bars(figure: Figure, place: tuple[float, float, float, float], panel: Panel) -> None:
    """A bar a class on a pale track, its name on it and its probability at the right."""
    from alexnet_tf.figures import style

    axes = figure.add_axes(place)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(panel.classes) - 0.5, -0.5)
    for number, (name, score) in enumerate(zip(panel.classes, panel.scores, strict=True)):
        axes.barh(number, 1.0, height=0.84, color=style.TRACK)
        axes.barh(number, score, height=0.84, color=style.CORRECT if name == panel.true_name else style.OTHER)
        axes.text(0.02, number, text.shorten(name, LONGEST_NAME), va="center_baseline", fontsize=11)
        percent = text.percent(score, digits=1 if score < 0.9995 else 0)
        axes.text(0.985, number, percent, va="center_baseline", ha="right", fontsize=10)


def _write_key(figure: Figure) -> None:
    """The legend of the colours, at the upper right."""
    from matplotlib.patches import Patch

    from alexnet_tf.figures import style

    width, height = figure.get_size_inches() * style.DPI
    figure.legend(
        handles=[
            Patch(color=style.CORRECT, label="correct class"),
            Patch(color=style.OTHER, label="another"),
        ],
        loc="center right",
        bbox_to_anchor=(1 - (SIDE - 8) / width, 1 - 34 / height),
        ncols=2,
        handlelength=1.1,
        handleheight=1.1,
        fontsize=11,
    )
