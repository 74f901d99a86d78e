"""Writes prepared records: pictures resized once (section 2), so that training only decodes and crops.

A shard is a pure function of the source, the settings and its number, and appears whole or not at all:
an interrupted preparation goes on with the shards that are missing and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipelines import progress, scan
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.files import PART_SUFFIX, remove_parts, replacing
from pipelines.pictures import orientation, ppm, preprocess
from pipelines.pictures.statistics import StatsAccumulator
from pipelines.sources import records
from pipelines.sources.records import Index, RecordsSource, Settings, Shard
from pipelines.sources.source import BrokenPicture, Source

# At most 50 MB a shard of JPEGs: small enough to be made again, large enough to be read at full disk speed.
SHARD_SIZE = 1024
# Off by two grey levels on average (40 photographs; 30 kB each). 4:2:0 chroma, because photographs come
# in it already: all of the colour would cost a third more to store and to decode for half a level.
JPEG_QUALITY = 95


class Record(NamedTuple):
    """One record on its way to a shard."""

    position: int
    image_bytes: bytes
    label: int
    key: bytes


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
    with progress.phase("preparing pictures", to_do) as preparing:
        for split, missing in _missing(settings, kept):
            for shard, seen in _write_split(source, config, settings, folder, split, missing, preparing):
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
    whole = tuple(shard for shard in index.shards if shard.name not in damaged)
    complete = index.complete and not damaged and (folder / records.STATS_NAME).exists()
    return Index(settings, whole, complete)


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
    config: DataConfig,
    settings: Settings,
    folder: Path,
    split: str,
    numbers: list[int],
    preparing: progress.Phase,
) -> Iterator[tuple[Shard, int]]:
    """Writes some shards of a split in one stream; gives each with the number of pictures looked at."""
    names = settings.shard_names(split)
    groups = itertools.groupby(
        _stream(source, config, settings, split, _positions(settings, split, numbers)),
        key=lambda record: record.position // settings.shard_size,
    )
    group = next(groups, None)
    for number in numbers:
        readable: Iterable[Record] = ()
        if group is not None and group[0] == number:
            readable = group[1]
        before = preparing.done
        seen, shard_bytes, digest = _write_shard(folder / names[number], readable, preparing)
        if group is not None and group[0] == number:
            group = next(groups, None)
        positions = _positions(settings, split, [number])
        broken = scan.explain(source, split, sorted(set(positions.tolist()) - set(seen)))
        preparing.reached(before + len(positions))
        skipped = tuple((picture.key, picture.label, picture.reason) for picture in broken)
        yield Shard(names[number], split, len(seen), shard_bytes, digest, skipped), len(positions)


def _stream(
    source: Source, config: DataConfig, settings: Settings, split: str, positions: np.ndarray
) -> Iterator[Record]:
    """The readable pictures at some positions, prepared and encoded, in ascending order."""

    def transform(example: scan.Elements) -> scan.Elements:
        image_bytes = example["image_bytes"]
        if settings.encoding == "ppm":
            return {"image_bytes": ppm.encode(preprocess.prepare(image_bytes, config), config.resize)}
        return {"image_bytes": jpeg_picture(image_bytes, config)}

    config = config.reading(source.prepared_size)

    if not len(positions):
        return
    elements = scan.checked(source, split, transform, positions=positions)
    for batch in elements.batch(scan.BLOCK).prefetch(2).as_numpy_iterator():
        yield from map(Record._make, zip(*(batch[name] for name in Record._fields), strict=True))


def jpeg_picture(image_bytes: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """The JPEG of a prepared picture, `resize` x `resize` RGB, which no reader of records has to turn.

    A JPEG that has this form already is kept byte for byte, so that nothing is lost by encoding twice; one
    that notes a turn is encoded anew, turned or not, and notes none.

    Args:
      image_bytes: string scalar, the encoded file.
      config: how pictures are prepared.

    Returns:
      string scalar.
    """
    size = config.resize

    def encode() -> tf.Tensor:
        return tf.io.encode_jpeg(
            preprocess.prepare(image_bytes, config),
            format="rgb",
            quality=JPEG_QUALITY,
            chroma_downsampling=True,
        )

    def keep() -> tf.Tensor:
        whole = tf.reduce_all(tf.shape(tf.io.decode_jpeg(image_bytes)) == [size, size, 3])
        with tf.control_dependencies([tf.debugging.Assert(whole, ["the JPEG must decode"])]):
            return tf.identity(image_bytes)

    def fits() -> tf.Tensor:
        return tf.cond(
            tf.reduce_all(tf.io.extract_jpeg_shape(image_bytes) == [size, size, 3]),
            lambda: tf.equal(orientation.of(image_bytes), orientation.UPRIGHT),
            lambda: tf.constant(False),
        )

    # One branch that encodes: each costs a good part of a second to trace.
    kept = tf.cond(tf.io.is_jpeg(image_bytes), fits, lambda: tf.constant(False))
    return tf.cond(kept, keep, encode)


def _write_shard(
    path: Path, readable: Iterable[Record], preparing: progress.Phase
) -> tuple[list[int], int, str]:
    """Writes one shard; returns the positions in it, its size in bytes and its SHA-256."""
    seen: list[int] = []
    try:
        with replacing(path) as temporary:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for record in readable:
                    writer.write(records.serialize(record.image_bytes, int(record.label), record.key))
                    seen.append(int(record.position))
                    preparing.reached(preparing.done + 1)
            size, digest = temporary.stat().st_size, records.checksum(temporary)
    except tf.errors.ResourceExhaustedError:
        # TensorFlow's word for a full disk.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent)) from None
    return seen, size, digest


def _finish(index: Index, folder: Path) -> None:
    """Measures the statistics on the records as stored and marks the folder as complete."""
    skipped = [entry for shard in index.shards for entry in shard.skipped]
    scan.write_skipped(
        folder / records.SKIPPED_NAME, [scan.Skipped(key, reason) for key, _, reason in skipped]
    )
    size = index.settings.size
    config = DataConfig(f"records:{folder}", resize=size, crop=size)
    stored = RecordsSource(config, index=index)
    accumulator = StatsAccumulator()
    broken, per_class = scan.look_through(
        stored, "train", config, total=stored.count("train"), update=accumulator.update
    )
    for split in stored.splits:
        entries = [entry for shard in index.of_split(split) for entry in shard.skipped]
        counts = per_class if split == "train" else np.array([stored.count(split)])
        scan.check_enough(
            stored.class_names, split, counts, [*broken, *(BrokenPicture(*entry) for entry in entries)]
        )
    accumulator.result().save(folder / records.STATS_NAME)
    Index(index.settings, index.shards, complete=True).save(folder)
