"""Prepared records: a folder of TFRecord shards with square pictures, its index, its statistics.

`python -m pipelines.prepare` writes the folder (record_writer.py), this module reads it:

  records.json                    the index: settings, and each shard's size and checksum
  train-00000-of-00044.tfrecord   tf.train.Example with image_bytes, label and key
  train-00000-of-00044.sums.npz   what its pictures add up to, from which the statistics are made
  image_stats.npz                 mean image and colour components of the training pictures
  skipped.csv                     pictures that could not be read, and why
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines import epochs, progress
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.files import replacing
from pipelines.pictures.file_types import JPEG, PPM
from pipelines.pictures.statistics import ImageStats
from pipelines.sources import splits
from pipelines.sources.source import SPLITS, Source

FORMAT = 1
INDEX_NAME, STATS_NAME, SKIPPED_NAME = "records.json", "image_stats.npz", "skipped.csv"
AGAIN = (
    "run `python -m pipelines.prepare` again with the same --data and --out: it makes only what is missing"
)
SHARDS_AT_ONCE, PARSED_AT_ONCE = 8, 64
FORMS = {"jpeg": JPEG, "ppm": PPM}
ENCODINGS = tuple(FORMS)

FEATURES = {
    "image_bytes": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "key": tf.io.FixedLenFeature([], tf.string),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the bytes of every shard.

    Attributes:
      format: version of this layout.
      source: the data specification, folders by their last name only.
      size: side of the pictures in pixels.
      encoding: one of ENCODINGS.
      seed, val_fraction: `data_seed` and `val_fraction` of DataConfig.
      exif_orientation: whether photographs were turned upright.
      resize_rule: how they became squares.
      shard_size: pictures of the source, readable or not, that go into one shard.
      pictures: how many the source offered for each split.
      held_out: whether `val` is a share of the training pictures, and by which rule it was drawn: `by hash`,
        `by count` in folders that were written before there was that, or `no`.
      class_names: index = label.
      readable_names: what a person calls the classes.
    """

    format: int
    source: str
    size: int
    seed: int
    val_fraction: float
    shard_size: int
    pictures: dict[str, int]
    class_names: tuple[str, ...]
    readable_names: tuple[str, ...]
    # What folders hold that were written before there was a choice.
    encoding: str = "jpeg"
    exif_orientation: bool = False
    resize_rule: str = "short_side"
    held_out: str = "by count"

    def shard_names(self, split: str) -> list[str]:
        """File names of a split's shards in order."""
        shards = -(-self.pictures[split] // self.shard_size)
        return [f"{split}-{number:05d}-of-{shards:05d}.tfrecord" for number in range(shards)]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard: `count` records in `bytes` bytes; `skipped` holds (key, label, reason)."""

    name: str
    split: str
    count: int
    bytes: int
    sha256: str
    skipped: tuple[tuple[str, int, str], ...]


@dataclasses.dataclass(frozen=True)
class Index:
    """The content of records.json; `complete` once every shard and the statistics are there."""

    settings: Settings
    shards: tuple[Shard, ...]
    complete: bool

    def of_split(self, split: str) -> list[Shard]:
        """The finished shards of a split, by name."""
        return sorted((shard for shard in self.shards if shard.split == split), key=lambda shard: shard.name)

    def save(self, folder: Path) -> None:
        """Writes records.json; it appears whole or not at all."""
        content = dataclasses.asdict(self.settings) | {
            "complete": self.complete,
            "shards": [
                dataclasses.asdict(shard) for shard in sorted(self.shards, key=lambda shard: shard.name)
            ],
        }
        with replacing(folder / INDEX_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Reads records.json.

        Raises:
          DataError: the folder or the file is missing or damaged, or of another format.
        """
        path = folder / INDEX_NAME
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; make it with `python -m pipelines.prepare --out {folder}`"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            received = content["format"]
            if received != FORMAT:
                raise DataError(
                    f"{path}: format {received!r}, but this version reads {FORMAT}; prepare the data anew"
                )
            shards = tuple(_shard(fields) for fields in content.pop("shards"))
            complete = content.pop("complete")
            for names in ("class_names", "readable_names"):
                content[names] = tuple(content[names])
            return cls(Settings(**content), shards, complete)
        except FileNotFoundError:
            raise DataError(f"{folder}: no prepared records ({INDEX_NAME} is missing); {AGAIN}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path}: damaged ({error}); delete the folder and prepare the data anew"
            ) from None


def _shard(fields: dict[str, Any]) -> Shard:
    skipped = tuple((key, label, reason) for key, label, reason in fields.pop("skipped"))
    return Shard(**fields, skipped=skipped)


class RecordsSource(Source):
    """Prepared records as a source; the held-out share was settled when they were written.

    Raises:
      DataError: the folder is missing or unfinished, or a shard is missing or has the wrong size.
    """

    def __init__(self, config: DataConfig, *, index: Index | None = None) -> None:
        self._folder = folder = Path(config.location).expanduser()
        self._config = config
        if index is None:
            index = Index.load(folder)
            if not index.complete:
                raise DataError(f"{folder}: preparation was interrupted; {AGAIN}")
        for shard in index.shards:
            _check_size(folder, shard)
        self.class_names = index.settings.class_names
        self.readable_names = index.settings.readable_names
        self.prepared_size = index.settings.size
        self.prepared_form = FORMS[index.settings.encoding]
        self.splits = tuple(dict.fromkeys((*SPLITS, *index.settings.pictures)))
        self._shards = {split: index.of_split(split) for split in self.splits}
        self.description = (
            f"{folder}: {len(self.class_names)} classes, {self.count('train')} + {self.count('val')} records"
            f" ({index.settings.encoding}) of {self.prepared_size}x{self.prepared_size} pixels"
            f" from {index.settings.source}"
            + (f", {self.count('test')} to test" if "test" in self.splits else "")
        )

    def count(self, split: str) -> int:
        return sum(shard.count for shard in self._shards[self.check_split(split)])

    def fingerprints(self, split: str) -> np.ndarray:
        """One for each shard, by its checksum."""
        return splits.fingerprints(shard.sha256.encode() for shard in self._shards[self.check_split(split)])

    def dataset(
        self, split: str, *, epoch: int | tf.Tensor | None = None, start: int | tf.Tensor = 0
    ) -> tf.data.Dataset:
        shards = [shard for shard in self._shards[self.check_split(split)] if shard.count]
        # Absolute: a data service may have another working directory.
        folder = self._folder.absolute()
        paths = tf.constant([str(folder / shard.name) for shard in shards], tf.string)
        if epoch is None or not self._config.shuffle:
            # Shards that end before `start` are not opened.
            bounds = tf.constant(np.cumsum([0, *(shard.count for shard in shards)]), tf.int64)
            start = tf.cast(start, tf.int64)
            left_out = tf.searchsorted(bounds[1:], start[tf.newaxis], side="right")[0]
            serialized = tf.data.TFRecordDataset(paths[left_out:])
            start -= tf.gather(bounds, left_out)
        else:
            serialized = epochs.interleave_shards(
                lambda number: tf.data.TFRecordDataset(tf.gather(paths, number)),
                len(shards),
                self._config.seed,
                epoch,
                at_once=SHARDS_AT_ONCE,
                buffer=epochs.buffer_for(self.count(split), sum(shard.bytes for shard in shards)),
            )
        return parse_in_blocks(serialized.skip(start))

    def stored_stats(self) -> ImageStats:
        return ImageStats.load(self._folder / STATS_NAME)


def sums_name(shard: str) -> str:
    """The name of the file with the sums of a shard of that name."""
    return shard.removesuffix(".tfrecord") + ".sums.npz"


def check_rule(config: DataConfig) -> None:
    """Raises DataError when pictures of prepared records became squares otherwise than `config` says."""
    if config.kind != "records":
        return
    there = Index.load(Path(config.location).expanduser()).settings.resize_rule
    if (there == "short_side") == config.squeezes:
        raise DataError(
            f"{config.location}: its pictures were prepared with resize_rule={there}; received "
            f"resize_rule={config.resize_rule}; add --set resize_rule={there}, or prepare the data anew"
        )


def parse_in_blocks(serialized: tf.data.Dataset) -> tf.data.Dataset:
    """Records (string scalars) as elements of a source's dataset, in the same order.

    Parsing one by one costs three times as much.
    """
    blocks = serialized.batch(PARSED_AT_ONCE)
    return blocks.map(
        lambda block: tf.io.parse_example(block, FEATURES), num_parallel_calls=tf.data.AUTOTUNE
    ).unbatch()


def serialize(image_bytes: bytes, label: int, key: bytes) -> bytes:
    """One example as a record."""
    feature = tf.train.Feature
    features = {
        "image_bytes": feature(bytes_list=tf.train.BytesList(value=[image_bytes])),
        "label": feature(int64_list=tf.train.Int64List(value=[label])),
        "key": feature(bytes_list=tf.train.BytesList(value=[key])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        deterministic=True
    )


def verify(folder: Path, index: Index) -> dict[str, DataError]:
    """Reads every finished shard and compares its checksum.

    Returns:
      For each shard that is missing or damaged its name and an error that says so; empty when all is well.
    """

    def check(shard: Shard) -> DataError | None:
        try:
            _check_size(folder, shard)
        except DataError as error:
            return error
        if checksum(folder / shard.name) != shard.sha256:
            return DataError(f"{folder / shard.name}: damaged (its SHA-256 differs from the index); {AGAIN}")
        return None

    with concurrent.futures.ThreadPoolExecutor() as pool:
        checked = pool.map(check, index.shards)
        errors = progress.counted("comparing the checksums of shards", checked, len(index.shards))
        return {shard.name: error for shard, error in zip(index.shards, errors, strict=True) if error}


def checksum(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe(error: Exception, config: DataConfig) -> str:
    """One line for an error met while a source was read; names the shard where TensorFlow does not.

    Args:
      error: what the dataset raised.
      config: whose `spec` names the source.
    """
    message = _plain_words(str(getattr(error, "message", None) or error))
    if isinstance(error, tf.errors.DataLossError) and config.kind == "records":
        folder = Path(config.location).expanduser()
        damaged = verify(folder, Index.load(folder))
        for found in damaged.values():
            return str(found)
    return f"{config.spec}: could not be read ({message}); if its files have changed, start the command again"


def _plain_words(message: str) -> str:
    """What TensorFlow's message says, in one line, without where in its graphs it was said."""
    line = " ".join(message.split())
    asserted = re.search(r"assertion failed: \[(.*?)\](?: \[\[|$)", line)
    if asserted:
        return asserted[1]
    return re.sub(r"\{\{.*?\}\} ?|\[\[.*\]\]|\[Op:\w+\]|name:\s*$", "", line).strip()


def _check_size(folder: Path, shard: Shard) -> None:
    path = folder / shard.name
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path}: this shard is missing; {AGAIN}") from None
    if size != shard.bytes:
        raise DataError(f"{path}: damaged ({size} bytes, {shard.bytes} expected); {AGAIN}")
