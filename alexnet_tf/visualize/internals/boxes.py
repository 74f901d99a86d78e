"""The network as a row of boxes with their numbers below, as in figure 2 of the paper.

A box is as high and deep as its maps and as thick as there are maps, all by their square roots; the dark
window on it is a kernel of the layer that reads it. Lines have the colour of the tower whose values they
bring; those that cross are the ones between towers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from alexnet_tf.figures import style
from alexnet_tf.visualize.internals.stages import Crossing, Stage, crossings, of

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Pixels: the page, and the drawing's height with towers and without.
SIDE, COLUMN, ROW_NAMES, TOP, LINE, GAP, HEAD, FOOT = 40, 162, 92, 72, 21, 8, 34, 52
TWO_TOWERS, ONE_PATH = 470, 280
# Pixels for the square root of a map's side, of a number of maps, and of a dense layer's units.
SPACE, THICK, LONG = 12.5, 2.5, 3.6
# How far a box's depth goes right and up, for each pixel of it.
RIGHT, UP = 0.42, 0.34
# Rows of the table's last part: neurons, parameters, multiply-adds.
COSTS = 3
# How pale a colour is on a box's front, its top and the face of its maps.
FRONT, LID, FACE = 0.15, 0.45, 0.78


class Box(NamedTuple):
    """A layer's values drawn as a block: lower left corner of its front, thickness, height and depth."""

    x: float
    y: float
    thick: float
    high: float
    deep: float
    colour: str

    def face(self, inwards: float, up: float) -> tuple[float, float]:
        """A point on the face of maps, from 0 to 1 into the page and upwards."""
        deep = self.deep * inwards
        return self.x + self.thick + RIGHT * deep, self.y + self.high * up + UP * deep

    @property
    def left(self) -> tuple[float, float]:
        """The middle of the front's left edge, where lines arrive."""
        return self.x, self.y + self.high / 2


def figure(network: keras.Model, line: str) -> Figure:
    """The page: the network as boxes, and the values that its towers exchange.

    Args:
      network: of `model.build`.
      line: below the title.
    """
    layers, found = of(network), crossings(network)
    rows = _rows(network, layers)
    drawing = TWO_TOWERS if any(stage.towers == 2 for stage in layers) else ONE_PATH
    width = 2 * SIDE + ROW_NAMES + COLUMN * (len(layers) + 1)
    height = TOP + drawing + HEAD + LINE * len(rows) + GAP + FOOT
    with style.sheet(width, height) as page:
        axes = page.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(0, height))
        style.title(page, "The network", line, SIDE / width)
        boxes = _boxes(network, layers, height - TOP - drawing / 2, drawing)
        for column, stage in enumerate(layers):
            _draw_kernels(axes, stage, boxes[column], boxes[column + 1])
        for column, stage in enumerate(layers):
            own = [crossing for crossing in found if crossing.target == stage.name]
            _draw_links(axes, stage, own, boxes[column], boxes[column + 1])
        for box in itertools.chain.from_iterable(boxes):
            _draw_box(axes, box)
        if drawing == TWO_TOWERS:
            _name_towers(axes, boxes)
        _write_table(axes, rows, height - TOP - drawing, width)
        axes.text(SIDE, FOOT / 2, _sums(layers, found), fontsize=10.5, va="center", weight="bold")
    return page


def _boxes(network: keras.Model, layers: Sequence[Stage], middle: float, drawing: float) -> list[list[Box]]:
    """For the pixels and each stage the boxes of its towers, tower a's above tower b's."""
    sizes = [(tuple(network.input.shape[1:]), 1), *((stage.output, stage.towers) for stage in layers)]
    found = []
    for column, (output, towers) in enumerate(sizes):
        if len(output) == 3:
            high = deep = SPACE * output[0] ** 0.5
            thick = THICK * (output[2] / towers) ** 0.5
        else:
            high, deep, thick = LONG * output[0] ** 0.5, 8.0, 14.0
        x = SIDE + ROW_NAMES + COLUMN * (column + 0.5) - (thick + RIGHT * deep) / 2
        away = [0.0] if towers == 1 else [drawing / 4, -drawing / 4]
        colours = [style.MUTED] if towers == 1 else [style.FIRST, style.SECOND]
        found.append(
            [
                Box(x, middle + y - (high + UP * deep) / 2, thick, high, deep, colour)
                for y, colour in zip(away, colours, strict=True)
            ]
        )
    return found


def _draw_box(axes: Axes, box: Box) -> None:
    front = [(box.x, box.y), box.face(0, 0), box.face(0, 1), (box.x, box.y + box.high)]
    back = box.face(1, 1)
    lid = [front[3], front[2], back, (back[0] - box.thick, back[1])]
    maps = [box.face(*corner) for corner in ((0, 0), (1, 0), (1, 1), (0, 1))]
    for corners, pale in ((front, FRONT), (lid, LID), (maps, FACE)):
        axes.fill(
            *zip(*corners, strict=True), facecolor=_paler(box.colour, pale), edgecolor=style.INK, lw=0.7
        )


def _draw_kernels(axes: Axes, stage: Stage, sources: list[Box], targets: list[Box]) -> None:
    """A convolution's kernel as a window on what it reads, and lines from its corners to what it gives."""
    if not stage.stride:
        return
    half = stage.kernel[0] / (stage.output[0] * stage.stride) / 2
    for number, target in enumerate(targets):
        source = sources[number % len(sources)]
        up = 0.5 if len(sources) == len(targets) else (0.72, 0.28)[number]
        corners = [
            source.face(0.5 + a * half, up + b * half) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        axes.fill(*zip(*corners, strict=True), facecolor=style.INK, edgecolor="none", alpha=0.75, zorder=3)
        for corner in corners[1:3]:
            line = zip(corner, target.left, strict=True)
            axes.plot(*line, color=style.INK, lw=0.6, alpha=0.6, zorder=2.5)


def _draw_links(
    axes: Axes, stage: Stage, found: Sequence[Crossing], sources: list[Box], targets: list[Box]
) -> None:
    """Arrows from one column to the next; across the towers with the number of values."""
    if len(sources) == len(targets) == 2:
        crossing = [each for each in found if not each.meets]
        if not crossing:
            return
        # Dashed where only normalisation looks over the border.
        dashes = "-" if any(each.reader == each.target for each in crossing) else (0, (4, 3))
        for source, target in zip(sources, targets[::-1], strict=True):
            _arrow(axes, source, target, dashes)
    elif not stage.stride:
        for source in sources:
            _arrow(axes, source, targets[0], "-")
    words = [f"{each.values:,} {'meet in' if each.meets else 'cross into'} {each.reader}" for each in found]
    if words:
        axes.text(
            *_meeting(sources, targets),
            "\n".join(words),
            fontsize=9,
            ha="center",
            va="center",
            linespacing=1.5,
            zorder=5,
            bbox={"facecolor": style.PAGE, "edgecolor": style.RULE, "boxstyle": "round,pad=0.4"},
        )


def _meeting(sources: list[Box], targets: list[Box]) -> tuple[float, float]:
    """Where the towers' lines cross, or the middle between them where they end in one box."""
    (x, above), (_, below) = sources[0].face(0.5, 0.5), sources[-1].face(0.5, 0.5)
    (to, high), (_, low) = targets[0].left, targets[-1].left
    share = (above - below) / ((above - below) + (high - low)) if high > low else 0.4
    return x + share * (to - x), above + share * (low - above) if high > low else (above + below) / 2


def _arrow(axes: Axes, source: Box, target: Box, dashes: object) -> None:
    axes.annotate(
        "",
        target.left,
        source.face(0.5, 0.5),
        arrowprops={
            "arrowstyle": "-|>",
            "color": source.colour,
            "lw": 1.6,
            "linestyle": dashes,
            "shrinkA": 0,
            "shrinkB": 1,
        },
        zorder=4,
    )


def _name_towers(axes: Axes, boxes: list[list[Box]]) -> None:
    """Writes the towers' names at the left, level with their boxes."""
    column = next(column for column in boxes if len(column) == 2)
    for name, box in zip(("tower a", "tower b"), column, strict=True):
        y = box.y + (box.high + UP * box.deep) / 2
        axes.text(SIDE, y, name, color=box.colour, fontsize=12, weight="bold", va="center")


def _rows(network: keras.Model, layers: Sequence[Stage]) -> list[tuple[str, list[str]]]:
    """The table: for each row its name, and its words for the pixels and every stage."""
    side, _, colours = network.input.shape[1:]
    most = max(len(stage.then) for stage in layers)
    steps = [[stage.then[n] if n < len(stage.then) else "" for stage in layers] for n in range(most)]
    return [
        ("", ["picture", *(stage.name for stage in layers)]),
        ("gives", [f"{side} × {side} × {colours}", *map(_size, layers)]),
        ("reads", ["", *map(_kernel, layers)]),
        *(("then" if number == 0 else "", ["", *words]) for number, words in enumerate(steps)),
        ("neurons", [f"{side * side * colours:,}", *(f"{stage.neurons:,}" for stage in layers)]),
        ("parameters", ["", *(f"{stage.parameters:,}" for stage in layers)]),
        ("multiply-adds", ["", *(f"{stage.multiply_adds:,}" for stage in layers)]),
    ]


def _size(stage: Stage) -> str:
    *place, maps = stage.output
    count = f"({maps // 2} + {maps // 2})" if stage.towers == 2 else f"{maps:,}"
    return " × ".join([*map(str, place), count])


def _kernel(stage: Stage) -> str:
    if not stage.stride:
        return f"all {stage.kernel[0]:,}"
    words = " × ".join(map(str, stage.kernel))
    if stage.stride > 1:
        return f"{words}, stride {stage.stride}"
    return f"{words}, 2 groups" if stage.groups == 2 else words


def _write_table(axes: Axes, rows: Sequence[tuple[str, list[str]]], top: float, width: float) -> None:
    lines = [top - HEAD / 2, *(top - HEAD - LINE * (number + 0.7) for number in range(len(rows) - 1))]
    lines[-COSTS:] = [y - GAP for y in lines[-COSTS:]]
    for number, (y, (name, words)) in enumerate(zip(lines, rows, strict=True)):
        axes.text(SIDE, y, name, fontsize=9.5, color=style.MUTED, va="center")
        size, weight = (9.5, "normal") if number else (12.0, "bold")
        for column, word in enumerate(words):
            x = SIDE + ROW_NAMES + COLUMN * (column + 0.5)
            axes.text(x, y, word, fontsize=size, weight=weight, ha="center", va="center")
    for y in (top - HEAD, lines[-COSTS] + (LINE + GAP) / 2):
        axes.plot([SIDE, width - SIDE], [y, y], color=style.RULE, lw=0.8)


def _sums(layers: Sequence[Stage], found: Sequence[Crossing]) -> str:
    """The network's totals in one line."""
    words = [
        f"{sum(stage.neurons for stage in layers):,} neurons",
        f"{sum(stage.parameters for stage in layers):,} parameters",
        f"{sum(stage.multiply_adds for stage in layers):,} multiply-adds a picture",
    ]
    across = sum(crossing.values for crossing in found if not crossing.meets)
    if found:
        words.append(f"{across:,} values cross the towers")
    return ",  ".join(words)


def _paler(colour: str, share: float) -> tuple[float, ...]:
    """A colour mixed with so much white."""
    from matplotlib.colors import to_rgb

    return tuple(share + (1 - share) * value for value in to_rgb(colour))
