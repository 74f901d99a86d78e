"""Method `activations`: all feature maps of a layer for one picture, tower by tower.

Black is no activation and white the strongest of the layer, or with `--scaling filter` each map's own
strongest. Where activations may be negative, as before a ReLU, middle grey is none and black the strongest
negative one. Maps are numbered from left to right and down, tower b's after tower a's; the units of a fully
connected layer are squares in one block.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.figures import text
from alexnet_tf.visualize import options, pictures

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.figures import grid
    from alexnet_tf.run_record import Run

# Pixels: the picture, the widest row of maps, gaps between maps, the page's margins, a tower's name above
# its maps, and the numbers of the rows' first maps.
PICTURE, WIDEST, GAP, TOP, SIDE, FOOT, TOWER_NAME, NUMBERS, BETWEEN = 224, 1000, 3, 88, 32, 40, 28, 36, 20
# About this side for a map in a row of at most so many; a picked one's; the block of a layer without maps.
MAP, PER_ROW, PICKED, PICKED_IN_ROW, BLOCK, SMALLEST_SQUARE = 60, 16, 200, 5, 512, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_image(parser, 1)
    options.add_layer(parser, "relu1")
    options.add_units(parser, "all")
    options.add_scaling(parser, "maps")


def draw(
    run: Run,
    out: Path,
    *,
    image: Sequence[str] = (),
    layer: str = "relu1",
    units: Sequence[int] = (),
    scaling: str = "joint",
) -> dict[str, Any]:
    """Writes activations.png and activations.npz.

    Args:
      run: the run folder.
      out: an existing folder.
      image: one file; none takes the first picture that the run's validation split offers.
      layer: any layer, of both towers without a suffix.
      units: numbers of maps to show, larger; none shows all.
      scaling: `joint` or `filter`.

    Raises:
      UserError: no such layer or unit, several files, units picked of a layer without maps, or no picture.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.figures import grid, kernels, style
    from alexnet_tf.visualize import network
    from pipelines.errors import UserError

    shown = pictures.choose(run, image, 1)
    trained, warning = network.load(run)
    (found,) = maps(trained, shown.pixels, layer)
    options.check_units(list(units), layer, found.shape[-1])
    if units and found.ndim == 1:
        raise UserError(f"--units: {layer} has no maps to pick from; without it the whole layer is shown")
    names = kernels.unit_towers(layer, found.shape[-1], run.recipe.variant, maps=found.ndim == 3)
    labels, scores = network.top_classes(trained, shown.pixels)
    taken_for = (f"taken for {run.readable_names[labels[0, 0]]}", text.percent(scores[0, 0]))
    picture = grid.Cell(shown.images[0], (shown.true_names[0] or shown.keys[0], *taken_for))
    files = [out / "activations.png", out / "activations.npz"]
    page = figure(found, names, layer, picture, style.subject(run), scaling, units, warning)
    style.save(page, files[0])
    style.save_arrays(files[1], {"activations": found, "layer": layer, "key": shown.keys[0]})
    return {
        "files": [str(path) for path in files],
        "layer": layer,
        "shape": list(found.shape),
        "share_above_zero": float(np.mean(found > 0)),
        "strongest": float(found.max()),
        "warning": warning,
    }


def maps(network: keras.Model, pixels: np.ndarray, layer: str) -> np.ndarray:
    """A layer's activations: float32 [N, h, w, C], or [N, units] of one without maps; tower a's, then b's.

    Args:
      network: pixels -> logits.
      pixels: float32 [N, S, S, 3], mean subtracted.
      layer: such as `conv2`, `pool5_b` or `fc7`.

    Raises:
      UserError: no such layer.
    """
    from alexnet_tf.network import graph

    return np.asarray(graph.taps(network, layer)(pixels, training=False)[0], np.float32)


def to_unit(found: np.ndarray, scaling: str = "joint") -> np.ndarray:
    """Activations [h, w, C] or [units] as greys 0..1, over all or each map alone; see the module's words."""
    axes = None if scaling == "joint" or found.ndim == 1 else (0, 1)
    most = np.abs(found).max(axis=axes, keepdims=True)
    scaled = np.divide(found, most, out=np.zeros_like(found), where=most > 0)
    return scaled if found.min() >= 0 else 0.5 + 0.5 * scaled


def figure(
    found: np.ndarray,
    towers: Sequence[str],
    layer: str,
    picture: grid.Cell,
    line: str,
    scaling: str = "joint",
    units: Sequence[int] = (),
    warning: str = "",
) -> Figure:
    """Page of the maps, with the picture at their left.

    Args:
      found: [h, w, C] or [units].
      towers: each unit's tower, empty for none.
      layer: their layer.
      picture: what they see, with its words.
      line: stands below the title.
      scaling: `joint` or `filter`.
      units: maps to show, larger; none shows all.
      warning: across the foot; empty for none.
    """
    from alexnet_tf.figures import grid

    grey = to_unit(found, scaling)
    sort = "maps" if found.ndim == 3 else "units"
    size = " × ".join(str(side) for side in (*found.shape[:-1], ""))
    heading = f"The {found.shape[-1]} {sort} of {layer}"
    span = text.number_range(found.min(), found.max(), digits=3)
    each = text.SCALINGS[scaling if found.ndim == 3 else "joint"]
    line = f"{size.removesuffix(' × ') + ' each, ' if size else ''}{span}, {each}; {line}"
    if units:
        heading = f"{len(units)} of the {found.shape[-1]} maps of {layer}"
        cells = [picture] + [_picked(found, grey, towers, unit) for unit in units]
        rows = grid.in_rows(cells, PICKED_IN_ROW)
        return grid.draw(rows, heading, line, size=PICKED, warning=warning, smooth=False)
    return _whole_layer(grey, towers, picture, heading, line, warning)


def _picked(found: np.ndarray, grey: np.ndarray, towers: Sequence[str], unit: int) -> grid.Cell:
    """One map, larger, with its words."""
    from alexnet_tf.figures import grid

    most = text.minus(f"at most {found[..., unit].max():.3g}")
    words = ", ".join(part for part in (towers[unit], most) if part)
    return grid.Cell(_to_colours(grey[..., unit]), (f"map {unit}", words))


def _whole_layer(
    grey: np.ndarray, towers: Sequence[str], picture: grid.Cell, heading: str, line: str, warning: str
) -> Figure:
    """Every map in rows, one block a tower."""
    from alexnet_tf.figures import grid, style

    blocks = []
    for tower in dict.fromkeys(towers):
        own = [unit for unit, name in enumerate(towers) if name == tower]
        block, pitch, per_row = _block(grey[..., own])
        blocks.append((tower, own[0], block, pitch, per_row))
    named = TOWER_NAME if any(towers) else 0
    left = SIDE + PICTURE + NUMBERS + BETWEEN
    width = left + max(block.shape[1] for _, _, block, _, _ in blocks) + SIDE
    high = sum(block.shape[0] + named for _, _, block, _, _ in blocks) + BETWEEN * (len(blocks) - 1)
    height = TOP + max(high, named + PICTURE + grid.LINE * (len(picture.lines) + 1)) + FOOT
    width = max(width, 900)
    with style.sheet(width, height) as page:
        style.title(page, heading, line, SIDE / width)
        if picture.image is not None:
            _draw_picture(page, picture.image, picture.lines, TOP + named)
        y = height - TOP
        for tower, first, block, pitch, per_row in blocks:
            if named:
                page.text(left / width, (y - named / 2 + 2) / height, tower, va="center", color=style.MUTED)
            y -= named + block.shape[0]
            page.figimage(block, xo=left, yo=y, origin="upper")
            for row in range(-(-block.shape[0] // pitch) if grey.ndim == 3 else 0):
                middle = y + block.shape[0] - row * pitch - pitch / 2
                page.text(
                    (left - 8) / width,
                    middle / height,
                    str(first + row * per_row),
                    ha="right",
                    va="center",
                    fontsize=8.5,
                    color=style.MUTED,
                )
            y -= BETWEEN
        style.warn(page, warning)
    return page


def _block(grey: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Maps in rows, uint8 [rows, columns, 3] in screen pixels; from one row to the next; maps in a row."""
    if grey.ndim == 1:  # a square a unit, without gaps
        per_row = int(np.ceil(np.sqrt(len(grey))))
        squares = np.ones(-(-len(grey) // per_row) * per_row, np.float32)
        squares[: len(grey)] = grey
        side = max(SMALLEST_SQUARE, BLOCK // per_row)
        block = np.kron(squares.reshape(-1, per_row), np.ones((side, side)))
        return _to_colours(block), side, per_row
    high, wide, count = grey.shape
    times = max(1, MAP // max(high, wide))
    pitch_y, pitch_x = high * times + GAP, wide * times + GAP
    per_row = max(1, min(PER_ROW, (WIDEST + GAP) // pitch_x))
    sheet = np.ones((-(-count // per_row) * pitch_y - GAP, min(count, per_row) * pitch_x - GAP), np.float32)
    for number in range(count):
        top, left = (number // per_row) * pitch_y, (number % per_row) * pitch_x
        own = np.kron(grey[..., number], np.ones((times, times)))
        sheet[top : top + high * times, left : left + wide * times] = own
    return _to_colours(sheet), pitch_y, per_row


def _to_colours(grey: np.ndarray) -> np.ndarray:
    return np.repeat((grey * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=-1)


def _draw_picture(page: Figure, image: np.ndarray, lines: Sequence[str], top: int) -> None:
    """The picture and its words at the left."""
    from alexnet_tf.figures import grid, style

    width, height = page.get_size_inches() * style.DPI
    place = (SIDE / width, 1 - (top + PICTURE) / height, PICTURE / width, PICTURE / height)
    axes = page.add_axes(place)
    axes.imshow(image, interpolation="antialiased", aspect="auto")
    axes.set_axis_off()
    for number, words in enumerate(lines):
        page.text(
            (SIDE + PICTURE / 2) / width,
            1 - (top + PICTURE + grid.LINE * (number + 0.7)) / height,
            text.shorten(words, 36),
            ha="center",
            va="center",
            color=style.MUTED if number else style.INK,
        )
