"""Which synset each validation picture of ILSVRC-2012 shows: their files are only numbered."""

from __future__ import annotations

import csv
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

from pipelines.errors import DataError
from pipelines.labels import is_synset

# Kaggle's list: ImageId, then a synset and four numbers for each object.
KAGGLE_SOLUTION = "LOC_val_solution.csv"
# The synsets in the order of the pictures' numbers, as TFDS carries them: without it a user would have to
# fetch the development kit as well.
VAL_SYNSETS = "datasets/imagenet2012/validation_labels.txt"
_NAME = re.compile(r"(ILSVRC2012_val_(\d{8}))\.jpe?g", re.IGNORECASE)


def is_validation(file: str) -> bool:
    """Whether a file is called as the validation pictures are."""
    return _NAME.fullmatch(file) is not None


def synsets_by_file(folder: Path) -> tuple[tuple[str, ...], Callable[[str], str | None]]:
    """The challenge's synsets, and a function from a validation picture's file name to its synset.

    Args:
      folder: Kaggle's list is used where it lies in here.

    Returns:
      The sorted synsets, and the function; it gives None for files that are called otherwise.

    Raises:
      DataError: a list is missing or damaged.
    """
    by_number = _by_number()
    by_name = _solution(folder / KAGGLE_SOLUTION) if (folder / KAGGLE_SOLUTION).is_file() else {}

    def synset(file: str) -> str | None:
        match = _NAME.fullmatch(file)
        if match is None:
            return None
        number = int(match[2])
        return by_name.get(match[1]) or (by_number[number - 1] if 1 <= number <= len(by_number) else None)

    return tuple(sorted({*by_number, *by_name.values()})), synset


def _by_number() -> list[str]:
    # The package is found, not imported: that alone would take a second.
    found = importlib.util.find_spec("tensorflow_datasets")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        path = Path(folder) / VAL_SYNSETS
        if path.is_file():
            return path.read_text(encoding="utf-8").split()
    raise DataError(
        f"imagenet: the installed tensorflow-datasets lacks {VAL_SYNSETS}; install the pinned version"
    )


def _solution(path: Path) -> dict[str, str]:
    """Kaggle's list: name of a picture -> its synset."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            found = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    except (ValueError, KeyError, AttributeError, IndexError, csv.Error):
        found = {"": ""}
    if not all(map(is_synset, found.values())):
        raise DataError(
            f"{path}: damaged; each line must be ImageId,PredictionString with a synset first, "
            "as Kaggle has it; fetch it again or remove it"
        )
    return found
