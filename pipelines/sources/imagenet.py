"""ILSVRC-2012 as it is handed out: the official archives, or the folders they unpack to.

  DIR/ILSVRC2012_img_train.tar, DIR/ILSVRC2012_img_val.tar     read in place
  DIR/train/n01440764/*.JPEG, DIR/val/ILSVRC2012_val_*.JPEG    as the archives unpack
  DIR/train/n01440764/*.JPEG, DIR/val/n01440764/*.JPEG         with the validation pictures sorted
  DIR/n01440764/*.JPEG                                         a seeded share is held out

Class order: sorted synset ids, as in Caffe and torchvision.
"""

from __future__ import annotations

import collections
import importlib.util
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.labels import readable_names
from pipelines.sources.class_folders import ClassFolders
from pipelines.sources.folder import FolderSource
from pipelines.sources.listed import ListedSource, Listing, split_listing
from pipelines.sources.source import Source, encode_key

TRAIN_ARCHIVE, VAL_ARCHIVE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
# The synset of each validation picture in the order of their numbers, as TFDS carries it: without it a
# user would have to fetch the development kit as well.
VAL_SYNSETS = "datasets/imagenet2012/validation_labels.txt"
_VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def open_imagenet(config: DataConfig) -> Source:
    """Opens whichever of the layouts above DIR holds.

    Raises:
      DataError: DIR is none of them, or an archive is damaged.
    """
    root = Path(config.location).expanduser()
    if (root / TRAIN_ARCHIVE).is_file():
        return ArchiveSource(config)
    if not root.is_dir() or not any(entry.is_dir() for entry in root.iterdir()):
        raise DataError(
            f"{root}: imagenet:DIR needs {TRAIN_ARCHIVE} or folders named by synsets; found neither"
        )
    if (root / "val").is_dir() and any(_VAL_NAME.fullmatch(name) for name in os.listdir(root / "val")):
        return UnpackedSource(config)
    return FolderSource(config)


class UnpackedSource(FolderSource):
    """Training pictures in class folders, validation pictures in one folder as their archive unpacks."""

    _flat = ("val",)

    def _list_split(self, split: str, below: str) -> ClassFolders:
        if split != "val":
            return super()._list_split(split, below)
        names = super()._list_split("train", "train").names
        files = sorted(os.listdir(self._root / below))
        keys, labels = _label_validation([f"{below}/{name}" for name in files], names)
        passed_over = collections.Counter({"files of other names": len(files) - len(keys)})
        return ClassFolders(names, Listing.of(keys, labels), 0, +passed_over)


class ArchiveSource(ListedSource):
    """The official archives, read in place; keys are `train/<synset>/<name>` and `val/<name>`.

    Raises:
      DataError: an archive is damaged or holds something else.
    """

    def __init__(self, config: DataConfig) -> None:
        root = Path(config.location).expanduser()
        members = [
            (encode_key(key), str(path.absolute()), offset, size)
            for path, list_members in (
                (root / TRAIN_ARCHIVE, _train_members),
                (root / VAL_ARCHIVE, _val_members),
            )
            for key, offset, size in _members(path, list_members)
        ]
        self._places = _Places(members)
        train_keys = [key.decode() for key, *_ in members if key.startswith(b"train/")]
        synsets = [key.split("/")[1] for key in train_keys]
        names = tuple(sorted(set(synsets)))
        if len(names) < 2:
            raise DataError(f"{root / TRAIN_ARCHIVE}: must hold one archive for each of at least two synsets")
        label_of = {name: label for label, name in enumerate(names)}
        training = Listing.of(train_keys, [label_of[synset] for synset in synsets])
        val_keys, val_labels = _label_validation(
            [key.decode() for key, *_ in members if key.startswith(b"val/")], names
        )
        self.held_out = not val_keys
        found = (
            split_listing(training, config)
            if self.held_out
            else {"train": training, "val": Listing.of(val_keys, val_labels)}
        )
        super().__init__(config, names, found)
        self.readable_names = readable_names(names, (root,))
        self.description = (
            f"{root}: {len(names)} classes, {self.count('train')} + {self.count('val')} pictures in archives"
        )

    def reader(self, split: str) -> Callable[[tf.Tensor], tf.Tensor]:
        return self._places.read


class _Places:
    """Where pictures lie in archives that are not compressed.

    Args:
      members: (key, archive, offset, size), the last two in bytes.
    """

    def __init__(self, members: list[tuple[bytes, str, int, int]]) -> None:
        keys, archives, offsets, sizes = zip(*members, strict=True) if members else ((), (), (), ())
        rows = tf.lookup.KeyValueTensorInitializer(
            tf.constant(keys, tf.string), tf.range(len(keys), dtype=tf.int64)
        )
        self._rows = tf.lookup.StaticHashTable(rows, default_value=-1)
        self._archives = tf.constant(archives, tf.string)
        lengths = {name: os.path.getsize(name) for name in set(archives)}
        self._places = tf.constant([offsets, sizes, [lengths[name] for name in archives]], tf.int64)

    def read(self, key: tf.Tensor) -> tf.Tensor:
        """The bytes of one picture, by TensorFlow alone."""
        row = self._rows.lookup(key)
        offset, size, total = tf.unstack(tf.gather(self._places, row, axis=1))
        # The only reader of TensorFlow that starts in the middle of a file.
        return tf.data.FixedLengthRecordDataset(
            tf.gather(self._archives, row),
            record_bytes=size,
            header_bytes=offset,
            footer_bytes=total - offset - size,
        ).get_single_element()


def _members(
    path: Path, members: Callable[[tarfile.TarFile], Iterator[tuple[str, int, int]]]
) -> list[tuple[str, int, int]]:
    """(key, offset, size) of the pictures in an archive; none when it does not exist."""
    if not path.is_file():
        return []
    try:
        with tarfile.open(path, "r:") as archive:
            return list(members(archive))
    except tarfile.TarError as error:
        raise DataError(f"{path}: damaged archive ({error}); fetch it again") from None


def _train_members(archive: tarfile.TarFile) -> Iterator[tuple[str, int, int]]:
    for synset in archive:
        content = archive.extractfile(synset)
        if content is None or not synset.name.endswith(".tar"):
            raise DataError(f"{TRAIN_ARCHIVE}: {synset.name} is no archive of a synset")
        with tarfile.open(fileobj=content, mode="r:") as pictures:
            # Nothing is compressed, so that a picture lies whole at one place of the outer archive.
            for picture in pictures:
                key = f"train/{Path(synset.name).stem}/{Path(picture.name).name}"
                yield key, synset.offset_data + picture.offset_data, picture.size


def _val_members(archive: tarfile.TarFile) -> Iterator[tuple[str, int, int]]:
    for picture in archive:
        if picture.isfile():
            yield f"val/{Path(picture.name).name}", picture.offset_data, picture.size


def _label_validation(keys: list[str], class_names: tuple[str, ...]) -> tuple[list[str], list[int]]:
    """The validation pictures of some synsets and their labels, by the number in their names."""
    label_of = {name: label for label, name in enumerate(class_names)}
    synsets = _validation_synsets()
    kept: list[str] = []
    labels: list[int] = []
    for key in sorted(keys):
        match = _VAL_NAME.fullmatch(Path(key).name)
        if match and 1 <= int(match[1]) <= len(synsets) and synsets[int(match[1]) - 1] in label_of:
            kept.append(key)
            labels.append(label_of[synsets[int(match[1]) - 1]])
    return kept, labels


def _validation_synsets() -> list[str]:
    # The package is found, not imported: that alone would take a second.
    found = importlib.util.find_spec("tensorflow_datasets")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        path = Path(folder) / VAL_SYNSETS
        if path.is_file():
            return path.read_text(encoding="utf-8").split()
    raise DataError(
        f"imagenet: the installed tensorflow-datasets lacks {VAL_SYNSETS}; install the pinned version"
    )
