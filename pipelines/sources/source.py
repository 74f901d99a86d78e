"""Where pictures come from: one interface, six kinds of source.

A source gives encoded pictures with a label and a stable key, in a fixed order for evaluation and in
an order per epoch for training; both are pure functions of the configuration, so that a run continues
exactly by skipping what it has seen.
"""

from __future__ import annotations

import abc
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from pipelines import progress
from pipelines.errors import DataError
from pipelines.pictures.file_types import Format

if TYPE_CHECKING:
    from pipelines.pictures.statistics import ImageStats

SPLITS = ("train", "val")


class Example(NamedTuple):
    """One encoded picture, its class and the key by which every log names it."""

    image_bytes: bytes
    label: int
    key: str


class BrokenPicture(DataError):
    """A picture that cannot be read."""

    def __init__(self, key: str, label: int, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.label, self.reason = key, label, reason


class Source(abc.ABC):
    """Pictures of a data set, split into `train` and `val`, some also into `test`, for evaluation alone.

    Attributes:
      splits: the splits there are; one may hold no pictures.
      class_names: the names of the classes; a label is an index into them.
      readable_names: what a person calls the classes, where the data set says so; else the same.
      description: one line for logs.
      prepared_size: side in pixels when every picture already is a square; else None.
      prepared_form: the format of every picture, JPEG, or PPM as `pipelines.pictures.ppm` writes it; None
        where each file has to be looked at.
      held_out: whether `val` is a share of the training pictures that the data set itself does not set apart.
      left_out: what was passed over when the source was opened: kind, in words -> how many.
    """

    class_names: tuple[str, ...]
    readable_names: tuple[str, ...]
    description: str
    prepared_size: int | None = None
    prepared_form: Format | None = None
    splits: tuple[str, ...] = SPLITS
    held_out: bool = False
    left_out: Mapping[str, int] = types.MappingProxyType({})

    def check_split(self, split: str) -> str:
        """Returns `split`, or raises DataError when there is none of this name."""
        if split not in self.splits:
            raise DataError(f"`split` must be one of {', '.join(self.splits)}; received {split!r}")
        return split

    @abc.abstractmethod
    def count(self, split: str) -> int:
        """Number of pictures in a split."""

    @abc.abstractmethod
    def dataset(
        self, split: str, *, epoch: int | tf.Tensor | None = None, start: int | tf.Tensor = 0
    ) -> tf.data.Dataset:
        """Every picture of a split once.

        Args:
          split: `train` or `val`.
          epoch: None for the fixed order; else the order of that epoch, a pure function of the
            configuration and the number (an int64 scalar inside a graph).
          start: leaves out this many pictures at the front of the order, as cheaply as the source can.

        Returns:
          A dataset of {"image_bytes": string, "label": int64, "key": string}, all scalars.
        """

    @abc.abstractmethod
    def fingerprints(self, split: str) -> np.ndarray:
        """What tells the pictures of a split from others, uint64 [n], ascending.

        One hash for each key (`splits.fingerprints`), whether the picture can be read or not; of records one
        for each shard. They do not depend on where the data lie.
        """

    def numbered(self, split: str, positions: np.ndarray | None = None) -> tf.data.Dataset:
        """Every picture in the fixed order, with its running number `position` (int64) in each element.

        Args:
          split: `train` or `val`.
          positions: ascending; gives only the pictures at these places. All when None.
        """

        def number(position: tf.Tensor, example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {"position": position, **example}

        if positions is None:
            return self.dataset(split).enumerate().map(number)
        if not len(positions):
            return self.dataset(split).take(0).enumerate().map(number)
        start, stop = int(positions[0]), int(positions[-1]) + 1
        wanted = np.zeros(stop - start, bool)
        wanted[np.asarray(positions) - start] = True
        mask = tf.constant(wanted)
        numbered = self.dataset(split, start=start).take(stop - start).enumerate(start=start)
        return numbered.filter(lambda position, _: tf.gather(mask, position - start)).map(number)

    def pick(self, split: str, positions: Sequence[int]) -> Iterator[Example]:
        """The pictures at ascending places of the fixed order.

        Where a source can read pictures one by one, a failure raises BrokenPicture and the iterator
        goes on with the next; elsewhere any failure is the end.
        """
        for element in self.numbered(split, np.asarray(positions, np.int64)):
            image_bytes, label, key = (element[name].numpy() for name in Example._fields)
            yield Example(bytes(image_bytes), int(label), decode_key(key))

    def count_keys(self, split: str, keys: frozenset[str]) -> int:
        """How many of `keys` lie in a split, by one pass over it."""
        dataset = self.dataset(split).map(lambda example: example["key"]).as_numpy_iterator()
        looked_at = progress.counted(f"leaving out broken {split} pictures", dataset, self.count(split))
        return sum(decode_key(key) in keys for key in looked_at)

    def without(self, keys: Iterable[str]) -> Source:
        """The same source with some pictures left out; counts shrink by as many."""
        dropped = frozenset(keys)
        return _Remainder(self, dropped) if dropped else self

    def stored_stats(self) -> ImageStats | None:
        """Statistics of the training set that were measured when the source was written, if any."""
        return None


class _Remainder(Source):
    """A source without the pictures of some keys."""

    def __init__(self, source: Source, keys: frozenset[str]) -> None:
        self._source = source
        self.class_names, self.readable_names = source.class_names, source.readable_names
        self.description = source.description
        self.prepared_size, self.prepared_form = source.prepared_size, source.prepared_form
        self.held_out, self.left_out = source.held_out, source.left_out
        self.splits = source.splits
        self._counts = {split: source.count(split) - source.count_keys(split, keys) for split in self.splits}
        self._dropped = tf.constant([encode_key(key) for key in sorted(keys)])

    def count(self, split: str) -> int:
        return self._counts[split]

    def dataset(
        self, split: str, *, epoch: int | tf.Tensor | None = None, start: int | tf.Tensor = 0
    ) -> tf.data.Dataset:
        examples = self._source.dataset(split, epoch=epoch)
        kept = examples.filter(lambda example: tf.reduce_all(self._dropped != example["key"]))
        return kept.apply(tf.data.experimental.assert_cardinality(self._counts[split])).skip(start)

    def fingerprints(self, split: str) -> np.ndarray:
        return self._source.fingerprints(split)

    def stored_stats(self) -> ImageStats | None:
        return self._source.stored_stats()


def encode_key(key: str) -> bytes:
    """A key as TensorFlow holds it; file names that are no valid UTF-8 survive the round trip."""
    return key.encode("utf-8", "surrogateescape")


def decode_key(key: bytes) -> str:
    """The inverse of `encode_key`."""
    return key.decode("utf-8", "surrogateescape")


def generator(*seeds: int) -> np.random.Generator:
    """A NumPy generator that is a pure function of some integers; negative ones are folded in."""
    return np.random.default_rng([seed % 2**32 for seed in seeds])
