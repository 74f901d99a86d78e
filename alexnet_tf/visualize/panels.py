"""Method `panels`: pictures with their true class and the five best, as the left of figure 4 of the paper.

Eight pictures in two rows; below each its true class and a bar for each of the five most probable, the
correct one in pink and the others in light blue (shownet.py of the 2012 source).
"""

from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_tf.errors import UserError
from alexnet_tf.run_record import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run

MOST, COLUMNS, SHOWN_CLASSES = 8, 4, 5
# Pictures of the validation split among which those are chosen.
CANDIDATES = 32
# A cell's picture and caption, the height of one bar, and the page's margins, in pixels.
PICTURE, CAPTION, BAR, GAP, TOP, SIDE, BOTTOM = 340, 40, 30, 36, 96, 40, 16
LONGEST_NAME = 30


class Panel(NamedTuple):
    """One picture and what the network makes of it; `true_name` is empty where nobody knows."""

    key: str
    image: np.ndarray  # uint8 [crop, crop, 3], what the network sees
    true_name: str
    classes: list[str]
    scores: list[float]


class _Picture(NamedTuple):
    """An encoded picture before the network has seen it."""

    key: str
    image_bytes: bytes
    true_name: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    parser.add_argument(
        "--image",
        nargs="+",
        default=[],
        metavar="FILE",
        help=f"up to {MOST} pictures, whose folder may name their class (default: of the run's own data)",
    )


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
    from alexnet_tf.visualize import network, style

    if len(image) > MOST:
        raise UserError(f"--image: a figure holds {MOST} pictures; received {len(image)}")
    pictures = [_from_file(run, path) for path in image] if image else _from_data(run)
    trained, warning = network.load(run)
    panels = _look_at(run, trained, pictures)
    with style.sheet(*_page(len(panels))) as figure:
        _lay_out(figure, panels)
        style.title(figure, "The five best classes", style.subject(run), SIDE / _page(len(panels))[0])
        _write_key(figure)
        style.warn(figure, warning)
        path = style.save(figure, out / "panels.png")
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


def _from_file(run: Run, path: str) -> _Picture:
    """A picture from a file, of the class that its folder is named after, if any."""
    folder = Path(path).absolute().parent.name
    name = run.readable_names[run.class_names.index(folder)] if folder in run.class_names else ""
    return _Picture(Path(path).name, Path(path).read_bytes(), name)


def _from_data(run: Run) -> list[_Picture]:
    """Pictures of the run's validation split from all over its order, of as many classes as may be."""
    from alexnet_tf import validation

    source, _ = validation.open_pictures([run], run.data)
    count = source.count("val")
    positions = np.unique(np.linspace(0, count - 1, min(CANDIDATES, count)).round().astype(int)).tolist()
    seen: collections.Counter[str] = collections.Counter()
    ranked = []
    for example in source.pick("val", positions):
        name = run.readable_names[example.label]
        ranked.append((seen[name], _Picture(example.key, example.image_bytes, name)))
        seen[name] += 1
    # The first picture of every class, then the second of each, and so on.
    return [picture for _, picture in sorted(ranked, key=lambda pair: pair[0])[:MOST]]


def _look_at(run: Run, trained: Any, pictures: list[_Picture]) -> list[Panel]:
    """Runs the network over all pictures at once."""
    import tensorflow as tf

    from pipelines import preprocess, scan

    crops = []
    for picture in pictures:
        try:
            crops.append(preprocess.evaluation_crop(tf.constant(picture.image_bytes), run.data))
        except tf.errors.InvalidArgumentError:
            raise UserError(f"{picture.key}: {scan.reason(picture.image_bytes)}") from None
    pixels = preprocess.to_pixels(tf.stack(crops), run.stats, run.data)
    probabilities = tf.nn.softmax(trained(pixels, training=False))
    scores, labels = tf.math.top_k(probabilities, min(SHOWN_CLASSES, len(run.class_names)))
    return [
        Panel(p.key, crop.numpy(), p.true_name, [run.readable_names[label] for label in best], values)
        for p, crop, best, values in zip(
            pictures, crops, labels.numpy().tolist(), scores.numpy().tolist(), strict=True
        )
    ]


def _page(count: int) -> tuple[int, int]:
    """Width and height of a page of so many pictures, in pixels."""
    columns, rows = max(2, min(COLUMNS, count)), -(-count // COLUMNS)
    cell = PICTURE + CAPTION + SHOWN_CLASSES * BAR + GAP
    return 2 * SIDE + columns * (PICTURE + GAP) - GAP, TOP + rows * cell + BOTTOM


def _lay_out(figure: Figure, panels: list[Panel]) -> None:
    """Places each picture with its caption and its bars."""
    from alexnet_tf.visualize import style

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
            style.shorten(panel.true_name or panel.key, LONGEST_NAME),
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
    from alexnet_tf.visualize import style

    axes = figure.add_axes(place)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(panel.classes) - 0.5, -0.5)
    for number, (name, score) in enumerate(zip(panel.classes, panel.scores, strict=True)):
        axes.barh(number, 1.0, height=0.84, color=style.TRACK)
        axes.barh(number, score, height=0.84, color=style.CORRECT if name == panel.true_name else style.OTHER)
        axes.text(0.02, number, style.shorten(name, LONGEST_NAME), va="center_baseline", fontsize=11)
        percent = f"{100 * score:.1f} %" if score < 0.9995 else "100 %"
        axes.text(0.985, number, percent, va="center_baseline", ha="right", fontsize=10)


def _write_key(figure: Figure) -> None:
    """What the colours mean, at the upper right."""
    from matplotlib.patches import Patch

    from alexnet_tf.visualize import style

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
