"""Which pictures of a data set an evaluation measures: a split of it, or all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipelines.errors import DataError
from pipelines.sources.source import Example, Source

ALL = "all"


def default_split(source: Source) -> str:
    """What is measured of data that are given for evaluation alone.

    Their own validation split, else their own test split; data without either are measured whole.
    """
    if source.count("val") and not source.held_out:
        return "val"
    return "test" if "test" in source.splits and source.count("test") else ALL


def measured(source: Source, split: str) -> Source:
    """The same data set with the pictures of `split` in the place of those of `val`.

    Args:
      source: the data set.
      split: one of its splits, or `all`: every split, one after the other.

    Raises:
      DataError: there is no such split, or no picture in it.
    """
    if split != ALL and split not in source.splits:
        raise DataError(
            f"--split must be one of {', '.join((*source.splits, ALL))} for {source.description}; "
            f"received {split!r}"
        )
    parts = [part for part in source.splits if split in (part, ALL) and source.count(part)]
    if not parts:
        raise DataError(f"--split {split}: no picture in {source.description}")
    return source if parts == ["val"] else _Measured(source, parts)


class _Measured(Source):
    """A data set whose `val` holds the pictures of some splits, one after the other."""

    def __init__(self, source: Source, parts: Sequence[str]) -> None:
        self._source, self._parts = source, tuple(parts)
        self.class_names, self.readable_names = source.class_names, source.readable_names
        self.description = source.description
        self.prepared_size, self.prepared_form = source.prepared_size, source.prepared_form
        self.left_out = source.left_out
        starts = np.cumsum([0, *(source.count(part) for part in parts)]).tolist()
        self._bounds = list(zip(self._parts, starts[:-1], starts[1:], strict=True))

    def count(self, split: str) -> int:
        return sum(self._source.count(part) for part in self._of(split))

    def fingerprints(self, split: str) -> np.ndarray:
        return np.sort(np.concatenate([self._source.fingerprints(part) for part in self._of(split)]))

    def dataset(
        self, split: str, *, epoch: int | tf.Tensor | None = None, start: int | tf.Tensor = 0
    ) -> tf.data.Dataset:
        if split != "val":
            return self._source.dataset(split, epoch=epoch, start=start)
        first, *others = (self._source.dataset(part) for part in self._parts)
        for other in others:
            first = first.concatenate(other)
        return first.skip(start)

    def numbered(self, split: str, positions: np.ndarray | None = None) -> tf.data.Dataset:
        if split != "val":
            return self._source.numbered(split, positions)
        places = np.arange(self.count("val")) if positions is None else np.asarray(positions, np.int64)
        first, *others = (self._numbered_part(*bounds, places) for bounds in self._bounds)
        for other in others:
            first = first.concatenate(other)
        return first

    def _numbered_part(self, part: str, start: int, stop: int, places: np.ndarray) -> tf.data.Dataset:
        inside = places[(places >= start) & (places < stop)] - start

        @tf.autograph.experimental.do_not_convert
        def shifted(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {**example, "position": example["position"] + start}

        return self._source.numbered(part, inside).map(shifted)

    def pick(self, split: str, positions: Sequence[int]) -> Iterator[Example]:
        if split != "val":
            return self._source.pick(split, positions)
        picked = [
            self._source.pick(part, [place - start for place in positions if start <= place < stop])
            for part, start, stop in self._bounds
        ]
        return _Chained(picked)

    def without(self, keys: Iterable[str]) -> Source:
        rest = self._source.without(keys)
        return self if rest is self._source else _Measured(rest, self._parts)

    def _of(self, split: str) -> tuple[str, ...]:
        return self._parts if split == "val" else (self.check_split(split),)


class _Chained(Iterator[Example]):
    """Iterators one after the other; unlike a generator it goes on after an exception."""

    def __init__(self, iterators: Sequence[Iterator[Example]]) -> None:
        self._chain = itertools.chain.from_iterable(iterators)

    def __next__(self) -> Example:
        return next(self._chain)
