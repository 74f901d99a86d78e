"""The common look of the figures, and functions that write a file completely or not at all."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.figures import fonts
from pipelines.files import replacing

if TYPE_CHECKING:
    from alexnet_tf.run_record import Run

DPI = 100
INK, MUTED, RULE, PAGE = "#1f2933", "#6b7785", "#dfe4ea", "#ffffff"
# Two lines that a colour-blind reader and a grey print keep apart.
FIRST, SECOND = "#2463a8", "#e07b39"
# Figure 4 of the paper: the correct class in pink, the others in light blue.
CORRECT, OTHER, TRACK = "#f2a0b5", "#b4d3ee", "#f2f5f8"
WARNING_INK, WARNING_PAGE = "#8a4b00", "#fff4de"

_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.color": INK,
    "text.parse_math": False,  # names are text, whatever dollar signs they hold
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": PAGE,
    "figure.dpi": DPI,
    "svg.hashsalt": "alexnet",  # the same numbers give the same file
}


@contextlib.contextmanager
def sheet(width: int, height: int) -> Iterator[Figure]:
    """An empty figure of so many pixels, with the fonts and colours of all figures."""
    with _settings():
        yield Figure(figsize=(width / DPI, height / DPI))


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # Characters that no font has become boxes; `fonts` has said so.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure in the form that the path's ending names."""
    form = path.suffix[1:]
    with _settings(), replacing(path) as temporary:
        fonts.adapt(figure)
        figure.savefig(temporary, format=form, dpi=DPI, metadata={"Date": None} if form == "svg" else None)
    return path


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Writes the numbers behind a figure as .npz, compressed."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def subject(run: Run) -> str:
    """One line that says which run a figure shows."""
    place = Path(run.data.location).name
    data = f"{run.data.kind}:{place}" if place else run.data.kind
    return f"{run.recipe.variant} network, recipe {run.recipe.name}, data {data}"


def title(figure: Figure, heading: str, line: str, left: float) -> None:
    """Writes a heading and a smaller line below it, from the share `left` of the width on."""
    height = figure.get_size_inches()[1]
    figure.text(left, 1 - 0.34 / height, heading, fontsize=16, weight="bold", va="center")
    figure.text(left, 1 - 0.62 / height, line, fontsize=10.5, color=MUTED, va="center")


def warn(figure: Figure, text: str) -> None:
    """Writes a warning across the foot of a figure; nothing when the text is empty."""
    if text:
        height = figure.get_size_inches()[1]
        figure.text(
            0.5,
            0.16 / height,
            text,
            ha="center",
            va="center",
            color=WARNING_INK,
            fontsize=10,
            bbox={"facecolor": WARNING_PAGE, "edgecolor": "none", "boxstyle": "round,pad=0.35"},
        )
