"""The report's sections on what was trained, where it errs, the first kernels and the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.evaluation.report import ClassErrors, Evaluation, Mistake
from alexnet_tf.figures.kernels import tile, tower_labels, unit_kernels
from alexnet_tf.recipe import Departure, departures, settings
from alexnet_tf.run_record import Run
from alexnet_tf.visualize.report.charts import percentage
from alexnet_tf.visualize.report.html import (
    Html,
    clipped,
    code,
    command,
    element,
    figure,
    image,
    join,
    paragraph,
    scrolling,
    table,
)
from pipelines.errors import DataError, UserError

if TYPE_CHECKING:
    import keras


# Up to so many classes the confusion is a matrix; of more, the pairs most often confused are listed.
MOST_IN_MATRIX, MOST_CLASSES, MOST_PAIRS = 25, 20, 20
# The first kernels: how many stand in a row, and screen pixels for one weight.
COLUMNS, MAGNIFICATION = 12, 3


def recipe(run: Run) -> Html:
    """Where the run departs from the paper, and the machine."""
    differing = departures(run.recipe)
    if differing:
        said = paragraph(
            "Recipe ",
            code(run.recipe.name),
            f" departs from the paper in {_count(len(differing), 'field')}; "
            "everything else is the text of 2012. How often a run reports and saves is left out.",
        )
    else:
        said = paragraph("Every field is the paper's: nothing departs from the text of 2012.")
    parts = [said]
    if differing:
        parts.append(_settings(differing, "Departures from the paper"))
    everything = _settings(settings(run.recipe), "The whole recipe")
    parts.append(element("details", element("summary", "The whole recipe"), everything))
    parts.append(element("h3", "Environment"))
    parts.append(_environment(run.environment))
    return join(parts)


def _settings(rows: Sequence[Departure], caption: str) -> Html:
    return table(
        ("field", "paper", "this run", "meaning"),
        [
            (
                code(row.field),
                row.paper,
                element("b", row.here) if row.here != row.paper else row.here,
                row.meaning,
            )
            for row in rows
        ],
        caption,
        class_="settings",
    )


def _environment(environment: Mapping[str, Any]) -> Html:
    """Versions, machine and command, as far as they were written down."""
    packages = environment.get("packages", {})
    software = ", ".join(f"{name} {version}" for name, version in packages.items())
    processors = environment.get("processors", "unknown")
    rows = (
        ("started", str(environment.get("started", "unknown")).replace("T", " ")),
        ("machine", f"{environment.get('platform', 'unknown')}, {processors} processors"),
        ("software", f"Python {environment.get('python', 'unknown')}, {software}"),
        ("command", command(str(environment.get("command", "unknown")))),
        *_chosen_precision(environment.get("precision")),
    )
    return element(
        "dl",
        *(part for name, value in rows for part in (element("dt", name), element("dd", value))),
        class_="facts",
    )


def _chosen_precision(measured: Any) -> list[tuple[str, str]]:
    """What `precision=auto` was decided by; nothing where nobody left it open."""
    if not isinstance(measured, dict) or measured.get("asked") != "auto":
        return []
    return [("precision", f"auto; bfloat16 was measured {measured.get('bfloat16_speedup')} times as fast")]


def errors(run: Run, found: Sequence[Evaluation]) -> Html:
    """What each evaluation measured, and the classes that fare worst."""
    if not found:
        return _not_evaluated(run)
    rows = [
        (
            one.protocol + ("" if one.summary["data"] == run.data.spec else f", data {one.summary['data']}"),
            percentage(one.summary["top1_error"], 2),
            percentage(one.summary["top5_error"], 2),
            f"{one.summary['count']:,}",
        )
        for one in found
    ]
    head = ("protocol", "top-1 error", "top-5 error", "pictures")
    parts = [table(head, rows, "Errors on validation pictures", numbers=(1, 2, 3))]
    classes = found[0].classes
    if classes:
        parts.append(_class_table(classes, found[0].protocol))
    return join(parts)


def _class_table(classes: Sequence[ClassErrors], protocol: str) -> Html:
    """A row a class, the worst first; of many only the worst."""
    order = sorted(classes, key=lambda row: -row.top1_error if math.isfinite(row.top1_error) else math.inf)
    shown = order[:MOST_CLASSES]
    largest = max((row.top1_error for row in shown if math.isfinite(row.top1_error)), default=0.0)
    rows = [
        (
            clipped(row.name),
            f"{row.examples:,}",
            _meter(row.top1_error, largest),
            percentage(row.top1_error),
            percentage(row.top5_error),
            _confused(row),
        )
        for row in shown
    ]
    gap = element("span", class_="meter")
    head = ("class", "pictures", gap, "top-1 error", "top-5 error", "most often taken for")
    of = f"The {len(shown)} of {len(classes):,} classes" if len(shown) < len(classes) else "The classes"
    return table(head, rows, f"{of} with the largest error first; {protocol}", numbers=(1, 3, 4))


def _meter(share: float, largest: float) -> Html:
    width = 100 * share / largest if largest and math.isfinite(share) else 0.0
    return element("span", element("i", style=f"width:{width:.1f}%"), class_="meter", aria_hidden="true")


def _confused(row: ClassErrors) -> Html | str:
    return clipped(f"{row.confused_with} ({row.confused_count})") if row.confused_count else "–"


def confusion(run: Run, found: Sequence[Evaluation]) -> Html:
    """Which classes are taken for which: all of them, or of many the pairs most often confused."""
    if not found:
        return _not_evaluated(run)
    one = found[0]
    rows = {row.identifier: row for row in one.classes}
    wrong = {pair: count for pair, count in one.pairs.items() if pair[0] != pair[1]}
    if not wrong:
        return paragraph("No class was taken for another.")
    if len(rows) <= MOST_IN_MATRIX:
        return _matrix(one)
    shares = {pair: count / rows[pair[0]].examples for pair, count in wrong.items()}
    cells = [
        (
            clipped(rows[true].name),
            clipped(rows[predicted].name),
            f"{wrong[true, predicted]:,}",
            percentage(shares[true, predicted]),
        )
        for true, predicted in sorted(wrong, key=lambda pair: (-shares[pair], -wrong[pair]))[:MOST_PAIRS]
    ]
    caption = f"The pairs most often confused, by share of the true class; {one.protocol}"
    return table(("true class", "taken for", "pictures", "share"), cells, caption, numbers=(2, 3))


def _matrix(one: Evaluation) -> Html:
    """The confusion matrix in per cent of the true class, darker the larger."""

    def cell(true: ClassErrors, predicted: ClassErrors) -> Html:
        count = one.pairs.get((true.identifier, predicted.identifier), 0)
        if not count:
            return element("td")
        share = count / true.examples
        kind = "right" if true is predicted else "wrong"
        said = f"{true.name} taken for {predicted.name}: {percentage(share)}"
        tone = "strong" if share > 0.5 else None
        classes = f"{kind} {tone}" if tone else kind
        return element("td", f"{100 * share:.3g}", style=f"--share:{share:.3f}", class_=classes, title=said)

    corner = element("td", class_="corner")
    head = [element("th", element("span", row.name), scope="col") for row in one.classes]
    body = [
        element("tr", element("th", row.name, scope="row"), *(cell(row, other) for other in one.classes))
        for row in one.classes
    ]
    inner = element(
        "table", element("thead", element("tr", corner, *head)), element("tbody", *body), class_="matrix"
    )
    caption = (
        "Confusion in per cent of the true class: a row is the true class, a column what it was taken for; "
        f"{one.protocol}."
    )
    return figure(scrolling(inner, "the confusion matrix"), caption)


def _not_evaluated(run: Run) -> Html:
    return paragraph(
        "No evaluation lies in the run folder yet. This writes one: ",
        command(f"python -m alexnet_tf.evaluate --workdir {run.workdir}"),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def kernels(run: Run, network: keras.Model) -> Html:
    """conv1's kernels by tower, as in figure 3 of the paper."""
    from alexnet_tf import model

    own = model.conv1_kernels(network)
    labels = tower_labels(run.recipe.variant)
    stacks = np.split(unit_kernels(own), len(labels))
    blocks = [
        element(
            "div",
            element("h3", label or "conv1"),
            image(
                _tiled(stack), f"{len(stack)} kernels of {label or 'conv1'}", class_="kernels", lossless=True
            ),
        )
        for label, stack in zip(labels, stacks, strict=True)
    ]
    side, count = own.shape[0], own.shape[-1]
    caption = (
        f"The {count} kernels of conv1, {side} × {side} × 3 weights each, all scaled together: the "
        f"smallest weight ({own.min():.2g}) is black, the largest ({own.max():.2g}) white."
    ).replace("-", "\N{MINUS SIGN}")
    return figure(element("div", *blocks, class_="towers"), caption)


def _tiled(stack: np.ndarray) -> np.ndarray:
    """Kernels as one picture uint8 [H, W, 4], the room between them transparent."""
    colours = tile(stack, COLUMNS, MAGNIFICATION)
    room = tile(np.zeros_like(stack), COLUMNS, MAGNIFICATION)[..., :1]
    return np.concatenate([colours, 255 - room], axis=-1)


def mistakes(run: Run, found: Sequence[Evaluation]) -> Html:
    """The mistakes that the network was surest of, with the pictures where they can be had."""
    own = next((one for one in found if one.summary["data"] == run.data.spec), found[0] if found else None)
    if own is None:
        return paragraph("No evaluation lies in the run folder yet, so that no mistake is known.")
    if not own.mistakes:
        return paragraph("Not one picture was taken for another class.")
    caption = (
        f"The {len(own.mistakes)} mistakes that the network was surest of, of {own.summary['top1_wrong']}; "
        f"{own.protocol}."
    )
    shown = _pictures_of(run, own) if own.summary["data"] == run.data.spec else None
    if shown is None:
        rows = [
            (clipped(m.true_name), clipped(m.predicted_name), percentage(m.probability), m.key)
            for m in own.mistakes
        ]
        return table(("true class", "taken for", "probability", "picture"), rows, caption, numbers=(2,))
    cells = [_mistake(picture, mistake) for picture, mistake in zip(shown, own.mistakes, strict=True)]
    return figure(element("div", *cells, class_="mistakes"), caption)


def _pictures_of(run: Run, own: Evaluation) -> np.ndarray | None:
    """The crops of the mistakes, uint8 [N, S, S, 3]; None where the data are gone or others."""
    from alexnet_tf.visualize import pictures

    try:
        picked = pictures.from_places(run, "val", [mistake.position for mistake in own.mistakes])
    except (UserError, DataError, OSError, IndexError):
        return None
    same = list(picked.keys) == [mistake.key for mistake in own.mistakes]
    return picked.images if same else None


def _mistake(picture: np.ndarray, mistake: Mistake) -> Html:
    said = f"A picture of {mistake.true_name}, taken for {mistake.predicted_name}"
    return element(
        "figure",
        image(picture, said),
        element(
            "figcaption",
            element("b", clipped(mistake.true_name)),
            element("span", clipped(f"taken for {mistake.predicted_name}"), class_="wrong"),
            element("span", percentage(mistake.probability)),
            title=mistake.key,
        ),
    )
