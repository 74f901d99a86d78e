"""Pictures of kernels: tiles for those that read colours, tables of grey squares for other layers.

A table has a row for each kernel and a square for each map that the kernel reads.

Middle grey is no weight, white the strongest positive and black the strongest negative one: of the whole
layer, or with each kernel scaled alone of that kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alexnet_tf.figures import grid, style, text
from alexnet_tf.network import variants
from pipelines.errors import UserError

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure


COLUMNS = 16  # of kernels of the first layer, figure 3
# Screen pixels for one weight, and weights' widths between two kernels.
MAGNIFICATION, GAP = 8, 1
# Pixels: margins, the words above a table, the numbers of its rows, room between tables and between the
# maps of one tower and of the other; wider pages have their tables one above the other.
SIDE, TOP, FOOT, WORDS, NUMBERS, BETWEEN, APART, WIDEST, NARROWEST = 32, 88, 40, 46, 40, 36, 10, 2100, 900
# Screen pixels a weight: as many as give a table about this width, within these bounds.
TABLE, FEWEST, MOST = 900, 2, 6
# Every so many rows of a table are numbered.
NUMBERED = 16
# A picked kernel's square, at least, and how many stand in a row.
PICKED, PICKED_IN_ROW = 230, 4


class Bank(NamedTuple):
    """The kernels of one tower, or of one half of a path that connects in two groups.

    Attributes:
      tower: such as `tower a`; empty for none.
      kernels: float32 [h, w, maps, n].
      sources: whose maps they read, equal shares in order; one empty name where there are no towers.
    """

    tower: str
    kernels: np.ndarray
    sources: tuple[str, ...]


def banks(network: keras.Model, layer: str, towers: tuple[str, ...]) -> list[Bank]:
    """The kernels of a convolution, tower by tower.

    Args:
      network: with or without towers.
      layer: such as `conv3` or, of one tower, `conv3_b`.
      towers: the network's, from `tower_labels`.

    Raises:
      UserError: no such convolution; lists those that there are.
    """
    import keras

    from alexnet_tf.network import graph
    from alexnet_tf.network.layers import TwoGroupConv2D

    convolutions = (keras.layers.Conv2D, TwoGroupConv2D)
    steps = {step.name: step for step in graph.steps(network)}
    legal = [
        name
        for name in graph.layer_names(network, maps=True)
        if isinstance(graph.parts(network, name)[0], convolutions)
    ]
    if layer not in legal:
        raise UserError(f"no convolution {layer!r} in {network.name}; legal: {', '.join(legal)}")
    found = []
    for part in graph.parts(network, layer, maps=True):
        kernels = np.asarray(part.kernel, np.float32)
        if part.name.endswith(graph.TOWERS):
            own = f"tower {part.name[-1]}"
            meet = isinstance(steps[steps[part.name].inputs[0][0]].layer, keras.layers.Concatenate)
            found.append(Bank(own, kernels, towers if meet else (own,)))
            continue
        grouped = isinstance(part, TwoGroupConv2D)
        for tower, share in zip(towers, np.split(kernels, len(towers), axis=-1), strict=True):
            found.append(Bank(tower, share, (tower,) if grouped else towers))
    return found


def to_unit(kernels: np.ndarray, most: float | None = None) -> np.ndarray:
    """Kernels [h, w, maps, n] as greys 0..1 around 0.5.

    Args:
      kernels: the weights.
      most: the size of the weights that are black and white; None takes each kernel's own largest.
    """
    span = np.abs(kernels).max(axis=(0, 1, 2), keepdims=True) if most is None else np.asarray(most)
    scaled = np.divide(kernels, span, out=np.zeros_like(kernels), where=span > 0)
    return (0.5 + 0.5 * scaled).astype(np.float32)


def figure(
    layer: str,
    banks_shown: Sequence[Bank],
    line: str,
    *,
    scaling: str = "joint",
    units: Sequence[int] = (),
    warning: str = "",
) -> Figure:
    """Page of a layer's kernels as tables, a row a kernel and a column a map that it reads, or of some.

    Args:
      layer: the layer's name.
      banks_shown: its kernels, from `banks`.
      line: stands below the title.
      scaling: `joint` or `filter`.
      units: numbers of kernels, the towers' one after the other; none shows all.
      warning: across the foot; empty for none.
    """
    most = max(float(np.abs(bank.kernels).max()) for bank in banks_shown)
    greys = [to_unit(bank.kernels, most if scaling == "joint" else None) for bank in banks_shown]
    count = sum(bank.kernels.shape[-1] for bank in banks_shown)
    line = f"{describe([bank.kernels for bank in banks_shown], scaling)}; {line}"
    if units:
        cells = [_picked(banks_shown, greys, unit) for unit in units]
        rows = grid.in_rows(cells, PICKED_IN_ROW)
        heading = f"{len(units)} of the {count} kernels of {layer}"
        size = len(cells[0].image) if cells[0].image is not None else PICKED
        return grid.draw(rows, heading, line, size=size, warning=warning, smooth=False)
    return _tables(banks_shown, greys, f"The {count} kernels of {layer}", line, warning)


def describe(kernels: Sequence[np.ndarray], scaling: str) -> str:
    """One line about kernels [h, w, maps, n] of one size: theirs, the range of their weights, the scaling."""
    height, width, maps, _ = kernels[0].shape
    low, high = min(float(own.min()) for own in kernels), max(float(own.max()) for own in kernels)
    weights = f"{height} × {width} × {maps} weights each"
    return f"{weights}, {text.number_range(low, high)}, {text.SCALINGS[scaling]}"


def table(greys: np.ndarray, sources: int, times: int) -> np.ndarray:
    """Kernels [h, w, maps, n] of 0..1 in rows, on white: uint8 [rows, columns, 3] in screen pixels.

    Args:
      greys: from `to_unit`.
      sources: parts of the maps between which there is more room.
      times: screen pixels a weight.
    """
    height, width, maps, count = greys.shape
    # One weight's width between two squares.
    framed = np.pad(greys, ((0, 1), (0, 1), (0, 0), (0, 0)), constant_values=1.0)
    flat = framed.transpose(3, 0, 2, 1).reshape(count * (height + 1), maps, width + 1)
    strips = [
        np.kron(part.reshape(len(flat), -1)[:-1, :-1], np.ones((times, times), np.float32))
        for part in np.split(flat, sources, axis=1)
    ]
    apart = np.ones((len(strips[0]), APART), np.float32)
    joined = strips[0]
    for strip in strips[1:]:
        joined = np.concatenate([joined, apart, strip], axis=1)
    return np.repeat((joined * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=-1)


def _picked(banks_shown: Sequence[Bank], greys: Sequence[np.ndarray], unit: int) -> grid.Cell:
    """One kernel's squares side by side in one square."""
    starts = np.cumsum([0] + [grey.shape[-1] for grey in greys])
    number = int(np.searchsorted(starts, unit, side="right")) - 1
    bank, own = banks_shown[number], np.moveaxis(greys[number][..., unit - starts[number]], -1, 0)[..., None]
    columns = int(np.ceil(np.sqrt(len(own))))
    times = max(1, round(PICKED / (columns * (own.shape[2] + GAP))))
    squares = tile(np.repeat(own, 3, axis=-1), columns, times)
    image = np.full((squares.shape[1], squares.shape[1], 3), 255, np.uint8)
    image[: len(squares)] = squares
    words = ", ".join(part for part in (f"kernel {unit}", bank.tower) if part)
    reads = " and ".join(bank.sources)
    return grid.Cell(image, (words, f"reads {reads}" if reads else f"reads {len(own)} maps"))


def _tables(
    banks_shown: Sequence[Bank], greys: Sequence[np.ndarray], heading: str, line: str, warning: str
) -> Figure:
    """A table a tower, side by side where there is room."""
    _, wide, maps, _ = greys[0].shape
    times = min(MOST, max(FEWEST, TABLE // (maps * (wide + 1))))
    pictures = [table(grey, len(bank.sources), times) for bank, grey in zip(banks_shown, greys, strict=True)]
    widths, heights = ([picture.shape[axis] for picture in pictures] for axis in (1, 0))
    across = [NUMBERS + width + BETWEEN for width in widths]
    down = [WORDS + height + BETWEEN for height in heights]
    beside = 2 * SIDE + sum(across) - BETWEEN <= WIDEST
    page_width = max(NARROWEST, 2 * SIDE + (sum(across) if beside else max(across)) - BETWEEN)
    page_height = TOP + (max(down) if beside else sum(down)) - BETWEEN + FOOT
    with style.sheet(page_width, page_height) as page:
        style.title(page, heading, line, SIDE / page_width)
        x, y, first = SIDE + NUMBERS, page_height - TOP, 0
        for bank, picture, right, below in zip(banks_shown, pictures, across, down, strict=True):
            _draw_table(page, bank, picture, first, x, y)
            x, y = (x + right, y) if beside else (x, y - below)
            first += bank.kernels.shape[-1]
        style.warn(page, warning)
    return page


def _draw_table(page: Figure, bank: Bank, picture: np.ndarray, first: int, x: int, top: int) -> None:
    """One tower's table, its upper left corner at x and WORDS below `top`, with names and numbers."""
    width, height = page.get_size_inches() * style.DPI
    page.text(x / width, (top - 12) / height, bank.tower, va="center", fontsize=12, weight="bold")
    share = (picture.shape[1] - APART * (len(bank.sources) - 1)) / len(bank.sources)
    for number, source in enumerate(bank.sources):
        reads = f"reads the maps of {source}" if source else "a column a map that is read"
        left = x + number * (share + APART)
        page.text(left / width, (top - 33) / height, reads, va="center", color=style.MUTED)
    page.figimage(picture, xo=x, yo=top - WORDS - picture.shape[0], origin="upper")
    rows = bank.kernels.shape[-1]
    side = bank.kernels.shape[0] + 1  # a row's weights and the gap below, which the last row lacks
    pitch = side * picture.shape[0] / (rows * side - 1)
    for row in range(0, rows, NUMBERED):
        page.text(
            (x - 8) / width,
            (top - WORDS - (row + 0.5) * pitch) / height,
            str(first + row),
            ha="right",
            va="center",
            fontsize=8.5,
            color=style.MUTED,
        )


def tower_labels(variant: str) -> tuple[str, ...]:
    """Names of the towers among which a layer's kernels are shared equally; one empty name without towers.

    The halves of a path whose later convolutions connect in two groups are towers as well.
    """
    arch = variants.get(variant)
    return ("tower a", "tower b") if len(arch.towers) * arch.groups == 2 else ("",)


def unit_towers(layer: str, width: int, variant: str, *, maps: bool) -> list[str]:
    """The name of the tower of each of a layer's `width` units; empty for none, as without maps."""
    from alexnet_tf.network import graph

    if layer.endswith(graph.TOWERS):
        return [f"tower {layer[-1]}"] * width
    labels = tower_labels(variant) if maps else ("",)
    return [labels[number * len(labels) // width] for number in range(width)]


def unit_kernels(kernels: np.ndarray, scaling: str = "joint") -> np.ndarray:
    """Kernels [h, w, 3, n] -> [n, h, w, 3] between 0 and 1, scaled together or each `filter` alone."""
    stack = np.moveaxis(np.asarray(kernels, np.float32), -1, 0)
    axes = None if scaling == "joint" else (1, 2, 3)
    low, high = stack.min(axis=axes, keepdims=True), stack.max(axis=axes, keepdims=True)
    # Kernels that are all alike, as zeros are, become a middle grey.
    flat = high == low
    return np.where(flat, np.float32(0.5), (stack - low) / np.where(flat, 1.0, high - low))


def tile(stack: np.ndarray, columns: int = COLUMNS, magnification: int = MAGNIFICATION) -> np.ndarray:
    """Kernels [n, h, w, 3] in 0..1 as one picture, row by row, on white.

    Returns:
      uint8 [rows, columns, 3] in screen pixels, each weight a square of `magnification`; without a border.
    """
    count, height, width, _ = stack.shape
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.float32)
    for number, kernel in enumerate(stack):
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = kernel
    return (np.kron(sheet, np.ones((magnification, magnification, 1))) * 255.0 + 0.5).astype(np.uint8)
