"""Data sets of TensorFlow Datasets, read as encoded pictures."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipelines.config import DataConfig, DataError
from pipelines.sources import (
    EPOCH_ORDER,
    Source,
    check_split,
    generator,
    held_out,
    shuffle_in_blocks,
)

# In an epoch's order the stored order is cut into this many pieces, whose order changes, and pictures
# are shuffled within a window of this many bytes: a small set whole, ImageNet some thousand at a time.
PIECES, SHUFFLE_BYTES = 256, 128 << 20


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
        splits = builder.info.splits
        if "train" not in splits:
            raise DataError(f"{config.spec}: has no `train` split, only {', '.join(splits) or 'none'}")
        self._native = {"train": "train", "val": self._validation_split()}
        self._masks: dict[str, np.ndarray] = {}
        if self._native["val"] == "train":
            held = held_out(self._labels("train"), config.val_fraction, config.seed)
            self._masks = {"train": ~held, "val": held}
        self.description = (
            f"{config.location} {builder.info.version} of TFDS: {len(self.class_names)} classes,"
            f" {self.count('train')} + {self.count('val')} pictures"
        )

    def count(self, split: str) -> int:
        if self._masks:
            return int(self._masks[check_split(split)].sum())
        return int(self._builder.info.splits[self._native[check_split(split)]].num_examples)

    def count_keys(self, split: str, keys: frozenset[str]) -> int:
        return sum(key.startswith(f"{split}/") for key in keys)

    def dataset(self, split: str, *, epoch: int | None = None, start: int = 0) -> tf.data.Dataset:
        stored = self._builder.info.splits[self._native[check_split(split)]]
        total = stored.num_examples
        if not self._config.shuffle:
            epoch = None
        bounds = np.linspace(0, total, 2 if epoch is None else min(PIECES, total) + 1).astype(int).tolist()
        pieces = list(itertools.pairwise(bounds))
        if epoch is not None:
            order = generator(self._config.seed, EPOCH_ORDER, epoch).permutation(len(pieces))
            pieces = [pieces[i] for i in order]
        examples = self._read("+".join(f"{stored.name}[{first}:{last}]" for first, last in pieces))
        if self._masks:
            mask = np.concatenate([self._masks[split][first:last] for first, last in pieces])
            kept = tf.data.Dataset.zip(examples, tf.data.Dataset.from_tensor_slices(mask))
            examples = kept.filter(lambda _, keep: keep).map(lambda example, _: example)
        if epoch is not None:
            block = int(np.clip(SHUFFLE_BYTES * total // max(1, stored.num_bytes), 1024, 65536))
            examples = shuffle_in_blocks(examples, block, self._config.seed, epoch)
        if start:
            examples = examples.skip(start)

        def element(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {
                "image_bytes": example[self._image],
                "label": tf.cast(example[self._label], tf.int64),
                "key": tf.strings.join([split, example["tfds_id"]], "/"),
            }

        left = max(0, self.count(split) - start)
        return examples.map(element).apply(tf.data.experimental.assert_cardinality(left))

    def _read(self, native: str, *features: str) -> tf.data.Dataset:
        """A split, or slices of one, of TFDS in stored order; images stay encoded."""
        wanted = features or (self._image, self._label)
        skip = {self._image: tfds.decode.SkipDecoding()} if self._image in wanted else None
        try:
            with _notices_held():
                return self._builder.as_dataset(
                    split=native,
                    decoders=tfds.decode.PartialDecoding(dict.fromkeys(wanted, True), decoders=skip),
                    # One file after the other: slices of a split then follow each other as they are stored.
                    read_config=tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1),
                    shuffle_files=False,
                )
        except NotImplementedError as error:
            raise DataError(f"{self._config.spec}: TFDS cannot read it with TensorFlow ({error})") from None

    def _labels(self, native: str) -> np.ndarray:
        """The labels of a split of TFDS in stored order, int64 [n]."""
        batches = self._read(native, self._label).map(lambda example: example[self._label]).batch(4096)
        return np.concatenate([np.zeros(0, np.int64), *batches.as_numpy_iterator()]).astype(np.int64)

    def _validation_split(self) -> str:
        splits = self._builder.info.splits
        for name in ("validation", "test"):
            # Test splits of competitions are labelled -1.
            if name in splits and splits[name].num_examples and self._labels(f"{name}[:1]")[0] >= 0:
                return name
        return "train"


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
