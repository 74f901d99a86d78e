"""Charts as SVG within a page: their colours are the page's, by day and by night, on screen and paper.

By hand and not by matplotlib, whose SVG has colours and fonts of its own: these take the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, tostring

import numpy as np

from alexnet_tf.visualize.measures.training_curves import Level

# One unit is about one pixel; a phone shows a chart a tenth smaller.
WIDTH, HEIGHT, LOW_HEIGHT = 380, 230, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 38
MOST_MARKED = 30  # points of a line that get marks
SUPERSCRIPTS = {ord(a): b for a, b in zip("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True)}


class Line(NamedTuple):
    """Values over the chart's x; `colour` is a CSS colour, and NaN leaves a gap."""

    name: str
    colour: str
    values: Sequence[float]


class Chart(NamedTuple):
    """A drawing with its title and key.

    Attributes:
      title: what is drawn, with its unit.
      key: the lines that have names.
      svg: the drawing as text, in which names are escaped.
    """

    title: str
    key: tuple[Line, ...]
    svg: str


class _Axis(NamedTuple):
    """The places along one side that numbers have."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def lines(
    title: str,
    x: Sequence[float],
    shown: Sequence[Line],
    *,
    level: Level | None = None,
    log: bool = False,
    least: float = 0.0,
) -> Chart:
    """A chart of lines over the epochs, with its title and key above.

    Args:
      title: what is drawn, with its unit.
      x: epochs.
      shown: the lines.
      level: a value to compare with.
      log: whether the y axis is logarithmic; what is 0 or less is left out.
      least: the y axis ends here or above.
    """
    values = [v for line in shown for v in line.values if math.isfinite(v) and (v > 0 or not log)]
    values += [level.value] if level else []
    across = _Axis(0.0, max(x, default=1.0) or 1.0, LEFT, WIDTH - RIGHT)
    up = _vertical(values, log, least)
    parts = _frame(across, up)
    if level:
        y = up(level.value)
        parts += [_level(y, "level"), _text(WIDTH - RIGHT, y - 5, level.name, "end")]
    for line in shown:
        parts += _line(line, x, across, up)
    label = f"{title} over {len(x)} evaluations: " + "; ".join(_in_words(line) for line in shown)
    return _chart(title, shown, parts, label, HEIGHT)


def histogram(title: str, groups: Sequence[Line], bins: int = 20) -> Chart:
    """A histogram of values in 0..1: the first group's bars rise, the second's hang, medians are marked.

    Args:
      title: what is counted.
      groups: one or two, each with its values.
      bins: equal parts of 0..1.
    """
    counts = [np.histogram(np.clip(group.values, 0, 1), bins, (0.0, 1.0))[0] for group in groups]
    most = max(int(count.max()) for count in counts) or 1
    across = _Axis(0.0, 1.0, LEFT, WIDTH - RIGHT)
    # Room beyond the longest bar for the medians' names.
    up = _Axis(-1.25 * most if len(groups) > 1 else 0.0, 1.25 * most, LOW_HEIGHT - 20, 4)
    ticks = [tick for tick in _ticks(0, most, 2) if tick == int(tick)]
    parts = []
    for tick in sorted({*ticks, *(-tick for tick in ticks if len(groups) > 1)}):
        parts += [_level(up(tick), "grid"), _text(LEFT - 6, up(tick) + 4, f"{abs(tick):g}", "end")]
    for sign, group, count in zip((1, -1), groups, counts, strict=False):
        parts += _bars(group.colour, sign * count, across, up)
        parts += _median(group, sign * most, across, up)
    parts.append(_level(up(0), "axis"))
    parts += [_text(across(v), LOW_HEIGHT - 4, f"{v:g}", "middle") for v in (0, 0.25, 0.5, 0.75, 1)]
    label = f"{title}: " + "; ".join(f"{g.name} median {np.median(g.values):.2f}" for g in groups)
    return _chart(title, groups, parts, label, LOW_HEIGHT)


def _bars(colour: str, counts: np.ndarray, across: _Axis, up: _Axis) -> list[Element]:
    """One group's bars; negative counts hang."""
    width = (across(1) - across(0)) / len(counts)
    bars = []
    for number, count in enumerate(counts.tolist()):
        top, bottom = sorted((up(0), up(count)))
        place = {"x": _f(across(0) + number * width + 0.75), "width": _f(width - 1.5), "y": _f(top)}
        bars.append(_node("rect", **place, height=_f(bottom - top), style=f"fill:{colour}"))
    return bars


def _median(group: Line, tip: float, across: _Axis, up: _Axis) -> list[Element]:
    """A line from the axis past the longest bar, and its value there."""
    middle = float(np.median(group.values))
    x, end = _f(across(middle)), up(1.12 * tip)
    mark = _node("line", class_="median", x1=x, x2=x, y1=_f(up(0)), y2=_f(end))
    side, shift = ("start", 5) if middle < 0.7 else ("end", -5)
    return [mark, _text(across(middle) + shift, end + 4, f"median {middle:.2f}", side, group.colour)]


def _chart(title: str, shown: Sequence[Line], parts: Sequence[Element], label: str, height: int) -> Chart:
    """The drawing with its title and key; `label` is what a screen reader reads."""
    drawing = _node("svg", viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label)
    drawing.extend(parts)
    svg = tostring(drawing, encoding="unicode", short_empty_elements=False)
    return Chart(title, tuple(line for line in shown if line.name), svg)


def _vertical(values: Sequence[float], log: bool, least: float) -> _Axis:
    floor = HEIGHT - BOTTOM
    if log and values:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return _Axis(10.0**low, 10.0 ** max(high, low + 1), floor, TOP, log=True)
    top = max([least, *(1.06 * v for v in values)]) or 1.0
    return _Axis(0.0, top, floor, TOP)


def _frame(across: _Axis, up: _Axis) -> list[Element]:
    """Grid lines, the numbers of both axes and the word for the lower one."""
    parts: list[Element] = []
    decades = round(math.log10(up.high / up.low)) if up.log else 0
    heights = (
        [up.low * 10.0**n for n in range(0, decades + 1, 1 + decades // 5)]
        if up.log
        else _ticks(up.low, up.high, 5)
    )
    for value in heights:
        parts += [_level(up(value), "grid"), _text(LEFT - 6, up(value) + 4, _number(value), "end")]
    parts += [
        _text(across(value), HEIGHT - 20, f"{value:g}", "middle")
        for value in _ticks(across.low, across.high, 6)
    ]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "epoch", "middle"))
    return parts


def _line(line: Line, x: Sequence[float], across: _Axis, up: _Axis) -> list[Element]:
    """A line's path and, of few points, its marks."""
    points: list[tuple[float, float]] = []
    path = ""
    joined = False
    for at, value in zip(x, line.values, strict=True):
        if not math.isfinite(value) or (up.log and value <= 0):
            joined = False
            continue
        place = (across(at), up(value))
        path += f"{'L' if joined else 'M'}{_f(place[0])} {_f(place[1])}"
        points.append(place)
        joined = True
    drawn = _node("path", d=path, class_="line", style=f"stroke:{line.colour}")
    if len(points) > MOST_MARKED:
        return [drawn]
    marks = [_node("circle", cx=_f(a), cy=_f(b), r="3", style=f"fill:{line.colour}") for a, b in points]
    return [drawn, *marks]


def _number(value: float) -> str:
    """A tick's value; powers of ten far from 1 as such."""
    power = math.log10(value) if value > 0 else 0.0
    if power == round(power) and abs(power) > 3:
        return "10" + f"{round(power)}".translate(SUPERSCRIPTS)
    return f"{value:.4g}"


def _in_words(line: Line) -> str:
    known = [value for value in line.values if math.isfinite(value)]
    if not known:
        return f"{line.name or 'value'} unknown"
    return f"{line.name or 'value'} from {known[0]:.4g} to {known[-1]:.4g}"


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from low to high, about so many."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * n, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _level(y: float, kind: str) -> Element:
    """A line across the chart."""
    return _node("line", class_=kind, x1=str(LEFT), x2=str(WIDTH - RIGHT), y1=_f(y), y2=_f(y))


def _text(x: float, y: float, words: str, anchor: str, colour: str | None = None) -> Element:
    style = f"fill:{colour}" if colour else None
    written = _node("text", x=_f(x), y=_f(y), text_anchor=anchor, style=style)
    written.text = words
    return written


def _node(name: str, /, **attributes: str | None) -> Element:
    """One element; `class_` is `class`, `aria_label` is `aria-label`, and None leaves an attribute out."""
    return Element(
        name,
        {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None},
    )


def _f(value: float) -> str:
    return f"{value:.1f}"
