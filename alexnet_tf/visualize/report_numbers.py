"""What `evaluate` has left in a run folder, read for the report; half a folder of it says nothing."""

from __future__ import annotations

import collections
import csv
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from alexnet_tf.evaluation_report import (
    CLASSES_FILE,
    PREDICTIONS_FILE,
    SUMMARY_FILE,
    describe_protocol,
)
from alexnet_tf.run_record import Run


class ClassErrors(NamedTuple):
    """One class of an evaluation; errors are shares of its pictures, NaN where there are none.

    `identifier` is what the data call the class; `name` and `confused_with` are words, and two classes
    may have the same.
    """

    identifier: str
    name: str
    examples: int
    top1_error: float
    top5_error: float
    confused_with: str
    confused_count: int


class Mistake(NamedTuple):
    """A picture taken for another class, and its place in the validation split's order."""

    probability: float
    position: int
    key: str
    true_name: str
    predicted_name: str


class Evaluation(NamedTuple):
    """One folder of `evaluate`.

    Attributes:
      folder: where it lies.
      summary: its summary.json.
      classes: per_class.csv, in the order of the labels.
      pairs: how many pictures of class [0] were taken for class [1], by identifier, right ones too.
      mistakes: the mistakes that the network was surest of, the surest first.
    """

    folder: Path
    summary: dict[str, Any]
    classes: tuple[ClassErrors, ...]
    pairs: dict[tuple[str, str], int]
    mistakes: tuple[Mistake, ...]

    @property
    def protocol(self) -> str:
        """How the figures came about, in words."""
        return describe_protocol(self.summary)


def evaluations(run: Run, most_mistakes: int) -> list[Evaluation]:
    """What `evaluate` has written in the run folder, a single crop before ten, one run before several."""
    found = []
    for path in run.workdir.glob(f"evaluation*/{SUMMARY_FILE}"):
        try:
            found.append(_read(run, path, most_mistakes))
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            continue  # the report is not worth failing over half of another
    return sorted(found, key=lambda one: (one.summary["runs"], one.summary["crops"], one.folder.name))


def _read(run: Run, path: Path, most_mistakes: int) -> Evaluation:
    summary = json.loads(path.read_text(encoding="utf-8"))
    describe_protocol(summary)  # raises for what is no summary
    words = dict(zip(run.class_names, run.readable_names, strict=True))
    classes = tuple(
        ClassErrors(
            row["class"],
            words.get(row["class"], row["class"]),
            int(row["count"]),
            _share(row["top1_error"]),
            _share(row["top5_error"]),
            words.get(row["most_confused_with"], row["most_confused_with"]),
            int(row["confused_count"]),
        )
        for row in _rows(path.with_name(CLASSES_FILE))
    )
    pairs: collections.Counter[tuple[str, str]] = collections.Counter()
    mistakes = []
    for position, row in enumerate(_rows(path.with_name(PREDICTIONS_FILE))):
        pair = row["label"], row["class1"]
        pairs[pair] += 1
        if pair[0] != pair[1]:
            names = (words.get(identifier, identifier) for identifier in pair)
            mistakes.append(Mistake(float(row["score1"]), position, row["key"], *names))
    mistakes.sort(key=lambda mistake: (-mistake.probability, mistake.position))
    return Evaluation(path.parent, summary, classes, dict(pairs), tuple(mistakes[:most_mistakes]))


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def _share(text: str) -> float:
    return float(text) if text else math.nan
