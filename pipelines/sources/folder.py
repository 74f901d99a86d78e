"""Pictures in class folders: DIR/<class>/, or DIR/train/<class>/ and optionally DIR/val/<class>/."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.labels import readable_names
from pipelines.pictures.file_types import SUFFIXES
from pipelines.sources.listed import ListedSource, Listing, split_listing


class FolderSource(ListedSource):
    """Class folders on disk; labels follow the sorted folder names, keys are paths below DIR.

    Raises:
      DataError: when the folder is missing or empty, holds fewer than two classes or a class without
        pictures, or when `train` and `val` hold different classes.
    """

    def __init__(self, config: DataConfig) -> None:
        self._root = root = Path(config.location).expanduser()
        if not root.is_dir():
            raise DataError(
                f"{root}: no such folder; folder:DIR needs one sub-folder of pictures for each class"
            )
        below = "train" if _is_split_folder(root / "train") else ""
        names, training, ignored = _list_classes(root, below)
        found = {"train": training}
        if below:
            validation, ignored_too = self._validation(names)
            found |= validation
            ignored += ignored_too
        self.held_out = "val" not in found
        if self.held_out:
            found = split_listing(training, config)
        if not len(found["val"].labels):
            raise DataError(
                f"{root}: one picture a class leaves none to hold out; add pictures or a val/ folder"
            )
        super().__init__(config, names, found)
        self.readable_names = readable_names(names, (root, root / "train"))
        self.description = (
            f"{root}: {len(names)} classes, {self.count('train')} + {self.count('val')} pictures"
            + (f" ({ignored} other files ignored)" if ignored else "")
        )

    def _validation(self, names: tuple[str, ...]) -> tuple[dict[str, Listing], int]:
        """The listing of DIR/val/, if there is one, and how many of its files were ignored."""
        if not (self._root / "val").is_dir():
            return {}, 0
        val_names, listing, ignored = _list_classes(self._root, "val")
        _check_same_classes(self._root, names, val_names)
        return {"val": listing}, ignored

    def reader(self, split: str) -> Callable[[tf.Tensor], tf.Tensor]:
        # Absolute: a data service may have another working directory.
        prefix = os.fsencode(self._root.absolute()) + b"/"
        return lambda key: tf.io.read_file(prefix + key)


def _is_split_folder(folder: Path) -> bool:
    """Whether `train` holds class folders; a class may be called `train` too, then it holds pictures."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.is_dir() for entry in entries)


def _list_classes(root: Path, below: str) -> tuple[tuple[str, ...], Listing, int]:
    """Lists the pictures under root/below/<class>/.

    Returns:
      The sorted class names, the listing with keys relative to `root`, and how many files were ignored
      because their names are not those of pictures.
    """
    top = root / below
    with os.scandir(top) as entries:
        names = tuple(
            sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        )
    if any("\n" in name for name in names):
        raise DataError(f"{top}: a class folder's name must be one line; received {names!r}")
    if not names:
        raise DataError(
            f"{top}: holds no class folders; put the pictures of each class into a folder of its own"
        )
    keys: list[str] = []
    labels: list[int] = []
    ignored = 0
    for label, name in enumerate(names):
        with os.scandir(top / name) as entries:
            files = [entry.name for entry in entries if not entry.is_dir()]
        pictures = sorted(file for file in files if os.path.splitext(file)[1].lower() in SUFFIXES)
        if not pictures:
            raise DataError(
                f"{top / name}: no pictures ({', '.join(sorted(SUFFIXES))}) in this class;"
                " add some or remove the folder"
            )
        ignored += len(files) - len(pictures)
        prefix = f"{below}/{name}" if below else name
        keys += [f"{prefix}/{file}" for file in pictures]
        labels += [label] * len(pictures)
    if len(names) == 1:
        raise DataError(f"{top}: only one class ({names[0]}); at least two class folders are needed")
    return names, Listing.of(keys, labels), ignored


def _check_same_classes(root: Path, train: tuple[str, ...], val: tuple[str, ...]) -> None:
    missing, surplus = sorted(set(train) - set(val)), sorted(set(val) - set(train))
    if missing or surplus:
        differences = [f"val/ lacks {', '.join(missing[:3])}"] * bool(missing)
        differences += [f"train/ lacks {', '.join(surplus[:3])}"] * bool(surplus)
        raise DataError(f"{root}: train/ and val/ must hold the same class folders; {'; '.join(differences)}")
