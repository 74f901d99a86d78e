"""The report's first lines, which say the whole in a few words, and its last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from alexnet_tf import __version__, variants
from alexnet_tf.visualize.report_charts import percentage
from alexnet_tf.visualize.report_html import Html, command, element, paragraph
from alexnet_tf.visualize.report_numbers import Evaluation

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run

PATHS = {"two_tower": "two towers", "merged": "one path, in two groups", "single": "one path"}

Metrics = Sequence[Mapping[str, float]]


def header(run: Run, name: str, network: keras.Model, metrics: Metrics, found: Sequence[Evaluation]) -> Html:
    """Name, summary and headline figures.

    Args:
      run: the run folder.
      name: what the page calls it.
      network: whose weights are counted.
      metrics: rows of metrics.csv.
      found: the reports of `evaluate`, the plainest first.
    """
    figures = [
        element("div", element("dt", label), element("dd", value))
        for label, value in _figures(metrics, found)
    ]
    return element(
        "header",
        element("p", "AlexNet · report on a training run", class_="eyebrow"),
        element("h1", name),
        paragraph(_summary(run, network.count_params(), metrics), class_="lead"),
        *([element("dl", *figures, class_="headline")] if figures else []),
    )


def footer(run: Run) -> Html:
    """How the report was made, and how to make it again."""
    return element(
        "footer",
        paragraph(
            f"Written by alexnet-tf {__version__}. “The paper” is Krizhevsky, Sutskever and Hinton, ImageNet "
            "Classification with Deep Convolutional Neural Networks (2012). To write this page anew:"
        ),
        paragraph(
            command(f"python -m alexnet_tf.visualize report --workdir {run.workdir} --out {run.workdir}")
        ),
    )


def _summary(run: Run, parameters: int, metrics: Metrics) -> str:
    recipe, data = run.recipe, run.data
    arch = variants.get(recipe.variant)
    data_name = "the built-in pictures" if data.kind == "synthetic" else data.spec
    verb = "trained" if metrics else "to be trained"
    text = (
        f"The network “{recipe.variant}” ({PATHS[arch.layout]}, {parameters:,} parameters), {verb} on "
        f"{run.stats.count:,} pictures of {len(run.class_names):,} classes ({data_name}) after recipe "
        f"“{recipe.name}”"
    )
    if not metrics:
        return f"{text}; it has no evaluation yet."
    last = metrics[-1]
    seconds = last.get("seconds", math.nan)
    duration = f" in {_duration(seconds)}" if math.isfinite(seconds) else ""
    return f"{text}, for {last['epoch']:.4g} epochs or {last['step']:,.0f} steps{duration}."


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _figures(metrics: Metrics, found: Sequence[Evaluation]) -> list[tuple[str, str]]:
    """The errors that a reader looks for first, of at most two evaluations."""
    figures = []
    for one in [one for one in found if one.summary["runs"] == 1][:2]:
        crops = "centre crop" if one.summary["crops"] == 1 else "ten crops"
        figures.append((f"top-1 error, {crops}", percentage(one.summary["top1_error"], 2)))
        if one.summary["top5_error"] is not None:
            figures.append((f"top-5 error, {crops}", percentage(one.summary["top5_error"], 2)))
    known = [row["val_top1_error"] for row in metrics if math.isfinite(row.get("val_top1_error", math.nan))]
    if not figures and known:
        figures.append(("top-1 error, during training", percentage(min(known), 2)))
    return figures
