"""Method `deconvnet`: the nine patches that activate a unit most, with projections back to their pixels.

As figure 2 of Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2013): at the left
of a unit's two squares the activation projected back to the pixels (`internals.deconvolution`), grey for
nothing, at the right the patch of the picture in the unit's receptive field. What lies outside the picture is
grey as well: the network reads zeros there, which is the mean. Each projection is scaled by itself.
"""

from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_tf.figures import text
from alexnet_tf.visualize import options
from alexnet_tf.visualize.internals import top_patches
from alexnet_tf.visualize.internals.deconvolution import project
from alexnet_tf.visualize.spacing import evenly_spaced
from pipelines.errors import UserError
from pipelines.files import write_text

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.pictures import Pictures

__all__ = ["add_arguments", "draw", "figure", "project", "to_grey"]

SPLITS = ("val", "train")
SHOWN_UNITS, MOST_UNITS, PICTURES = 8, 32, 9
# A patch's side on the page, gaps between patches, between a unit's two squares and between units,
# words above a unit, and the page's margins, in pixels.
PATCH, GAP, MIDDLE, BETWEEN, ABOVE, WORDS, TOP, SIDE, FOOT = 92, 3, 12, 44, 16, 44, 92, 40, 24
SQUARE = 3 * PATCH + 2 * GAP
COLUMNS = 2
# The share of a projection's values that keep their strength; few stand out so far that all others pale.
SPAN = 0.998


class Unit(NamedTuple):
    """One unit and its strongest pictures, strongest first.

    Attributes:
      number: of the layer's, tower b's after tower a's.
      tower: such as `tower a`; empty without towers.
      values: float32 [P], its activations.
      keys, true_names: the pictures.
      patches: uint8 [P, side, side, 3], the pictures in its receptive field.
      projections: float32 [P, side, side, 3], its activation projected back to them.
    """

    number: int
    tower: str
    values: np.ndarray
    keys: tuple[str, ...]
    true_names: tuple[str, ...]
    patches: np.ndarray
    projections: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_layer(parser, "conv5")
    options.add_units(parser, f"{SHOWN_UNITS} spread over those that fire")
    parser.add_argument(
        "--split", choices=SPLITS, default=SPLITS[0], help="pictures to choose from (default %(default)s)"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=None,
        metavar="N",
        help="look at the split's first N pictures only, which mix the classes (default: all)",
    )


def draw(
    run: Run,
    out: Path,
    *,
    layer: str = "conv5",
    units: Sequence[int] = (),
    split: str = "val",
    pictures: int | None = None,
) -> dict[str, Any]:
    """Writes deconvnet.png, deconvnet.json (which pictures, where) and deconvnet.npz (projections).

    Args:
      run: the run folder.
      out: an existing folder.
      layer: of feature maps, or a fully connected one; both towers without a suffix.
      units: numbers of its units; none takes some spread evenly over those that fire.
      split: of the run's data, `val` or `train`.
      pictures: how many of them to look at; None for all.

    Raises:
      UserError: no such layer or unit, too many units, or fewer than one picture.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.visualize import network

    trained, warning = network.load(run)
    _check(trained, layer, units, pictures)
    found = top_patches.over_run(run, trained, layer, split, count=PICTURES, most=pictures)
    numbers = list(units) or spread(found.values[:, -1])
    if not numbers:
        raise UserError(f"no unit of {layer} fires in any picture; --units shows one all the same")
    shown = _units(run, trained, layer, split, numbers, found)
    files = [out / f"deconvnet.{form}" for form in ("png", "json", "npz")]
    style.save(figure(shown, layer, style.subject(run), warning), files[0])
    rows = [_row(unit, found, layer) for unit in shown]
    write_text(files[1], json.dumps(rows, indent=2) + "\n")
    parts = ("values", "patches", "projections")
    arrays = {name: np.stack([getattr(unit, name) for unit in shown]) for name in parts}
    style.save_arrays(files[2], {"units": numbers, **arrays})
    silent = int(np.count_nonzero(found.values[:, 0] <= 0))
    return {
        "files": [str(path) for path in files],
        "layer": layer,
        "units": numbers,
        "never_fire": silent,
        "warning": warning,
    }


def _check(trained: keras.Model, layer: str, units: Sequence[int], pictures: int | None) -> None:
    """Raises UserError for what cannot be drawn, before pictures are read."""
    from alexnet_tf.network import graph

    width = sum(part.output.shape[-1] for part in graph.parts(trained, layer))
    options.check_units(list(units), layer, width)
    if len(units) > MOST_UNITS:
        raise UserError(f"--units: a figure holds {MOST_UNITS}; received {len(units)}")
    if pictures is not None and pictures < 1:
        raise UserError(f"--pictures must be 1 or more; received {pictures}")


def spread(weakest: np.ndarray, count: int = SHOWN_UNITS) -> list[int]:
    """Numbers of units, evenly spaced among those that the ninth picture still activates.

    Args:
      weakest: float [units], each unit's activation in the last picture that is shown.
    """
    alive = np.flatnonzero(weakest > 0)
    return alive[evenly_spaced(len(alive), count)].tolist()


def to_grey(projections: np.ndarray) -> np.ndarray:
    """Signed projections [N, S, S, 3] as colours 0..1 around a middle grey, each scaled by itself."""
    strength = np.abs(projections).reshape(len(projections), -1)
    most = np.quantile(strength, SPAN, axis=1)
    # A few pixels alone: no share of them is left out.
    most = np.where(most > 0, most, strength.max(axis=1))[:, None, None, None]
    scaled = np.divide(projections, most, out=np.zeros_like(projections), where=most > 0)
    return 0.5 + 0.5 * np.clip(scaled, -1.0, 1.0)


def figure(units: Sequence[Unit], layer: str, line: str, warning: str = "") -> Figure:
    """Page of units, those of tower a in the left column and of tower b in the right one.

    Args:
      units: at least one.
      layer: whose units they are.
      line: stands below the title.
      warning: across the foot; empty for none.
    """
    from alexnet_tf.figures import style

    places, rows = _places([unit.tower for unit in units])
    pitch_x, pitch_y = 2 * SQUARE + MIDDLE + BETWEEN, WORDS + SQUARE + ABOVE
    width = 2 * SIDE + COLUMNS * pitch_x - BETWEEN
    height = TOP + rows * pitch_y + FOOT
    with style.sheet(width, height) as page:
        both = "left: the activation carried back to the pixels; right: what the unit looks at"
        style.title(page, f"What units of {layer} look for", f"{both}; {line}", SIDE / width)
        for unit, (row, column) in zip(units, places, strict=True):
            x, top = SIDE + column * pitch_x, height - TOP - row * pitch_y
            words = ", ".join(part for part in (f"unit {unit.number}", unit.tower) if part)
            page.text(x / width, (top - 15) / height, words, va="center", fontsize=11.5, weight="bold")
            page.text(x / width, (top - 33) / height, _describe(unit), va="center", color=style.MUTED)
            bottom = top - WORDS - SQUARE
            page.figimage(mosaic(to_grey(unit.projections)), xo=x, yo=bottom, origin="upper")
            right = x + SQUARE + MIDDLE
            page.figimage(mosaic(unit.patches / 255.0), xo=right, yo=bottom, origin="upper")
        style.warn(page, warning)
    return page


def mosaic(patches: np.ndarray) -> np.ndarray:
    """Patches [P, side, side, 3] of 0..1 in three columns, white between: uint8 [SQUARE, SQUARE, 3]."""
    from PIL import Image

    side = patches.shape[1]
    # Small patches show their pixels, large ones are smoothed.
    kind = Image.Resampling.NEAREST if side <= PATCH // 4 else Image.Resampling.LANCZOS
    sheet = np.full((SQUARE, SQUARE, 3), 255, np.uint8)
    for number, patch in enumerate((patches * 255 + 0.5).astype(np.uint8)):
        top, left = (index * (PATCH + GAP) for index in divmod(number, 3))
        resized = Image.fromarray(patch).resize((PATCH, PATCH), kind)
        sheet[top : top + PATCH, left : left + PATCH] = np.asarray(resized)
    return sheet


def _units(
    run: Run,
    trained: keras.Model,
    layer: str,
    split: str,
    numbers: Sequence[int],
    found: top_patches.Strongest,
) -> list[Unit]:
    """Patches and projections of each unit's strongest pictures."""
    from alexnet_tf.figures import kernels
    from alexnet_tf.network import graph
    from alexnet_tf.visualize import pictures
    from alexnet_tf.visualize.internals import receptive

    # Each picture is read once, in the split's order, whatever number of units it moves.
    positions = found.positions[numbers]
    wanted, place_of = np.unique(positions, return_inverse=True)
    seen = pictures.from_places(run, split, wanted.tolist())
    parts = graph.parts(trained, layer)
    maps = len(parts[0].output.shape) == 4
    side = seen.pixels.shape[1]
    field = receptive.field(trained, layer) if maps else receptive.Field(1, side, 0)
    towers = kernels.unit_towers(layer, found.values.shape[0], run.recipe.variant, maps=maps)
    units = []
    for number, own in zip(numbers, place_of.reshape(positions.shape), strict=True):
        shown: Pictures = seen.take(own.tolist())
        places = found.places[number]
        projected = project(trained, shown.pixels, layer, number, places if maps else None)
        units.append(
            Unit(
                number,
                towers[number],
                found.values[number],
                shown.keys,
                shown.true_names,
                top_patches.patches(shown.images, places, field),
                top_patches.patches(projected, places, field, outside=0),
            )
        )
    return units


def _places(towers: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Each unit's row and column, and the number of rows."""
    if len(set(towers)) < COLUMNS:
        return [divmod(number, COLUMNS) for number in range(len(towers))], -(-len(towers) // COLUMNS)
    filled: collections.Counter[str] = collections.Counter()
    places = []
    for tower in towers:
        places.append((filled[tower], sorted(set(towers)).index(tower)))
        filled[tower] += 1
    return places, max(filled.values())


def _describe(unit: Unit) -> str:
    """One line about a unit: the range of its activations, and the classes of its pictures."""
    strengths = text.minus(f"activations {unit.values[0]:.3g} to {unit.values[-1]:.3g}")
    classes = collections.Counter(name for name in unit.true_names if name).most_common(3)
    named = ", ".join(f"{text.shorten(name, 18)} {count}" for name, count in classes)
    return f"{strengths};  {named}" if named else strengths


def _row(unit: Unit, found: top_patches.Strongest, layer: str) -> dict[str, Any]:
    """A unit's entry in deconvnet.json."""
    chosen = [
        {"key": key, "true_name": name, "activation": float(value), "row": row, "column": column}
        for key, name, value, (row, column) in zip(
            unit.keys, unit.true_names, unit.values, found.places[unit.number].tolist(), strict=True
        )
    ]
    return {"layer": layer, "unit": unit.number, "tower": unit.tower, "pictures": chosen}
