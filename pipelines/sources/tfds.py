"""Data sets of TensorFlow Datasets, read as encoded pictures."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipelines import epochs
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.sources import splits
from pipelines.sources.source import Source

FILES_AT_ONCE = 8  # read in turn in an epoch's order


class TfdsSource(Source):
    """A prepared data set of TFDS with one image and one class label an example.

    `val` is its `validation` split, else its `test` split when that has labels, else a seeded share of
    `train`. Data are looked for where TFDS_DATA_DIR says. Keys are `train/` or `val/` and TFDS's own id.

    Raises:
      DataError: no data set of this name, not built yet, or not one of labelled images.
    """

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._builder = builder = _open(config.location)
        self._image = _feature(builder, tfds.features.Image, "image")
        self._label = _feature(builder, tfds.features.ClassLabel, "label")
        label = builder.info.features[self._label]
        self.class_names = self.readable_names = tuple(label.int2str(i) for i in range(label.num_classes))
        built = builder.info.splits
        if "train" not in built:
            raise DataError(f"{config.spec}: has no `train` split, only {', '.join(built) or 'none'}")
        self._native = {"train": "train", "val": self._validation_split()}
        self._masks: dict[str, np.ndarray] = {}
        if self._native["val"] == "train":
            ids, labels = _Files(builder, "train").ids(), self._labels("train")
            held = splits.held_out(ids, labels, config.val_fraction, config.data_seed)
            self._masks, self.held_out = {"train": ~held, "val": held}, True
        self.description = (
            f"{config.location} {builder.info.version} of TFDS: {len(self.class_names)} classes,"
            f" {self.count('train')} + {self.count('val')} pictures"
        )

    def count(self, split: str) -> int:
        if self._masks:
            return int(self._masks[self.check_split(split)].sum())
        return int(self._builder.info.splits[self._native[self.check_split(split)]].num_examples)

    def fingerprints(self, split: str) -> np.ndarray:
        ids = _Files(self._builder, self._native[self.check_split(split)]).ids()
        mask = self._masks.get(split, np.ones(len(ids), bool))
        return splits.fingerprints(name for name, kept in zip(ids, mask, strict=True) if kept)

    def count_keys(self, split: str, keys: frozenset[str]) -> int:
        return sum(key.startswith(f"{split}/") for key in keys)

    def dataset(
        self, split: str, *, epoch: int | tf.Tensor | None = None, start: int | tf.Tensor = 0
    ) -> tf.data.Dataset:
        files = _Files(self._builder, self._native[self.check_split(split)])
        if epoch is None or not self._config.shuffle:
            records = tf.data.Dataset.range(files.count).flat_map(files.open)
        else:
            records = epochs.interleave_shards(
                files.open, files.count, self._config.seed, epoch, at_once=FILES_AT_ONCE, buffer=files.buffer
            )
        if self._masks:
            mask = tf.constant(self._masks[split])
            records = records.filter(lambda record: tf.gather(mask, record["place"]))
        features = {
            self._image: tf.io.FixedLenFeature([], tf.string),
            self._label: tf.io.FixedLenFeature([], tf.int64),
        }

        def element(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            example = tf.io.parse_single_example(record["serialized"], features)
            return {
                "image_bytes": example[self._image],
                "label": example[self._label],
                "key": tf.strings.join([split, record["id"]], "/"),
            }

        records = records.apply(tf.data.experimental.assert_cardinality(self.count(split)))
        return records.skip(start).map(element, num_parallel_calls=tf.data.AUTOTUNE)

    def _labels(self, native: str, first: int | None = None) -> np.ndarray:
        """The labels of the first examples of a split of TFDS in stored order, int64 [n]; all when None."""
        files = _Files(self._builder, native)
        feature = {self._label: tf.io.FixedLenFeature([], tf.int64)}
        records = tf.data.Dataset.range(files.count).flat_map(files.open).take(-1 if first is None else first)
        batches = records.batch(4096).map(lambda record: tf.io.parse_example(record["serialized"], feature))
        labels = [batch[self._label] for batch in batches.as_numpy_iterator()]
        return np.concatenate([np.zeros(0, np.int64), *labels])

    def _validation_split(self) -> str:
        built = self._builder.info.splits
        for name in ("validation", "test"):
            # Test splits of competitions are labelled -1.
            if name in built and built[name].num_examples and self._labels(name, 1)[0] >= 0:
                return name
        return "train"


class _Files:
    """The TFRecord files of a split of TFDS.

    TFDS would read them as well, but lays the order of the files down outside the graph.

    Attributes:
      count: how many there are.
      buffer: how many of their examples are shuffled among each other.
    """

    def __init__(self, builder: Any, native: str) -> None:
        split = builder.info.splits[native]
        paths = [Path(path).absolute() for path in split.filepaths]
        lengths = np.asarray(split.shard_lengths, np.int64)
        self.count = len(paths)
        self.buffer = epochs.buffer_for(split.num_examples, split.num_bytes)
        self._paths, self._names = tf.constant([str(p) for p in paths]), tf.constant([p.name for p in paths])
        self._starts = tf.constant(np.cumsum(lengths) - lengths)
        self._lengths = dict(zip((path.name for path in paths), lengths.tolist(), strict=True))

    def ids(self) -> list[bytes]:
        """TFDS's id of every example in stored order."""
        return [f"{name}__{i}".encode() for name, length in self._lengths.items() for i in range(length)]

    def open(self, number: tf.Tensor) -> tf.data.Dataset:
        """The examples of a file: `serialized`, `place` in the stored order of the split, TFDS's `id`."""
        name, start = tf.gather(self._names, number), tf.gather(self._starts, number)

        def record(index: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
            identity = tf.strings.join([name, tf.strings.as_string(index)], "__")
            return {"serialized": serialized, "place": start + index, "id": identity}

        return tf.data.TFRecordDataset(tf.gather(self._paths, number)).enumerate().map(record)


def _open(name: str) -> Any:
    """The builder of a data set that has been prepared."""
    try:
        with _notices_held():
            builder = tfds.builder(name)
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"tfds:{name}: TFDS knows no data set of this name; `tfds.list_builders()` lists them"
        ) from None
    except (ValueError, AssertionError, TypeError, KeyError, ImportError) as error:
        first_line = str(error).partition("\n")[0]
        raise DataError(f"tfds:{name}: TFDS cannot open this data set ({first_line})") from None
    if not builder.info.splits:
        manual = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        cure = f"run `tfds build {name}`"
        if manual:
            cure += ", having put the archives that it wants into downloads/manual/ of TFDS_DATA_DIR"
        raise DataError(f"tfds:{name}: not built in {builder.data_dir}; {cure}")
    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        raise DataError(
            f"tfds:{name}: built as {builder.info.file_format.value}, which TensorFlow cannot read; "
            f"run `tfds build {name} --file_format=tfrecord`"
        )
    return builder


def _feature(builder: Any, kind: type, usual_name: str) -> str:
    """The name of the only feature of some kind, or of the one with the usual name."""
    features = builder.info.features
    named = features.items() if isinstance(features, tfds.features.FeaturesDict) else ()
    found = [name for name, feature in named if isinstance(feature, kind)]
    if usual_name in found:
        return usual_name
    if len(found) != 1:
        raise DataError(
            f"tfds:{builder.name}: needs one {kind.__name__} feature; received {', '.join(found) or 'none'}"
        )
    return found[0]


@contextlib.contextmanager
def _notices_held() -> Iterator[None]:
    """Keeps back TFDS's warnings about its own deprecations and about data that are not built."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
