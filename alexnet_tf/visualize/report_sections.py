"""The report's sections of words and numbers: what was trained, how it went, and where it errs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_tf.run_record import Run
from alexnet_tf.visualize import report_charts, report_recipe
from alexnet_tf.visualize.report_charts import Level, Line, percentage
from alexnet_tf.visualize.report_html import Html, code, element, figure, join, paragraph, scrolling, table
from alexnet_tf.visualize.report_numbers import ClassErrors, Evaluation

# Up to so many classes the confusion is a matrix; of more, the pairs most often confused are listed.
MOST_IN_MATRIX, MOST_CLASSES, MOST_PAIRS = 25, 20, 20
FIRST, SECOND = "var(--first)", "var(--second)"
NOT_EVALUATED = "No evaluation lies in the run folder yet. This writes one: "

Metrics = Sequence[Mapping[str, float]]


def recipe(run: Run) -> Html:
    """Where the run departs from the paper, and the machine."""
    differing = report_recipe.departures(run.recipe)
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
    everything = _settings(report_recipe.settings(run.recipe), "The whole recipe")
    parts.append(element("details", element("summary", "The whole recipe"), everything))
    parts.append(element("h3", "Environment"))
    parts.append(_environment(run.environment))
    return join(parts)


def _settings(rows: Sequence[report_recipe.Departure], caption: str) -> Html:
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
    )


def _environment(environment: Mapping[str, Any]) -> Html:
    """Versions, machine and command, as far as they were written down."""
    packages = environment.get("packages", {})
    software = ", ".join(f"{name} {version}" for name, version in packages.items())
    processors = environment.get("processors", "unknown")
    rows = (
        ("started", environment.get("started", "unknown")),
        ("machine", f"{environment.get('platform', 'unknown')}, {processors} processors"),
        ("software", f"Python {environment.get('python', 'unknown')}, {software}"),
        ("command", code(str(environment.get("command", "unknown")))),
    )
    return element(
        "dl",
        *(part for name, value in rows for part in (element("dt", name), element("dd", value))),
        class_="facts",
    )


def curves(metrics: Metrics, classes: int) -> Html:
    """Loss, error, rate, speed and dead units over the epochs."""
    if not metrics:
        return paragraph("The run has no evaluation yet: there is nothing to draw.")

    def column(name: str, factor: float = 1.0) -> list[float]:
        return [factor * row.get(name, math.nan) for row in metrics]

    epochs = column("epoch")
    guess = Level(math.log(classes), f"guessing: ln {classes}")
    both = (("training", SECOND, "train"), ("validation", FIRST, "val"))
    loss = [Line(name, colour, column(f"{split}_loss")) for name, colour, split in both]
    error = [Line(name, colour, column(f"{split}_top1_error", 100.0)) for name, colour, split in both]
    dead = [name for name in metrics[0] if name.startswith("dead_")]
    shades = [
        Line(name.removeprefix("dead_"), _shade(number, len(dead)), column(name, 100.0))
        for number, name in enumerate(dead)
    ]
    charts = [
        report_charts.lines("loss", epochs, loss, level=guess),
        report_charts.lines("top-1 error, per cent", epochs, error),
        report_charts.lines("learning rate", epochs, [Line("", FIRST, column("learning_rate"))], log=True),
        report_charts.lines("pictures per second", epochs, [Line("", FIRST, column("images_per_second"))]),
    ]
    if dead:
        charts.append(report_charts.lines("units that never fire, per cent", epochs, shades, least=5.0))
    best = min(metrics, key=_error)
    caption = ""
    if math.isfinite(_error(best)):
        caption = (
            f"The best validation error is {percentage(_error(best), 2)}, at epoch {best['epoch']:.4g}. "
        )
    caption += (
        "Training errors are those of augmented pictures under dropout, measured as the weights change."
    )
    return figure(element("div", *charts, class_="charts"), caption)


def _error(row: Mapping[str, float]) -> float:
    """A row's validation error; what is not known is worse than all."""
    error = row.get("val_top1_error", math.nan)
    return error if math.isfinite(error) else math.inf


def _shade(number: int, count: int) -> str:
    """From light for the first layer to dark for the last."""
    return f"color-mix(in oklab, var(--deep) {100 * number // max(count - 1, 1)}%, var(--shallow))"


def errors(run: Run, found: Sequence[Evaluation]) -> Html:
    """What each evaluation measured, and the classes that fare worst."""
    if not found:
        command = f"python -m alexnet_tf.evaluate --workdir {run.workdir}"
        return paragraph(NOT_EVALUATED, code(command))
    rows = [
        (
            one.protocol,
            percentage(one.summary["top1_error"], 2),
            percentage(one.summary["top5_error"], 2),
            f"{one.summary['count']:,}",
            one.summary["data"],
        )
        for one in found
    ]
    head = ("protocol", "top-1 error", "top-5 error", "pictures", "data")
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
            row.name,
            f"{row.count:,}",
            _meter(row.top1_error, largest),
            percentage(row.top1_error),
            percentage(row.top5_error),
            _confused(row),
        )
        for row in shown
    ]
    head = ("class", "pictures", "", "top-1 error", "top-5 error", "most often taken for")
    of = f"The {len(shown)} of {len(classes):,} classes" if len(shown) < len(classes) else "The classes"
    return table(head, rows, f"{of} with the largest error first; {protocol}", numbers=(1, 3, 4))


def _meter(share: float, largest: float) -> Html:
    width = 100 * share / largest if largest and math.isfinite(share) else 0.0
    return element("span", element("i", style=f"width:{width:.1f}%"), class_="meter", aria_hidden="true")


def _confused(row: ClassErrors) -> str:
    return f"{row.confused_with} ({row.confused_count})" if row.confused_count else "–"


def confusion(run: Run, found: Sequence[Evaluation]) -> Html:
    """Which classes are taken for which: all of them, or of many the pairs most often confused."""
    if not found:
        return paragraph(NOT_EVALUATED, code(f"python -m alexnet_tf.evaluate --workdir {run.workdir}"))
    one = found[0]
    totals = {row.name: row.count for row in one.classes}
    wrong = {pair: count for pair, count in one.pairs.items() if pair[0] != pair[1]}
    order = sorted(wrong, key=lambda pair: (-wrong[pair] / max(totals.get(pair[0], 1), 1), pair))
    if not order:
        return paragraph("No class was taken for another.")
    if len(totals) <= MOST_IN_MATRIX:
        return _matrix(one, totals)
    rows = [
        (
            true,
            predicted,
            f"{wrong[true, predicted]:,}",
            percentage(wrong[true, predicted] / max(totals.get(true, 1), 1)),
        )
        for true, predicted in order[:MOST_PAIRS]
    ]
    caption = f"The pairs most often confused, by share of the true class; {one.protocol}"
    return table(("true class", "taken for", "pictures", "share"), rows, caption, numbers=(2, 3))


def _matrix(one: Evaluation, totals: Mapping[str, int]) -> Html:
    """The confusion matrix in per cent of the true class, darker the larger."""

    def cell(true: str, predicted: str) -> Html:
        share = one.pairs.get((true, predicted), 0) / max(totals[true], 1)
        if not share:
            return element("td")
        kind = "right" if true == predicted else "wrong"
        said = f"{true} taken for {predicted}: {percentage(share)}"
        tone = "strong" if share > 0.5 else None
        classes = f"{kind} {tone}" if tone else kind
        return element("td", f"{100 * share:.3g}", style=f"--share:{share:.3f}", class_=classes, title=said)

    names = list(totals)
    corner = element("td", class_="corner")
    head = [element("th", element("span", name), scope="col") for name in names]
    body = [
        element("tr", element("th", name, scope="row"), *(cell(name, other) for other in names))
        for name in names
    ]
    inner = element(
        "table", element("thead", element("tr", corner, *head)), element("tbody", *body), class_="matrix"
    )
    caption = (
        "Confusion in per cent of the true class: a row is the true class, a column what it was taken for; "
        f"{one.protocol}."
    )
    return figure(scrolling(inner, "the confusion matrix"), caption)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
