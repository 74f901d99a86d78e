"""ILSVRC-2012 as it is handed out: the official archives, the folders they unpack to, or Kaggle's folders.

  training:   DIR/ILSVRC2012_img_train.tar     the archive, read in place
              DIR/train/n01440764/*.JPEG       as it unpacks, each synset's archive into a folder of its own
              DIR/n01440764/*.JPEG
  validation: DIR/ILSVRC2012_img_val.tar       the archive, read in place
              DIR/val/ILSVRC2012_val_*.JPEG    as it unpacks
              DIR/val/n01440764/*.JPEG         sorted by synsets

Any of the first goes with any of the second; of several, the upper one is taken. Kaggle's root has the
folders in ILSVRC/Data/CLS-LOC/. Without validation pictures a share of the others is held out; validation
pictures alone can be evaluated. Class order: sorted synset ids, as in Caffe and torchvision.
"""

from __future__ import annotations

import collections
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.labels import find_names, is_synset
from pipelines.pictures.file_types import SUFFIXES
from pipelines.sources import archives
from pipelines.sources.archives import Member
from pipelines.sources.class_folders import list_classes, sub_folders
from pipelines.sources.listed import ListedSource, Listing, split_listing
from pipelines.sources.validation_synsets import is_validation, synsets_by_file

TRAIN_ARCHIVE, VAL_ARCHIVE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
# What the folders are called that the archives unpack to.
TRAIN_FOLDERS, VAL_FOLDERS = ("train", "ILSVRC2012_img_train"), ("val", "ILSVRC2012_img_val")
KAGGLE_FOLDERS = ("Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")
_PACKED = (".tar", ".tar.gz", ".tgz", ".zip")
_HERE = "DIR itself"
_NO_PICTURES = "files that are no pictures"

Reader = Callable[[tf.Tensor], tf.Tensor]
Counts = collections.Counter[str]


class Part(NamedTuple):
    """The training or the validation pictures.

    Attributes:
      place: the folder or the archive, as it is called in DIR.
      names: of the classes; labels are indices into them.
      listing: the pictures.
      reader: a graph function from a key to the picture's bytes.
      left_out: kind -> how many.
      numbered: whether the challenge's list labels them, which knows all of its synsets.
    """

    place: str
    names: tuple[str, ...]
    listing: Listing
    reader: Reader
    left_out: Counts
    numbered: bool = False


class ImagenetSource(ListedSource):
    """The layouts above; keys are `train/<synset>/<name>`, `val/<name>`, or paths below DIR.

    Raises:
      DataError: DIR holds none of them, an archive is damaged, or validation pictures cannot be used.
    """

    def __init__(self, config: DataConfig) -> None:
        root = Path(config.location).expanduser()
        base = next((root / below for below in KAGGLE_FOLDERS if (root / below).is_dir()), root)
        training, validation = _parts(root, base)
        self.held_out = validation is None
        found = {"train": training.listing} if training else {}
        left_out = training.left_out if training else Counts()
        if validation:
            chosen, others = (
                _of_the_same_classes(base, training, validation) if training else (validation.listing, 0)
            )
            found["val"] = chosen
            left_out = left_out + validation.left_out
            left_out += Counts({"validation pictures of other synsets": others})
        else:
            found = split_listing(found["train"], config)
        parts = [part for part in (training, validation) if part]
        super().__init__(config, parts[0].names, found)
        self._readers = {"train": parts[0].reader, "val": parts[-1].reader}
        self.left_out = +left_out
        names = find_names(self.class_names, dict.fromkeys((root, base, base / TRAIN_FOLDERS[0])))
        self.readable_names = names.names
        taken = [f"{part.place} for {split}" for split, part in zip(found, parts, strict=False)]
        taken += ["a share of it for val"] * self.held_out
        self.description = "; ".join(
            [
                f"{base}: {len(self.class_names)} classes, "
                f"{self.count('train')} + {self.count('val')} pictures ({', '.join(taken)})",
                *_passed_over(base, [part.place for part in parts]),
                *([names.note] if names.note else []),
            ]
        )

    def reader(self, split: str) -> Reader:
        return self._readers[self.check_split(split)]


def _parts(root: Path, base: Path) -> tuple[Part | None, Part | None]:
    """The training and the validation pictures; one of them may be missing."""
    if not root.is_dir():
        raise DataError(
            f"{root}: {'a file, not a folder' if root.exists() else 'no such folder'}; imagenet:DIR needs "
            f"{TRAIN_ARCHIVE} or folders named by synsets"
        )
    training = _training(base)
    validation = _validation(base, root)
    if training is None and validation is None:
        raise DataError(
            f"{root}: imagenet:DIR needs {TRAIN_ARCHIVE} or folders named by synsets; found neither"
        )
    return training, validation


def _training(base: Path) -> Part | None:
    if (base / TRAIN_ARCHIVE).is_file():
        return _training_archive(base / TRAIN_ARCHIVE)
    folder = next((name for name in TRAIN_FOLDERS if (base / name).is_dir()), "")
    _check_unpacked(base / folder)
    if folder or any(map(is_synset, sub_folders(base))):
        return _class_folders(base, folder)
    return None


def _validation(base: Path, root: Path) -> Part | None:
    if (base / VAL_ARCHIVE).is_file():
        return _validation_archive(base / VAL_ARCHIVE, root)
    folder = next((name for name in VAL_FOLDERS if (base / name).is_dir()), "")
    files, folders = _files(base / folder), sub_folders(base / folder) if folder else []
    numbered = any(map(is_validation, files))
    if numbered and folders:
        raise DataError(
            f"{base / folder}: sorted into folders in part: holds {folders[0]}/ beside {files[0]}; "
            "sort all of the pictures or none"
        )
    if numbered:
        return _numbered_files(base, folder, files, root)
    if folder and not folders:
        raise DataError(
            f"{base / folder}: holds neither ILSVRC2012_val_*.JPEG nor folders named by synsets; "
            "unpack the validation pictures there, or remove the folder"
        )
    return _class_folders(base, folder) if folder else None


def _class_folders(base: Path, folder: str) -> Part:
    """Pictures in class folders; where these lie in DIR itself, only those named by synsets count."""
    others = [] if folder else [name for name in sub_folders(base) if not is_synset(name)]
    found = list_classes(base, folder, leaving_out=others)
    place = f"{folder}/" if folder else _HERE
    return Part(place, found.names, found.listing, _file_reader(base), found.left_out)


def _numbered_files(base: Path, folder: str, files: Sequence[str], root: Path) -> Part:
    """Validation pictures in one folder."""
    keys = [f"{folder}/{name}" if folder else name for name in files if is_validation(name)]
    left_out = Counts({_NO_PICTURES: len(files) - len(keys)} if folder else {})
    return _numbered(f"{folder}/" if folder else _HERE, keys, _file_reader(base), left_out, root)


def _training_archive(path: Path) -> Part:
    """Training pictures: an archive of one archive for each synset."""
    left_out = Counts()
    with archives.opened(path) as archive:
        members = list(_pictures_of_synsets(archive, path, left_out))
    _check_distinct(path, [member.key for member in members])
    synsets = [member.key.split("/")[1] for member in members]
    names = tuple(sorted(set(synsets)))
    if len(names) < 2:
        raise DataError(f"{path}: must hold one archive for each of at least two synsets")
    label_of = {name: label for label, name in enumerate(names)}
    listing = Listing.of([member.key for member in members], [label_of[synset] for synset in synsets])
    return Part(path.name, names, listing, archives.reader(members), left_out)


def _pictures_of_synsets(archive: tarfile.TarFile, path: Path, left_out: Counts) -> Iterator[Member]:
    seen: set[str] = set()
    for synset in archives.members_of(archive):
        name = PurePosixPath(synset.name).name
        if synset.isdir() or _is_hidden(synset, left_out):
            continue
        if not synset.isreg() or not name.endswith(".tar"):
            raise DataError(f"{path}: {synset.name} is no archive of a synset")
        if name in seen:
            raise DataError(f"{path}: holds {name} twice; fetch it again")
        seen.add(name)
        count = 0
        with archives.opened_within(archive, synset) as pictures:
            for picture in _pictures(pictures, left_out):
                count += 1
                key = f"train/{name[:-4]}/{PurePosixPath(picture.name).name}"
                yield Member(key, path, synset.offset_data + picture.offset_data, picture.size)
        if not count:
            raise DataError(f"{path}: {synset.name} in it holds no pictures; fetch it again")


def _validation_archive(path: Path, root: Path) -> Part:
    left_out = Counts()
    with archives.opened(path) as archive:
        members = [
            Member(f"val/{PurePosixPath(picture.name).name}", path, picture.offset_data, picture.size)
            for picture in _pictures(archive, left_out)
        ]
    if not members:
        raise DataError(f"{path}: holds no pictures; fetch it again or remove it")
    keys = [member.key for member in members]
    _check_distinct(path, keys)
    return _numbered(path.name, keys, archives.reader(members), left_out, root)


def _pictures(archive: tarfile.TarFile, left_out: Counts) -> Iterator[tarfile.TarInfo]:
    """The members of an archive that are pictures by their names; counts the others."""
    for member in archives.members_of(archive):
        if member.isdir() or _is_hidden(member, left_out):
            continue
        if member.isreg() and os.path.splitext(member.name)[1].lower() in SUFFIXES:
            yield member
        else:
            left_out[_NO_PICTURES] += 1


def _is_hidden(member: tarfile.TarInfo, left_out: Counts) -> bool:
    """Whether a member is hidden, as the `._` files are that a Mac adds; counts it if so."""
    hidden = PurePosixPath(member.name).name.startswith(".")
    left_out["hidden files"] += hidden
    return hidden


def _numbered(place: str, keys: Sequence[str], reader: Reader, left_out: Counts, root: Path) -> Part:
    """Validation pictures that the challenge's list labels by their numbers."""
    names, synset_of = synsets_by_file(root)
    label_of = {name: label for label, name in enumerate(names)}
    labelled = [(key, label_of[s]) for key in sorted(keys) if (s := synset_of(PurePosixPath(key).name))]
    if not labelled:
        raise DataError(
            f"{place}: none of its {len(keys)} pictures is called ILSVRC2012_val_NNNNNNNN.JPEG, "
            f"as the challenge's are, for example {keys[0]}"
        )
    left_out["validation pictures without a known number"] += len(keys) - len(labelled)
    listing = Listing.of([key for key, _ in labelled], [label for _, label in labelled])
    return Part(place, names, listing, reader, left_out, numbered=True)


def _of_the_same_classes(base: Path, training: Part, validation: Part) -> tuple[Listing, int]:
    """The validation pictures labelled as the training pictures are, and how many are of other synsets."""
    if not validation.numbered and training.names != validation.names:
        lacking = sorted(set(training.names).symmetric_difference(validation.names))
        raise DataError(
            f"{base}: {training.place} and {validation.place} must hold the same synsets; "
            f"only one of them has {', '.join(lacking[:3])}"
        )
    positions = {name: label for label, name in enumerate(training.names)}
    relabelled = np.array([positions.get(name, -1) for name in validation.names], np.int64)
    labels = relabelled[validation.listing.labels]
    chosen = labels >= 0
    if not chosen.any():
        raise DataError(
            f"{base}: none of the {len(labels)} pictures of {validation.place} shows one of the "
            f"{len(training.names)} classes of {training.place}, for example {training.names[0]}"
        )
    return Listing(validation.listing.keys[chosen], labels[chosen]), int((~chosen).sum())


def _check_unpacked(folder: Path) -> None:
    """Raises DataError when the training archive was unpacked, but not all of the archives in it."""
    packed = [name for name in _files(folder) if name.endswith(".tar") and is_synset(name[:-4])]
    missing = [name for name in packed if not (folder / name[:-4]).is_dir()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} archives of synsets are still to be unpacked, each into a folder "
            f"of its name ({missing[0]} into {missing[0][:-4]}/); {TRAIN_ARCHIVE} itself is read as it is"
        )


def _check_distinct(path: Path, keys: Sequence[str]) -> None:
    key, count = collections.Counter(keys).most_common(1)[0] if keys else ("", 0)
    if count > 1:
        raise DataError(f"{path}: holds {key.partition('/')[2]} {count} times; fetch it again")


def _passed_over(base: Path, taken: Sequence[str]) -> list[str]:
    """A phrase about the folders and archives in DIR that are not used, if there are any."""
    used = {place.rstrip("/") for place in taken}
    rest = [f"{name}/" for name in sub_folders(base) if name not in used]
    if taken[0] == _HERE:
        rest = [name for name in rest if not is_synset(name[:-1])]
    rest += [name for name in _files(base) if name.endswith(_PACKED) and name not in used]
    more = f" and {len(rest) - 3} more" if len(rest) > 3 else ""
    return [f"{', '.join(rest[:3])}{more} passed over"] if rest else []


def _files(folder: Path) -> list[str]:
    """The files of a folder by name, sorted; hidden ones left out."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())


def _file_reader(base: Path) -> Reader:
    # Absolute: a data service may have another working directory.
    prefix = os.fsencode(base.absolute()) + b"/"
    return lambda key: tf.io.read_file(prefix + key)
