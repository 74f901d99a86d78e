"""Pictures on their way to records: prepared, encoded and added up, block by block on all cores."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import math
import os
import threading
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines.config import PictureSettings
from pipelines.files import replacing
from pipelines.pictures import orientation, ppm, preprocess
from pipelines.pictures.decode import decode
from pipelines.pictures.file_types import FORMATS, JPEG, Format, format_of
from pipelines.pictures.statistics import StatsAccumulator
from pipelines.sources import records
from pipelines.sources.source import Source

# Pictures that one call prepares one after another: each call costs a fifth of a picture.
BLOCK = 32
# Off by two grey levels on average (40 photographs; 30 kB each). 4:2:0 chroma, because photographs come
# in it already: all of the colour would cost a third more to store and to decode for half a level.
JPEG_QUALITY = 95

_MARKS_END = max(place + len(mark) for form in FORMATS for place, mark in form.marks)

Graph = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


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


def preparer(config: PictureSettings, encoding: str) -> Preparer:
    """What prepares and encodes files; its graphs are traced once in a process.

    Args:
      config: `resize`, `resize_rule` and `exif_orientation` are read.
      encoding: one of `records.ENCODINGS`.
    """
    settings = PictureSettings(
        resize=config.resize,
        resize_rule=config.resize_rule,
        exif_orientation=config.exif_orientation,
    )
    return _preparer(settings, encoding)


@functools.lru_cache(maxsize=4)
def _preparer(settings: PictureSettings, encoding: str) -> Preparer:
    return Preparer(settings, encoding)


class Preparer:
    """Prepares and encodes files, one after another in one call; see `preparer`."""

    def __init__(self, config: PictureSettings, encoding: str) -> None:
        self._config, self._encoding = config, encoding
        self._graphs: dict[Format | None, Graph] = {}
        self._tracing = threading.Lock()

    def __call__(self, files: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What is stored of files, string [n], and their pixels before encoding, uint8 [n, side, side, 3].

        Args:
          files: string [n], encoded pictures.

        Raises:
          tf.errors.OpError: one of them cannot be read.
        """
        # Most data sets are all JPEGs: the graph of all formats would take longer to begin than a thousand
        # pictures of theirs.
        heads = tf.strings.substr(files, 0, _MARKS_END).numpy()
        return self._graph(JPEG if all(format_of(head) == JPEG for head in heads) else None)(files)

    def _graph(self, form: Format | None) -> Graph:
        with self._tracing:  # two threads would optimise it twice
            if form not in self._graphs:
                self._graphs[form] = graph = self._traced(form)
                graph(tf.zeros([0], tf.string))
            return self._graphs[form]

    def _traced(self, form: Format | None) -> Graph:
        size = self._config.resize

        def one(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = decode(image_bytes, upright=self._config.exif_orientation, form=form)
            pixels = preprocess.square(image, self._config)
            if self._encoding == "ppm":
                return ppm.encode(pixels, size), pixels
            return _jpeg_picture(image_bytes, image, pixels), pixels

        def all_of(files: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_each = tf.TensorSpec([], tf.string), tf.TensorSpec([size, size, 3], tf.uint8)
            return tf.map_fn(one, files, fn_output_signature=of_each, parallel_iterations=1)

        graph: Graph = tf.function(
            all_of, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )
        return graph


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
    source: Source, split: str, positions: np.ndarray, prepare: Preparer, shard_size: int
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
    if not len(positions):
        return
    batches = source.numbered(split, positions).batch(math.gcd(BLOCK, shard_size)).prefetch(2)
    classes, workers = len(source.class_names), os.cpu_count() or 1
    waiting: collections.deque[concurrent.futures.Future[Block]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(workers, "prepare")
    try:
        for batch in batches:
            waiting.append(pool.submit(_block, batch, prepare, classes))
            while len(waiting) > workers + 2 or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _block(batch: dict[str, tf.Tensor], prepare: Preparer, classes: int) -> Block:
    """Prepares the pictures of a batch of `Source.numbered`."""
    files = batch["image_bytes"]
    places, labels, keys = (batch[name].numpy().tolist() for name in ("position", "label", "key"))
    block = Block(places[0], [], [], Sums.none(classes))
    for start, images, pixels in _readable(files, prepare):
        which = slice(start, start + len(images))
        block.positions.extend(places[which])
        block.records.extend(map(records.serialize, images, labels[which], keys[which]))
        block.sums.add(pixels, labels[which])
    return block


def _readable(files: tf.Tensor, prepare: Preparer) -> Iterator[tuple[int, list[bytes], np.ndarray]]:
    """Calls `prepare`; gives the readable ones with the place of the first of them, all at once or singly."""
    try:
        parts = [(0, prepare(files))]
    except tf.errors.OpError:
        parts = []
        for place in range(len(files)):
            with contextlib.suppress(tf.errors.OpError):
                parts.append((place, prepare(files[place : place + 1])))
    for place, (images, pixels) in parts:
        yield place, images.numpy().tolist(), np.asarray(pixels)
