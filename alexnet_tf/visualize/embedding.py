"""Method `embedding`: a map on which pictures with similar last hidden activations are near.

The 4096 activations of each picture of a split (the features of section 6.1) become two coordinates, by
t-SNE of their first fifty principal components or by the first two alone. Every picture stands in the free
cell of a grid nearest to its point, so that none hides another; the small chart has the exact points.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.figures import text
from alexnet_tf.visualize.spacing import evenly_spaced
from pipelines.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.measures.feature_index import Index

PROJECTIONS = {"tsne": "t-SNE", "pca": "first two principal components"}
SPLITS = {"val": "validation", "train": "training"}
COMPONENTS = 50  # that t-SNE sees
MOST, MOST_EXACT = 1500, 5000
# The map and the column at its right in pixels; the cells of the grid are at least so large.
WIDTH, HEIGHT, COLUMN, GAP, SIDE, TOP, BOTTOM = 1344, 1008, 300, 28, 32, 88, 40
SMALLEST_CELL, FRAME = 24, 2
# Cells for each picture, so that clusters keep their shapes.
ROOM = 1.5
MOST_NAMED, LINE = 24, 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    parser.add_argument("--projection", choices=PROJECTIONS, default="tsne", help="(default %(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="val", help="(default %(default)s)")
    parser.add_argument(
        "--most",
        type=int,
        default=MOST,
        metavar="N",
        help=f"pictures, from all over the split, at most {MOST_EXACT} (default %(default)s)",
    )
    parser.add_argument(
        "--perplexity",
        type=float,
        default=30.0,
        help="about how many neighbours count in t-SNE (default 30)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE (default 0)")


def draw(
    run: Run,
    out: Path,
    *,
    projection: str = "tsne",
    split: str = "val",
    most: int = MOST,
    perplexity: float = 30.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes embedding.png and embedding.npz into an existing folder.

    Args:
      run: the run folder, which keeps the index of features.
      out: the folder.
      projection: `tsne` or `pca`.
      split: `val` or `train`.
      most: how many pictures.
      perplexity, seed: of t-SNE.

    Returns:
      The files, and how far the map can be trusted (`projection.trustworthiness`).

    Raises:
      UserError: numbers out of range.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.visualize import network
    from alexnet_tf.visualize.measures import feature_index

    if not 2 <= most <= MOST_EXACT:
        raise UserError(f"--most must lie between 2 and {MOST_EXACT}; received {most}")
    if not perplexity > 1.0:
        raise UserError(f"--perplexity must be more than 1; received {perplexity:g}")
    trained, warning = network.load(run)
    index = feature_index.open_index(run, trained, split)
    positions = evenly_spaced(len(index.features), most)
    place, trust = _placed(np.asarray(index.features[positions]), projection, perplexity, seed)
    shown = evenly_spaced(len(positions), most_cells())
    thumbnails = thumbnails_of(run, index, positions[shown], cell_side(len(shown)) - 2 * FRAME)
    of = f"{PROJECTIONS[projection]} of {len(positions)} {SPLITS[split]} pictures"
    line = f"{of}, trustworthiness {trust:.3f}; {style.subject(run)}"
    labels = index.labels[positions]
    page = figure(place, labels, run.readable_names, thumbnails, shown, line, warning)
    arrays = {
        "coordinates": place,
        "labels": labels,
        "positions": positions,
        "keys": index.keys[positions],
        "classes": run.readable_names,
    }
    files = style.save(page, out / "embedding.png"), style.save_arrays(out / "embedding.npz", arrays)
    return {
        "files": [str(file) for file in files],
        "pictures": len(positions),
        "trustworthiness": trust,
        "warning": warning,
    }


def _placed(features: np.ndarray, projection: str, perplexity: float, seed: int) -> tuple[np.ndarray, float]:
    """The pictures' coordinates, and their trustworthiness."""
    from alexnet_tf.visualize.measures.projection import trustworthiness

    place = project(features, projection, perplexity=perplexity, seed=seed)
    return place, trustworthiness(features, place)


def project(
    features: np.ndarray, projection: str = "tsne", *, perplexity: float = 30.0, seed: int = 0
) -> np.ndarray:
    """Two coordinates for each picture: features [n, units] -> float32 [n, 2]."""
    from alexnet_tf.visualize.measures.projection import plane, principal_components, tsne

    if projection == "pca":
        return plane(features)
    return tsne(principal_components(features, COMPONENTS), perplexity=perplexity, seed=seed)


def most_cells() -> int:
    """How many pictures the map has room for."""
    return int((WIDTH // SMALLEST_CELL) * (HEIGHT // SMALLEST_CELL) / ROOM)


def cell_side(count: int) -> int:
    """Side in pixels of the largest cells that leave room between so many, at most an eighth of the map."""
    for side in range(HEIGHT // 8, SMALLEST_CELL, -1):
        if (WIDTH // side) * (HEIGHT // side) >= ROOM * count:
            return side
    return SMALLEST_CELL


def snap(place: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Assigns each point a grid cell of its own: the nearest free one, the points in the middle first.

    Args:
      place: [n, 2], across and up.
      columns, rows: of the grid; at least n cells.

    Returns:
      int64 [n, 2], column from the left and row from the top.
    """
    low, high = place.min(axis=0), place.max(axis=0)
    size = np.array([columns - 1, rows - 1])
    share = (place - low) / np.where(high > low, high - low, 1.0)
    at = np.where(high > low, share, 0.5) * size
    at[:, 1] = rows - 1 - at[:, 1]
    free = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    cells = np.zeros((len(place), 2), np.int64)
    for number in np.argsort(((at - size / 2) ** 2).sum(axis=1), kind="stable"):
        best = ((free - at[number]) ** 2).sum(axis=1).argmin()
        cells[number] = free[best]
        free = np.delete(free, best, axis=0)
    return cells


def thumbnails_of(run: Run, index: Index, positions: np.ndarray, side: int) -> np.ndarray:
    """Thumbnails of the pictures at ascending places of an index: uint8 [n, side, side, 3].

    Raises:
      UserError: the data set has changed since the index was built.
      DataError: it is no longer where it was.
    """
    import tensorflow as tf
    from PIL import Image

    from alexnet_tf.visualize.measures import feature_index
    from pipelines.pictures import preprocess

    small = []
    source = run.open_source()
    config = run.data.reading(source.prepared_size)
    picked = source.pick(index.split, positions.tolist())
    for position, example in zip(positions.tolist(), picked, strict=True):
        feature_index.check_same(run, [index.key(position)], [example.key])
        crop = preprocess.evaluation_crop(tf.constant(example.image_bytes), config).numpy()
        small.append(np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.LANCZOS)))
    return np.stack(small)


def class_colours(count: int) -> np.ndarray:
    """A colour for each class, float64 [count, 3] of 0..1: hues around the circle, dark and light."""
    from matplotlib.colors import hsv_to_rgb

    number = np.arange(count)
    light = number % 2
    return hsv_to_rgb(np.stack([number / count, 0.85 - 0.3 * light, 0.7 + 0.25 * light], axis=1))


def figure(
    place: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    thumbnails: np.ndarray,
    shown: np.ndarray,
    line: str,
    warning: str = "",
) -> Figure:
    """Page of the map with its pictures, and beside it the exact points and the classes' colours.

    Args:
      place: [n, 2].
      labels: int [n].
      names: what a person calls the classes.
      thumbnails: uint8 [m, s, s, 3], those of the points `shown`.
      shown: int [m].
      line: below the title.
      warning: across the foot.
    """
    from alexnet_tf.figures import style

    colours = class_colours(len(names))
    width, height = 2 * SIDE + WIDTH + GAP + COLUMN, TOP + HEIGHT + BOTTOM
    with style.sheet(width, height) as page:
        style.title(page, "What the last hidden layer finds alike", line, SIDE / width)
        sheet = compose(place[shown], colours[labels[shown]], thumbnails)
        page.figimage(sheet, xo=SIDE, yo=BOTTOM, origin="upper")
        left = (SIDE + WIDTH + GAP) / width
        extent = (left, (height - TOP - COLUMN) / height, COLUMN / width, COLUMN / height)
        axes = page.add_axes(extent)
        axes.scatter(place[:, 0], place[:, 1], s=7, c=colours[labels], linewidths=0)
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set(visible=True, color=style.RULE)
        _write_names(page, labels, names, colours)
        style.warn(page, warning)
    return page


def compose(place: np.ndarray, colours: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails in frames of their colours on the map: uint8 [HEIGHT, WIDTH, 3]."""
    side = thumbnails.shape[1] + 2 * FRAME
    columns, rows = WIDTH // side, HEIGHT // side
    sheet = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    # What the cells leave over is shared between both edges.
    start = np.array([(WIDTH - columns * side) // 2, (HEIGHT - rows * side) // 2])
    for (x, y), colour, thumbnail in zip(
        start + side * snap(place, columns, rows), colours, thumbnails, strict=True
    ):
        sheet[y : y + side, x : x + side] = np.round(255 * colour)
        sheet[y + FRAME : y + side - FRAME, x + FRAME : x + side - FRAME] = thumbnail
    return sheet


def _write_names(page: Figure, labels: np.ndarray, names: Sequence[str], colours: np.ndarray) -> None:
    """A square of its colour and the name of each class, of many the most frequent."""
    from matplotlib.patches import Rectangle

    from alexnet_tf.figures import style

    width, height = page.get_size_inches() * style.DPI
    counts = np.bincount(labels, minlength=len(names))
    listed = np.sort(np.argsort(-counts, kind="stable")[:MOST_NAMED])
    listed = listed[counts[listed] > 0]
    left = SIDE + WIDTH + GAP
    for row, label in enumerate(listed.tolist()):
        y = height - TOP - COLUMN - GAP - row * LINE
        box = Rectangle(
            (left / width, (y - 13) / height),
            13 / width,
            13 / height,
            transform=page.transFigure,
            color=colours[label],
        )
        page.add_artist(box)
        words = text.shorten(names[label], 34)
        page.text((left + 22) / width, (y - 7) / height, words, va="center", fontsize=10.5)
    others = int((counts > 0).sum()) - len(listed)
    if others:
        y = height - TOP - COLUMN - GAP - len(listed) * LINE
        words = f"and {others} more classes in other colours"
        page.text(left / width, (y - 7) / height, words, va="center", fontsize=10.5, color=style.MUTED)
