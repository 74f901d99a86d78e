"""Method `report`: one HTML file about a run: recipe, training, errors, and what the network has learnt.

The file needs nothing but itself: pictures, charts and style are within. It opens offline, prints, fits a
phone and follows the reader's light or dark setting.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_tf import __version__
from alexnet_tf.evaluation.folders import describe_crops
from alexnet_tf.network import variants
from alexnet_tf.visualize import options
from alexnet_tf.visualize.report.html import Content, note, percent, render
from pipelines import progress
from pipelines.files import write_text

if TYPE_CHECKING:
    import keras

    from alexnet_tf.evaluation.report import SavedEvaluation
    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.pictures import Pictures


MOST_PICTURES, MOST_MISTAKES = 6, 12
FILE = "report.html"
PATHS = {"two_tower": "two towers", "merged": "one path, in two groups", "single": "one path"}

Metrics = Sequence[Mapping[str, float]]


class Gathered(NamedTuple):
    """Everything that the page shows, gathered before it is composed.

    Attributes:
      network: pixels -> logits.
      step: how many updates its weights have seen.
      warning: what the reader must know first; empty where all is well.
      metrics: rows of metrics.csv.
      evaluations: reports of `evaluate` in the run folder.
      shown: the pictures to explain, or in one line why there are none.
    """

    network: keras.Model
    step: int
    warning: str
    metrics: Sequence[Mapping[str, float]]
    evaluations: Sequence[SavedEvaluation]
    shown: Pictures | str

    @property
    def own(self) -> list[SavedEvaluation]:
        """Those of the network that is shown, by itself, on the run's validation pictures."""
        return [
            one
            for one in self.evaluations
            if one.of_run and one.summary["runs"] == 1 and one.summary["steps"] == [self.step]
        ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_image(parser, MOST_PICTURES)


def draw(run: Run, out: Path, *, image: Sequence[str] = ()) -> dict[str, Any]:
    """Writes report.html into an existing folder.

    Args:
      run: the run folder.
      out: the folder.
      image: files to explain; none takes pictures of the run's validation split.

    Returns:
      The file, its size in bytes, and the top-1 error of the network's first evaluation.

    Raises:
      UserError: more than six files, or one that is no picture.
    """
    gathered = gather(run, image)
    text = page(run, gathered)
    write_text(out / FILE, text)
    own = gathered.own
    return {
        "files": [str(out / FILE)],
        "bytes": len(text.encode()),
        "top1_error": own[0].summary["top1_error"] if own else None,
        "warning": gathered.warning,
    }


def gather(run: Run, image: Sequence[str] = ()) -> Gathered:
    """Reads the run folder and its pictures; sections whose data are gone are left out."""
    from alexnet_tf.evaluation.report import evaluations
    from alexnet_tf.visualize import network, pictures
    from pipelines.errors import DataError, UserError

    shown: Pictures | str
    try:
        shown = pictures.choose(run, image, MOST_PICTURES)
    except (UserError, DataError, OSError) as error:
        if image:
            raise
        shown = f"The run's pictures cannot be read: {error}"
    trained, warning = network.load_with_step(run)
    found = evaluations(run, MOST_MISTAKES)
    return Gathered(trained.network, trained.step, warning, run.read_metrics(), found, shown)


def page(run: Run, gathered: Gathered) -> str:
    """The whole document."""
    return render(
        "page.html",
        name=run.workdir.absolute().name,
        summary=_summary(run, gathered.network.count_params(), gathered.metrics),
        headline=_headline(gathered.metrics, gathered.own),
        warning=gathered.warning,
        sections=_sections(run, gathered),
        version=__version__,
        workdir=run.workdir,
    )


def _sections(run: Run, gathered: Gathered) -> dict[str, Content]:
    """Contents by title, in the order of the page."""
    from alexnet_tf.visualize.report import curves, explained, sections

    network, found, shown = gathered.network, gathered.evaluations, gathered.shown
    if isinstance(shown, str):
        maps = near = note(shown)
    else:
        with progress.phase("the report: explaining pictures"):
            maps = explained.explanations(run, network, shown)
        # The features of weights that are soon gone are not worth an index of the whole training set.
        near = (
            note("Neighbours are looked up once the run has a checkpoint.")
            if gathered.warning
            else explained.neighbours(run, network, shown)
        )
    return {
        "Recipe": sections.recipe(run),
        "Training": curves.section(gathered.metrics, len(run.class_names)),
        "Errors": sections.errors(run, found),
        "Confusion": sections.confusion(run, found),
        "Worst mistakes": sections.mistakes(run, found),
        "First kernels": sections.kernels(run, network),
        "Towers": explained.towers(run, network),
        "Explanations": maps,
        "Neighbours": near,
    }


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


def _headline(metrics: Metrics, own: Sequence[SavedEvaluation]) -> list[tuple[str, str]]:
    """The errors that a reader looks for first, of at most two evaluations of the network that is shown."""
    figures = []
    for one in own[:2]:
        crops = describe_crops(one.summary)
        figures.append((f"top-1 error, {crops}", percent(one.summary["top1_error"], 2)))
        if one.summary["top5_error"] is not None:
            figures.append((f"top-5 error, {crops}", percent(one.summary["top5_error"], 2)))
    known = [row["val_top1_error"] for row in metrics if math.isfinite(row.get("val_top1_error", math.nan))]
    if not figures and known:
        figures.append(("top-1 error, during training", percent(min(known), 2)))
    return figures
