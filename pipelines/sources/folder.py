"""Pictures in class folders: DIR/<class>/, or DIR/train/<class>/ and the same for `val` and `test`."""

from __future__ import annotations

import collections
import os
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.labels import readable_names
from pipelines.sources.class_folders import ClassFolders, holds_picture, list_classes, sub_folders
from pipelines.sources.listed import ListedSource, split_listing

# What the folders of the splits are called, in small letters.
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


class FolderSource(ListedSource):
    """Class folders on disk; labels follow the sorted folder names, keys are paths below DIR.

    Sub-folders of a class belong to it. Without DIR/val a share of the training pictures is held out;
    DIR/test is for evaluation alone. Without DIR/train there is nothing to train on, only to evaluate.

    Raises:
      DataError: when the folder is missing or empty, holds fewer than two classes or a class without
        pictures, when `train` and `val` hold different classes, or when it is not clear what is a split.
    """

    _flat: tuple[str, ...] = ()  # splits whose pictures need no class folders

    def __init__(self, config: DataConfig) -> None:
        self._root = root = existing_folder(config)
        layout = find_layout(root, self._flat)
        listed = {split: self._list_split(split, folder) for split, folder in layout.splits.items()}
        left_out = sum((part.left_out for part in listed.values()), collections.Counter())
        names = next(iter(listed.values())).names
        _check_same_classes(root, layout.splits, listed)
        test = listed.get("test")
        if test is not None and test.names != names:
            left_out[f"pictures of {layout.splits['test']}/, whose classes are others"] += len(
                test.listing.labels
            )
            del listed["test"]
        found = {split: part.listing for split, part in listed.items()}
        self.held_out = "val" not in found and "train" in found
        if self.held_out:
            found |= split_listing(found["train"], config)
        super().__init__(config, names, found)
        self.left_out = left_out
        self.readable_names = readable_names(
            names, (root, *(root / below for below in layout.splits.values()))
        )
        self.description = f"{root}: {len(names)} classes, {self._counted(layout, listed)}"

    def _list_split(self, split: str, below: str) -> ClassFolders:
        """What lies in the folder of a split."""
        return list_classes(self._root, below)

    def _counted(self, layout: Layout, listed: dict[str, ClassFolders]) -> str:
        """How many pictures there are, and what was taken for which split."""
        words = f"{self.count('train')} + {self.count('val')} pictures"
        if any(layout.splits.values()):
            taken = [f"{layout.splits[split]}/ for {split}" for split in listed]
            taken += [f"a share of {layout.splits['train']}/ for val"] if self.held_out else []
            words += f" ({', '.join(taken)})"
        if "test" in self.splits:
            words += f", {self.count('test')} to test"
        nested = sum(part.nested for part in listed.values())
        words += f", {nested} of them in sub-folders of their class" if nested else ""
        return words + "".join(f"; {name}/ passed over" for name in layout.passed_over)

    def reader(self, split: str) -> Callable[[tf.Tensor], tf.Tensor]:
        # Absolute: a data service may have another working directory.
        prefix = os.fsencode(self._root.absolute()) + b"/"
        return lambda key: tf.io.read_file(prefix + key)


class Layout(NamedTuple):
    """Which folder holds which split.

    Attributes:
      splits: split -> the folder's name; the empty name for class folders that lie in DIR itself.
      passed_over: folders that belong to no split.
    """

    splits: dict[str, str]
    passed_over: tuple[str, ...] = ()


def existing_folder(config: DataConfig) -> Path:
    """The folder that a SPEC names.

    Raises:
      DataError: there is none.
    """
    root = Path(config.location).expanduser()
    if root.is_dir():
        return root
    if root.is_file() and (tarfile.is_tarfile(root) or zipfile.is_zipfile(root)):
        raise DataError(f"{root}: an archive, not a folder; unpack it and give the folder with its pictures")
    reason = "a file, not a folder" if root.exists() else "no such folder"
    raise DataError(f"{root}: {reason}; {config.kind}:DIR needs one sub-folder of pictures for each class")


def find_layout(root: Path, flat: Sequence[str] = ()) -> Layout:
    """Tells folders of splits from class folders.

    A folder with the name of a split, in any letter case, is one when class folders lie in it; else a class
    may be called so.

    Args:
      root: the data set's folder.
      flat: splits whose folder needs no class folders.

    Raises:
      DataError: two folders stand for the same split, or class folders lie beside them.
    """
    folders = sub_folders(root)
    named = {name: split for name in folders if (split := _split_named(name))}
    found = {name: split for name, split in named.items() if split in flat or sub_folders(root / name)}
    if not found:
        return Layout({"train": ""})
    splits: dict[str, str] = {}
    for name, split in found.items():
        if split in splits:
            raise DataError(
                f"{root}: both {splits[split]}/ and {name}/ could hold the {split} pictures; "
                "rename or remove one of them"
            )
        splits[split] = name
    beside = [name for name in folders if name not in found]
    empty = next((name for name in beside if named.get(name) == "val"), None)
    if empty is not None and "train" in splits:
        raise DataError(
            f"{root / empty}: holds no class folders, and so cannot be the val split of {splits['train']}/; "
            "sort its pictures into class folders, or remove it"
        )
    if len(splits) == 1 or "train" not in splits:
        _check_no_classes_beside(root, list(splits.values()), [name for name in beside if name not in named])
    order = [split for split in SPLIT_FOLDERS if split in splits]
    return Layout({split: splits[split] for split in order}, tuple(beside))


def _split_named(folder: str) -> str | None:
    """The split that a folder's name stands for."""
    return next((split for split, names in SPLIT_FOLDERS.items() if folder.lower() in names), None)


def _check_no_classes_beside(root: Path, splits: Sequence[str], beside: Sequence[str]) -> None:
    """Raises DataError when class folders lie beside the folders of splits."""
    classes = [name for name in beside if holds_picture(root / name)]
    if classes:
        shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
        raise DataError(
            f"{root}: {' and '.join(f'{name}/' for name in splits)} could be a split, and {shown} beside it "
            "classes; move the class folders into train/, or put all of them there if all are classes"
        )


def _check_same_classes(root: Path, folders: dict[str, str], listed: dict[str, ClassFolders]) -> None:
    """Raises DataError unless the training and the validation pictures are of the same classes."""
    if "train" not in listed or "val" not in listed:
        return
    train, val = set(listed["train"].names), set(listed["val"].names)
    lacking = ((folders["val"], sorted(train - val)), (folders["train"], sorted(val - train)))
    differences = [f"{folder}/ lacks {', '.join(names[:3])}" for folder, names in lacking if names]
    if differences:
        raise DataError(
            f"{root}: {folders['train']}/ and {folders['val']}/ must hold the same class folders; "
            f"{'; '.join(differences)}"
        )
