"""Data sets of TensorFlow Datasets, read as encoded pictures."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipelines import epochs
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.labels import readable_names
from pipelines.sources import splits, tfds_features
from pipelines.sources.options import parse_options
from pipelines.sources.source import SPLITS, BrokenPicture, Example, Source, encode_key

FILES_AT_ONCE = 8  # read in turn in an epoch's order
LOOKED_AT = 1000  # examples of a split, to see whether it has labels
NO_LABEL = "has no label (-1)"


class TfdsSource(Source):
    """A prepared data set of TFDS with one image and one class label an example.

    `val` is its `validation` split, else its `test` split when that has labels, else a seeded share of
    `train`; beside a `validation` split, `test` is one for evaluation alone. Data are looked for where
    TFDS_DATA_DIR says. Keys are the split and TFDS's own id. Of several images or labels the SPEC chooses:
    `tfds:NAME?image=FEATURE&label=FEATURE`. Examples whose label is -1, which stands for none, are left
    out: at once where labels are read to hold out a share, else as pictures that cannot be used.

    Raises:
      DataError: no data set of this name, not built yet, or not one of labelled images.
    """

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        name, options = parse_options(config, {"image": "FEATURE", "label": "FEATURE"})
        self._builder = builder = _open(name)
        self._image, self._label = tfds_features.choose(builder, options, config.spec)
        self._encoded = tfds_features.encoded(builder.info.features[self._image], self._image)
        label = builder.info.features[self._label]
        self.class_names = tuple(label.int2str(i) for i in range(label.num_classes))
        self.readable_names = readable_names(self.class_names, ())
        self._native, unlabelled = self._splits(config.spec)
        self.splits = tuple(dict.fromkeys((*SPLITS, *self._native)))
        self._masks = {split: np.ones(self._stored(split), bool) for split in self.splits}
        if "val" not in self._native:
            self._hold_out(config)
        self._whole = self._masks
        self.description = (
            f"{name} {builder.info.version} of TFDS: {len(self.class_names)} classes,"
            f" {self.count('train')} + {self.count('val')} pictures"
            + "".join(
                f", its {native} split for {split}"
                for split, native in self._native.items()
                if split != native
            )
            + "".join(f"; its {native} split has no labels" for native in unlabelled)
        )

    def count(self, split: str) -> int:
        return int(self._masks[self.check_split(split)].sum())

    def fingerprints(self, split: str) -> np.ndarray:
        mask = self._whole[self.check_split(split)]
        return splits.fingerprints(name for name, kept in zip(self._ids(split), mask, strict=True) if kept)

    def dataset(
        self, split: str, *, epoch: int | tf.Tensor | None = None, start: int | tf.Tensor = 0
    ) -> tf.data.Dataset:
        mask = self._masks[self.check_split(split)]
        # Also of a split that the data set lacks the elements, of which there are none, have their form.
        files = _Files(self._builder, self._native.get(split) or next(iter(self._native.values())))
        if epoch is None or not self._config.shuffle:
            records = tf.data.Dataset.range(files.count).flat_map(files.open)
        else:
            records = epochs.interleave_shards(
                files.open, files.count, self._config.seed, epoch, at_once=FILES_AT_ONCE, buffer=files.buffer
            )
        if not mask.all():
            chosen = tf.constant(mask)
            records = records.filter(lambda record: tf.gather(chosen, record["place"]))
        features = {
            self._image: tf.io.FixedLenFeature([], tf.string),
            self._label: tf.io.FixedLenFeature([], tf.int64),
        }

        def element(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            example = tf.io.parse_single_example(record["serialized"], features)
            label, stored = example[self._label], example[self._image]
            return {
                # Nothing can be decoded from nothing, so that no example without a label is ever trained on.
                "image_bytes": tf.cond(label < 0, lambda: tf.constant(b""), lambda: self._encoded(stored)),
                "label": label,
                "key": tf.strings.join([split, record["id"]], "/"),
            }

        if split not in self._native:
            records = records.take(0)
        records = records.apply(tf.data.experimental.assert_cardinality(self.count(split)))
        return records.skip(start).map(element, num_parallel_calls=tf.data.AUTOTUNE)

    def pick(self, split: str, positions: Sequence[int]) -> Iterator[Example]:
        """As in Source; an example without a label raises BrokenPicture."""

        def labelled(example: Example) -> Example:
            if example.label < 0:
                raise BrokenPicture(example.key, example.label, NO_LABEL)
            return example

        # A map object goes on after an exception, where a generator would have ended.
        return map(labelled, super().pick(split, positions))

    def without(self, keys: Iterable[str]) -> TfdsSource:
        dropped = {encode_key(key) for key in keys}
        if not dropped:
            return self
        remainder = copy.copy(self)
        remainder._masks = {
            split: mask & [b"%s/%s" % (split.encode(), name) not in dropped for name in self._ids(split)]
            for split, mask in self._masks.items()
        }
        return remainder

    def _ids(self, split: str) -> list[bytes]:
        native = self._native.get(split)
        return _Files(self._builder, native).ids() if native else []

    def _stored(self, split: str) -> int:
        native = self._native.get(split)
        return int(self._builder.info.splits[native].num_examples) if native else 0

    def _splits(self, spec: str) -> tuple[dict[str, str], list[str]]:
        """Our splits -> those of TFDS; and those of TFDS that have no labels, as in competitions."""
        built = {name: split for name, split in self._builder.info.splits.items() if split.num_examples}
        beside = [name for name in ("validation", "test") if name in built]
        labelled = [name for name in beside if (self._labels(name, LOOKED_AT) >= 0).any()]
        native = dict(zip(("val", "test"), labelled, strict=False))
        if "train" in built:
            native = {"train": "train", **native}
        if not native:
            raise DataError(
                f"{spec}: has no `train`, `validation` or `test` split with labels, only"
                f" {', '.join(self._builder.info.splits) or 'none'}"
            )
        return native, [name for name in beside if name not in labelled]

    def _hold_out(self, config: DataConfig) -> None:
        """Makes `val` a share of the training examples that have labels."""
        labels = self._labels("train")
        place = np.flatnonzero(labels >= 0)
        if not len(place):
            raise DataError(f"{config.spec}: no example of its `train` split has a label")
        ids = self._ids("train")
        chosen = splits.held_out(
            [ids[i] for i in place], labels[place], config.val_fraction, config.data_seed
        )
        self._masks = {split: np.zeros(len(labels), bool) for split in SPLITS}
        self._masks["train"][place[~chosen]] = self._masks["val"][place[chosen]] = True
        self._native["val"], self.held_out = "train", True
        if len(place) < len(labels):
            self.left_out = {"examples without a label (-1)": len(labels) - len(place)}

    def _labels(self, native: str, first: int = -1) -> np.ndarray:
        """The labels of the first examples of a split of TFDS in stored order, int64 [n]; all for -1."""
        files = _Files(self._builder, native)
        feature = {self._label: tf.io.FixedLenFeature([], tf.int64)}
        records = tf.data.Dataset.range(files.count).flat_map(files.open).take(first)
        batches = records.batch(4096).map(lambda record: tf.io.parse_example(record["serialized"], feature))
        labels = [batch[self._label] for batch in batches.as_numpy_iterator()]
        return np.concatenate([np.zeros(0, np.int64), *labels])


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
