"""Method `maximize`: pictures that activate classes or units most, by gradient ascent.

A class's picture makes its logit large, a unit's picture the unit itself, before its ReLU; of a layer of
maps it is the unit in the middle of each, cropped to its receptive field. See `internals.ascent`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_tf.figures import text
from alexnet_tf.visualize import options
from alexnet_tf.visualize.spacing import evenly_spaced
from pipelines.errors import UserError

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run

LOGITS = "logits"
MOST, COLUMNS, SIZE, STEPS = 12, 4, 224, 64


class Maximised(NamedTuple):
    """Pictures that activate units most.

    Attributes:
      layer: whose units they are.
      units: int [N].
      names: of the units, such as `unit 23, tower a`.
      images: uint8 [N, S, S, 3], as far as the units see.
      pixels: float32 [N, S, S, 3], the whole pictures as the network is called with them.
      activations: float32 [N], of each unit by its picture.
      probabilities: float32 [N], of classes; of other units empty.
    """

    layer: str
    units: np.ndarray
    names: tuple[str, ...]
    images: np.ndarray
    pixels: np.ndarray
    activations: np.ndarray
    probabilities: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_layer(parser, LOGITS)
    options.add_units(parser, f"up to {MOST} from all over the layer")
    parser.add_argument(
        "--class",
        dest="class_name",
        default="",
        metavar="NAME",
        help="one class, by name, identifier or number",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="of the ascent (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the noise to start from; other seeds give other pictures"
    )


def draw(
    run: Run,
    out: Path,
    *,
    layer: str = LOGITS,
    units: Sequence[int] = (),
    class_name: str = "",
    steps: int = STEPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes maximize.png and maximize.npz.

    Args:
      run: the run folder.
      out: an existing folder.
      layer: whose units to show; `logits` for classes.
      units: their numbers; none takes some from all over the layer.
      class_name: one class instead.
      steps: of the ascent.
      seed: of all that is drawn.

    Raises:
      UserError: a layer, a unit or a class that does not exist, or more than one figure holds.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.network import graph
    from alexnet_tf.visualize import network

    if class_name and (units or layer != LOGITS):
        raise UserError(f"--class is a unit of {LOGITS}: leave out --layer and --units")
    if steps < 1 or seed < 0:
        raise UserError(f"--steps must be 1 or more and --seed 0 or more; received {steps} and {seed}")
    wanted = [options.class_index(run, class_name)] if class_name else list(units)
    trained, warning = network.load(run)
    wanted = _choose(wanted, layer, sum(part.output.shape[-1] for part in graph.parts(trained, layer)))
    low, high = _ends(run)
    found = maximise(trained, wanted, low, high, layer=layer, steps=steps, seed=seed)
    names = [run.readable_names[unit] for unit in wanted] if layer == LOGITS else []
    path = style.save(figure(found, style.subject(run), names, warning), out / "maximize.png")
    numbers = style.save_arrays(out / "maximize.npz", {**found._asdict(), "seed": seed})
    return {
        "files": [str(path), str(numbers)],
        "layer": layer,
        "units": wanted,
        "activations": [round(float(value), 4) for value in found.activations],
        "warning": warning,
    }


def maximise(
    network: keras.Model,
    units: Sequence[int],
    low: np.ndarray,
    high: np.ndarray,
    *,
    layer: str = LOGITS,
    steps: int = STEPS,
    seed: int = 0,
) -> Maximised:
    """Pictures that activate a layer's units most, with the activations.

    Args:
      network: pixels -> logits.
      units: of `layer`; of two towers, tower b's follow tower a's.
      low, high: the pixels of black and of white, broadcast to [S, S, 3].
      layer: `logits` for classes.
      steps: of the ascent.
      seed: the same seed gives the same pictures.

    Raises:
      UserError: no such layer.
    """
    from scipy.special import softmax

    from alexnet_tf.visualize.internals import ascent

    inner = "" if layer == LOGITS else layer
    pixels = ascent.maximise(network, np.asarray(units), low, high, layer=inner, steps=steps, seed=seed)
    values = np.asarray(ascent.target(network, inner)(pixels, training=False), np.float32)
    shares = softmax(values, axis=-1)
    own = np.arange(len(units)), np.asarray(units)
    down, across = ascent.window(network, inner).slices
    greys = np.clip((pixels - low) / (np.asarray(high) - low) * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return Maximised(
        layer,
        own[1],
        _names(network, inner, units),
        greys[:, down, across],
        pixels,
        values[own],
        shares[own] if layer == LOGITS else np.zeros(0, np.float32),
    )


def figure(found: Maximised, line: str, names: Sequence[str] = (), warning: str = "") -> Figure:
    """The pictures in rows, with the class and its probability, or the unit and its activation, below.

    Args:
      found: of `maximise`.
      line: below the title.
      names: of the classes; none for other units.
      warning: across the foot; empty for none.
    """
    from alexnet_tf.figures import grid

    if names:
        captions = [
            (name, text.percent(share)) for name, share in zip(names, found.probabilities, strict=True)
        ]
    else:
        captions = [
            (name, f"activation {value:.3g}")
            for name, value in zip(found.names, found.activations, strict=True)
        ]
    cells = [grid.Cell(image, caption) for image, caption in zip(found.images, captions, strict=True)]
    rows = grid.in_rows(cells, COLUMNS)
    heading = f"What {'classes' if names else f'units of {found.layer}'} answer to most"
    return grid.draw(rows, heading, line, size=SIZE, warning=warning)


def _choose(units: list[int], layer: str, width: int) -> list[int]:
    """The given units, or some from all over the layer."""
    if len(units) > MOST:
        raise UserError(f"--units: a figure holds {MOST}; received {len(units)}")
    options.check_units(units, layer, width)
    return units or evenly_spaced(width, MOST).tolist()


def _names(network: keras.Model, layer: str, units: Sequence[int]) -> tuple[str, ...]:
    """Names of units; in a layer of two towers with the tower, numbered through both."""
    from alexnet_tf.network import graph

    parts = graph.parts(network, layer) if layer else []
    if len(parts) < 2:
        return tuple(f"unit {unit}" for unit in units)
    half = parts[0].output.shape[-1]
    return tuple(f"unit {unit}, tower {'a' if unit < half else 'b'}" for unit in units)


def _ends(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of black and of white, float32 [S, S, 3], as the run's network sees them."""
    from pipelines.pictures import preprocess

    crops = np.zeros((2, run.data.crop, run.data.crop, 3), np.uint8)
    crops[1] = 255
    low, high = np.asarray(preprocess.to_pixels(crops, run.stats, run.data))
    return low, high
