"""The report's sections on recipe, errors, confusion, the worst mistakes and the first kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.evaluation.report import SavedClassErrors, SavedEvaluation
from alexnet_tf.figures import text
from alexnet_tf.figures.kernels import tile, tower_labels, unit_kernels
from alexnet_tf.recipe import departures, settings
from alexnet_tf.run_record import Run
from alexnet_tf.visualize.report.html import Content, Picture, embed, note, percent
from pipelines.errors import DataError, UserError

if TYPE_CHECKING:
    import keras


# Up to so many classes the confusion is a matrix; of more, the pairs most often confused are listed.
MOST_IN_MATRIX, MOST_CLASSES, MOST_PAIRS = 25, 20, 20
# The first kernels: how many stand in a row, and screen pixels for one weight.
COLUMNS, MAGNIFICATION = 12, 3


def recipe(run: Run) -> Content:
    """The fields in which the run departs from the paper, and the machine that it ran on."""
    return Content(
        "recipe.html",
        {
            "name": run.recipe.name,
            "departures": departures(run.recipe),
            "settings": settings(run.recipe),
            "environment": _environment(run.environment),
        },
    )


def _environment(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions, machine and command by name, as far as they were written down."""
    packages = environment.get("packages", {})
    software = ", ".join(f"{name} {version}" for name, version in packages.items())
    processors = environment.get("processors", "unknown")
    return [
        ("started", str(environment.get("started", "unknown")).replace("T", " ")),
        ("machine", f"{environment.get('platform', 'unknown')}, {processors} processors"),
        ("software", f"Python {environment.get('python', 'unknown')}, {software}"),
        ("command", str(environment.get("command", "unknown"))),
        *_chosen_precision(environment.get("precision")),
    ]


def _chosen_precision(measured: Any) -> list[tuple[str, str]]:
    """The measurement that decided `precision=auto`; nothing where the recipe names a precision."""
    if not isinstance(measured, dict) or measured.get("asked") != "auto":
        return []
    return [("precision", f"auto; bfloat16 was measured {measured.get('bfloat16_speedup')} times as fast")]


def errors(run: Run, evaluations: Sequence[SavedEvaluation]) -> Content:
    """The errors of each evaluation, and the classes with the largest ones."""
    if not evaluations:
        return _not_evaluated(run)
    protocols = [
        {
            "protocol": one.protocol,
            **{name: one.summary[name] for name in ("top1_error", "top5_error", "count")},
        }
        for one in evaluations
    ]
    classes = evaluations[0].classes
    worst = sorted(classes, key=lambda row: -row.top1_error if math.isfinite(row.top1_error) else math.inf)
    worst = worst[:MOST_CLASSES]
    of = f"The {len(worst)} of {len(classes):,} classes" if len(worst) < len(classes) else "The classes"
    return Content(
        "errors.html",
        {
            "protocols": protocols,
            "classes": list(zip(worst, _bar_widths(worst), strict=True)),
            "caption": f"{of} with the largest error first; {evaluations[0].protocol}",
        },
    )


def _bar_widths(rows: Sequence[SavedClassErrors]) -> list[float]:
    """For each class the length of its bar, in per cent of that of the largest error."""
    errors = [row.top1_error if math.isfinite(row.top1_error) else 0.0 for row in rows]
    largest = max(errors, default=0.0)
    return [100 * error / largest if largest else 0.0 for error in errors]


def confusion(run: Run, evaluations: Sequence[SavedEvaluation]) -> Content:
    """Which classes are taken for which: all of them, or of many the pairs most often confused."""
    if not evaluations:
        return _not_evaluated(run)
    one = evaluations[0]
    rows = {row.identifier: row for row in one.classes}
    wrong = {pair: count for pair, count in one.pairs.items() if pair[0] != pair[1]}
    if not wrong:
        return note("No class was taken for another.")
    if len(rows) <= MOST_IN_MATRIX:
        return _matrix(one)
    shares = {pair: count / rows[pair[0]].examples for pair, count in wrong.items()}
    pairs = [
        {
            "true_name": rows[true].name,
            "predicted_name": rows[predicted].name,
            "count": wrong[true, predicted],
            "share": shares[true, predicted],
        }
        for true, predicted in sorted(wrong, key=lambda pair: (-shares[pair], -wrong[pair]))[:MOST_PAIRS]
    ]
    caption = f"The pairs most often confused, by share of the true class; {one.protocol}"
    return Content("pairs.html", {"pairs": pairs, "caption": caption})


def _matrix(one: SavedEvaluation) -> Content:
    """The confusion matrix in per cent of the true class, darker the larger."""

    def cell(true: SavedClassErrors, predicted: SavedClassErrors) -> dict[str, Any] | None:
        count = one.pairs.get((true.identifier, predicted.identifier), 0)
        if not count:
            return None
        share = count / true.examples
        words = f"{true.name} taken for {predicted.name}: {percent(share)}"
        return {"share": share, "kind": "right" if true is predicted else "wrong", "words": words}

    rows = [(true.name, [cell(true, other) for other in one.classes]) for true in one.classes]
    caption = (
        "Confusion in per cent of the true class: a row is the true class, a column what it was taken for; "
        f"{one.protocol}."
    )
    names = [row.name for row in one.classes]
    return Content("matrix.html", {"names": names, "rows": rows, "caption": caption})


def _not_evaluated(run: Run) -> Content:
    return note(
        "No evaluation lies in the run folder yet. This writes one: ",
        f"python -m alexnet_tf.evaluate --workdir {run.workdir}",
    )


def kernels(run: Run, network: keras.Model) -> Content:
    """conv1's kernels by tower, as in figure 3 of the paper."""
    from alexnet_tf import model

    own = model.conv1_kernels(network)
    labels = tower_labels(run.recipe.variant)
    towers = []
    for label, stack in zip(labels, np.split(unit_kernels(own), len(labels)), strict=True):
        name = label or "conv1"
        towers.append((name, embed(_tiled(stack), f"{len(stack)} kernels of {name}", lossless=True)))
    side, count = own.shape[0], own.shape[-1]
    caption = text.minus(
        f"The {count} kernels of conv1, {side} × {side} × 3 weights each, all scaled together: the "
        f"smallest weight ({own.min():.2g}) is black, the largest ({own.max():.2g}) white."
    )
    return Content("kernels.html", {"towers": towers, "caption": caption})


def _tiled(stack: np.ndarray) -> np.ndarray:
    """Kernels as one picture uint8 [H, W, 4], the room between them transparent."""
    colours = tile(stack, COLUMNS, MAGNIFICATION)
    room = tile(np.zeros_like(stack), COLUMNS, MAGNIFICATION)[..., :1]
    return np.concatenate([colours, 255 - room], axis=-1)


def mistakes(run: Run, evaluations: Sequence[SavedEvaluation]) -> Content:
    """The mistakes that the network was surest of, with the pictures where they can be had."""
    own = evaluations[0] if evaluations else None
    if own is None:
        return note("No evaluation lies in the run folder yet, so that no mistake is known.")
    if not own.mistakes:
        return note("Not one picture was taken for another class.")
    caption = (
        f"The {len(own.mistakes)} mistakes that the network was surest of, of {own.summary['top1_wrong']}; "
        f"{own.protocol}."
    )
    pictures = _pictures_of(run, own) if own.of_run else []
    return Content("mistakes.html", {"mistakes": own.mistakes, "pictures": pictures, "caption": caption})


def _pictures_of(run: Run, own: SavedEvaluation) -> list[Picture]:
    """The crops of the mistakes; none where the data are gone or others."""
    from alexnet_tf.visualize import pictures

    try:
        picked = pictures.from_places(run, "val", [mistake.position for mistake in own.mistakes])
    except (UserError, DataError, OSError, IndexError):
        return []
    if list(picked.keys) != [mistake.key for mistake in own.mistakes]:
        return []
    return [
        embed(image, f"A picture of {mistake.true_name}, taken for {mistake.predicted_name}")
        for image, mistake in zip(picked.images, own.mistakes, strict=True)
    ]
