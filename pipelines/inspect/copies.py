"""The copies in a data set: which pictures show the same, and which of them lie where they do harm."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pipelines.inspect import duplicates
from pipelines.inspect.duplicates import Group
from pipelines.inspect.survey import Survey


@dataclasses.dataclass(frozen=True)
class Copies:
    """Groups of pictures that show the same, worst first: across splits, then across classes, then large.

    Attributes:
      groups: numbers are those of the survey.
      repeated: bool [n] over the survey, whether the very same file comes before.
      split, label: of the survey's pictures.
      names: of the splits.
    """

    groups: tuple[Group, ...]
    repeated: np.ndarray
    split: np.ndarray
    label: np.ndarray
    names: tuple[str, ...]

    def splits(self, group: Group) -> list[int]:
        """Indices into `names` of those in which a group has pictures."""
        return np.unique(self.split[group.members]).tolist()

    def labels(self, group: Group) -> list[int]:
        """The classes in which a group has pictures."""
        return np.unique(self.label[group.members]).tolist()

    def is_exact(self, group: Group) -> bool:
        """Whether all of a group are the same file."""
        return bool(self.repeated[group.members[1:]].all())

    @property
    def across_splits(self) -> list[Group]:
        """The groups with pictures of several splits."""
        return [group for group in self.groups if len(self.splits(group)) > 1]

    @property
    def across_classes(self) -> list[Group]:
        """The groups with pictures of several classes."""
        return [group for group in self.groups if len(self.labels(group)) > 1]

    def leaked(self, split: str, other: str = "train") -> int:
        """How many pictures of a split have a copy in another one."""
        own, there = self.names.index(split), self.names.index(other)
        members = (self.split[group.members] for group in self.across_splits)
        return sum(int((of == own).sum()) for of in members if (of == there).any())


def find(survey: Survey, bits: int) -> Copies:
    """Looks for copies: the same file, or pictures that look the same, mirrored or not.

    Pictures of nearly one colour look alike without being copies; of these only the same files count.

    Args:
      survey: the pictures.
      bits: of the long hash in which copies may differ.
    """
    content = np.column_stack([survey.content, survey.size])
    repeated = np.ones(len(survey), bool)
    repeated[np.unique(content, axis=0, return_index=True)[1]] = False
    structured, flat = np.flatnonzero(~survey.flat), np.flatnonzero(survey.flat)
    found = [
        group._replace(members=structured[group.members])
        for group in duplicates.near(survey.hashes.take(structured), survey.mirrored.take(structured), bits)
    ]
    for members in duplicates.exact(content[flat]):
        nothing = np.zeros(len(members), np.int64)
        found.append(Group(flat[members], nothing, nothing.astype(bool)))
    unsorted = Copies(tuple(found), repeated, survey.split, survey.label, survey.splits)
    return dataclasses.replace(
        unsorted, groups=tuple(sorted(found, key=lambda group: _rank(unsorted, group)))
    )


def _rank(copies: Copies, group: Group) -> tuple[int, int, int, int]:
    """What sorts a group; the worst has the least."""
    return (
        -len(copies.splits(group)),
        -len(copies.labels(group)),
        -len(group.members),
        int(group.members[0]),
    )


def shown(copies: Copies, most: int) -> Sequence[Group]:
    """At most so many groups, a third each of those across splits, across classes alone, and others."""
    kinds: list[list[Group]] = [[], [], []]
    for group in copies.groups:
        kinds[0 if len(copies.splits(group)) > 1 else 1 if len(copies.labels(group)) > 1 else 2].append(group)
    left, chosen = most, list[Group]()
    for number, groups in enumerate(kinds):
        # What one kind does not need is the next ones'.
        rest = sum(min(len(later), most // 3) for later in kinds[number + 1 :])
        taken = groups[: max(left - rest, 0)]
        chosen += taken
        left -= len(taken)
    return chosen
