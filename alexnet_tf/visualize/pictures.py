"""The pictures that a figure shows: from files, or from a run's own data."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet_tf.run_record import Run
from alexnet_tf.visualize.spacing import evenly_spaced
from pipelines.config import DataConfig
from pipelines.errors import UserError

# Pictures of a split among which those are chosen.
CANDIDATES = 32


class Pictures(NamedTuple):
    """Some pictures as a person and as the network sees them, in one order.

    Attributes:
      keys: their names.
      images: uint8 [N, S, S, 3], the crops that the network sees.
      pixels: float32 [N, S, S, 3], the same with the mean subtracted: what a network is called with.
      true_names: readable names of their classes; empty where unknown.
    """

    keys: tuple[str, ...]
    images: np.ndarray
    pixels: np.ndarray
    true_names: tuple[str, ...]

    def take(self, places: Sequence[int]) -> Pictures:
        """Those at `places`, in that order."""
        keys, names = (tuple(row[place] for place in places) for row in (self.keys, self.true_names))
        return Pictures(keys, self.images[list(places)], self.pixels[list(places)], names)


class _Encoded(NamedTuple):
    """A picture before it is decoded."""

    key: str
    image_bytes: bytes
    true_name: str


def choose(run: Run, files: Sequence[str], count: int, option: str = "--image") -> Pictures:
    """The given files, or without any `count` pictures of the run's validation split.

    Args:
      run: whose preparation of pictures and whose data are used.
      files: at most `count`; a file's folder may name its class.
      count: how many pictures a figure holds.
      option: what the files were given by, for the message.

    Raises:
      UserError: too many files, or one that is no picture.
      DataError: the run's data set is no longer where it was.
    """
    if len(files) > count:
        held = "1 picture" if count == 1 else f"{count} pictures"
        raise UserError(f"{option}: a figure holds {held}; received {len(files)}")
    return from_files(run, files) if files else from_split(run, count)


def from_files(run: Run, files: Sequence[str]) -> Pictures:
    """Pictures from files; of the class that their folder is named after, if there is such a class.

    Raises:
      UserError: a file is no picture that can be read.
      OSError: it cannot be opened.
    """
    return _prepare(run, [_read(run, Path(path)) for path in files], run.data)


def from_split(run: Run, count: int, split: str = "val") -> Pictures:
    """Pictures of the run's data from all over a split's order, of as many classes as may be.

    Raises:
      UserError, DataError: the data set is no longer where it was, or another one.
    """
    from alexnet_tf.evaluation import validation

    source = validation.open_pictures([run], run.data).source
    total = source.count(split)
    positions = evenly_spaced(total, max(CANDIDATES, count))
    seen: collections.Counter[str] = collections.Counter()
    ranked = []
    for example in source.pick(split, positions.tolist()):
        name = run.readable_names[example.label]
        ranked.append((seen[name], _Encoded(example.key, example.image_bytes, name)))
        seen[name] += 1
    # The first picture of every class, then the second of each, and so on.
    chosen = [picture for _, picture in sorted(ranked, key=lambda pair: pair[0])[:count]]
    return _prepare(run, chosen, run.data.reading(source.prepared_size))


def from_places(run: Run, split: str, positions: Sequence[int]) -> Pictures:
    """The pictures at these places of a split's fixed order, in the order of `positions`.

    Raises:
      UserError, DataError: the data set is no longer where it was.
    """
    places, ranks = np.unique(np.asarray(positions, np.int64), return_inverse=True)
    source = run.open_source()
    picked = source.pick(split, places.tolist())  # sources read forwards only
    encoded = [_Encoded(e.key, e.image_bytes, run.readable_names[e.label]) for e in picked]
    return _prepare(run, encoded, run.data.reading(source.prepared_size)).take(ranks.tolist())


def _read(run: Run, path: Path) -> _Encoded:
    folder = path.absolute().parent.name
    name = run.readable_names[run.class_names.index(folder)] if folder in run.class_names else ""
    return _Encoded(path.name, path.read_bytes(), name)


def _prepare(run: Run, encoded: Sequence[_Encoded], config: DataConfig) -> Pictures:
    """Crops as in evaluation; `config` says how these pictures are read."""
    import tensorflow as tf

    from pipelines import scan
    from pipelines.pictures import preprocess

    crops = []
    for picture in encoded:
        try:
            crops.append(preprocess.evaluation_crop(tf.constant(picture.image_bytes), config))
        except tf.errors.InvalidArgumentError:
            raise UserError(f"{picture.key}: {scan.reason(picture.image_bytes)}") from None
    images = tf.stack(crops)
    pixels = preprocess.to_pixels(images, run.stats, run.data)
    keys, names = tuple(p.key for p in encoded), tuple(p.true_name for p in encoded)
    return Pictures(keys, images.numpy(), pixels.numpy(), names)
