"""CIFAR-10 and CIFAR-100 as they are handed out: python and binary releases, the author's batches of 2012.

  DIR/data_batch_1 ... data_batch_5, test_batch, batches.meta   CIFAR-10 for python (cifar-10-batches-py)
  DIR/data_batch_1 ... data_batch_6, batches.meta               the author's; the sixth is for testing
  DIR/data_batch_1.bin ... test_batch.bin, batches.meta.txt     CIFAR-10, binary (cifar-10-batches-bin)
  DIR/train, DIR/test, DIR/meta                                 CIFAR-100 for python (cifar-100-python)
  DIR/train.bin, test.bin, fine_label_names.txt, ...            CIFAR-100, binary (cifar-100-binary)

DIR may also be the folder that holds the one in brackets. The order of the classes is the files'.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.pictures import ppm
from pipelines.pictures.file_types import PPM
from pipelines.sources import cifar_files
from pipelines.sources.cifar_files import SIDE
from pipelines.sources.listed import ListedSource, Listing, split_listing
from pipelines.sources.options import parse_options
from pipelines.sources.source import encode_key

FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary")


class Release(NamedTuple):
    """The files of a release.

    Attributes:
      name: what it is called.
      train: the training files, all of which must be there.
      test: the test file; of several names the first that is there.
      kinds: kind of label -> its name in a pickle; in the order of their bytes in a binary file.
      names: kind of label -> the file with its classes, and their name in it if that is a pickle.
      binary: whether the files are binary.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    kinds: dict[str, str]
    names: dict[str, tuple[str, str]]
    binary: bool = False


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
RELEASES = (
    Release(
        "CIFAR-10",
        _BATCHES,
        ("test_batch", "data_batch_6"),
        {"label": "labels"},
        {"label": ("batches.meta", "label_names")},
    ),
    Release(
        "CIFAR-10 (binary)",
        tuple(f"{batch}.bin" for batch in _BATCHES),
        ("test_batch.bin",),
        {"label": ""},
        {"label": ("batches.meta.txt", "")},
        binary=True,
    ),
    Release(
        "CIFAR-100",
        ("train",),
        ("test",),
        {"fine": "fine_labels", "coarse": "coarse_labels"},
        {kind: ("meta", f"{kind}_label_names") for kind in ("fine", "coarse")},
    ),
    Release(
        "CIFAR-100 (binary)",
        ("train.bin",),
        ("test.bin",),
        {"coarse": "", "fine": ""},
        {kind: (f"{kind}_label_names.txt", "") for kind in ("fine", "coarse")},
        binary=True,
    ),
)


class CifarSource(ListedSource):
    """One of the releases above; keys are the file and the place in it, such as `data_batch_1/00017`.

    `val` are the test pictures, as the published errors are on these after training on all others. With
    `cifar:DIR?val=share` a share of the training pictures is held out instead, and the test pictures are
    a split for evaluation alone; without test pictures it always is. CIFAR-100 has 100 classes, or the 20 of
    `cifar:DIR?label=coarse`. Pictures are given as PPM files, without loss.

    Raises:
      DataError: no release is there, or several, or one is damaged or not whole.
    """

    def __init__(self, config: DataConfig) -> None:
        place, options = parse_options(config, {"label": "fine|coarse", "val": "test|share"})
        folder, release = _find(Path(place).expanduser())
        kind = _kind(release, options.get("label"), config.spec)
        if options.get("val", "test") not in ("test", "share"):
            raise DataError(f"{config.spec}: `val` must be test or share; received {options['val']!r}")
        train = [name for name in release.train if (folder / name).is_file()]
        missing = [name for name in release.train if name not in train]
        if train and missing:
            raise DataError(f"{folder}: {', '.join(missing)} missing; fetch {release.name} again")
        test = next((name for name in release.test if (folder / name).is_file()), None)
        names = _class_names(folder, release, kind)
        read = cifar_files.read_binary if release.binary else cifar_files.read_python
        batches = {name: read(folder / name, release.kinds) for name in [*train, *([test] if test else [])]}
        _check_labels(folder, batches, kind, names)
        found = {"train": _listing(batches, train, kind)} if train else {}
        self.held_out = test is None or (bool(train) and options.get("val") == "share")
        if self.held_out:
            found = split_listing(found["train"], config)
        if test:
            found["test" if self.held_out else "val"] = _listing(batches, [test], kind)
        super().__init__(config, names, found)
        self.prepared_size, self.prepared_form = SIDE, PPM
        self._read = _reader(batches)
        taken = [f"{train[0]} to {train[-1]}" if len(train) > 1 else train[0]] if train else []
        held = "a share of the training pictures" if self.held_out else str(test)
        self.description = (
            f"{folder}: {release.name}, {len(names)} classes, {self.count('train')} + {self.count('val')} "
            f"pictures ({', '.join([*(f'{files} for train' for files in taken), f'{held} for val'])})"
            + (f", {test} with {self.count('test')} to test" if "test" in self.splits else "")
            + "".join(f"; {name} passed over" for name in _passed_over(folder, release, test))
        )

    def reader(self, split: str) -> Callable[[tf.Tensor], tf.Tensor]:
        self.check_split(split)
        return self._read


def _find(root: Path) -> tuple[Path, Release]:
    """The folder that holds a release, and which it is."""
    found = [
        (folder, release)
        for folder in (root, *(root / name for name in FOLDERS))
        for release in RELEASES
        if any((folder / name).is_file() for name in (*release.train, *release.test))
    ]
    if len(found) > 1:
        places = " and ".join(f"{release.name} in {folder}" for folder, release in found)
        raise DataError(f"{root}: holds {places}; name the folder that holds one of them alone")
    if found:
        return found[0]
    packed = [root] if root.is_file() else sorted(root.glob("cifar-*.tar.gz"))
    if packed and tarfile.is_tarfile(packed[0]):
        raise DataError(f"{packed[0]}: an archive; unpack it (tar xf) and give the folder that it unpacks to")
    reason = "no files of CIFAR here" if root.is_dir() else "no such folder"
    raise DataError(
        f"{root}: {reason}; cifar:DIR needs data_batch_1, train, or these as .bin files, as CIFAR-10 and "
        "CIFAR-100 unpack"
    )


def _kind(release: Release, asked: str | None, spec: str) -> str:
    """Which label is wanted."""
    if asked is None:
        return "label" if "label" in release.kinds else "fine"
    if asked not in release.kinds or asked == "label":
        legal = "only CIFAR-100 has two" if "label" in release.kinds else "`label` must be fine or coarse"
        raise DataError(f"{spec}: no {asked} labels in {release.name}: {legal}")
    return asked


def _class_names(folder: Path, release: Release, kind: str) -> tuple[str, ...]:
    file, key = release.names[kind]
    if not (folder / file).is_file():
        raise DataError(f"{folder}: {file} missing, which names the classes; fetch {release.name} again")
    if release.binary:
        names: Sequence[object] = cifar_files.read_lines(folder / file)
    else:
        names = cifar_files.read_pickle(folder / file).get(key, ())
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{folder / file}: not a file of CIFAR: holds no {key or 'class names'}")
    return tuple(map(str, names))


def _check_labels(
    folder: Path, batches: dict[str, cifar_files.Batch], kind: str, names: tuple[str, ...]
) -> None:
    for file, batch in batches.items():
        labels = batch.labels[kind]
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
            raise DataError(
                f"{folder / file}: labels must be 0 to {len(names) - 1}; "
                f"received {labels.min()} to {labels.max()}"
            )


def _keys(file: str, count: int) -> list[str]:
    # The same for the python and the binary release, whose pictures come in the same order.
    return [f"{file.removesuffix('.bin')}/{place:05d}" for place in range(count)]


def _listing(batches: dict[str, cifar_files.Batch], files: Sequence[str], kind: str) -> Listing:
    keys = [key for file in files for key in _keys(file, len(batches[file].pixels))]
    labels = np.concatenate([batches[file].labels[kind] for file in files])
    return Listing.of(keys, labels.tolist())


def _reader(batches: dict[str, cifar_files.Batch]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph function from a key to the picture as a PPM file; the pictures stay in memory, 3 kB each."""
    empty = ppm.encode(tf.zeros([SIDE, SIDE, 3], tf.uint8), SIDE).numpy()
    header = empty[: -3 * SIDE * SIDE]
    keys = [encode_key(key) for file, batch in batches.items() for key in _keys(file, len(batch.pixels))]
    files = tf.constant([header + image.tobytes() for batch in batches.values() for image in batch.pixels])
    row_of = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(keys), tf.range(len(keys), dtype=tf.int64)),
        default_value=-1,
    )
    return lambda key: tf.gather(files, row_of.lookup(key))


def _passed_over(folder: Path, release: Release, test: str | None) -> list[str]:
    """Test files that are there and not taken."""
    return [name for name in release.test if name != test and (folder / name).is_file()]
