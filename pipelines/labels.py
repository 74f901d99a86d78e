"""Names of classes: the identifiers that data carry, and what a person calls them.

A class is identified by its folder (ImageNet: a WordNet synset id such as n01440764); labels follow the
sorted identifiers, as in Caffe and torchvision. Readable names come from a word list beside the class
folders, in the form of Caffe's synset_words.txt: the identifier, a blank, then synonyms by commas. Without
one, the 1,000 synsets of ILSVRC-2012 have the names of `imagenet_classes.csv`: the first word of each in
WordNet 3.0 (Princeton University, wordnet.princeton.edu), in the order of their ids.
"""

from __future__ import annotations

import collections
import csv
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.errors import DataError

# Caffe's, Kaggle's and the plain name of such a list; the first that names the classes counts.
WORD_LISTS = ("synset_words.txt", "LOC_synset_mapping.txt", "labels.txt")
CLASS_TABLE = Path(__file__).with_name("imagenet_classes.csv")
_SYNSET = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")


class Names(NamedTuple):
    """What a person calls the classes.

    Attributes:
      names: in the order of the classes.
      note: one line about word lists that are there and were not taken; else empty.
    """

    names: tuple[str, ...]
    note: str


def normal_form(name: str) -> str:
    """A name as it is compared and stored: NFC, as the file systems of a Mac write é as e and an accent."""
    return unicodedata.normalize("NFC", name)


def is_synset(name: str) -> bool:
    """Whether a class is named by a WordNet synset id."""
    return _SYNSET.fullmatch(name) is not None


def read_words(path: Path, class_names: Sequence[str]) -> dict[str, str]:
    """Reads a word list, if it is one of these classes.

    Each line is an identifier, a tab or a blank, and words. A plain list of names, or one that numbers
    them (`cat 0`, `0 cat`), is none: it would give the classes wrong names.

    Args:
      path: text in UTF-8, with or without a byte order mark.
      class_names: identifiers, which may hold blanks.

    Returns:
      identifier -> synonyms separated by commas, for the classes that the list names; empty when it is
      no word list of these classes: neither are all of them in it, nor do all of its lines begin with a
      class or a synset id, or all words are numbers.

    Raises:
      DataError: the file is no text.
    """
    known = {normal_form(name): name for name in class_names}
    words: dict[str, str] = {}
    strangers = 0
    for line in _lines(path):
        identifier, text = _identified(line, known)
        if identifier in known:
            if text:
                words[known[identifier]] = text
        else:
            strangers += not is_synset(identifier)
    if strangers and len(words) < len(known):
        return {}
    return {} if all(_NUMBER.fullmatch(text) for text in words.values()) else words


def readable_names(class_names: Sequence[str], folders: Iterable[Path]) -> tuple[str, ...]:
    """The names of `find_names`, without its note."""
    return find_names(class_names, folders).names


def find_names(class_names: Sequence[str], folders: Iterable[Path]) -> Names:
    """What a person calls the classes.

    Args:
      class_names: identifiers.
      folders: where a word list is looked for, in this order.

    Returns:
      The first synonym of each class in the list, or its identifier, whole, where no list names it.
      Names that several classes share (ImageNet has two cranes) take all synonyms and, should these
      agree too, the identifier as well, so that every name is unique.
    """
    words, note = _words(class_names, [folder / name for folder in folders for name in WORD_LISTS])
    synonyms = [words.get(name, name) for name in class_names]
    first = [
        words[name].split(",")[0].strip() or words[name] if name in words else name for name in class_names
    ]
    short = _distinguish(first, synonyms)
    longest = [f"{text} ({name})" for text, name in zip(synonyms, class_names, strict=True)]
    return Names(tuple(_distinguish(short, longest)), note)


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


def _words(class_names: Sequence[str], paths: Sequence[Path]) -> tuple[dict[str, str], str]:
    """The words of the first list that counts, else of the table of ILSVRC-2012; and `Names.note`."""
    passed_over: list[str] = []
    for path in paths:
        if path.is_file():
            words = read_words(path, class_names)
            if words:
                return words, ""
            if set(_lines(path)) != set(map(normal_form, class_names)):
                passed_over.append(path.name)
    note = (
        f"{' and '.join(passed_over)} not taken for names: each line must be a class, a blank and its name"
        if passed_over
        else ""
    )
    return _tabulated(class_names), note


def _tabulated(class_names: Sequence[str]) -> dict[str, str]:
    """The names of ILSVRC-2012, when all classes are of its synsets; else none."""
    if not all(map(is_synset, class_names)):
        return {}
    with open(CLASS_TABLE, newline="", encoding="utf-8") as file:
        table = {row["wnid"]: row["name"] for row in csv.DictReader(file)}
    return {name: table[name] for name in class_names} if table.keys() >= set(class_names) else {}


def _lines(path: Path) -> list[str]:
    """The lines of a text that hold something, in normal form."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a list of class names in UTF-8 text") from None
    return [normal_form(line.strip()) for line in text.split("\n") if line.strip()]


def _identified(line: str, known: dict[str, str]) -> tuple[str, str]:
    """The identifier at the front of a line, and its words; of several classes that fit, the longest."""
    if line in known:
        return line, ""
    if "\t" not in line:
        for cut in reversed([match.start() for match in re.finditer(" ", line)]):
            if line[:cut].rstrip() in known:
                return line[:cut].rstrip(), line[cut:].strip()
    identifier, _, text = line.partition("\t" if "\t" in line else " ")
    return identifier.strip(), text.strip()


def _distinguish(names: list[str], longer: list[str]) -> list[str]:
    """Takes the longer form of every name that occurs more than once."""
    counts = collections.Counter(names)
    return [long if counts[name] > 1 else name for name, long in zip(names, longer, strict=True)]
