"""Method `report`: one HTML file that says what a run is, how it went, how well it does and what it learnt.

The file needs nothing but itself: pictures, charts and style are within. It opens offline, prints, fits a
phone and follows the reader's light or dark setting.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_tf.run_record import write_text
from alexnet_tf.visualize import options
from pipelines import progress

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.pictures import Pictures
    from alexnet_tf.visualize.report_html import Html
    from alexnet_tf.visualize.report_numbers import Evaluation

MOST_PICTURES, MOST_MISTAKES = 6, 12
FILE = "report.html"


class Gathered(NamedTuple):
    """What the page is made of.

    Attributes:
      network: pixels -> logits.
      warning: what the reader must know first; empty where all is well.
      metrics: rows of metrics.csv.
      evaluations: reports of `evaluate` in the run folder.
      shown: the pictures to explain, or in one line why there are none.
    """

    network: keras.Model
    warning: str
    metrics: Sequence[Mapping[str, float]]
    evaluations: Sequence[Evaluation]
    shown: Pictures | str


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
      The file, its size in bytes, and the top-1 error of the first evaluation.

    Raises:
      UserError: more than six files, or one that is no picture.
    """
    gathered = gather(run, image)
    text = page(run, gathered)
    write_text(out / FILE, text)
    return {
        "files": [str(out / FILE)],
        "bytes": len(text.encode()),
        "top1_error": gathered.evaluations[0].summary["top1_error"] if gathered.evaluations else None,
        "warning": gathered.warning,
    }


def gather(run: Run, image: Sequence[str] = ()) -> Gathered:
    """Reads the run folder and its pictures; data that are gone leave out what needs them."""
    from alexnet_tf.visualize import network, pictures, report_numbers
    from pipelines.errors import DataError, UserError

    shown: Pictures | str
    try:
        shown = pictures.choose(run, image, MOST_PICTURES)
    except (UserError, DataError, OSError) as error:
        if image:
            raise
        shown = f"The run's pictures cannot be read: {error}"
    trained, warning = network.load(run)
    found = report_numbers.evaluations(run, MOST_MISTAKES)
    return Gathered(trained, warning, run.read_metrics(), found, shown)


def page(run: Run, gathered: Gathered) -> Html:
    """The whole document."""
    from alexnet_tf.visualize import report_html as html
    from alexnet_tf.visualize import report_opening

    sections = _sections(run, gathered)
    links = [
        html.element("li", html.element("a", title, href=f"#section-{number}"))
        for number, title in enumerate(sections, 1)
    ]
    bodies = [
        html.element("section", html.element("h2", title), body, id=f"section-{number}")
        for number, (title, body) in enumerate(sections.items(), 1)
    ]
    warning = html.paragraph(gathered.warning, class_="warning") if gathered.warning else html.Html("")
    name = run.workdir.absolute().name
    body = html.join(
        [
            report_opening.header(run, name, gathered.network, gathered.metrics, gathered.evaluations),
            warning,
            html.element("nav", html.element("ol", *links), aria_label="Contents"),
            html.element("main", *bodies),
            report_opening.footer(run),
        ]
    )
    return html.page(f"{name}: report", body)


def _sections(run: Run, gathered: Gathered) -> dict[str, Html]:
    """Titles and bodies, in the order of the page."""
    from alexnet_tf.visualize import (
        report_curves,
        report_explained,
        report_html,
        report_pictures,
        report_sections,
    )

    network, found, shown = gathered.network, gathered.evaluations, gathered.shown
    if isinstance(shown, str):
        explained = near = report_html.paragraph(shown)
    else:
        with progress.phase("the report: explaining pictures"):
            explained = report_explained.explanations(run, network, shown)
        # The features of weights that are soon gone are not worth an index of the whole training set.
        near = (
            report_html.paragraph("Neighbours are looked up once the run has a checkpoint.")
            if gathered.warning
            else report_explained.neighbours(run, network, shown)
        )
    return {
        "Recipe": report_sections.recipe(run),
        "Training": report_curves.section(gathered.metrics, len(run.class_names)),
        "Errors": report_sections.errors(run, found),
        "Confusion": report_sections.confusion(run, found),
        "Worst mistakes": report_pictures.mistakes(run, found),
        "First kernels": report_pictures.kernels(run, network),
        "Towers": report_explained.towers(run, network),
        "Explanations": explained,
        "Neighbours": near,
    }
