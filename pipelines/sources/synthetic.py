"""The built-in data set: twelve kinds of objects, drawn on the spot and handed on as JPEG bytes.

A picture is a pure function of (seed, split, index): nothing is stored on disk, and no validation
picture is a training picture. Classes differ in outline and surface pattern at every orientation,
phase and place; colours, light and clutter say nothing about them (`rendering.scene`), so that a
linear model on raw pixels stays near 20 % while a convolutional network learns them fast.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipelines import progress
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.pictures.file_types import JPEG
from pipelines.rendering import scene
from pipelines.rendering.shapes import SHAPES
from pipelines.sources import splits
from pipelines.sources.listed import ListedSource, Listing
from pipelines.sources.source import SPLITS, Example, decode_key, generator

TRAIN_COUNT = 6000
VAL_COUNT = 600


class _Drawn(dict[tuple[str, int], bytes]):
    """The pictures of one seed drawn so far, by split and index: some 15 kB each."""


# Sources of one seed share their pictures, and one that is opened anew finds those of the last seed: they
# live as long as such a source, or until another seed is drawn.
_shared: weakref.WeakValueDictionary[int, _Drawn] = weakref.WeakValueDictionary()
_latest: list[_Drawn] = []


def label_of(index: int) -> int:
    """Classes take turns, so that any run of len(SHAPES) pictures holds each once."""
    return index % len(SHAPES)


def key_of(split: str, index: int) -> str:
    """The stable name of a picture, such as `val/000123`."""
    return f"{split}/{index:06d}"


def _parse(key: str) -> tuple[str, int]:
    """The inverse of `key_of`."""
    split, _, number = key.partition("/")
    if split not in SPLITS or not number.isdecimal():
        raise DataError(f"keys of synthetic data look like val/000123; received {key!r}")
    return split, int(number)


def _generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random numbers of one picture and of no other."""
    return generator(seed, SPLITS.index(split), index)


def _image_bytes(seed: int, split: str, index: int) -> bytes:
    """The picture as JPEG bytes, 256 x 256 RGB; drawn at first demand."""
    drawn = _drawn_of(seed)
    if (split, index) not in drawn:
        picture, _ = scene.draw(label_of(index), _generator(seed, split, index))
        drawn[split, index] = scene.encode(picture)
    return drawn[split, index]


def _drawn_of(seed: int) -> _Drawn:
    """The pictures of a seed, which becomes the last one."""
    _latest[:] = [_shared.setdefault(seed, _Drawn())]
    return _latest[0]


def _counts(location: str) -> tuple[int, int]:
    """`TRAIN,VAL` of `synthetic:TRAIN,VAL` as numbers."""
    words = location.split(",")
    if len(words) != 2 or not all(word.strip().isdecimal() for word in words):
        raise DataError(f"--data synthetic:TRAIN,VAL takes two numbers of pictures; received {location!r}")
    return int(words[0]), int(words[1])


class SyntheticSource(ListedSource):
    """The built-in pictures as a source of their own two splits.

    Args:
      config: its `data_seed` decides every picture; its spec may give the counts as `synthetic:TRAIN,VAL`.
      train_count, val_count: numbers of pictures where the spec does not say.

    Raises:
      DataError: the spec's counts are malformed, or a split has fewer pictures than there are classes.
    """

    def __init__(
        self, config: DataConfig, *, train_count: int = TRAIN_COUNT, val_count: int = VAL_COUNT
    ) -> None:
        if config.location:
            train_count, val_count = _counts(config.location)
        listings = {}
        for split, count in zip(SPLITS, (train_count, val_count), strict=True):
            if count < len(SHAPES):
                raise DataError(
                    f"synthetic data needs at least one {split} picture for each of its "
                    f"{len(SHAPES)} classes; received {count}"
                )
            indices = range(count)
            listings[split] = Listing.of([key_of(split, i) for i in indices], [label_of(i) for i in indices])
        super().__init__(config, tuple(shape.name for shape in SHAPES), listings)
        self._drawn = _drawn_of(config.data_seed)  # kept as long as the source
        self._sizes = {"train": train_count, "val": val_count}
        self._images: dict[str, tf.Tensor] = {}
        self.prepared_size, self.prepared_form = scene.SIDE, JPEG
        self.description = (
            f"synthetic: {train_count} train and {val_count} val pictures "
            f"of {len(SHAPES)} classes, seed {config.data_seed}"
        )

    def fingerprints(self, split: str) -> np.ndarray:
        """As in Source; the seed, which draws the pictures, is part of what a key stands for."""
        seed = b"%d/" % self._config.data_seed
        return splits.fingerprints(seed + key for key in self._listings[self.check_split(split)].keys)

    def image_bytes(self, key: str) -> bytes:
        """The picture `key` as JPEG bytes."""
        return _image_bytes(self._config.data_seed, *_parse(key))

    def mask(self, key: str) -> NDArray[np.bool_]:
        """Where the object of picture `key` can be seen: bool [256, 256]."""
        split, index = _parse(key)
        return scene.draw(label_of(index), _generator(self._config.data_seed, split, index))[1]

    def reader(self, split: str) -> Callable[[tf.Tensor], tf.Tensor]:
        if split not in self._images:
            with tf.init_scope():
                self._images[split] = tf.constant(self._draw(split))
        images = self._images[split]
        digits = len(split) + 1  # where the number starts in a key

        def read(key: tf.Tensor) -> tf.Tensor:
            return images[tf.strings.to_number(tf.strings.substr(key, digits, -1), tf.int32)]

        return read

    def pick(self, split: str, positions: Sequence[int]) -> Iterator[Example]:
        """As in Source; no other pictures of the split are drawn, which takes half a minute for all."""
        listing = self._listings[self.check_split(split)]
        for index in self._fixed_order(split)[np.asarray(positions, np.int64)]:
            key = decode_key(listing.keys[index])
            yield Example(self.image_bytes(key), int(listing.labels[index]), key)

    def _draw(self, split: str) -> list[bytes]:
        """All pictures of a split in index order."""
        # One thread: most of the drawing holds the interpreter's lock, and a second one gained nothing.
        seed, size = self._config.data_seed, self._sizes[split]
        indices = progress.counted(f"drawing the built-in {split} pictures", range(size), size)
        return [_image_bytes(seed, split, index) for index in indices]
