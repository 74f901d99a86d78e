"""Method `sanity`: the maps' energy on the object, and their similarity once weights are random.

On the left, the share of a map's sum on the object's mask, of the trained network for correctly named
pictures and of an untrained one for all, each for the true class. A map that is the same everywhere has
the mask's share of the area, and one in which every unit of the layer tells how much of what it sees is
object has what is drawn across the layer's bars: the object out of focus. On the right, how alike maps are
to the trained network's once the weights are random from the last layer down to the one named; below, the
maps themselves.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.visualize import options
from alexnet_tf.visualize.measures.faithfulness import LAYER, RANDOMISED_PICTURES
from pipelines.errors import UserError
from pipelines.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.measures.faithfulness import Energy, Randomised
    from alexnet_tf.visualize.pictures import Pictures

PICTURES = 36
NAMES = {"gradcam": "Grad-CAM", "layercam": "LayerCAM", "vanilla": "vanilla", "smooth": "SmoothGrad"}
OF_LAYER = ("gradcam", "layercam")  # made of a layer's maps
# Pixels: a map, and the page's margins and parts.
TILE, GAP, SIDE, TOP, CHART, BETWEEN, FOOT, ROW_NAME = 108, 8, 40, 130, 300, 96, 40, 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    parser.add_argument(
        "--pictures",
        type=int,
        default=PICTURES,
        metavar="N",
        help="pictures of the validation split (default %(default)s)",
    )
    options.add_layer(parser, LAYER)


def draw(run: Run, out: Path, *, pictures: int = PICTURES, layer: str = LAYER) -> dict[str, Any]:
    """Writes sanity.png, sanity.svg, sanity.json and sanity.npz.

    Args:
      run: the run folder, of built-in data.
      out: an existing folder.
      pictures: of the validation split, whose classes take turns; the first twelve for random weights.
      layer: whose maps Grad-CAM and LayerCAM weigh.

    Raises:
      UserError: the run was not trained on the built-in data, fewer than one picture, or no such layer.
      DataError: the data set cannot be used.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.network import graph
    from alexnet_tf.visualize import network
    from alexnet_tf.visualize import pictures as chosen
    from alexnet_tf.visualize.measures import faithfulness

    if pictures < 1:
        raise UserError(f"--pictures: 1 or more; received {pictures}")
    faithfulness.check_data(run)
    count = min(pictures, run.open_source().count("val"))
    shown = chosen.from_places(run, "val", range(count))
    masks = faithfulness.masks(run, shown.keys)
    labels = np.array([run.readable_names.index(name) for name in shown.true_names])
    trained, warning = network.load(run)
    graph.parts(trained, layer, maps=True)
    # Another seed than the run's, from whose initial weights the trained ones may not be far.
    fresh = network.initial(run, run.recipe.seed + 1)
    energy, right = faithfulness.energies(trained, fresh, shown.pixels, labels, masks, layer)
    few = slice(0, RANDOMISED_PICTURES)
    left = faithfulness.randomise(trained, fresh, shown.pixels[few], labels[few], layer)
    line = (
        f"{right} of {count} pictures named correctly; Grad-CAM and LayerCAM of {layer}; {style.subject(run)}"
    )
    page = figure(energy["object"], left, shown, layer, line, warning)
    files = [style.save(page, out / f"sanity.{form}") for form in ("png", "svg")]
    numbers = {
        "pictures": count,
        "right": right,
        "layer": layer,
        "energy": {region: found._asdict() for region, found in energy.items()},
        "randomised": {
            "pictures": min(count, RANDOMISED_PICTURES),
            "layers": list(left.layers),
            "rank_correlation": left.rank_correlation,
            "similarity": left.similarity,
            "rank_correlation_of_different_pictures": left.others,
        },
    }
    files += [out / "sanity.json", out / "sanity.npz"]
    write_text(files[-2], json.dumps(numbers, indent=2) + "\n")
    style.save_arrays(files[-1], {"keys": np.asarray(shown.keys), "masks": masks, **left.maps})
    return {"files": [str(path) for path in files], **numbers, "warning": warning}


def figure(
    energy: Energy, left: Randomised, shown: Pictures, layer: str, line: str, warning: str = ""
) -> Figure:
    """Page of the energies, the similarity of maps by randomised layer, and the first picture's maps.

    Args:
      energy: on the object.
      left: what random weights leave.
      shown: the pictures.
      layer: whose maps Grad-CAM and LayerCAM weigh.
      line: below the title.
      warning: across the foot; empty for none.
    """
    from alexnet_tf.figures import style

    columns = 1 + len(left.layers)
    width = SIDE + ROW_NAME + columns * (TILE + GAP) - GAP + SIDE
    height = TOP + CHART + BETWEEN + len(left.maps) * (TILE + GAP) + FOOT
    with style.sheet(width, height) as page:
        style.title(page, "Can the maps be believed?", line, SIDE / width)
        bottom, share = (height - TOP - CHART) / height, CHART / height
        _draw_energy(page.add_axes((64 / width, bottom, 0.33, share)), energy, layer)
        start = 0.33 + 150 / width
        _draw_likeness(page.add_axes((start, bottom, 1 - SIDE / width - start, share)), left)
        _draw_maps(page, left, shown, width, height)
        style.warn(page, warning)
    return page


def _draw_energy(axes: Axes, energy: Energy, layer: str) -> None:
    """Two bars for each kind of map, and lines for a uniform map and for the object out of focus."""
    from alexnet_tf.figures import style

    places = np.arange(len(energy.trained))
    for shift, values, colour, label in (
        (-0.2, energy.trained, style.FIRST, "trained"),
        (0.2, energy.untrained, style.SECOND, "random weights"),
    ):
        heights = [100 * value for value in _numbers(values.values())]
        axes.bar(places + shift, np.nan_to_num(heights), width=0.38, color=colour, label=label)
        for place, value in zip(places + shift, heights, strict=True):
            if math.isfinite(value):
                ground: dict[str, Any] = {"facecolor": style.PAGE, "edgecolor": "none", "pad": 0.5}
                text = f"{value:.0f}"
                axes.text(place, value + 1.5, text, ha="center", fontsize=9, color=style.MUTED, bbox=ground)
    axes.axhline(
        100 * energy.uniform, color=style.INK, linewidth=1, linestyle="--", label="the object's area"
    )
    own = [place for place, name in enumerate(energy.trained) if name in OF_LAYER]
    if energy.seen is not None:
        ends = (min(own) - 0.45, max(own) + 0.45)
        label = f"the object as {layer} sees it"
        axes.hlines(100 * energy.seen, *ends, color=style.INK, linewidth=1, linestyle=":", label=label)
    axes.set_xticks(places, [NAMES[name] for name in energy.trained])
    axes.set_ylim(0, 100)
    axes.grid(visible=False, axis="x")
    axes.set_title("energy on the object, per cent")
    axes.legend(loc="upper right", ncols=2, fontsize=9, handlelength=1.4, columnspacing=1.2)


def _draw_likeness(axes: Axes, left: Randomised) -> None:
    """Lines over the layers: rank correlation, structural similarity, and that of other pictures."""
    from alexnet_tf.figures import style

    places = range(len(left.layers))
    for name, colour in zip(left.maps, (style.FIRST, style.SECOND), strict=True):
        kind, ranks, likeness = NAMES[name], left.rank_correlation[name], left.similarity[name]
        line: dict[str, Any] = {"color": colour, "linewidth": 1.6}
        axes.plot(places, _numbers(ranks), **line, marker="o", ms=4, label=f"{kind}: rank correlation")
        axes.plot(places, _numbers(likeness), **line, linestyle=":", label=f"{kind}: structural similarity")
        shared = _numbers([left.others[name]] * len(places))
        line["linewidth"] = 0.9
        axes.plot(places, shared, **line, linestyle="--", label=f"{kind}: other pictures")
    axes.axhline(0, color=style.MUTED, linewidth=0.8)
    axes.set_xticks(places, ["none", *left.layers[1:]])
    axes.set_ylim(-0.25, 1.05)
    axes.set_xlabel("weights random from the last layer down to", labelpad=6)
    axes.set_title("likeness to the trained network's maps")
    axes.legend(loc="upper right", ncols=2, fontsize=9)


def _draw_maps(page: Figure, left: Randomised, shown: Pictures, width: int, height: int) -> None:
    """The first picture, then a row a kind: its map at every stage."""
    from alexnet_tf.figures import heat, style
    from alexnet_tf.visualize import overlays

    top = TOP + CHART + BETWEEN
    for row, (name, stages) in enumerate(left.maps.items()):
        smooth = name == "gradcam"
        first = stages[:, 0]
        images = np.repeat(shown.images[:1], len(first), axis=0)
        tiles = heat.overlay(images, first, 1).numpy() if smooth else overlays.heat_maps(first)
        y = top + row * (TILE + GAP)
        middle = 1 - (y + TILE / 2) / height
        page.text(
            (SIDE + ROW_NAME / 2 - 6) / width, middle, NAMES[name], rotation=90, ha="center", va="center",
            color=style.MUTED,
        )  # fmt: skip
        for column, tile in enumerate([shown.images[0], *tiles]):
            x = SIDE + ROW_NAME + column * (TILE + GAP)
            axes = page.add_axes((x / width, 1 - (y + TILE) / height, TILE / width, TILE / height))
            axes.imshow(tile, interpolation="antialiased", aspect="auto")
            axes.set_axis_off()
            if row == 0:
                label = ("picture", *left.layers)[column]
                place = ((x + TILE / 2) / width, 1 - (y - 12) / height)
                page.text(*place, label, ha="center", va="center", color=style.MUTED)


def _numbers(values: Iterable[float | None]) -> list[float]:
    """None as nan, which no drawing shows."""
    return [math.nan if value is None else value for value in values]
