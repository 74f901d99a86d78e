"""What a survey says, as figures for programs and as sentences for people."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines import scan
from pipelines.config import DataConfig
from pipelines.inspect.copies import Copies
from pipelines.inspect.duplicates import Group
from pipelines.inspect.kinds import MODES
from pipelines.inspect.survey import Survey
from pipelines.sources.source import Source, decode_key

WORDS = {"train": "training", "val": "validation", "test": "test"}  # what a person calls pictures of a split
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
    sizes = {
        "width": histogram(survey.width),
        "height": histogram(survey.height),
        "short_side": histogram(np.minimum(survey.width, survey.height)),
        "aspect": histogram(np.round(survey.width / survey.height, 3)),
        "kilobytes": histogram(np.round(survey.size / 1000, 1)),
    }
    broken = [(split, one) for split, some in zip(survey.splits, survey.broken, strict=True) for one in some]
    left_out = {**source.left_out, scan.BROKEN: len(broken)}
    return {
        "data": config.spec,
        "description": source.description,
        "classes": len(source.class_names),
        "pictures": len(survey),
        **{split: int(survey.within(split).sum()) for split in survey.splits},
        "unreadable": len(broken),
        "left_out": {kind: number for kind, number in left_out.items() if number},
        "not_looked_at": survey.unseen,
        "nearly_one_colour": int(survey.flat.sum()),
        "copies": _copies(copies),
        "findings": sentences(source, config, survey, copies),
        "per_class": _per_class(source, survey),
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


def account(figures: Mapping[str, Any]) -> str:
    """One line that accounts for everything that was found (`scan.summary`)."""
    return scan.summary(figures["pictures"], figures["left_out"], not_looked_at=figures["not_looked_at"])


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
        split: np.bincount(survey.label[survey.within(split)], minlength=classes).tolist()
        for split in survey.splits
    }
    lost = collections.Counter(one.label for some in survey.broken for one in some)
    names = zip(source.class_names, source.readable_names, strict=True)
    return [
        {
            "class": identifier,
            "name": name,
            **{split: counts[split][label] for split in survey.splits},
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
        **{f"{split}_pictures_also_in_train": copies.leaked(split) for split in evaluated(copies.names)},
    }


def evaluated(splits: Iterable[str]) -> list[str]:
    """The splits on which errors are measured."""
    return [split for split in splits if split != "train"]


def _group(source: Source, survey: Survey, copies: Copies, group: Group) -> dict[str, Any]:
    members = zip(*(column[:MOST_MEMBERS].tolist() for column in group), strict=True)
    return {
        "pictures": len(group.members),
        "same_file": copies.is_exact(group),
        "splits": [survey.splits[number] for number in copies.splits(group)],
        "classes": [source.class_names[label] for label in copies.labels(group)[:MOST_MEMBERS]],
        "members": [
            {
                "key": decode_key(survey.key[number]),
                "split": survey.splits[int(survey.split[number])],
                "class": source.class_names[int(survey.label[number])],
                "bits": bits,
                "mirrored": mirrored,
            }
            for number, bits, mirrored in members
        ],
    }


def sentences(source: Source, config: DataConfig, survey: Survey, copies: Copies) -> list[dict[str, str]]:
    """What a person should know, each with its `weight`: "problem" or "note"; problems first."""
    empty = list(_about_empty_classes(source, survey))
    problems = [
        *_about_reading(survey),
        *_about_copies(survey, copies),
        *(empty if not survey.unseen else ()),
    ]
    notes = [
        *_about_what_is_there(survey),
        *(empty if survey.unseen else ()),  # the others may have some
        *_about_settings(survey, copies),
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
        them = "it" if broken == 1 else "them"
        yield (
            f"{number_of(broken, 'picture')} ({share(broken, total)}) cannot be read;"
            f" training and evaluation leave {them} out."
        )
    for number, split in enumerate(survey.splits):
        if survey.broken[number] and not survey.within(split).any():
            yield f"No {WORDS[split]} picture{_among(survey)} can be read."


def _about_copies(survey: Survey, copies: Copies) -> Iterable[str]:
    for split in evaluated(survey.splits):
        if leaked := copies.leaked(split):
            total = int(survey.within(split).sum())
            harm = "errors measured on them are too low"
            if split == "test":
                harm = "what should test the network has trained it"
            yield (
                f"{leaked:,} of {number_of(total, f'{WORDS[split]} picture')} ({share(leaked, total)})"
                f" {_look(leaked)} like a training picture; {harm}."
            )
    if across := len(copies.across_classes):
        yield (
            f"{number_of(across, 'group')} of copies {'lies' if across == 1 else 'lie'} in more than one"
            " class; where they are copies, at most one label is right."
        )


def _look(count: int) -> str:
    return "looks" if count == 1 else "look"


def _about_empty_classes(source: Source, survey: Survey) -> Iterable[str]:
    for split in survey.splits:
        counts = np.bincount(survey.label[survey.within(split)], minlength=len(source.class_names))
        empty = [source.readable_names[label] for label in np.flatnonzero(counts == 0)]
        if empty and counts.any():
            classes = number_of(len(empty), "class", "classes")
            yield f"{classes} without a {WORDS[split]} picture{_among(survey)}: {_some(empty)}."


def _among(survey: Survey) -> str:
    """What follows a noun for pictures where others exist that were not looked at."""
    return " among those looked at" if survey.unseen else ""


def _about_what_is_there(survey: Survey) -> Iterable[str]:
    if survey.unseen:
        total = survey.unseen + len(survey) + sum(map(len, survey.broken))
        verb = "was" if survey.unseen == 1 else "were"
        yield (
            f"{survey.unseen:,} of {number_of(total, 'picture')} {verb} not looked at; what is said here is"
            " of the others."
        )
    there = zip(survey.splits, survey.broken, strict=True)
    lacking = [split for split, broken in there if not broken and not survey.within(split).any()]
    if lacking:
        words = " and ".join(f"no {WORDS[split]}" for split in lacking)
        cannot = "; training needs some" if "val" in lacking else ""
        cannot = "; these data can be evaluated, not trained on" if "train" in lacking else cannot
        yield f"There are {words} pictures{cannot}."


def _about_settings(survey: Survey, copies: Copies) -> Iterable[str]:
    if "test" in survey.splits and (seen := copies.leaked("test", "val")):
        total = int(survey.within("test").sum())
        yield (
            f"{seen:,} of {number_of(total, 'test picture')} ({share(seen, total)}) {_look(seen)} like a"
            " validation picture; whoever chooses settings by the one should not measure by the other."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _about_balance(source: Source, survey: Survey) -> Iterable[str]:
    counts = np.bincount(survey.label[survey.within("train")], minlength=len(source.class_names))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[least] and counts[most] >= UNBALANCED * counts[least]:
        yield (
            f"The classes are uneven: {source.readable_names[most]} has {counts[most]:,} training pictures,"
            f" {source.readable_names[least]} has {counts[least]:,}{_among(survey)}."
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
