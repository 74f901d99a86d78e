"""The report's sections of pictures: the first kernels, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from alexnet_tf.visualize import filters
from alexnet_tf.visualize.report_charts import percentage
from alexnet_tf.visualize.report_html import Html, clipped, element, figure, image, paragraph, table
from alexnet_tf.visualize.report_numbers import Evaluation, Mistake
from pipelines.errors import DataError, UserError

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run

COLUMNS, MAGNIFICATION = 12, 3


def kernels(run: Run, network: keras.Model) -> Html:
    """conv1's kernels by tower, as in figure 3 of the paper."""
    from alexnet_tf import model

    own = model.conv1_kernels(network)
    labels = filters.tower_labels(run.recipe.variant)
    stacks = np.split(filters.unit_kernels(own), len(labels))
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
    colours = filters.tile(stack, COLUMNS, MAGNIFICATION)
    room = filters.tile(np.zeros_like(stack), COLUMNS, MAGNIFICATION)[..., :1]
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
