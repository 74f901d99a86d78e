"""What a survey says, as figures for programs and as sentences for people."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipelines.config import DataConfig
from pipelines.inspect.copies import Copies
from pipelines.inspect.duplicates import Group
from pipelines.inspect.kinds import MODES
from pipelines.inspect.survey import Survey
from pipelines.sources.source import SPLITS, Source, decode_key

MOST_LISTED = 1000  # unreadable pictures, groups of copies
MOST_MEMBERS = 50  # of a group
DISTINCT, BINS = 24, 24  # bars of a histogram: one for each value where there are no more, else equal ratios
# From here on the largest class drowns the smallest.
UNBALANCED = 10.0
# Of a longer picture less than half is left by the central square.
LONG = 2.0


def figures(source: Source, config: DataConfig, survey: Survey, copies: Copies) -> dict[str, Any]:
    """Everything that inspect.json holds, but for what the command adds.

    Args:
      source: the data set.
      config: `resize` is the side to which pictures are prepared.
      survey: the pictures.
      copies: which of them show the same.
    """
    per_class = _per_class(source, survey)
    sizes = {
        "width": histogram(survey.width),
        "height": histogram(survey.height),
        "short_side": histogram(np.minimum(survey.width, survey.height)),
        "aspect": histogram(np.round(survey.width / survey.height, 3)),
        "kilobytes": histogram(np.round(survey.size / 1000, 1)),
    }
    broken = [(split, one) for split, some in zip(SPLITS, survey.broken, strict=True) for one in some]
    return {
        "data": config.spec,
        "description": source.description,
        "classes": len(source.class_names),
        "pictures": len(survey),
        **{split: int((survey.split == number).sum()) for number, split in enumerate(SPLITS)},
        "unreadable": len(broken),
        "nearly_one_colour": int(survey.flat.sum()),
        "copies": _copies(copies),
        "findings": sentences(source, config, survey, copies),
        "per_class": per_class,
        "sizes": sizes,
        "formats": _counted(form for form, _ in survey.kind),
        "colours": _counted(mode for _, mode in survey.kind),
        "unreadable_reasons": _counted(one.reason for _, one in broken),
        "unreadable_pictures": [
            {"key": one.key, "split": split, "class": source.class_names[one.label], "reason": one.reason}
            for split, one in broken[:MOST_LISTED]
        ],
        "groups": [_group(source, survey, copies, group) for group in copies.groups[:MOST_LISTED]],
    }


def histogram(values: np.ndarray) -> dict[str, Any]:
    """Least, median and largest of some numbers above 0, and how many there are of which size.

    Returns:
      `least`, `median`, `most`; lists `low`, `high` and `count`: a bar has what lies from low to high.
    """
    low, counts = np.unique(values, return_counts=True)
    high = low
    if len(low) > DISTINCT:
        edges = np.unique(_rounded(np.geomspace(low[0], low[-1], BINS + 1)))
        edges[0], edges[-1] = low[0], low[-1]
        counts = np.histogram(values, edges)[0]
        low, high = edges[:-1], edges[1:]
    return {
        "least": values.min().item(),
        "median": float(np.median(values)),
        "most": values.max().item(),
        "low": low.tolist(),
        "high": high.tolist(),
        "count": counts.tolist(),
    }


def _rounded(edges: np.ndarray) -> np.ndarray:
    """To two digits, which are enough for the edge of a bar."""
    powers = 10.0 ** (np.floor(np.log10(edges)) - 1)
    return np.asarray(np.round(edges / powers) * powers).round(6)


def _counted(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"name": name, "count": count} for name, count in collections.Counter(names).most_common()]


def _per_class(source: Source, survey: Survey) -> list[dict[str, Any]]:
    classes = len(source.class_names)
    counts = {
        split: np.bincount(survey.label[survey.split == number], minlength=classes).tolist()
        for number, split in enumerate(SPLITS)
    }
    lost = collections.Counter(one.label for some in survey.broken for one in some)
    names = zip(source.class_names, source.readable_names, strict=True)
    return [
        {
            "class": identifier,
            "name": name,
            **{split: counts[split][label] for split in SPLITS},
            "unreadable": lost[label],
        }
        for label, (identifier, name) in enumerate(names)
    ]


def _copies(copies: Copies) -> dict[str, int]:
    return {
        "groups": len(copies.groups),
        "pictures": sum(len(group.members) for group in copies.groups),
        "same_file": int(copies.repeated.sum()),
        "groups_across_splits": len(copies.across_splits),
        "groups_across_classes": len(copies.across_classes),
        "val_pictures_also_in_train": copies.leaked,
    }


def _group(source: Source, survey: Survey, copies: Copies, group: Group) -> dict[str, Any]:
    members = zip(*(column[:MOST_MEMBERS].tolist() for column in group), strict=True)
    return {
        "pictures": len(group.members),
        "same_file": copies.is_exact(group),
        "splits": [SPLITS[number] for number in copies.splits(group)],
        "classes": [source.class_names[label] for label in copies.labels(group)[:MOST_MEMBERS]],
        "members": [
            {
                "key": decode_key(survey.key[number]),
                "split": SPLITS[int(survey.split[number])],
                "class": source.class_names[int(survey.label[number])],
                "bits": bits,
                "mirrored": mirrored,
            }
            for number, bits, mirrored in members
        ],
    }


def sentences(source: Source, config: DataConfig, survey: Survey, copies: Copies) -> list[dict[str, str]]:
    """What a person should know, each with its `weight`: "problem" or "note"; problems first."""
    problems = [
        *_about_reading(survey),
        *_about_copies(survey, copies),
        *_about_empty_classes(source, survey),
    ]
    notes = [
        *_about_balance(source, survey),
        *_about_sizes(config, survey),
        *_about_colours(survey),
    ]
    return [{"weight": "problem", "text": text} for text in problems] + [
        {"weight": "note", "text": text} for text in notes
    ]


def number_of(count: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def share(count: int, total: int) -> str:
    """A part of a whole in per cent, whose sign stays on the number's line."""
    percent = 100.0 * count / total
    if 0.0 < percent < 0.01:
        return "under 0.01\N{NO-BREAK SPACE}%"
    return f"{percent:.3g}\N{NO-BREAK SPACE}%"


def _about_reading(survey: Survey) -> Iterable[str]:
    broken = sum(map(len, survey.broken))
    if broken:
        total = len(survey) + broken
        yield (
            f"{number_of(broken, 'picture')} ({share(broken, total)}) cannot be read;"
            " training leaves them out."
        )


def _about_copies(survey: Survey, copies: Copies) -> Iterable[str]:
    if copies.leaked:
        total = int((survey.split == SPLITS.index("val")).sum())
        yield (
            f"{copies.leaked:,} of {number_of(total, 'validation picture')} ({share(copies.leaked, total)})"
            " look like a training picture; errors measured on them are too low."
        )
    if across := len(copies.across_classes):
        yield (
            f"{number_of(across, 'group')} of copies {'lies' if across == 1 else 'lie'} in more than one"
            " class; where they are copies, at most one label is right."
        )


def _about_empty_classes(source: Source, survey: Survey) -> Iterable[str]:
    for number, words in enumerate(("training", "validation")):
        counts = np.bincount(survey.label[survey.split == number], minlength=len(source.class_names))
        empty = [source.readable_names[label] for label in np.flatnonzero(counts == 0)]
        if empty:
            yield f"{number_of(len(empty), 'class', 'classes')} without a {words} picture: {_some(empty)}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _about_balance(source: Source, survey: Survey) -> Iterable[str]:
    training = survey.label[survey.split == SPLITS.index("train")]
    counts = np.bincount(training, minlength=len(source.class_names))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[least] and counts[most] >= UNBALANCED * counts[least]:
        yield (
            f"The classes are uneven: {source.readable_names[most]} has {counts[most]:,} training pictures,"
            f" {source.readable_names[least]} has {counts[least]:,}."
        )


def _about_sizes(config: DataConfig, survey: Survey) -> Iterable[str]:
    short, long = np.minimum(survey.width, survey.height), np.maximum(survey.width, survey.height)
    if small := int((short < config.resize).sum()):
        verb = "is" if small == 1 else "are"
        yield (
            f"{number_of(small, 'picture')} ({share(small, len(survey))}) {verb} enlarged in preparing: the"
            f" short side has fewer than {config.resize} pixels."
        )
    if narrow := int((long > LONG * short).sum()):
        verb = "is" if narrow == 1 else "are"
        yield (
            f"{number_of(narrow, 'picture')} ({share(narrow, len(survey))}) {verb} more than twice as"
            " long as wide or high: the central square leaves out more than half of each."
        )


def _about_colours(survey: Survey) -> Iterable[str]:
    modes = collections.Counter(mode for _, mode in survey.kind)
    words = {mode: f"{modes[mode]:,} {mode}" for mode in MODES[1:] if modes[mode]}
    if words:
        alpha = "; transparency is dropped" * any("alpha" in mode for mode in words)
        yield f"Not plain RGB, and made so in reading: {', '.join(words.values())}{alpha}."
    if flat := int(survey.flat.sum()):
        verb = "is" if flat == 1 else "are"
        yield (
            f"{number_of(flat, 'picture')} {verb} of nearly one colour: without anything to compare, only the"
            " same files among them count as copies."
        )
