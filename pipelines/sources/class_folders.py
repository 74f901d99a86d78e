"""Class folders on disk: which classes there are, which pictures they hold, and what else lies in them."""

from __future__ import annotations

import collections
import os
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import DataError
from pipelines.pictures import file_types
from pipelines.pictures.file_types import SUFFIXES
from pipelines.sources.listed import Listing

HIDDEN_FILES, HIDDEN_FOLDERS = "hidden files", "hidden folders"
# What an archive made on a Mac unpacks beside the files: their resource forks, under the same names.
_RESOURCE_FORKS = "__MACOSX"


class ClassFolders(NamedTuple):
    """What lies under a folder of class folders.

    Attributes:
      names: of the classes, sorted, their letters composed (NFC).
      listing: the pictures, with keys relative to the data set's folder.
      nested: how many of them lie in sub-folders of their class.
      left_out: files that are no pictures by their names: kind -> how many.
    """

    names: tuple[str, ...]
    listing: Listing
    nested: int
    left_out: collections.Counter[str]


def list_classes(root: Path, below: str = "", leaving_out: Collection[str] = ()) -> ClassFolders:
    """Lists the pictures under root/below/<class>/, at any depth.

    Hidden files and folders, those whose names begin with a dot, are never looked at as pictures.

    Args:
      root: the data set's folder.
      below: where in it the class folders lie.
      leaving_out: folders there that are no classes.

    Raises:
      DataError: there are fewer than two classes, one without pictures, or one whose name cannot be used.
    """
    top = root / below
    folders = _by_class_name(top, leaving_out)
    if not folders:
        raise DataError(
            f"{top}: holds no class folders; put the pictures of each class into a folder of its own"
        )
    keys: list[str] = []
    labels: list[int] = []
    nested, left_out = 0, collections.Counter[str]()
    for label, folder in enumerate(folders.values()):
        own = collections.Counter[str]()
        pictures = sorted(_pictures_below(top / folder, own))
        if not pictures:
            raise DataError(f"{top / folder}: {_without_pictures(top / folder, own)}")
        prefix = f"{below}/{folder}" if below else folder
        keys += [f"{prefix}/{picture}" for picture in pictures]
        labels += [label] * len(pictures)
        nested += sum("/" in picture for picture in pictures)
        left_out += own
    names = tuple(folders)
    if len(names) == 1:
        raise DataError(f"{top}: only one class ({names[0]}); at least two class folders are needed")
    return ClassFolders(names, Listing.of(keys, labels), nested, left_out)


def sub_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, hidden ones left out, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name))


def holds_picture(folder: Path) -> bool:
    """Whether a picture lies in a folder or below it."""
    return next(_pictures_below(folder, collections.Counter()), None) is not None


def _by_class_name(top: Path, leaving_out: Collection[str]) -> dict[str, str]:
    """The class folders in the order of the classes: name -> folder."""
    folders: dict[str, str] = {}
    for folder in sub_folders(top):
        if folder in leaving_out:
            continue
        try:
            name = unicodedata.normalize("NFC", folder.encode("utf-8").decode("utf-8"))
        except UnicodeEncodeError:
            raise DataError(f"{top}: a class folder's name must be UTF-8; received {folder}") from None
        if not name.isprintable():
            raise DataError(f"{top}: a class folder's name must be one printable line; received {name!r}")
        if name in folders:
            raise DataError(
                f"{top}: two class folders are called {name}, one with composed letters (Unicode NFC), one "
                "without; move the pictures into one of them"
            )
        folders[name] = folder
    return dict(sorted(folders.items()))


def _pictures_below(folder: Path, left_out: collections.Counter[str]) -> Iterator[str]:
    """Paths of the pictures under a folder, relative to it; counts the other files by kind."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                is_folder = entry.is_dir()
                if _is_hidden(entry.name):
                    left_out[HIDDEN_FOLDERS if is_folder else HIDDEN_FILES] += 1
                elif is_folder:
                    if entry.is_symlink() and _leads_up(entry.path):
                        left_out["links to folders above"] += 1
                    else:
                        waiting.append(f"{prefix}{entry.name}/")
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    yield prefix + entry.name
                else:
                    left_out[_kind(entry.name)] += 1


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == _RESOURCE_FORKS


def _leads_up(link: str) -> bool:
    """Whether a link to a folder leads to one that holds the link: following it would never end."""
    target, place = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return os.path.commonpath([target, place]) == target


def _kind(file: str) -> str:
    """What to call a file that is no picture by its name."""
    suffix = os.path.splitext(file)[1].lower()
    return f"{suffix} files" if suffix else "files without an ending"


def _without_pictures(folder: Path, left_out: collections.Counter[str]) -> str:
    """What is said of a class folder in which no picture lies, and what to do."""
    wanted = f"no pictures ({', '.join(sorted(SUFFIXES))}) in this class"
    if not left_out:
        return f"{wanted}; add some or remove the folder"
    held = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common(3))
    example = next((path for path in sorted(folder.rglob("[!.]*")) if path.is_file()), None)
    if example is None:
        return f"{wanted}, only {held}; add some or remove the folder"
    cure = file_types.advice_on(example)
    return (
        f"{wanted}; it holds {held}, such as {example.relative_to(folder)}, {file_types.kind_of(example)}: "
        + (f"{cure}, or remove the folder" if cure else "add pictures or remove the folder")
    )
