"""Figure of the two towers on their devices, and of the tensors sent between them in a training step."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.files import write_text

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes

    from alexnet_tf.distribute.tower_trace import Crossing, Trace
    from alexnet_tf.recipe import Recipe


# All in pixels: columns of boxes at both sides, and the lanes of what crosses between them.
WIDTH, SIDE, BOX, PITCH, THICK, TOP, FOOT = 1200, 44, 330, 72, 40, 158, 150
CONVOLUTIONS = ("Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput")
WINOGRAD = "BatchMatMulV2"  # what is left of a 3 x 3 convolution in float32 on processors
LINE = 22  # from the forward line of a place to its backward line
# The layers that are drawn, by what they do; the others only hand on.
WORKING = ("Conv2D", "Dense", "MaxPooling2D", "ResponseNormalization")


class Box(NamedTuple):
    """One layer in a tower's column (0 or 1): its name without the tower's suffix and its output's size."""

    name: str
    column: int
    size: str
    learns: bool


def write(out: Path, network: keras.Model, trace: Trace, recipe: Recipe) -> dict[str, Any]:
    """Writes placement.png, the figure, and placement.json, the numbers behind it.

    Args:
      out: the folder.
      network: of `towers.build`.
      trace: of one step of its training.
      recipe: which the training follows.
    """
    line = f"{recipe.variant} network, batch {recipe.batch_size}, {recipe.precision}"
    path = picture(out / "placement.png", network, trace, line)
    numbers = out / "placement.json"
    operations = {
        device: {" ".join(key).strip(): count for key, count in sorted(counts.items())}
        for device, counts in trace.operations.items()
    }
    crossings = [{**dataclasses.asdict(c), "bytes": c.bytes} for c in trace.crossings]
    write_text(numbers, json.dumps({"crossings": crossings, "operations": operations}, indent=1) + "\n")
    return {
        "files": [str(path), str(numbers)],
        **{f"{phase}_bytes": _sum(trace, phase) for phase in ("forward", "backward")},
    }


def picture(path: Path, network: keras.Model, trace: Trace, line: str) -> Path:
    """Draws the towers as two columns of layers, and the tensors sent between them with their sizes.

    Args:
      path: the file, .png or .svg.
      network: of `towers.build`.
      trace: of one step of its training.
      line: says what was traced.
    """
    from alexnet_tf.figures import style

    boxes = _boxes(network)
    rows = list(dict.fromkeys(box.name for box in boxes))
    height = TOP + len(rows) * PITCH + FOOT
    with style.sheet(WIDTH, height) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(height, 0)
        style.title(figure, "One tower on each of two devices", f"{line}: one step of training", SIDE / WIDTH)
        _draw_columns(axes, boxes, rows, trace)
        for row, place in enumerate(rows):
            crossings = [c for c in trace.crossings if c.place == place]
            # Where towers meet, before the layer that reads both; the pixels, after they are padded.
            gap = row + 1 if place == "pad" else row
            _draw_place(axes, TOP + gap * PITCH - (PITCH - THICK) / 2, crossings, _devices(trace)[0])
        _draw_key(axes)
        _draw_sums(axes, height, trace)
        return style.save(figure, path)


def _boxes(network: keras.Model) -> list[Box]:
    """The layers that compute something, in order; those of no tower stand in tower a's column."""
    boxes = []
    for layer in network.layers:
        kind = type(layer).__name__
        if kind.endswith(WORKING) or layer.name == "pad":
            name, column = layer.name.removesuffix("_a").removesuffix("_b"), layer.name.endswith("_b")
            boxes.append(Box(name, int(column), _sides(layer.output.shape), bool(layer.trainable_weights)))
    return boxes


def _devices(trace: Trace) -> tuple[str, str]:
    """Tower a's device, which also sends the pixels, and tower b's."""
    pixels = next(crossing for crossing in trace.crossings if crossing.place == "pad")
    return pixels.source, pixels.destination


def _left(column: int) -> float:
    return SIDE if column == 0 else WIDTH - SIDE - BOX


def _draw_columns(axes: Axes, boxes: list[Box], rows: list[str], trace: Trace) -> None:
    from matplotlib.patches import FancyBboxPatch

    from alexnet_tf.figures import style

    for column, device in enumerate(_devices(trace)):
        middle = _left(column) + BOX / 2
        own = [box for box in boxes if box.column == column]
        levels = [TOP + rows.index(box.name) * PITCH for box in own]
        text = f"tower {'ab'[column]}  on  {device}"
        axes.text(middle, TOP - 36, text, ha="center", va="center", fontsize=13, weight="bold")
        axes.plot([middle] * 2, [levels[0] + THICK / 2, levels[-1]], color=style.RULE, linewidth=3, zorder=1)
        for box, top in zip(own, levels, strict=True):
            shape = FancyBboxPatch(
                (_left(column), top),
                BOX,
                THICK,
                boxstyle="round,pad=0,rounding_size=7",
                facecolor=style.OTHER if box.learns else style.TRACK,
                edgecolor=style.RULE,
                zorder=2,
            )
            axes.add_patch(shape)
            name = "pixels" if box.name == "pad" else box.name
            level = top + THICK / 2
            weight = "bold" if box.learns else "normal"
            axes.text(_left(column) + 16, level, name, va="center_baseline", fontsize=12, weight=weight)
            axes.text(
                _left(column) + BOX - 16, level, box.size, va="center_baseline", ha="right", fontsize=11
            )
        # Wider than a box: it grows from the page's edge inwards.
        edge, side = (_left(0), "left") if column == 0 else (_left(1) + BOX, "right")
        for number, words in enumerate(_work(trace, device)):
            level = TOP + len(rows) * PITCH + 12 + 20 * number
            axes.text(edge, level, words, ha=side, va="center", fontsize=10.5, color=style.MUTED)


def _work(trace: Trace, device: str) -> list[str]:
    """How many convolutions and matrix products a device computes in each pass, in words."""
    counts = trace.operations[device]
    lines = []
    for phase in ("forward", "backward"):
        direct = sum(counts.get((phase, kernel), 0) for kernel in CONVOLUTIONS)
        winograd = counts.get((phase, WINOGRAD), 0)
        shown = f"{direct} + {winograd} Winograd" if winograd else f"{direct}"
        lines.append(f"{phase}: {shown} convolutions, {counts.get((phase, 'MatMul'), 0)} matrix products")
    return lines


def _draw_place(axes: Axes, level: float, crossings: list[Crossing], first: str) -> None:
    """The arrows where the towers meet before one layer, forward above backward, thicker for more bytes."""
    from alexnet_tf.figures import style

    phases = [phase for phase in ("forward", "backward") if any(c.phase == phase for c in crossings)]
    left, right = _left(0) + BOX + 12, _left(1) - 12
    for number, phase in enumerate(phases):
        own = [c for c in crossings if c.phase == phase]
        each = max(c.bytes or 0 for c in own)
        towards_b = any(c.source == first for c in own)
        towards_a = any(c.source != first for c in own)
        colour = style.FIRST if phase == "forward" else style.SECOND
        here = level + (number - (len(phases) - 1) / 2) * LINE
        ends = {(True, True): "<|-|>", (True, False): "-|>", (False, True): "<|-"}[towards_b, towards_a]
        axes.annotate(
            "",
            (right, here),
            (left, here),
            arrowprops={
                "arrowstyle": f"{ends},head_length=0.5,head_width=0.28",
                "color": colour,
                "linewidth": 1.2 + 0.9 * math.sqrt(each / 1e6),
                "shrinkA": 0,
                "shrinkB": 0,
            },
            zorder=3,
        )
        ways = " each way" if towards_a and towards_b else ""
        axes.text(
            (left + right) / 2,
            here,
            f"{_sides(own[0].shape)}:  {_megabytes(each)}{ways}",
            ha="center",
            va="center_baseline",
            fontsize=10.5,
            color=colour,
            weight="bold",
            bbox={"facecolor": style.PAGE, "edgecolor": "none", "boxstyle": "square,pad=0.25"},
            zorder=4,
        )


def _draw_key(axes: Axes) -> None:
    """The legend of the two passes, between the names of the towers."""
    from alexnet_tf.figures import style

    for start, word, colour in ((-150, "forward", style.FIRST), (20, "backward", style.SECOND)):
        left = WIDTH / 2 + start
        axes.plot([left, left + 34], [TOP - 36] * 2, color=colour, linewidth=3.5, solid_capstyle="round")
        axes.text(left + 44, TOP - 36, word, va="center", fontsize=11.5, color=colour, weight="bold")


def _draw_sums(axes: Axes, height: float, trace: Trace) -> None:
    from alexnet_tf.figures import style

    others = [crossing for crossing in trace.crossings if not crossing.place]
    forward, backward = (_megabytes(_sum(trace, phase)) for phase in ("forward", "backward"))
    lines = (
        f"crosses in a step: {forward} forward, {backward} backward",
        f"besides, {len(others)} scalars of the update: {sum(c.bytes or 0 for c in others)} bytes",
    )
    axes.plot([SIDE, WIDTH - SIDE], [height - 78] * 2, color=style.RULE, linewidth=1)
    axes.text(WIDTH / 2, height - 52, lines[0], ha="center", va="center", fontsize=12.5, weight="bold")
    axes.text(WIDTH / 2, height - 28, lines[1], ha="center", va="center", fontsize=10.5, color=style.MUTED)


def _sides(shape: Sequence[int | None] | None) -> str:
    """The size of one picture's share of a batch, such as `55 × 55 × 48`."""
    return " × ".join(str(side) for side in (shape or ())[1:])


def _sum(trace: Trace, phase: str) -> int:
    return sum(c.bytes or 0 for c in trace.crossings if c.place and c.phase == phase)


def _megabytes(size: int) -> str:
    """A number of bytes in words, such as `1.2 MB`."""
    if size >= 1e5:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.1f} kB" if size >= 1e3 else f"{size} B"
