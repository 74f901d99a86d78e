"""Which way up a photograph is: EXIF's orientation in JPEG, PNG and WebP files, read and applied.

Cameras store what their sensor saw and note how it has to be turned. Every viewer turns it; a decoder alone
does not. Whatever is malformed means no turn, and is never an error. TensorFlow operations only.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from pipelines.pictures import formats
from pipelines.pictures.file_types import JPEG, PNG, WEBP

UPRIGHT = 1
# Segments and chunks are followed to where EXIF lies, but not through a file made of empty ones.
MOST_PARTS = 64
_EXIF = b"Exif\0\0"
_TAG, _SHORT, _ENTRY = 0x0112, 3, 12  # of a directory: type "whole number of two bytes", bytes an entry
_APP1 = 0xE1
_HAS_EXIF = 0x08  # among the flags of extended WebP

# Where a part's content lies, how long it is, and where the next part begins; int64 scalars.
Part = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


@tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
def of(image_bytes: tf.Tensor) -> tf.Tensor:
    """The orientation that a file notes.

    Args:
      image_bytes: string scalar, the encoded file, of any kind.

    Returns:
      int32 scalar, 1 to 8 as in EXIF; 1 (upright) where nothing, or nothing legal, is noted.
    """
    kinds = ((JPEG, _in_jpeg), (PNG, _in_png), (WEBP, _in_webp))
    fits = tf.stack([*(formats.is_of(image_bytes, form) for form, _ in kinds), tf.constant(True)])

    def none() -> tf.Tensor:
        return tf.constant(UPRIGHT)

    branches: list[Callable[[], tf.Tensor]] = [
        lambda find=find: _of_directory(find(image_bytes)) for _, find in kinds  # type: ignore[misc]
    ]
    return tf.switch_case(tf.argmax(fits, output_type=tf.int32), [*branches, none])


def turned(image: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """A picture as it has to be seen.

    Args:
      image: [height, width, channels], as stored.
      number: int32 scalar, what `of` says.

    Returns:
      [height, width, channels], or [width, height, channels] for numbers from 5 on.
    """

    def among(*numbers: int) -> tf.Tensor:
        return tf.reduce_any(tf.equal(number, numbers))

    def turn() -> tf.Tensor:
        lying = tf.cond(number >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        upside = tf.cond(among(3, 4, 7, 8), lambda: tf.reverse(lying, [0]), lambda: lying)
        return tf.cond(among(2, 3, 6, 7), lambda: tf.reverse(upside, [1]), lambda: upside)

    return tf.cond(tf.equal(number, UPRIGHT), lambda: image, turn)


def _in_jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    """The content of the segment APP1 that holds EXIF; empty where there is none. String scalar."""

    def part(at: tf.Tensor) -> Part:
        (length,) = formats.numbers(_cut(image_bytes, at, 4), (2, 2), big_endian=True)
        return at + 4, length - 2, at + 2 + length

    def wanted(at: tf.Tensor) -> tf.Tensor:
        start = _cut(image_bytes, at, 4 + len(_EXIF))
        return formats.starts(start, bytes([0xFF, _APP1])) & formats.starts(start, _EXIF, 4)

    def leads_on(at: tf.Tensor) -> tf.Tensor:
        mark, kind, length = formats.numbers(
            _cut(image_bytes, at, 4), (0, 1), (1, 1), (2, 2), big_endian=True
        )
        before_the_picture = ((kind >= 0xE0) & (kind <= 0xEF)) | tf.equal(kind, 0xFE)
        return tf.equal(mark, 0xFF) & before_the_picture & (length >= 2)

    return tf.strings.substr(_find(image_bytes, 2, part, wanted, leads_on, len(_EXIF)), len(_EXIF), -1)


def _in_png(image_bytes: tf.Tensor) -> tf.Tensor:
    """The content of the chunk eXIf, if it comes before the picture; string scalar."""

    def part(at: tf.Tensor) -> Part:
        (length,) = formats.numbers(_cut(image_bytes, at, 4), (0, 4), big_endian=True)
        return at + 8, length, at + 12 + length

    return _find(
        image_bytes,
        8,
        part,
        lambda at: formats.starts(_cut(image_bytes, at, 8), b"eXIf", 4),
        lambda at: ~formats.starts(_cut(image_bytes, at, 8), b"IDAT", 4),
    )


def _in_webp(image_bytes: tf.Tensor) -> tf.Tensor:
    """The content of the chunk EXIF of an extended WebP, without a JPEG's mark; string scalar."""

    def part(at: tf.Tensor) -> Part:
        (length,) = formats.numbers(_cut(image_bytes, at, 8), (4, 4))
        return at + 8, length, at + 8 + length + length % 2

    (flags,) = formats.numbers(image_bytes, (20, 1))
    announced = formats.starts(image_bytes, b"VP8X", 12) & tf.not_equal(flags // _HAS_EXIF % 2, 0)
    content = _find(
        image_bytes,
        12,
        part,
        lambda at: formats.starts(_cut(image_bytes, at, 4), b"EXIF"),
        lambda _: announced,
    )
    marked = formats.starts(content, _EXIF)
    return tf.cond(marked, lambda: tf.strings.substr(content, len(_EXIF), -1), lambda: content)


def _find(
    image_bytes: tf.Tensor,
    start: int,
    part: Callable[[tf.Tensor], Part],
    wanted: Callable[[tf.Tensor], tf.Tensor],
    leads_on: Callable[[tf.Tensor], tf.Tensor],
    least: int = 0,
) -> tf.Tensor:
    """Follows parts from `start` on to the first wanted one, and returns its content; empty where none is.

    Args:
      image_bytes: string scalar.
      start: where the first part begins.
      part: where a part that begins there has its content, and where the next one begins.
      wanted: whether the part that begins there is looked for; bool scalar.
      leads_on: whether others may follow it.
      least: content of fewer bytes is none.
    """
    size = tf.cast(tf.strings.length(image_bytes), tf.int64)

    def goes_on(at: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        return (count < MOST_PARTS) & (at < size) & ~wanted(at) & leads_on(at)

    at, _ = tf.while_loop(
        goes_on, lambda at, count: (part(at)[2], count + 1), (tf.constant(start, tf.int64), tf.constant(0))
    )
    begins, length, _ = part(at)
    found = wanted(at) & (length >= least) & (begins + length <= size)
    return _cut(image_bytes, begins, tf.where(found, length, 0), blank=least)


def _of_directory(tiff: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of EXIF's content (string scalar); int32 scalar."""
    is_big = formats.starts(tiff, b"MM\0*")
    is_known = is_big | formats.starts(tiff, b"II*\0")

    def numbers(part: tf.Tensor, *fields: tuple[int, int]) -> list[tf.Tensor]:
        little, big = (formats.numbers(part, *fields, big_endian=order) for order in (False, True))
        return [tf.where(is_big, second, first) for first, second in zip(little, big, strict=True)]

    (start,) = numbers(tiff, (4, 4))
    (count,) = numbers(_cut(tiff, start, 2), (0, 2))
    entries = tf.io.decode_raw(_cut(tiff, start + 2, count * _ENTRY), tf.uint8)
    entries = tf.cast(tf.reshape(entries[: tf.size(entries) // _ENTRY * _ENTRY], [-1, _ENTRY]), tf.int32)
    # Each number of two bytes, whichever comes first.
    weights = tf.where(is_big, [256, 1], [1, 256])
    tag, kind, value = (
        tf.reduce_sum(entries[:, place : place + 2] * weights, axis=1) for place in (0, 2, 8)
    )
    noted = tf.boolean_mask(value, tf.equal(tag, _TAG) & tf.equal(kind, _SHORT))
    number = tf.concat([noted, [UPRIGHT]], axis=0)[0]
    return tf.where(is_known & (number >= 1) & (number <= 8), number, UPRIGHT)


def _cut(
    image_bytes: tf.Tensor, start: tf.Tensor, count: tf.Tensor | int, *, blank: int = 0
) -> tf.Tensor:
    """`count` bytes from a place on (int64 scalars), fewer where the file ends; `blank` zeros for none."""
    start = tf.minimum(start, tf.cast(tf.strings.length(image_bytes), tf.int64))
    found = tf.strings.substr(image_bytes, start, tf.cast(count, tf.int64))
    return tf.where(tf.equal(found, ""), b"\0" * blank, found) if blank else found
