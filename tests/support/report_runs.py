"""A run folder with everything that a report shows, and a small network in the place of the real one."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from alexnet_tf.evaluation.report import CLASS_COLUMNS
from alexnet_tf.run_record import Run
from tests.support import small_runs, small_towers

NAMES = ("bird", "cat", "dog", "fish", "frog", "horse")
# What a person may call a class, and a page must survive.
READABLE = (
    "bird",
    "<script>document.title = 'broken'</script>",
    "dog \"of\" <b>war</b> & 'peace'",
    "fish $x^2$ \U0001f41f",
    "frog",
    "horse, with a name that is a great deal longer than any column of a page is wide, and goes on",
)


def network():
    """Two towers, pixels [N, 224, 224, 3] -> logits of the classes."""
    return small_towers.network(len(NAMES), side=224)


def create(root: Path, pictures: int = 6) -> Run:
    """A run on class folders, with a history and two evaluations."""
    data = small_runs.folder(root / "data", NAMES, pictures)
    run = small_runs.create(root / 'a <run> & "more"', f"folder:{data}", NAMES, readable=READABLE)
    for number in range(1, 5):
        run.append_metrics(metrics(number))
    source = run.open_source()
    keys = [
        (example.key, NAMES[example.label])
        for example in source.pick("val", list(range(source.count("val"))))
    ]
    evaluate(run, "evaluation", keys, crops=1)
    evaluate(run, "evaluation-ten-crop", keys, crops=10)
    return run


def metrics(number: int) -> dict[str, float]:
    """The row of the evaluation of that number."""
    row = {"step": 10.0 * number, "epoch": number / 2, "seconds": 30.0 * number, "images_per_second": 80.0}
    row |= {"learning_rate": 0.1**number, "dead_conv1": 0.0, "dead_fc7": 0.01 * number}
    for split, factor in (("train", 1.1), ("val", 1.0)):
        row[f"{split}_loss"] = factor * 1.7 / number
        row[f"{split}_top1_error"] = factor * 0.8 / number
        row[f"{split}_top5_error"] = factor * 0.2 / number
    return row


def evaluate(
    run: Run,
    folder: str,
    keys: Sequence[tuple[str, str]],
    *,
    crops: int = 1,
    names: Sequence[str] = NAMES,
    predicted: Sequence[str] = (),
) -> None:
    """Writes what `evaluate` writes, as if each picture had been taken for `predicted`, or the next class."""
    out = run.workdir / folder
    out.mkdir()
    answers = predicted or [names[(names.index(true) + 1) % len(names)] for _, true in keys]
    wrong = sum(true != answer for (_, true), answer in zip(keys, answers, strict=True))
    summary = {
        "data": run.data.spec,
        "classes": len(names),
        "count": len(keys),
        "top1_error": wrong / len(keys),
        "top5_error": 0.0,
        "top1_wrong": wrong,
        "crops": crops,
        "checkpoint": "best",
        "steps": [40],
        "runs": 1,
    }
    (out / "summary.json").write_text(json.dumps(summary))
    with open(out / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "label", "class1", "score1"])
        for number, ((key, true), answer) in enumerate(zip(keys, answers, strict=True)):
            rows.writerow([key, true, answer, f"{0.5 + 0.4 * number / len(keys):.6g}"])
    with open(out / "per_class.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(CLASS_COLUMNS)
        for name in names:
            own = [answer for (_, true), answer in zip(keys, answers, strict=True) if true == name]
            missed = [answer for answer in own if answer != name]
            error = len(missed) / len(own) if own else ""
            rows.writerow([name, len(own), error, 0 if own else "", missed[0] if missed else "", len(missed)])
