"""The files of an evaluation: written as tables and two pictures, and read again for other reports."""

from __future__ import annotations

import collections
import csv
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from alexnet_tf.evaluation.accumulator import Accumulator, ClassResult, Prediction
from alexnet_tf.evaluation.folders import BEST, SUMMARY_FILE, describe_crops
from alexnet_tf.evaluation.metrics import TOP
from alexnet_tf.figures import text
from alexnet_tf.run_record import Run
from pipelines.config import DataConfig
from pipelines.files import replacing
from pipelines.pictures import preprocess
from pipelines.sources.source import Source

CLASSES_FILE, PREDICTIONS_FILE = "per_class.csv", "predictions.csv"
CLASS_COLUMNS = ("class", "count", "top1_error", "top5_error", "most_confused_with", "confused_count")
CONFUSION_FILE, MISTAKES_FILE = "confusion.png", "mistakes.png"


class Report:
    """Writes the files of an evaluation; predictions.csv grows batch by batch and gets its name at the end.

    Args:
      folder: where the files go; those of an earlier report are replaced.
      class_names: a label is an index into them.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.folder, self.class_names = folder, class_names
        self._stack = ExitStack()

    def __enter__(self) -> Report:
        with ExitStack() as stack:
            path = stack.enter_context(replacing(self.folder / PREDICTIONS_FILE))
            file = stack.enter_context(
                open(path, "w", newline="", encoding="utf-8", errors="surrogateescape")
            )
            self._writer = csv.writer(file, lineterminator="\n")
            columns = [f"{kind}{place + 1}" for place in range(self._places) for kind in ("class", "score")]
            self._writer.writerow(["key", "label", *columns])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Writes a row a picture: key, true name, the best names with their probabilities."""
        for prediction in predictions:
            pairs = zip(prediction.classes, prediction.scores, strict=True)
            best = [text for index, score in pairs for text in (self.class_names[index], f"{score:.6g}")]
            self._writer.writerow([prediction.key, self.class_names[prediction.label], *best])

    def finish(
        self, summary: dict[str, Any], totals: Accumulator, source: Source, config: DataConfig
    ) -> None:
        """Writes everything but the predictions.

        Args:
          summary: what summary.json shall hold.
          totals: the counts.
          source: where the pictures of the mistakes come from.
          config: how those pictures are cropped for show.
        """
        from alexnet_tf.figures import confusion

        # Tables name classes as the data do, pictures as people do.
        self._write_classes(totals.classes())
        title = f"top-1 error {describe_error(summary, 1)}, {describe_protocol(summary)}"
        with replacing(self.folder / CONFUSION_FILE) as path:
            confusion.draw(path, totals.confusion, source.readable_names, title)
        self._draw_mistakes(summary, totals, source, config)
        with replacing(self.folder / SUMMARY_FILE) as path:
            path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

    @property
    def _places(self) -> int:
        return min(TOP, len(self.class_names))

    def _write_classes(self, rows: Iterable[ClassResult]) -> None:
        with (
            replacing(self.folder / CLASSES_FILE) as path,
            open(path, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(CLASS_COLUMNS)
            for row in rows:
                writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in row)

    def _draw_mistakes(
        self, summary: dict[str, Any], totals: Accumulator, source: Source, config: DataConfig
    ) -> None:
        from alexnet_tf.figures import mistakes

        worst = totals.worst
        if not worst:
            (self.folder / MISTAKES_FILE).unlink(missing_ok=True)
            return
        places = sorted(mistake.position for mistake in worst)
        config = config.reading(source.prepared_size)
        images = {
            place: preprocess.evaluation_crop(example.image_bytes, config).numpy()
            for place, example in zip(places, source.pick("val", places), strict=True)
        }
        pictures = [
            mistakes.MisclassifiedPicture(
                images[mistake.position],
                source.readable_names[mistake.label],
                source.readable_names[mistake.predicted],
                mistake.probability,
                mistake.key,
            )
            for mistake in worst
        ]
        title = f"The mistakes it was surest of: {len(worst)} of {summary['top1_wrong']}, true name above"
        with replacing(self.folder / MISTAKES_FILE) as path:
            mistakes.draw(path, pictures, title)


def describe_protocol(summary: dict[str, Any]) -> str:
    """The evaluation protocol in words: crops, checkpoint, steps, number of runs."""
    crops = describe_crops(summary) + " averaged" * (summary["crops"] > 1)
    runs = "" if summary["runs"] == 1 else f", {summary['runs']} runs averaged"
    steps = [str(step) for step in summary["steps"] if step is not None]
    of = f" (step {', '.join(steps)})" if steps else ""
    return f"{crops}, {summary['checkpoint']} checkpoint{of}{runs}"


def describe_data(summary: dict[str, Any]) -> str:
    """Which pictures of which data were measured, in words."""
    split = summary.get("split", "val")
    return f"{summary['data']}, {'all pictures' if split == 'all' else f'split {split}'}"


def is_own_validation(run: Run, summary: dict[str, Any]) -> bool:
    """Whether an evaluation is of the pictures that the run was validated on in training."""
    # Summaries of before this was noted are all of validation splits.
    return bool(summary.get("own_validation", summary["data"] == run.data.spec))


def describe_members(summary: dict[str, Any]) -> list[str]:
    """The errors of each of several runs alone, and their mean, a line each; none for a single run."""
    members = summary["members"]
    if len(members) == 1:
        return []
    named = [(Path(row["workdir"]).name, row) for row in members]
    if len({name for name, _ in named}) < len(named):
        named = [(row["workdir"], row) for row in members]
    named.append((f"mean of {len(members)}", summary["members_mean"]))
    width = max(11, *(text.columns(name) for name, _ in named))
    return [
        f"{text.fit(name, width)}  top-1 {text.percent(row['top1_error'], 2)}"
        + ("" if row["top5_error"] is None else f", top-5 {text.percent(row['top5_error'], 2)}")
        for name, row in named
    ]


def describe_error(summary: dict[str, Any], k: int) -> str:
    """The top-k error of a summary with its counts, such as `4.50 % (27 of 600)`."""
    error = summary[f"top{k}_error"]
    if error is None:
        return f"says nothing with {summary['classes']} classes"
    return f"{text.percent(error, 2)} ({summary[f'top{k}_wrong']} of {summary['count']})"


class SavedClassErrors(NamedTuple):
    """One row of per_class.csv; errors are shares of the class's pictures, NaN where there are none.

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


class SavedMistake(NamedTuple):
    """A wrong row of predictions.csv, with readable names and its place in the validation split's order."""

    probability: float
    position: int
    key: str
    true_name: str
    predicted_name: str


class SavedEvaluation(NamedTuple):
    """An evaluation read from the folder that `evaluate` wrote.

    Attributes:
      folder: where it lies.
      summary: its summary.json.
      classes: per_class.csv, in the order of the labels.
      pairs: how many pictures of class [0] were taken for class [1], by identifier, right ones too.
      mistakes: the mistakes that the network was surest of, the surest first.
      of_run: whether it is of the pictures that the run was validated on in training.
    """

    folder: Path
    summary: dict[str, Any]
    classes: tuple[SavedClassErrors, ...]
    pairs: dict[tuple[str, str], int]
    mistakes: tuple[SavedMistake, ...]
    of_run: bool

    @property
    def protocol(self) -> str:
        """The evaluation protocol in words, and the data unless they are the run's validation pictures."""
        words = describe_protocol(self.summary)
        return words if self.of_run else f"{words}; {describe_data(self.summary)}"


def evaluations(run: Run, most_mistakes: int) -> list[SavedEvaluation]:
    """The evaluations in a run folder.

    Those of its own validation pictures come first, of its best weights, of one run and of one crop.
    """
    found = []
    for path in run.workdir.glob(f"evaluation*/{SUMMARY_FILE}"):
        try:
            found.append(_read(run, path, most_mistakes))
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            continue  # the report is not worth failing over half of another
    return sorted(found, key=_rank)


def _rank(one: SavedEvaluation) -> tuple[bool, bool, int, int, str]:
    summary = one.summary
    newest = summary["checkpoint"] != BEST
    return (not one.of_run, newest, summary["runs"], summary["crops"], one.folder.name)


def _read(run: Run, path: Path, most_mistakes: int) -> SavedEvaluation:
    summary = json.loads(path.read_text(encoding="utf-8"))
    describe_protocol(summary)  # raises for what is no summary
    words = dict(zip(run.class_names, run.readable_names, strict=True))
    classes = tuple(
        SavedClassErrors(
            row["class"],
            words.get(row["class"], row["class"]),
            int(row["count"]),
            _read_share(row["top1_error"]),
            _read_share(row["top5_error"]),
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
            mistakes.append(SavedMistake(float(row["score1"]), position, row["key"], *names))
    mistakes.sort(key=lambda mistake: (-mistake.probability, mistake.position))
    worst = tuple(mistakes[:most_mistakes])
    return SavedEvaluation(path.parent, summary, classes, dict(pairs), worst, is_own_validation(run, summary))


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def _read_share(cell: str) -> float:
    return float(cell) if cell else math.nan
