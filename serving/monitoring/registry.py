"""Counters, gauges and histograms, and their page in Prometheus' text format.

Written by hand because Prometheus' client library prints other names and text than TF Serving, and dashboards
for it should work here. The text is that of TensorFlow's monitoring library in TF Serving's exporter
(tensorflow_serving/util/prometheus_exporter.cc): no HELP lines, `{}` after a name without labels, bounds with
six significant digits. A metric has its TYPE line once it is registered, a label set its lines once used.
"""

from __future__ import annotations

import bisect
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

Labels = tuple[str, ...]
Cell = TypeVar("Cell")


def exponential(start: float, growth: float, count: int) -> tuple[float, ...]:
    """The finite upper bounds start, start * growth, ... of a histogram, `count` of them."""
    return tuple(start * growth**power for power in range(count))


class Metric(Generic[Cell]):
    """A metric: a value for each label set that was used. Thread-safe.

    Attributes:
      name: TensorFlow's own spelling, such as `/tensorflow/serving/request_count`.
      labels: names of the labels.
      shown_unused: whether the page has the TYPE line before the first value.
      most_label_sets: how many are kept; beyond that the oldest is dropped, and restarts at zero when it is
        used again, as after a restart of the server; None keeps all.
    """

    kind = ""

    def __init__(
        self,
        name: str,
        labels: Sequence[str] = (),
        *,
        shown_unused: bool = True,
        most_label_sets: int | None = None,
    ) -> None:
        self.name = name
        self.labels = tuple(labels)
        self.shown_unused = shown_unused
        self.most_label_sets = most_label_sets
        self._cells: dict[Labels, Cell] = {}
        self._lock = threading.Lock()

    @property
    def text_name(self) -> str:
        """The name on the page: every character that is not a letter, digit or `_` becomes `:`."""
        return re.sub("[^a-zA-Z0-9_]", ":", self.name)

    def lines(self) -> list[str]:
        """The metric's lines of the page, sorted by label set."""
        with self._lock:
            cells = sorted((labels, self._copy(cell)) for labels, cell in self._cells.items())
        if not cells and not self.shown_unused:
            return []
        page = [f"# TYPE {self.text_name} {self.kind}"]
        for labels, cell in cells:
            pairs = (
                f'{label_name(name)}="{escaped(value)}"'
                for name, value in zip(self.labels, labels, strict=True)
            )
            page += self._cell_lines(",".join(pairs), cell)
        return page

    def _add_cell(self, labels: Labels, cell: Cell) -> Cell:
        """Adds a new label set; the lock is held."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {labels}")
        if len(self._cells) == self.most_label_sets:
            del self._cells[next(iter(self._cells))]
        self._cells[labels] = cell
        return cell

    def _copy(self, cell: Cell) -> Cell:
        return cell

    def _cell_lines(self, labels: str, cell: Cell) -> list[str]:
        return [f"{self.text_name}{{{labels}}} {number(cell)}"]  # type: ignore[arg-type]


class Counter(Metric[int]):
    """A counter."""

    kind = "counter"

    def increment(self, labels: Labels = (), by: int = 1) -> None:
        """Adds to the value of one label set."""
        with self._lock:
            cell = self._cells.get(labels)
            if cell is None:
                self._add_cell(labels, by)
            else:
                self._cells[labels] = cell + by

    def total(self) -> int:
        """The sum over all label sets."""
        with self._lock:
            return sum(self._cells.values())


class Gauge(Metric[float]):
    """A gauge whose values are read when the page is made."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        read: Callable[[], Mapping[Labels, float]],
        *,
        shown_unused: bool = True,
    ) -> None:
        super().__init__(name, labels, shown_unused=shown_unused)
        self._read = read

    def lines(self) -> list[str]:
        values = dict(self._read())
        with self._lock:
            self._cells = values
        return super().lines()


class Distribution(NamedTuple):
    """The counts by bucket and the sum of one label set of a histogram."""

    counts: list[int]
    total: list[float]


class Histogram(Metric[Distribution]):
    """A histogram.

    A value that equals a bound is counted in the bucket above it (tensorflow/core/lib/histogram/histogram.cc;
    Prometheus' own libraries count it below): a batch of 8 is found under le="16".

    Args:
      name, labels, shown_unused, most_label_sets: as in `Metric`.
      bounds: ascending finite upper bounds; one more bucket holds larger values.
    """

    kind = "histogram"

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        *,
        shown_unused: bool = True,
        most_label_sets: int | None = None,
    ) -> None:
        super().__init__(name, labels, shown_unused=shown_unused, most_label_sets=most_label_sets)
        self.bounds = tuple(bounds)

    def observe(self, labels: Labels, value: float) -> None:
        """Counts one value."""
        bucket = bisect.bisect_right(self.bounds, value)
        with self._lock:
            cell = self._cells.get(labels)
            if cell is None:
                cell = self._add_cell(labels, Distribution([0] * (len(self.bounds) + 1), [0.0]))
            cell.counts[bucket] += 1
            cell.total[0] += value

    def _copy(self, cell: Distribution) -> Distribution:
        return Distribution(list(cell.counts), list(cell.total))

    def _cell_lines(self, labels: str, cell: Distribution) -> list[str]:
        comma = "," if labels else ""
        page = []
        count = 0
        limits = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        for bound, more in zip(limits, cell.counts, strict=True):
            count += more
            page.append(f'{self.text_name}_bucket{{{labels}{comma}le="{bound}"}} {count}')
        page.append(f"{self.text_name}_sum{{{labels}}} {number(cell.total[0])}")
        page.append(f"{self.text_name}_count{{{labels}}} {count}")
        return page


def number(value: float) -> str:
    """The text of a value: whole numbers without a point, others with the digits that identify the float.

    TF Serving prints the sum of a histogram with six digits, so that it stops growing after a while; only
    that number is longer here.
    """
    return str(int(value)) if value == int(value) else repr(float(value))


def label_name(name: str) -> str:
    """A label's name on the page: every character that is not a letter or digit becomes `_`."""
    return re.sub("[^a-zA-Z0-9]", "_", name)


def escaped(value: str) -> str:
    r"""A label's value on the page, with `\`, `"` and what would break the page escaped or replaced.

    Clients choose model names: a line feed in one would end the line, a NUL the page, and a lone surrogate
    cannot be encoded. TF Serving does not escape these.
    """
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\0", "\ufffd")
    return value.encode("utf-8", "replace").decode("utf-8")


def page(metrics: Iterable[Metric[Any]]) -> str:
    """The whole page: metrics in the order of their names, a line feed after each line."""
    lines: list[str] = []
    for metric in sorted(metrics, key=lambda metric: metric.name):
        lines += metric.lines()
    return "".join(f"{line}\n" for line in lines)
