"""Pictures for people: a contact sheet before and after augmentation, and small pictures of copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines import progress
from pipelines.config import DataConfig
from pipelines.files import replacing
from pipelines.inspect.duplicates import Group
from pipelines.inspect.survey import Survey
from pipelines.pictures import augment, preprocess
from pipelines.pictures.decode import decode
from pipelines.pictures.statistics import ImageStats, StatsAccumulator
from pipelines.sources.source import BrokenPicture, Source

DRAWS = 5  # of each picture
CELL, SMALL, GAP = 160, 112, 4  # pixels on a sheet
MOST_IN_GROUP = 6
# The colours' components of this many pictures are near enough to those of all for a look.
MEASURED = 256


@dataclasses.dataclass(frozen=True)
class Row:
    """A picture and what augmentation makes of it.

    Attributes:
      number: of the picture in the survey.
      stored: uint8 [CELL, CELL, 3], the whole picture on white.
      prepared: uint8 [CELL, CELL, 3], its central square.
      drawn: DRAWS augmented crops of it, uint8 [CELL, CELL, 3] each.
    """

    number: int
    stored: np.ndarray
    prepared: np.ndarray
    drawn: tuple[np.ndarray, ...]


def augmented(source: Source, config: DataConfig, survey: Survey, count: int) -> list[Row]:
    """Pictures of as many classes as may be, each with some draws of its augmentation.

    They are training pictures, or where there are none, pictures of the first split that has some.

    Args:
      source: the data set.
      config: preparation and augmentation; `seed` decides what is drawn.
      survey: its pictures.
      count: how many.
    """
    config = config.reading(source.prepared_size)
    numbers = _choose(survey, count, config.data_seed)
    stats = _statistics(source, config, survey)
    rows = []
    read = _read(source, survey, numbers)
    for place, (number, file, image) in enumerate(progress.counted("augmenting", read, len(numbers))):
        prepared = preprocess.prepare(file, config)
        seed = tf.constant([config.seed, place], tf.int64)
        windows = augment.draw_windows(config, seed, DRAWS)
        shifts = augment.colour_shifts(config, stats, seed + 1, DRAWS)
        drawn = []
        for draw in range(DRAWS):
            window = tf.nest.map_structure(lambda part, draw=draw: part[draw], windows)
            crop = tf.cast(augment.crop_mirror(prepared, config, window), tf.float32) + shifts[draw]
            drawn.append(_fitted(np.clip(np.rint(crop.numpy()), 0, 255).astype(np.uint8), CELL))
        rows.append(Row(number, _fitted(image, CELL), _fitted(prepared.numpy(), CELL), tuple(drawn)))
    return rows


def small_pictures(
    source: Source, config: DataConfig, survey: Survey, groups: Sequence[Group]
) -> dict[int, np.ndarray]:
    """The first pictures of each group by their numbers, as they are compared; uint8 [SMALL, SMALL, 3]."""
    upright = config.reading(source.prepared_size).exif_orientation
    wanted = np.unique(np.concatenate([np.zeros(0, np.int64), *(g.members[:MOST_IN_GROUP] for g in groups)]))
    pictures = _read(source, survey, wanted, upright=upright)
    read = progress.counted("reading copies", pictures, len(wanted))
    return {number: _fitted(image, SMALL) for number, _, image in read}


def save_rows(rows: Sequence[Row], path: Path) -> None:
    """Writes the contact sheet as PNG: a row a picture, as stored, prepared, and augmented."""
    _save([[row.stored, row.prepared, *row.drawn] for row in rows], CELL, path)


def save_groups(groups: Sequence[Group], pictures: dict[int, np.ndarray], path: Path) -> None:
    """Writes the groups of copies as PNG, a row each."""
    _save([[pictures[n] for n in g.members.tolist() if n in pictures] for g in groups], SMALL, path)


def _save(cells: Sequence[Sequence[np.ndarray]], side: int, path: Path) -> None:
    from PIL import Image

    pitch = side + GAP
    sheet = np.full((len(cells) * pitch + GAP, max(map(len, cells)) * pitch + GAP, 3), 255, np.uint8)
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            top, left = GAP + y * pitch, GAP + x * pitch
            sheet[top : top + side, left : left + side] = cell
    with replacing(path) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG", optimize=True)


def _choose(survey: Survey, count: int, seed: int) -> np.ndarray:
    """Numbers of pictures of the first split that has some: one of each class before a second of any.

    They ascend.
    """
    numbers = np.flatnonzero(survey.split == survey.split[0])
    numbers = np.random.default_rng(seed % 2**32).permutation(numbers)
    labels = survey.label[numbers]
    order = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels[order])) + 1])
    turns = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    turn = np.empty(len(order), np.int64)
    turn[order] = turns
    return np.sort(numbers[np.argsort(turn, kind="stable")[:count]])


def _read(
    source: Source, survey: Survey, numbers: np.ndarray, *, upright: bool = False
) -> Iterator[tuple[int, tf.Tensor, np.ndarray]]:
    """Pictures of the survey by ascending numbers; those that have gone meanwhile are left out.

    Args:
      source: the data set.
      survey: its pictures.
      numbers: of those to read.
      upright: whether pixels are turned as EXIF says.

    Yields:
      The number, the file (string scalar) and its pixels, uint8 [height, width, 3].
    """
    for split in survey.splits:
        own = numbers[survey.within(split)[numbers]]
        if not len(own):
            continue
        examples = source.pick(split, survey.position[own].tolist())
        for number in own.tolist():
            try:
                file = tf.constant(next(examples).image_bytes)
                yield number, file, decode(file, upright=upright).numpy()
            except (BrokenPicture, tf.errors.OpError):
                continue


def _statistics(source: Source, config: DataConfig, survey: Survey) -> ImageStats:
    """The training set's, where they are stored, or those of some pictures of the same split."""
    stored = source.stored_stats()
    if stored is not None:
        return stored
    accumulator = StatsAccumulator()
    prepared = tf.function(lambda file: preprocess.prepare(file, config), autograph=False)
    numbers = _choose(survey, MEASURED, config.data_seed + 1)
    read = _read(source, survey, numbers)
    for _, file, _ in progress.counted("measuring colours", read, len(numbers)):
        accumulator.update(prepared(file).numpy()[np.newaxis])
    return accumulator.result()


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    """A picture scaled into a square of that side, on white; small ones are enlarged."""
    from PIL import Image

    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    square = Image.new("RGB", (side, side), "white")
    resample = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    square.paste(
        Image.fromarray(image).resize(size, resample), ((side - size[0]) // 2, (side - size[1]) // 2)
    )
    return np.asarray(square)
