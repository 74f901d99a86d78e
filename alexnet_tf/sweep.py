"""Runs of one recipe under several seeds: a folder `seed-N` each, averaged as the paper's "5 CNNs".

The members share everything but `seed`, `data_seed` above all, so that they hold out the same pictures.
Every member is a run of its own that goes on by itself. No TensorFlow import.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from alexnet_tf.run_record import RECIPE_FILE
from pipelines.errors import UserError

MOST = 1000  # more seeds than anybody trains: a lone large number was meant as a seed, not as how many
_MEMBER = re.compile(r"seed-(0|[1-9]\d*)")


def parse_seeds(text: str, first: int = 0) -> tuple[int, ...]:
    """Reads `--seeds`: how many, as in `5`, or which, as in `3,7,11`.

    Args:
      text: one whole number, or several by commas.
      first: the first seed where `text` says how many.

    Returns:
      The seeds in the order given.

    Raises:
      UserError: anything else, a negative seed, or one that is given twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise UserError(
            f"--seeds takes how many (5) or which (3,7,11), whole numbers from 0 on; received {text!r}"
        )
    numbers = tuple(int(word) for word in words)
    if len(numbers) == 1:
        if not 1 <= numbers[0] <= MOST:
            raise UserError(f"--seeds: how many must lie between 1 and {MOST}; received {text!r}")
        if first < 0:
            raise UserError(f"--seeds: counts from `seed` on, which must be 0 or more; received {first}")
        return tuple(range(first, first + numbers[0]))
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise UserError(f"--seeds: every run needs a seed of its own; received {twice} twice")
    return numbers


def folder(workdir: str | os.PathLike[str], seed: int) -> Path:
    """The run folder of one seed."""
    return Path(workdir) / f"seed-{seed}"


def prepare(workdir: str | os.PathLike[str], seeds: Iterable[int]) -> list[Path]:
    """Makes the members' folders, all before the first is trained: what is missing can be seen.

    Returns:
      The folders in the order of `seeds`.

    Raises:
      UserError: `workdir` is the folder of a single run.
    """
    if (Path(workdir) / RECIPE_FILE).exists():
        raise UserError(
            f"{workdir}: holds a single run; choose another --workdir for --seeds, or leave out --seeds"
        )
    folders = [folder(workdir, seed) for seed in seeds]
    for path in folders:
        path.mkdir(parents=True, exist_ok=True)
    return folders


def members(workdir: str | os.PathLike[str]) -> list[Path]:
    """The folders `seed-N` in the order of their numbers; none where `workdir` is a single run or no sweep.

    Members that have not begun are among them: an average must not leave them out unnoticed.
    """
    workdir = Path(workdir)
    if not workdir.is_dir() or (workdir / RECIPE_FILE).exists():
        return []
    found = [(int(match[1]), path) for path in workdir.iterdir() if (match := _MEMBER.fullmatch(path.name))]
    return [path for _, path in sorted(found) if path.is_dir()]


def expand(workdirs: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Run folders as they are, and the members of sweeps in their place.

    Raises:
      UserError: a member has not begun, or a run comes twice and would count double.
    """
    expanded: list[Path] = []
    for workdir in workdirs:
        found = members(workdir)
        waiting = [path.name for path in found if not (path / RECIPE_FILE).exists()]
        if waiting:
            raise UserError(
                f"{workdir}: not begun: {', '.join(waiting[:5])}; train with the same --seeds to go on, "
                "or name the run folders to average"
            )
        expanded += found or [Path(workdir)]
    places = [path.resolve() for path in expanded]
    for path, place in zip(expanded, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{path}: given twice; a run counts once in an average")
    return expanded
