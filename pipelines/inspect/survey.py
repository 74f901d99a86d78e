"""One pass over a data set: what each picture is, and a hash of what it shows.

Sizes come from headers; JPEG files are decoded in gray at an eighth, a quarter or a half of their size, which
still reads every byte of them. What is seen is the picture upright, as training sees it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pipelines import passes, progress, scan
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.inspect import hashing
from pipelines.inspect.hashing import Hashes
from pipelines.inspect.kinds import HEAD, kind_of
from pipelines.passes import FileGraph
from pipelines.pictures import formats, orientation
from pipelines.pictures.decode import complaint, decode
from pipelines.pictures.file_types import JPEG, Format
from pipelines.sources.source import BrokenPicture, Source

Seen = dict[str, tf.Tensor]
Look = Callable[[tf.Tensor, Format | None], Seen]

_SCALES = (1, 2, 4, 8)
_LARGEST = 2**63 - 1
_LYING = 5  # from this orientation on width and height change places
_GIVES = {
    **dict.fromkeys(("height", "width", "size", "content"), tf.TensorSpec([], tf.int64)),
    "channels": tf.TensorSpec([], tf.int32),
    "head": tf.TensorSpec([], tf.string),
    "gray": tf.TensorSpec([hashing.SIDE, hashing.SIDE], tf.float32),
}


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the readable pictures are, n of them, split by split, each in its fixed order.

    Attributes:
      splits: names of the source's splits; one may hold no pictures.
      split: int64 [n], index into `splits`.
      position: int64 [n], in the split's fixed order.
      label: int64 [n].
      key: bytes [n] (NumPy objects).
      width, height: int64 [n], of the picture upright; as the file's header says where EXIF notes no turn.
      size: int64 [n], bytes of the file.
      kind: (format, colours) [n], see `kinds`.
      content: int64 [n], FarmHash of the whole file.
      flat: bool [n], of nearly one colour.
      hashes, mirrored: of the pictures and of their mirror images.
      broken: by split, the pictures that cannot be read.
      unseen: how many pictures a limit has left unlooked at.
    """

    splits: tuple[str, ...]
    split: np.ndarray
    position: np.ndarray
    label: np.ndarray
    key: np.ndarray
    width: np.ndarray
    height: np.ndarray
    size: np.ndarray
    kind: list[tuple[str, str]]
    content: np.ndarray
    flat: np.ndarray
    hashes: Hashes
    mirrored: Hashes
    broken: tuple[list[BrokenPicture], ...]
    unseen: int

    def __len__(self) -> int:
        return len(self.label)

    def within(self, split: str) -> np.ndarray:
        """Which pictures lie in a split; bool [n]."""
        return np.asarray(self.split == self.splits.index(split))


class _Table:
    """Columns that grow batch by batch."""

    def __init__(self) -> None:
        self.columns: dict[str, list[np.ndarray]] = {}
        self.kinds: list[tuple[str, str]] = []

    def add(self, split: int, block: passes.Block) -> None:
        """Adds the pictures of a block; `gray` becomes hashes, `head` and `channels` the kind."""
        seen = block.made
        gray = seen["gray"]
        straight, turned = hashing.hashes(gray), hashing.hashes(hashing.mirrored(gray))
        pairs = zip(seen["head"], seen["channels"].tolist(), strict=True)
        self.kinds += [kind_of(head, channels) for head, channels in pairs]
        kept = {name: values for name, values in seen.items() if name not in ("gray", "head", "channels")}
        kept |= {"position": block.positions, "label": block.labels, "key": block.keys}
        kept |= {"split": np.full(len(gray), split), "flat": hashing.is_flat(gray)}
        kept |= {"short": straight.short, "long": straight.long}
        kept |= {"short_mirrored": turned.short, "long_mirrored": turned.long}
        for name, values in kept.items():
            self.columns.setdefault(name, []).append(values)

    def result(self, splits: tuple[str, ...], broken: tuple[list[BrokenPicture], ...], unseen: int) -> Survey:
        """All of it, in order."""
        whole = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        # What a second pass has read lies behind.
        order = np.lexsort((whole["position"], whole["split"]))
        whole = {name: values[order] for name, values in whole.items()}
        hashes = Hashes(whole.pop("short"), whole.pop("long"))
        mirrored = Hashes(whole.pop("short_mirrored"), whole.pop("long_mirrored"))
        kinds = [self.kinds[place] for place in order.tolist()]
        return Survey(
            **whole,
            splits=splits,
            kind=kinds,
            hashes=hashes,
            mirrored=mirrored,
            broken=broken,
            unseen=unseen,
        )


def survey(source: Source, config: DataConfig, *, limit: int | None = None) -> Survey:
    """Looks at every picture of every split once.

    Args:
      source: the data set.
      config: `exif_orientation` says whether pictures are turned upright.
      limit: looks at no more pictures than this of each split.

    Raises:
      DataError: there are no pictures, or none of them can be read.
    """
    table = _Table()
    broken: list[list[BrokenPicture]] = []
    unseen = 0
    upright = config.reading(source.prepared_size).exif_orientation
    for number, split in enumerate(source.splits):
        total = min(source.count(split), limit or source.count(split))
        unseen += source.count(split) - total
        left = np.arange(total)
        for transform, what in ((look, "looking at"), (look_closely, "looking again at")):
            if len(left):
                what = (
                    f"{what} {len(left):,} {split} pictures"
                    if len(left) < total
                    else f"{what} the {split} pictures"
                )
                left = _pass(source, number, left, _graph(transform, upright), table, what)
        # A source need not have a reader for a split without pictures.
        broken.append(scan.explain(source, split, left) if len(left) else [])
    if not table.kinds:
        examples = [picture for pictures in broken for picture in pictures[:1]]
        if not examples:
            raise DataError(f"no pictures in {source.description}")
        raise DataError(
            f"none of the {sum(map(len, broken))} pictures can be read, for example {examples[0]}"
        )
    return table.result(source.splits, tuple(broken), unseen)


def _pass(
    source: Source,
    number: int,
    positions: np.ndarray,
    graph: FileGraph,
    table: _Table,
    what: str,
) -> np.ndarray:
    """Adds the pictures of a split at some positions; returns the positions that did not come back."""
    split = source.splits[number]
    seen = np.zeros(source.count(split), bool)
    blocks = passes.blocks(source, split, positions, graph, lambda block: block)
    with contextlib.closing(blocks):  # so that an error ends its threads too
        for block in progress.counted(what, blocks, len(positions), each=passes.BLOCK):
            seen[block.positions] = True
            if len(block.positions):
                table.add(number, block)
    return positions[~seen[positions]]


@functools.lru_cache(maxsize=8)
def _graph(look: Look, upright: bool) -> FileGraph:
    return FileGraph(_upright(look) if upright else look, _GIVES)


def _upright(look: Look) -> Look:
    """The same look at the picture upright, as EXIF says: its size and `gray` turned."""

    def look_upright(image_bytes: tf.Tensor, form: Format | None) -> Seen:
        looked = look(image_bytes, form)
        number = orientation.of(image_bytes)
        lies = number >= _LYING
        width, height = looked["width"], looked["height"]
        return {
            **looked,
            "width": tf.where(lies, height, width),
            "height": tf.where(lies, width, height),
            # The same as of the turned picture, as shrinking treats all sides alike.
            "gray": orientation.turned(looked["gray"][..., tf.newaxis], number)[..., 0],
        }

    return look_upright


def look(image_bytes: tf.Tensor, form: Format | None) -> Seen:
    """What a picture is as it is stored; fails where it cannot be read.

    Args:
      image_bytes: string scalar, the encoded file.
      form: its format, where that is known.

    Returns:
      width, height and size (bytes), int64; `channels` of a JPEG, int32, 0 for others; `content`, int64;
      `head`, the first bytes; `gray`, float32 [SIDE, SIDE].
    """
    if form == JPEG:
        return _seen(image_bytes, *_look_at_jpeg(image_bytes))
    shape, channels, gray = tf.cond(
        formats.is_of(image_bytes, JPEG),
        lambda: _look_at_jpeg(image_bytes),
        lambda: _decoded(image_bytes, form),
    )
    return _seen(image_bytes, shape, channels, gray)


def look_closely(image_bytes: tf.Tensor, form: Format | None) -> Seen:
    """As `look`, by the decoder of training alone, which may read what a quick look does not."""
    shape, _, gray = _decoded(image_bytes, form)
    is_jpeg = formats.is_of(image_bytes, JPEG)
    channels = tf.cond(is_jpeg, lambda: tf.io.extract_jpeg_shape(image_bytes)[2], lambda: tf.constant(0))
    return _seen(image_bytes, shape, channels, gray)


def _seen(image_bytes: tf.Tensor, shape: tf.Tensor, channels: tf.Tensor, gray: tf.Tensor) -> Seen:
    return {
        "height": shape[0],
        "width": shape[1],
        "channels": channels,
        "size": tf.cast(tf.strings.length(image_bytes), tf.int64),
        "content": tf.strings.to_hash_bucket_fast(image_bytes, _LARGEST),
        "head": tf.strings.substr(image_bytes, 0, HEAD),
        "gray": tf.ensure_shape(gray, [hashing.SIDE, hashing.SIDE]),
    }


Looked = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def _look_at_jpeg(image_bytes: tf.Tensor) -> Looked:
    shape = tf.io.extract_jpeg_shape(image_bytes)
    ordinary = tf.equal(complaint(image_bytes), "") & tf.less_equal(shape[2], 3)
    scales = [tf.reduce_min(shape[:2]) >= 2 * hashing.SIDE * scale for scale in _SCALES[1:]]
    scale = tf.reduce_sum(tf.cast(tf.stack(scales), tf.int32))

    def scaled(ratio: int) -> Callable[[], tf.Tensor]:
        return lambda: tf.io.decode_jpeg(image_bytes, channels=1, ratio=ratio)

    gray = tf.cond(
        ordinary,
        lambda: _small(tf.switch_case(scale, [scaled(ratio) for ratio in _SCALES])),
        lambda: _decoded(image_bytes, JPEG)[2],
    )
    return tf.cast(shape[:2], tf.int64), shape[2], gray


def _decoded(image_bytes: tf.Tensor, form: Format | None) -> Looked:
    image = decode(image_bytes, form=form)
    return tf.shape(image, tf.int64)[:2], tf.constant(0), _small(tf.image.rgb_to_grayscale(image))


def _small(gray: tf.Tensor) -> tf.Tensor:
    """Uint8 [height, width, 1] -> float32 [SIDE, SIDE]."""
    return tf.image.resize(gray, (hashing.SIDE, hashing.SIDE), method="area")[..., 0]
