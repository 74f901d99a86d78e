"""Pictures on their way to records: prepared, encoded and added up, block by block on all cores."""

from __future__ import annotations

import dataclasses
import functools
import math
import zipfile
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines import passes
from pipelines.config import PictureSettings
from pipelines.files import replacing
from pipelines.passes import FileGraph
from pipelines.pictures import orientation, ppm, preprocess
from pipelines.pictures.decode import decode
from pipelines.pictures.file_types import Format
from pipelines.pictures.statistics import StatsAccumulator
from pipelines.sources import records
from pipelines.sources.source import Source

# Off by two grey levels on average (40 photographs; 30 kB each). 4:2:0 chroma, because photographs come
# in it already: all of the colour would cost a third more to store and to decode for half a level.
JPEG_QUALITY = 95


@dataclasses.dataclass
class Sums:
    """What is added up over the pictures of a shard, in whole numbers.

    Attributes:
      stats: the prepared pixels, before they are encoded.
      per_class: int64 [classes], how many pictures of each class.
    """

    stats: StatsAccumulator
    per_class: np.ndarray

    @classmethod
    def none(cls, classes: int) -> Sums:
        """Those of no picture."""
        return cls(StatsAccumulator(), np.zeros(classes, np.int64))

    def add(self, pixels: np.ndarray, labels: Sequence[int]) -> None:
        """Adds pictures, uint8 [n, side, side, 3], and their classes."""
        self.stats.update(pixels)
        self.per_class += np.bincount(labels, minlength=len(self.per_class))

    def merge(self, other: Sums) -> None:
        """Adds the pictures of `other`."""
        self.stats.merge(other.stats)
        self.per_class += other.per_class

    def save(self, path: Path, shard: str) -> None:
        """Writes the sums and the checksum of their shard as .npz, whole or not at all."""
        arrays = self.stats.sums()
        # Of a shard that is not huge they fit; of a huge one they stay as they are.
        small = arrays["sum"].astype(np.uint32)
        arrays["sum"] = small if np.array_equal(small, arrays["sum"]) else arrays["sum"]
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, shard=np.asarray(shard), per_class=self.per_class, **arrays)

    @classmethod
    def load(cls, path: Path, shard: str) -> Sums | None:
        """Reads what `save` wrote; None where that is missing or damaged, or belongs to another shard."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                if str(arrays["shard"]) != shard:
                    return None
                return cls(StatsAccumulator.of_sums(arrays), arrays["per_class"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


@dataclasses.dataclass(frozen=True)
class Block:
    """Some pictures of one shard that follow one another.

    Attributes:
      first: the place of the first, readable or not, in the source's fixed order.
      positions: the places of the readable ones, ascending.
      records: their records.
      sums: what they add up to.
    """

    first: int
    positions: list[int]
    records: list[bytes]
    sums: Sums


def preparer(config: PictureSettings, encoding: str) -> FileGraph:
    """What prepares and encodes files; its graphs are traced once in a process.

    Args:
      config: `resize`, `resize_rule` and `exif_orientation` are read.
      encoding: one of `records.ENCODINGS`.

    Returns:
      A graph that gives `image_bytes`, what is stored of a file, and `pixels`, uint8 [side, side, 3], before
      they are encoded.
    """
    return _preparer(config.preparation, encoding)


@functools.lru_cache(maxsize=4)
def _preparer(config: PictureSettings, encoding: str) -> FileGraph:
    size = config.resize

    def one(image_bytes: tf.Tensor, form: Format | None) -> dict[str, tf.Tensor]:
        image = decode(image_bytes, upright=config.exif_orientation, form=form)
        pixels = preprocess.square(image, config)
        stored = ppm.encode(pixels, size) if encoding == "ppm" else _jpeg_picture(image_bytes, image, pixels)
        return {"image_bytes": stored, "pixels": pixels}

    gives = {"image_bytes": tf.TensorSpec([], tf.string), "pixels": tf.TensorSpec([size, size, 3], tf.uint8)}
    return FileGraph(one, gives)


def _jpeg_picture(image_bytes: tf.Tensor, image: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """The JPEG of a prepared picture, which no reader of records has to turn.

    A JPEG of the right size and with three colours is kept byte for byte, so that nothing is lost by encoding
    twice; one that notes a turn is encoded anew, turned or not, and notes none.

    Args:
      image_bytes: string scalar, the encoded file.
      image: uint8 [height, width, 3], what was decoded of it.
      pixels: uint8 [size, size, 3], what was prepared of that.

    Returns:
      string scalar.
    """
    fits = tf.reduce_all(tf.equal(tf.shape(image), tf.shape(pixels)))
    return tf.cond(fits, lambda: _kept(image_bytes, pixels), lambda: _encoded(pixels))


def _kept(image_bytes: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """The file itself where it is a JPEG that can be kept."""

    def has_colours() -> tf.Tensor:
        return tf.equal(tf.io.extract_jpeg_shape(image_bytes)[2], 3)

    is_rgb = tf.cond(tf.io.is_jpeg(image_bytes), has_colours, lambda: tf.constant(False))
    kept = is_rgb & tf.equal(orientation.of(image_bytes), orientation.UPRIGHT)
    return tf.cond(kept, lambda: image_bytes, lambda: _encoded(pixels))


def _encoded(pixels: tf.Tensor) -> tf.Tensor:
    return tf.io.encode_jpeg(pixels, format="rgb", quality=JPEG_QUALITY, chroma_downsampling=True)


def blocks(
    source: Source, split: str, positions: np.ndarray, prepare: FileGraph, shard_size: int
) -> Generator[Block]:
    """Prepares pictures on all cores and gives them in their order.

    Args:
      source: the data set.
      split: one of its splits.
      positions: ascending places in its fixed order.
      prepare: how they are prepared.
      shard_size: a block ends where so many places of the order do.

    Raises:
      tf.errors.OpError: the source cannot be read. A picture that cannot be is left out.
    """
    classes = len(source.class_names)

    def block(pictures: passes.Block) -> Block:
        labels = pictures.labels.tolist()
        stored = map(records.serialize, pictures.made["image_bytes"].tolist(), labels, pictures.keys.tolist())
        found = Block(int(pictures.places[0]), pictures.positions.tolist(), list(stored), Sums.none(classes))
        found.sums.add(pictures.made["pixels"], labels)
        return found

    size = math.gcd(passes.BLOCK, shard_size)
    return passes.blocks(source, split, positions, prepare, block, size=size)
