"""Writes prepared records: pictures resized once (section 2), so that training only decodes and crops.

A shard is a pure function of the source, the settings and its number, and appears whole or not at all:
an interrupted preparation goes on with the shards that are missing and ends with the same bytes.

The statistics are those of the pictures before they are encoded, as a training from the source measures
them. Each training shard keeps its sums beside it, whole numbers, and one whose sums are lost is made again:
so whatever was interrupted or repaired, the statistics are the same to the last bit. A folder that an older
release has written has no sums. It is used as it is; when something in it is missing, all its training
shards are made anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines import progress, record_pictures, scan
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.files import PART_SUFFIX, remove_parts, replacing
from pipelines.passes import FileGraph
from pipelines.sources import records
from pipelines.sources.records import Index, Settings, Shard
from pipelines.sources.source import BrokenPicture, Source

# At most 50 MB a shard of JPEGs: small enough to be made again, large enough to be read at full disk speed.
SHARD_SIZE = 1024


@dataclasses.dataclass(frozen=True)
class Written:
    """Summary of a preparation.

    Attributes:
      pictures: records now in the folder.
      skipped: pictures that could not be read.
      shards_written, shards_kept: shards made now, and found whole from an earlier call.
      looked_at: pictures read now.
    """

    pictures: int
    skipped: int
    shards_written: int
    shards_kept: int
    looked_at: int


def write(
    source: Source,
    config: DataConfig,
    folder: Path,
    *,
    encoding: str = "jpeg",
    shard_size: int = SHARD_SIZE,
    strict: bool = False,
) -> Written:
    """Writes a source into a folder of records, or goes on where an earlier call stopped.

    Args:
      source: the data set.
      config: how pictures are prepared; that, spec, data_seed and val_fraction are noted.
      folder: where to; holds nothing yet, or records of the same settings.
      encoding: `jpeg`, or `ppm`: without loss, six times as large, read 1.6 times as fast.
      shard_size: pictures of the source in one shard.
      strict: whether a picture that cannot be read is an error.

    Returns:
      How much there is now.

    Raises:
      DataError: the folder holds records of other settings, or too few pictures can be read; with `strict`
        a single one cannot.
      OSError: the folder cannot be written, for example because the disk is full.
    """
    scan.check_trainable(source)
    settings = _settings(source, config, encoding, shard_size)
    index = _open_folder(folder, settings)
    remove_parts(folder)
    kept = {shard.name: shard for shard in index.shards}
    finished = dict(kept)
    to_do = sum(len(_positions(settings, split, missing)) for split, missing in _missing(settings, kept))
    done = 0
    prepare = record_pictures.preparer(config.reading(source.prepared_size), encoding)
    with progress.phase("preparing pictures", to_do) as preparing:
        for split, missing in _missing(settings, kept):
            for shard, seen in _write_split(source, prepare, settings, folder, split, missing, preparing):
                finished[shard.name] = shard
                if strict:
                    _refuse_skipped(shard)
                index = Index(settings, tuple(finished.values()), complete=False)
                index.save(folder)
                done += seen
    for shard in finished.values() if strict else ():
        _refuse_skipped(shard)  # of an earlier call
    if not index.complete:
        _finish(index, folder)
    return Written(
        pictures=sum(shard.count for shard in index.shards),
        skipped=sum(len(shard.skipped) for shard in index.shards),
        shards_written=len(finished) - len(kept),
        shards_kept=len(kept),
        looked_at=done,
    )


def _refuse_skipped(shard: Shard) -> None:
    """Raises BrokenPicture when a shard lacks pictures that could not be read."""
    scan.refuse_broken([BrokenPicture(*entry) for entry in shard.skipped])


def _settings(source: Source, config: DataConfig, encoding: str, shard_size: int) -> Settings:
    place = config.location if config.kind == "tfds" else Path(config.location).expanduser().resolve().name
    return Settings(
        format=records.FORMAT,
        source=f"{config.kind}:{place}" if config.location else config.kind,
        size=config.resize,
        encoding=encoding,
        seed=config.data_seed,
        val_fraction=config.val_fraction,
        exif_orientation=config.exif_orientation,
        resize_rule=config.resize_rule,
        shard_size=shard_size,
        pictures={split: source.count(split) for split in source.splits},
        held_out="by hash" if source.held_out else "no",
        class_names=source.class_names,
        readable_names=source.readable_names,
    )


def _open_folder(folder: Path, settings: Settings) -> Index:
    """The index of a folder, without the shards that are not whole; makes the folder if need be."""
    if not (folder / records.INDEX_NAME).exists():
        if folder.is_dir() and any(entry.suffix != PART_SUFFIX for entry in folder.iterdir()):
            raise DataError(f"{folder}: not empty and holds no prepared records; choose another --out")
        folder.mkdir(parents=True, exist_ok=True)
        index = Index(settings, (), complete=False)
        index.save(folder)
        return index
    index = Index.load(folder)
    for name in Settings.__dataclass_fields__:
        there, wanted = getattr(index.settings, name), getattr(settings, name)
        if there != wanted:
            raise DataError(
                f"{folder}: holds records of other data or settings (`{name}` is {_short(there)}; received"
                f" {_short(wanted)}); choose another --out or delete the folder"
            )
    damaged = records.verify(folder, index)
    if index.complete and not damaged and (folder / records.STATS_NAME).exists():
        return index
    whole = [shard for shard in index.shards if shard.name not in damaged]
    looked_at = progress.counted("looking for the sums of shards", whole, len(whole))
    return Index(
        settings,
        tuple(shard for shard in looked_at if shard.split != "train" or _sums(folder, shard)),
        complete=False,
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _missing(settings: Settings, kept: dict[str, Shard]) -> list[tuple[str, list[int]]]:
    """For each split the numbers of the shards that are still to be written."""
    return [
        (split, [number for number, name in enumerate(settings.shard_names(split)) if name not in kept])
        for split in settings.pictures
    ]


def _positions(settings: Settings, split: str, numbers: Iterable[int]) -> np.ndarray:
    """The places in the source's fixed order that belong to some shards, int64, ascending."""
    size, total = settings.shard_size, settings.pictures[split]
    ranges = [np.arange(number * size, min((number + 1) * size, total)) for number in numbers]
    return np.concatenate([np.zeros(0, np.int64), *ranges])


def _write_split(
    source: Source,
    prepare: FileGraph,
    settings: Settings,
    folder: Path,
    split: str,
    numbers: list[int],
    preparing: progress.Phase,
) -> Iterator[tuple[Shard, int]]:
    """Writes some shards of a split in one stream; gives each with the number of pictures looked at."""
    names = settings.shard_names(split)
    size = settings.shard_size
    stream = record_pictures.blocks(source, split, _positions(settings, split, numbers), prepare, size)
    with contextlib.closing(stream):  # so that an error ends its threads too
        groups = itertools.groupby(stream, key=lambda block: block.first // size)
        for number in numbers:
            before, positions = preparing.done, _positions(settings, split, [number])
            _, blocks = next(groups, (number, ()))  # a source may end too early: `explain` says so
            sums = record_pictures.Sums.none(len(source.class_names))
            seen, shard_bytes, digest = _write_shard(folder / names[number], blocks, sums, preparing)
            broken = scan.explain(source, split, sorted(set(positions.tolist()) - set(seen)))
            preparing.reached(before + len(positions))
            skipped = tuple((picture.key, picture.label, picture.reason) for picture in broken)
            shard = Shard(names[number], split, len(seen), shard_bytes, digest, skipped)
            if split == "train":  # after the shard and before the index, which says what is finished
                sums.save(folder / records.sums_name(shard.name), digest)
            yield shard, len(positions)


def _write_shard(
    path: Path,
    blocks: Iterable[record_pictures.Block],
    sums: record_pictures.Sums,
    preparing: progress.Phase,
) -> tuple[list[int], int, str]:
    """Writes one shard and adds it up; returns the positions in it, its size in bytes and its SHA-256."""
    seen: list[int] = []
    try:
        with replacing(path) as temporary:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for block in blocks:
                    for record in block.records:
                        writer.write(record)
                        preparing.reached(preparing.done + 1)
                    seen += block.positions
                    sums.merge(block.sums)
            size, digest = temporary.stat().st_size, records.checksum(temporary)
    except tf.errors.ResourceExhaustedError:
        # TensorFlow's word for a full disk.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent)) from None
    return seen, size, digest


def _finish(index: Index, folder: Path) -> None:
    """Merges the shards' sums into the statistics and marks the folder as complete."""
    settings = index.settings
    skipped = [entry for shard in index.shards for entry in shard.skipped]
    scan.write_skipped(
        folder / records.SKIPPED_NAME, [scan.Skipped(key, reason) for key, _, reason in skipped]
    )
    total = record_pictures.Sums.none(len(settings.class_names))
    shards = index.of_split("train")
    for shard in progress.counted("adding up the statistics of shards", shards, len(shards)):
        sums = _sums(folder, shard)
        if sums is None:
            raise DataError(f"{folder / records.sums_name(shard.name)}: missing or damaged; {records.AGAIN}")
        total.merge(sums)
    for split in settings.pictures:
        entries = [entry for shard in index.of_split(split) for entry in shard.skipped]
        count = sum(shard.count for shard in index.of_split(split))
        counts = total.per_class if split == "train" else np.array([count])
        scan.check_enough(settings.class_names, split, counts, [BrokenPicture(*entry) for entry in entries])
    total.stats.result().save(folder / records.STATS_NAME)
    Index(settings, index.shards, complete=True).save(folder)


def _sums(folder: Path, shard: Shard) -> record_pictures.Sums | None:
    """What was added up over a training shard; None where that is missing or damaged."""
    return record_pictures.Sums.load(folder / records.sums_name(shard.name), shard.sha256)
