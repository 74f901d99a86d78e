"""One pass over the pictures before training: finds the unreadable ones and measures the statistics.

A broken picture is found here and left out by its key, so that afterwards the order of the examples is
a pure function of (seed, epoch), and nothing is skipped silently while the network trains.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipelines import passes, progress
from pipelines.config import DataConfig, PictureSettings
from pipelines.errors import DataError
from pipelines.files import replacing
from pipelines.passes import FileGraph
from pipelines.pictures import formats, headers, preprocess
from pipelines.pictures.decode import complaint, decode
from pipelines.pictures.file_types import JPEG, Format, format_of
from pipelines.pictures.statistics import ImageStats, StatsAccumulator
from pipelines.sources.source import SPLITS, BrokenPicture, Source

BROKEN = "broken pictures"
# What is said of a picture with which nothing is wrong when it is looked at again.
READABLE = "could not be read at first, but can be now"


class Skipped(NamedTuple):
    """A picture that is left out, and why."""

    key: str
    reason: str


class Scan(NamedTuple):
    """Result of a scan: statistics of the readable training pictures, and the broken ones of both splits."""

    stats: ImageStats
    skipped: tuple[Skipped, ...]


def scan(source: Source, config: DataConfig, *, limit: int | None = None, strict: bool = False) -> Scan:
    """Decodes every picture of both splits once.

    Args:
      source: the data set.
      config: how pictures are prepared, on which statistics are measured.
      limit: looks at no more pictures than this of each split, too few to say that a class is empty.
      strict: whether the first picture that cannot be read is an error.

    Returns:
      The statistics of the training split and the pictures that cannot be read.

    Raises:
      DataError: not one picture of a split, or of a class in the training split, can be read; with `strict`
        a single one cannot.
    """
    check_trainable(source)
    stored = source.stored_stats()
    if stored is not None and stored.mean_image.shape[0] == config.resize:
        return Scan(stored, ())
    totals = {split: min(source.count(split), limit or source.count(split)) for split in SPLITS}
    accumulator = StatsAccumulator()
    skipped: list[Skipped] = []
    for split in SPLITS:
        update = accumulator.update if split == "train" else None
        broken, per_class = look_through(
            source, split, config, total=totals[split], update=update, strict=strict
        )
        if limit is None:
            check_enough(source.class_names, split, per_class, broken)
        skipped += [Skipped(picture.key, picture.reason) for picture in broken]
    return Scan(accumulator.result(), tuple(skipped))


def look_through(
    source: Source,
    split: str,
    config: DataConfig,
    *,
    total: int,
    update: Callable[[np.ndarray], None] | None = None,
    strict: bool = False,
) -> tuple[list[BrokenPicture], np.ndarray]:
    """Decodes the first `total` pictures of a split.

    Args:
      source: the data set.
      split: `train` or `val`.
      config: how pictures are prepared for `update`.
      total: how many pictures of the fixed order.
      update: is given the readable ones in batches, uint8 [batch, resize, resize, 3].
      strict: whether the first picture that cannot be read is an error.

    Returns:
      The pictures that cannot be read, and int64 [classes], how many of each class can.

    Raises:
      BrokenPicture: with `strict`, the first of them.
    """
    graph = _prepared(config.reading(source.prepared_size).preparation) if update else _decoded()
    seen = np.zeros(total, bool)
    per_class = np.zeros(len(source.class_names), np.int64)
    blocks = passes.blocks(source, split, np.arange(total), graph, lambda block: block)
    with contextlib.closing(blocks):  # so that an error ends its threads too
        for block in progress.counted(f"looking at the {split} pictures", blocks, total, each=passes.BLOCK):
            seen[block.positions] = True
            if strict and len(block.positions) < len(block.places):
                refuse_broken(explain(source, split, block.places[~seen[block.places]][:1]))
            per_class += np.bincount(block.labels, minlength=len(per_class))
            if update is not None:
                update(block.made["image"])
    broken = explain(source, split, np.flatnonzero(~seen))
    if strict:
        refuse_broken(broken)
    return broken, per_class


@functools.lru_cache(maxsize=4)
def _prepared(config: PictureSettings) -> FileGraph:
    """Files as prepared pictures."""

    def one(image_bytes: tf.Tensor, form: Format | None) -> dict[str, tf.Tensor]:
        return {"image": preprocess.prepare(image_bytes, config, form=form)}

    return FileGraph(one, {"image": tf.TensorSpec([config.resize, config.resize, 3], tf.uint8)})


@functools.cache
def _decoded() -> FileGraph:
    """Of files only whether they can be decoded."""

    def one(image_bytes: tf.Tensor, form: Format | None) -> dict[str, tf.Tensor]:
        return {"height": tf.shape(decode(image_bytes, form=form))[0]}

    return FileGraph(one, {"height": tf.TensorSpec([], tf.int32)})


def check_trainable(source: Source) -> None:
    """Raises DataError for data with which something can be evaluated alone."""
    if not source.count("train"):
        raise DataError(f"nothing to train on: no training pictures in {source.description}")
    if not source.count("val"):
        raise DataError(
            f"{source.description}: one picture a class leaves none to hold out; add pictures or validation "
            "pictures"
        )


def refuse_broken(broken: Sequence[BrokenPicture]) -> None:
    """Raises the first of some broken pictures; none is no error."""
    for picture in broken:
        raise picture


def summary(used: int, left_out: Mapping[str, int], *, not_looked_at: int = 0) -> str:
    """One line that accounts for everything that was found, such as `62 found = 60 used + 2 left out: ...`.

    Args:
      used: number of pictures.
      left_out: what was not used: kind, in words -> how many.
      not_looked_at: pictures of which nobody knows whether they could be used.
    """
    kinds = {kind: number for kind, number in left_out.items() if number}
    total = sum(kinds.values())
    line = f"{used + not_looked_at + total} found = {used} used + "
    line += f"{not_looked_at} not looked at + " * bool(not_looked_at) + f"{total} left out"
    listed = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    return line + ": " * bool(listed) + ", ".join(f"{number} {kind}" for kind, number in listed)


def check_enough(
    class_names: tuple[str, ...], split: str, per_class: np.ndarray, broken: Sequence[BrokenPicture]
) -> None:
    """Raises DataError when broken pictures leave a split, or a class of the training split, empty.

    Args:
      class_names: the names of the classes.
      split: `train` or `val`.
      per_class: int64 [classes], how many pictures of each class can be read.
      broken: those that cannot.
    """
    if not broken:
        return
    if not per_class.any():
        raise DataError(f"none of the {len(broken)} {split} pictures can be read, for example {broken[0]}")
    for picture in broken if split == "train" else ():
        if picture.label >= 0 and not per_class[picture.label]:
            raise DataError(
                f"no picture of the class {class_names[picture.label]} can be read, for example {picture};"
                " repair the pictures or remove the class"
            )


def explain(source: Source, split: str, positions: Iterable[int]) -> list[BrokenPicture]:
    """Reads pictures again, one by one, to say what is wrong with each.

    Raises:
      DataError: the source ends before one of the positions.
    """
    broken: list[BrokenPicture] = []
    wanted = sorted(int(position) for position in positions)
    examples = source.pick(split, wanted)
    for position in wanted:
        try:
            example = next(examples)
        except BrokenPicture as picture:
            broken.append(picture)
        except StopIteration:
            raise DataError(
                f"{source.description}: the {split} split ends before picture {position}"
            ) from None
        else:
            broken.append(BrokenPicture(example.key, example.label, reason(example.image_bytes)))
    return broken


def reason(image_bytes: bytes) -> str:
    """Why bytes cannot be decoded as a picture, in a few words."""
    form = format_of(image_bytes)
    try:
        if refused := complaint(tf.constant(image_bytes)).numpy():
            return bytes(refused).decode()
        decode(tf.constant(image_bytes))
    except tf.errors.OpError:
        unusual = headers.jpeg_form(image_bytes) if form == JPEG else ""
        return unusual or formats.DAMAGED.format(form.name if form else "")
    return READABLE


def write_skipped(path: str | os.PathLike[str], skipped: Iterable[Skipped]) -> None:
    """Writes the list as CSV (key, reason); the file appears whole or not at all."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Skipped._fields)
        writer.writerows(skipped)


def read_skipped(path: str | os.PathLike[str]) -> tuple[Skipped, ...]:
    """Reads what `write_skipped` wrote.

    Raises:
      DataError: the file is missing or no such list.
    """
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.reader(file))
        if tuple(rows[0]) != Skipped._fields:
            raise ValueError(f"its first line must be {','.join(Skipped._fields)}")
        return tuple(Skipped(key, why) for key, why in rows[1:])
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{path}: no list of skipped pictures ({error})") from None
