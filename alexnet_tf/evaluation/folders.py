"""Where reports of evaluations go: what is not a run's own figure gets a folder of its own.

No TensorFlow import.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

SUMMARY_FILE = "summary.json"
BEST = "best"


class Measured(NamedTuple):
    """What an evaluation measures; the defaults are a run's best weights on its own validation pictures.

    Attributes:
      ensemble: whether several runs are averaged.
      data: the data set, where it is not the run's own.
      split: the split, where it was asked for by name.
      checkpoint: `best` or `newest`.
    """

    ensemble: bool = False
    data: str | None = None
    split: str | None = None
    checkpoint: str = BEST


def default(workdir: Path, of: Measured, crops: int) -> Path:
    """The folder of a report where --out says nothing.

    Args:
      workdir: the first run's folder.
      of: what is measured.
      crops: number of crops.

    Returns:
      A folder that holds nothing, or an earlier report of the same data.
    """
    parts = ["evaluation"]
    parts += ["ensemble"] if of.ensemble else []
    parts += [] if of.data is None else [f"of-{_short(of.data)}"]
    parts += [of.split] if of.split and (of.data or of.split != "val") else []
    parts += [of.checkpoint] if of.checkpoint != BEST else []
    parts += [] if crops == 1 else [{9: "nine-crop", 10: "ten-crop"}[crops]]
    folder = workdir / "-".join(parts)
    number = 1
    while of.data is not None and _data_of(folder) not in (None, of.data):
        number += 1  # other data of the same name
        folder = workdir / "-".join([*parts, str(number)])
    return folder


def describe_crops(summary: Mapping[str, Any]) -> str:
    """How many crops of each picture were seen, in words."""
    return {1: "centre crop", 9: "nine crops", 10: "ten crops"}[summary["crops"]]


def _short(spec: str) -> str:
    """A data set's name as part of a file name."""
    kind, _, place = spec.partition(":")
    return re.sub(r"[^\w.-]+", "_", Path(place).name or kind)


def _data_of(folder: Path) -> str | None:
    """The data set of the report in a folder; None where there is none that can be read."""
    try:
        return str(json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
