"""Histograms as SVG within a page, in the colours of its style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, tostring

# One unit is about one pixel.
WIDTH, HEIGHT = 380, 180
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 10, 24
_MOST_LABELS, _ROOM = 8, 34  # under the bars, and the units that each takes at least
_WIDEST = 56  # bar
PARTS = ("bar", "bar second", "bar third")  # classes of the style sheet, one a split


class Chart(NamedTuple):
    """A drawing.

    Attributes:
      title: what is counted.
      words: least, median and largest.
      svg: the drawing as text, in which names are escaped.
    """

    title: str
    words: str
    svg: str


def bars(title: str, unit: str, histogram: dict[str, Any]) -> Chart:
    """A histogram.

    Args:
      title: what is measured.
      unit: of the values, or nothing.
      histogram: as `findings.histogram` gives it.
    """
    counts, low, high = histogram["count"], histogram["low"], histogram["high"]
    up = _Scale(max(counts))
    width = (WIDTH - LEFT - RIGHT) / len(counts)
    shown = min(max(width - 1.0, 0.8), _WIDEST)
    parts = up.grid()
    for number, count in enumerate(counts):
        value = _number(low[number])
        span = value if low[number] == high[number] else f"{value} to {_number(high[number])}"
        bar = _node(
            "rect",
            class_="bar",
            x=_f(LEFT + (number + 0.5) * width - shown / 2),
            width=_f(shown),
            y=_f(up(count)),
            height=_f(up(0) - up(count)),
        )
        bar.append(_titled(f"{span}{unit}: {count:,}"))
        parts.append(bar)
    centred = low == high
    room = max(1, math.ceil(max(_ROOM / width, len(counts) / _MOST_LABELS)))
    for number in range(0, len(counts), room):
        x = LEFT + (number + (0.5 if centred else 0.0)) * width
        parts.append(_text(x, HEIGHT - 8, _number(low[number]), "middle"))
    words = ", ".join(
        f"{name} {_number(histogram[key])}{unit}"
        for name, key in (("least", "least"), ("median", "median"), ("largest", "most"))
    )
    return Chart(title, words, _svg(parts, f"{title}: {words}"))


def classes(counts: Sequence[tuple[int, ...]]) -> Chart:
    """Sizes of classes, largest first: the pictures of each split above those of the one before.

    Args:
      counts: of each class, how many pictures each split has; no more splits than PARTS.
    """
    ordered = sorted(counts, key=lambda row: (-sum(row), tuple(-count for count in row)))
    up = _Scale(max(sum(row) for row in ordered))
    totals = [sum(row) for row in ordered]
    parts = up.grid()
    # The whole first: what lies lower is drawn over it.
    for split in reversed(range(len(ordered[0]))):
        if any(row[split] for row in ordered):
            upto = [sum(row[: split + 1]) for row in ordered]
            parts.append(_node("path", class_=PARTS[split], d=_steps(upto, up)))
    parts += [
        _text(LEFT, HEIGHT - 8, f"largest class: {totals[0]:,}", "start"),
        _text(WIDTH - RIGHT, HEIGHT - 8, f"smallest of {len(ordered):,}: {totals[-1]:,}", "end"),
    ]
    words = f"from {totals[0]:,} to {totals[-1]:,} pictures, median {sorted(totals)[len(totals) // 2]:,}"
    return Chart("Pictures of each class", words, _svg(parts, f"Pictures of each class, {words}"))


class _Scale:
    """Places of counts, 0 to `most`, from the bottom up."""

    def __init__(self, most: int) -> None:
        self.most = max(most, 1)

    def __call__(self, count: float) -> float:
        return HEIGHT - BOTTOM - count / self.most * (HEIGHT - BOTTOM - TOP)

    def grid(self) -> list[Element]:
        """Lines at round counts."""
        power = 10.0 ** math.floor(math.log10(self.most))
        step = next(s for s in (power / 5, power / 2, power, power * 2) if self.most / s <= 5.001)
        step = max(1, round(step))
        parts = []
        for count in range(0, self.most + 1, step):
            kind, y = ("grid" if count else "axis"), _f(self(count))
            parts.append(_node("line", class_=kind, x1=str(LEFT), x2=str(WIDTH - RIGHT), y1=y, y2=y))
            parts.append(_text(LEFT - 6, self(count) + 4, f"{count:,}", "end"))
        return parts


def _steps(counts: Sequence[int], up: _Scale) -> str:
    """The outline of bars that touch each other."""
    width = (WIDTH - LEFT - RIGHT) / len(counts)
    path = [f"M{LEFT} {_f(up(0))}"]
    drawn = None
    for number, count in enumerate(counts):
        if count != drawn:  # the same again needs no corner
            path.append(f"H{_f(LEFT + number * width)}V{_f(up(count))}")
            drawn = count
    return "".join([*path, f"H{WIDTH - RIGHT}V{_f(up(0))}Z"])


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def _svg(parts: Sequence[Element], label: str) -> str:
    root = _node("svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
    root.extend(parts)
    return tostring(root, encoding="unicode")


def _titled(words: str) -> Element:
    """What a browser shows when the pointer rests on a shape."""
    title = Element("title")
    title.text = words
    return title


def _text(x: float, y: float, words: str, anchor: str) -> Element:
    written = _node("text", x=_f(x), y=_f(y), text_anchor=anchor)
    written.text = words
    return written


def _node(name: str, /, **attributes: str) -> Element:
    """One element; `class_` is `class` and `aria_label` is `aria-label`."""
    return Element(name, {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()})


def _f(value: float) -> str:
    return f"{value:.1f}"
