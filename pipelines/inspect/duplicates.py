"""Groups of copies among many pictures, by their hashes and without comparing all pairs.

Two hashes of 64 bits that differ in no more than CANDIDATE_BITS differ in no more than a quarter of them in
one of four bands of 16 bits; so it is enough to look, for each band, into the buckets of the values that lie
so near. What is found there is held against the long hash.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipelines import progress
from pipelines.inspect import hashing
from pipelines.inspect.hashing import Hashes

# Of 64; measured on photographs, with DEFAULT_BITS: see docs/inspecting.md.
CANDIDATE_BITS = 11
DEFAULT_BITS = 56  # of 256

_BANDS, _BAND_BITS = 4, 16
_AT_ONCE = 1 << 21  # candidates looked at together: some 100 MB


class Group(NamedTuple):
    """Pictures that are copies of each other.

    Attributes:
      members: int64 [n], numbers of the pictures, ascending.
      bits: int64 [n], in how many of the long hash's bits each differs from the first, as it is or mirrored.
      mirrored: bool [n], whether it is nearer to the first one's mirror image.
    """

    members: np.ndarray
    bits: np.ndarray
    mirrored: np.ndarray


class _Parts:
    """Which of n things hang together."""

    def __init__(self, count: int) -> None:
        self.roots = np.arange(count)

    def join(self, one: np.ndarray, other: np.ndarray) -> None:
        """Joins pairs of things, int64 [pairs] each."""
        while True:
            first, second = self.roots[one], self.roots[other]
            apart = first != second
            if not apart.any():
                return
            one, other, first, second = one[apart], other[apart], first[apart], second[apart]
            np.minimum.at(self.roots, np.maximum(first, second), np.minimum(first, second))
            while (above := self.roots[self.roots]).tobytes() != self.roots.tobytes():
                self.roots = above


def exact(content: np.ndarray) -> list[np.ndarray]:
    """Groups of pictures whose files are the same.

    Args:
      content: int64 [n, columns], what files that are the same have in common.

    Returns:
      Of each group the numbers of its pictures, ascending; int64 [2 or more].
    """
    _, labels = np.unique(content, axis=0, return_inverse=True)
    return _groups(labels.reshape(-1))


def near(hashes: Hashes, mirrored: Hashes, bits: int) -> list[Group]:
    """Groups of pictures that look the same, each of which looks like at least one other of its group.

    Args:
      hashes: of n pictures.
      mirrored: the same of their mirror images.
      bits: of the long hash in which two may differ.

    Returns:
      The groups, by their first pictures.
    """
    # However often the same picture occurs, it is searched for once.
    table = np.column_stack([hashes.short, hashes.long])
    _, first, same = np.unique(table, axis=0, return_index=True, return_inverse=True)
    same = same.reshape(-1)
    distinct, flipped = hashes.take(first), mirrored.take(first)
    parts = _Parts(len(first))
    with progress.phase("looking for copies", 2 * _BANDS) as looking:
        for turn, (band, probe) in enumerate(itertools.product(range(_BANDS), (distinct, flipped))):
            looking.reached(turn)
            for one, other in _candidates(distinct.short, probe.short, band):
                alike = hashing.distance(probe.short[one], distinct.short[other]) <= CANDIDATE_BITS
                one, other = one[alike], other[alike]
                alike = hashing.distance(probe.long[one], distinct.long[other]) <= bits
                parts.join(one[alike], other[alike])
    return [_group(members, hashes, mirrored) for members in _groups(parts.roots[same])]


def _group(members: np.ndarray, hashes: Hashes, mirrored: Hashes) -> Group:
    straight = hashing.distance(hashes.long[members], hashes.long[members[:1]])
    turned = hashing.distance(mirrored.long[members], hashes.long[members[:1]])
    return Group(members, np.minimum(straight, turned), turned < straight)


def _groups(labels: np.ndarray) -> list[np.ndarray]:
    """The places of every label that occurs more than once, by their first places."""
    order = np.argsort(labels, kind="stable")
    boundaries = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted((part for part in np.split(order, boundaries) if len(part) > 1), key=lambda part: part[0])


def _candidates(hashes: np.ndarray, probes: np.ndarray, band: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of numbers of different pictures, not too many at a time, that are near in one band.

    Each pair comes once a band where `probes` are `hashes`, else at most twice.
    """
    own, sought = _band(hashes, band), _band(probes, band)
    order = np.argsort(own, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=1 << _BAND_BITS))])
    for mask in _masks(CANDIDATE_BITS // _BANDS):
        values = sought ^ mask
        begins = starts[values]
        for chunk in _chunks(starts[values + 1] - begins):
            counts = starts[values[chunk] + 1] - begins[chunk]
            one = np.repeat(chunk, counts)
            offsets = np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
            other = order[np.repeat(begins[chunk], counts) + offsets]
            ahead = one < other
            yield one[ahead], other[ahead]


def _chunks(counts: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of things that have counts, so many at a time that these sum up to some _AT_ONCE."""
    wanted = np.flatnonzero(counts)
    if not len(wanted):
        return
    sums = np.cumsum(counts[wanted])
    yield from np.split(wanted, np.searchsorted(sums, np.arange(_AT_ONCE, sums[-1], _AT_ONCE), side="right"))


def _band(hashes: np.ndarray, band: int) -> np.ndarray:
    shift = np.uint64(band * _BAND_BITS)
    return ((hashes >> shift) & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)


def _masks(most: int) -> list[int]:
    """All numbers of a band's bits of which no more than `most` are set."""
    places = [1 << place for place in range(_BAND_BITS)]
    return [sum(chosen) for size in range(most + 1) for chosen in itertools.combinations(places, size)]
