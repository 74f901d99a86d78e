"""Sources whose pictures are listed beforehand, so that any one can be read by its number."""

from __future__ import annotations

import abc
import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipelines import epochs
from pipelines.config import DataConfig
from pipelines.sources import splits
from pipelines.sources.source import (
    SPLITS,
    BrokenPicture,
    Example,
    Source,
    decode_key,
    encode_key,
    generator,
)

_FIXED_ORDER = 0  # a stream of random numbers of its own under the seed


@dataclasses.dataclass(frozen=True)
class Listing:
    """The pictures of a split: `keys` bytes [n] (NumPy objects), `labels` int64 [n]."""

    keys: np.ndarray
    labels: np.ndarray

    def take(self, which: np.ndarray) -> Listing:
        """The part of the listing that a mask or an index array chooses."""
        return Listing(self.keys[which], self.labels[which])

    @classmethod
    def of(cls, keys: list[str], labels: list[int]) -> Listing:
        """A listing from Python lists."""
        encoded = np.empty(len(keys), object)
        encoded[:] = [encode_key(key) for key in keys]
        return cls(encoded, np.asarray(labels, np.int64))


def split_listing(listing: Listing, config: DataConfig) -> dict[str, Listing]:
    """Holds out the validation share of a training set (`splits.held_out`)."""
    held = splits.held_out(listing.keys, listing.labels, config.val_fraction, config.data_seed)
    return {"train": listing.take(~held), "val": listing.take(held)}


class ListedSource(Source):
    """A source over listings; a subclass says how a picture is read.

    The fixed order is one seeded permutation, so that consecutive pictures mix the classes also when
    the training set is not reshuffled; the order of an epoch is another permutation.
    """

    def __init__(
        self, config: DataConfig, class_names: tuple[str, ...], listings: dict[str, Listing]
    ) -> None:
        self.class_names = self.readable_names = class_names
        self._config = config
        self._listings = self._whole = listings
        self.splits = tuple(dict.fromkeys((*SPLITS, *listings)))
        self._tensors: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}

    @abc.abstractmethod
    def reader(self, split: str) -> Callable[[tf.Tensor], tf.Tensor]:
        """A graph function from a key (string scalar) to the picture's bytes (string scalar)."""

    def count(self, split: str) -> int:
        return len(self._listing(split).labels)

    def fingerprints(self, split: str) -> np.ndarray:
        self.check_split(split)
        return splits.fingerprints(self._whole[split].keys if split in self._whole else ())

    def dataset(
        self, split: str, *, epoch: int | tf.Tensor | None = None, start: int | tf.Tensor = 0
    ) -> tf.data.Dataset:
        if epoch is None or not self._config.shuffle:
            order = tf.constant(self._fixed_order(split))
        else:
            order = epochs.permutation(self.count(split), self._config.seed, epoch)
        return tf.data.Dataset.from_tensor_slices(order[start:]).map(
            self._loader(split), num_parallel_calls=tf.data.AUTOTUNE
        )

    def numbered(self, split: str, positions: np.ndarray | None = None) -> tf.data.Dataset:
        """As in Source; a picture that cannot be read is left out, so its position is missing."""
        places = np.arange(self.count(split)) if positions is None else np.asarray(positions, np.int64)
        order = self._fixed_order(split)[places]
        load = self._loader(split)

        @tf.autograph.experimental.do_not_convert
        def load_numbered(position: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"position": position, **load(index)}

        pairs = tf.data.Dataset.from_tensor_slices((places, order))
        return pairs.map(load_numbered, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()

    def pick(self, split: str, positions: Sequence[int]) -> Iterator[Example]:
        listing, read = self._listing(split), self.reader(split)

        def example(index: int) -> Example:
            key, label = decode_key(listing.keys[index]), int(listing.labels[index])
            try:
                return Example(bytes(read(tf.constant(listing.keys[index])).numpy()), label, key)
            except tf.errors.OpError as error:
                raise BrokenPicture(key, label, f"cannot be read ({type(error).__name__})") from None

        # A map object goes on after an exception, where a generator would have ended.
        return map(example, self._fixed_order(split)[np.asarray(positions, np.int64)])

    def without(self, keys: Iterable[str]) -> ListedSource:
        dropped = {encode_key(key) for key in keys}
        if not dropped:
            return self
        kept = {
            split: listing.take(np.array([key not in dropped for key in listing.keys], bool))
            for split, listing in self._listings.items()
        }
        remainder = copy.copy(self)
        remainder._listings, remainder._tensors = kept, {}
        return remainder

    def _listing(self, split: str) -> Listing:
        """The pictures of a split, none where the data have only others."""
        self.check_split(split)
        return self._listings.get(split) or Listing.of([], [])

    def _fixed_order(self, split: str) -> np.ndarray:
        return generator(self._config.data_seed, _FIXED_ORDER).permutation(self.count(split))

    def _loader(self, split: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        """A graph function from an index into the listing to an element of the dataset."""
        if split not in self._tensors:
            # Held once per split and gathered from, so that an epoch costs one int64 a picture.
            # Outside the graph that may just be traced: the next one uses them too.
            listing = self._listing(split)
            with tf.init_scope():
                self._tensors[split] = (tf.constant(listing.keys), tf.constant(listing.labels))
        keys, labels = self._tensors[split]
        read = self.reader(split)

        @tf.autograph.experimental.do_not_convert
        def load(index: tf.Tensor) -> dict[str, tf.Tensor]:
            key = tf.gather(keys, index)  # half the time of keys[index]
            return {"image_bytes": read(key), "label": tf.gather(labels, index), "key": key}

        return load
