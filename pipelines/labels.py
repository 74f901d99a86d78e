"""Names of classes: the identifiers that data carry, and what a person calls them.

A class is identified by its folder (ImageNet: a WordNet synset id such as n01440764); labels follow the
sorted identifiers, as in Caffe and torchvision. Readable names come from a word list beside the class
folders, in the form of Caffe's synset_words.txt: the identifier, a blank, then synonyms by commas.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pipelines.errors import DataError

# Caffe's, Kaggle's and the plain name of such a list; the first that is there counts.
WORD_LISTS = ("synset_words.txt", "LOC_synset_mapping.txt", "labels.txt")
_SYNSET = re.compile(r"n\d{8}")


def is_synset(name: str) -> bool:
    """Whether a class is named by a WordNet synset id."""
    return _SYNSET.fullmatch(name) is not None


def read_words(path: Path) -> dict[str, str]:
    """Reads a word list: identifier -> synonyms separated by commas.

    Raises:
      DataError: the file is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a list of class names in UTF-8 text") from None
    pairs = (line.strip().partition("\t" if "\t" in line else " ") for line in lines)
    return {identifier: words.strip() for identifier, _, words in pairs if words.strip()}


def readable_names(class_names: Sequence[str], folders: Iterable[Path]) -> tuple[str, ...]:
    """What a person calls the classes.

    Args:
      class_names: identifiers.
      folders: where a word list is looked for, in this order.

    Returns:
      The first synonym of each class, or its identifier where no list names it. Names that several
      classes share (ImageNet has two cranes) take all synonyms and, should these agree too, the
      identifier as well, so that every name is unique.
    """
    paths = (folder / name for folder in folders for name in WORD_LISTS)
    words = next((read_words(path) for path in paths if path.is_file()), {})
    synonyms = [words.get(name, name) for name in class_names]
    first = [text.split(",")[0].strip() for text in synonyms]
    short = _distinguish(first, synonyms)
    return tuple(
        _distinguish(short, [f"{text} ({name})" for text, name in zip(synonyms, class_names, strict=True)])
    )


def order_of(class_names: Sequence[str], other: Sequence[str]) -> np.ndarray:
    """Where each class stands in another order of the same classes.

    An array with one entry a class in the order `other` is brought into the order of `class_names` by
    indexing with the result; cuda-convnet2 for example orders ImageNet by ILSVRC2012_ID, not by synset.

    Returns:
      int64 [classes].

    Raises:
      DataError: the two do not hold the same classes.
    """
    positions = {name: position for position, name in enumerate(other)}
    if len(positions) != len(other) or sorted(positions) != sorted(class_names):
        missing = sorted(set(class_names).symmetric_difference(other))
        raise DataError(f"the two lists must hold the same classes once each; they differ in {missing[:3]}")
    return np.array([positions[name] for name in class_names], np.int64)


def _distinguish(names: list[str], longer: list[str]) -> list[str]:
    """Takes the longer form of every name that occurs more than once."""
    counts = collections.Counter(names)
    return [long if counts[name] > 1 else name for name, long in zip(names, longer, strict=True)]
