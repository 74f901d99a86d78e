"""Which way up a photograph is: EXIF's orientation in JPEG, PNG and WebP files, read and applied.

Cameras store what their sensor saw and note how it has to be turned. Every viewer turns it; a decoder alone
does not. Whatever is malformed means no turn, and is never an error. TensorFlow operations only, and few of
them: they run for every picture.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pipelines.pictures import formats
from pipelines.pictures.apart import apart
from pipelines.pictures.file_types import JPEG, PNG, WEBP

UPRIGHT = 1
# Segments and chunks are followed to where EXIF lies, but not through a file made of empty ones.
MOST_PARTS = 64
_MOST_BEFORE = 2**17
# EXIF begins with the directory; the rest is a thumbnail and what the maker notes.
_MOST_BYTES = 2**16
_MARK = b"Exif\0\0"
# How most JPEGs without EXIF begin: with JFIF's segment without a thumbnail, and behind it the first table of
# the pixels, where no segment is looked for any more.
_JFIF, _TABLE, _JFIF_ENDS = b"\xff\xd8\xff\xe0\0\x10", b"\xff\xdb", 20
_TAG, _SHORT, _ENTRY = 0x0112, 3, 12  # of a directory: type "whole number of two bytes", bytes an entry
_KINDS = (JPEG, PNG, WEBP)
_FIRST_PARTS = (2, 8, 12)
_CONTENTS = np.array([4, 8, 8])  # where a part's content begins
_APP0, _APP1, _APP15, _COMMENT = 0xFFE0, 0xFFE1, 0xFFEF, 0xFFFE
_HEAD = 8  # bytes of a part that are looked at
# Its first two and its next two bytes as numbers, its first and its last four, and the last four from behind.
_READINGS = np.array(
    [
        [2**8, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 2**8, 1, 0, 0, 0, 0],
        [2**24, 2**16, 2**8, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 2**24, 2**16, 2**8, 1],
        [0, 0, 0, 0, 1, 2**8, 2**16, 2**24],
    ]
)
# By orientation, whether rows and columns are reversed, after both have been exchanged from 5 on.
_FLIPS = (
    *((False, False), (False, False), (False, True), (True, True), (True, False)),
    *((False, False), (False, True), (True, True), (True, False)),
)


def of(image_bytes: tf.Tensor) -> tf.Tensor:
    """The orientation that a file notes.

    Args:
      image_bytes: string scalar, the encoded file, of any kind. A JPEG's EXIF counts where it begins in the
        file's first 128 kB, a PNG's where it comes before the pixels.

    Returns:
      int32 scalar, 1 to 8 as in EXIF; 1 (upright) where nothing, or nothing legal, is noted.
    """
    image_bytes = tf.convert_to_tensor(image_bytes)
    # Most pictures have none, which their first bytes tell, or a search for the mark: parts are followed in
    # the others.
    plain = formats.starts(image_bytes, _JFIF) & formats.starts(image_bytes, _TABLE, _JFIF_ENDS)

    return tf.cond(plain, lambda: tf.constant(UPRIGHT), lambda: _searched(image_bytes))


@apart
def _searched(image_bytes: tf.Tensor) -> tf.Tensor:
    beginning = tf.strings.substr(image_bytes, 0, _MOST_BEFORE)
    has_none = formats.is_of(image_bytes, JPEG) & tf.equal(formats.count(beginning, _MARK, 1), 0)
    return tf.cond(has_none, lambda: tf.constant(UPRIGHT), lambda: _noted(image_bytes))


@apart
def _noted(image_bytes: tf.Tensor) -> tf.Tensor:
    exif = _find(image_bytes)
    return tf.cond(tf.equal(exif, ""), lambda: tf.constant(UPRIGHT), lambda: _of_directory(exif))


def turned(image: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """A picture as it has to be seen.

    Args:
      image: [height, width, channels], as stored.
      number: int32 scalar, what `of` says.

    Returns:
      [height, width, channels], or [width, height, channels] for numbers from 5 on.
    """

    def turn() -> tf.Tensor:
        lying = tf.cond(number >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        flips = tf.concat([tf.gather(_FLIPS, number), [False]], axis=0)
        return tf.raw_ops.Reverse(tensor=lying, dims=flips)

    return tf.cond(tf.equal(number, UPRIGHT), lambda: image, turn)


def _find(image_bytes: tf.Tensor) -> tf.Tensor:
    """EXIF's content, cut to its beginning; empty where a file has none. String scalar.

    JPEG has it in a segment APP1 that begins with a mark, PNG in a chunk eXIf, WebP in a chunk EXIF.
    """
    size = tf.strings.length(image_bytes)
    fits = tf.stack([formats.is_of(image_bytes, form) for form in _KINDS])
    kind = tf.argmax(fits)

    def step(at: tf.Tensor, *state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Looks at the part that begins here, and goes on to the next one."""
        count = state[-1]
        head = tf.strings.join([tf.strings.substr(image_bytes, at, _HEAD), b"\0" * _HEAD])
        head = tf.cast(tf.io.decode_raw(head, tf.uint8)[:_HEAD], tf.int64)
        marker, short, first, last, last_reversed = tf.unstack(tf.reduce_sum(head * _READINGS, axis=1))
        is_segment = ((marker >= _APP0) & (marker <= _APP15)) | tf.equal(marker, _COMMENT)
        wanted = tf.stack(
            [
                tf.equal(marker, _APP1) & tf.equal(last, _number(b"Exif")),
                tf.equal(last, _number(b"eXIf")),
                tf.equal(first, _number(b"EXIF")),
            ]
        )[kind]
        leads_on = tf.stack([is_segment, tf.not_equal(last, _number(b"IDAT")), True])[kind]
        # Of a segment the length counts itself; a chunk of PNG ends with a checksum, one of WebP evenly.
        length = tf.stack([short - 2, first, last_reversed])[kind]
        behind = tf.stack([0, 4, length % 2])[kind]
        begins = tf.cast(at, tf.int64) + tf.gather(_CONTENTS, kind)
        ends = begins + length
        inside = (length >= 0) & (ends <= tf.cast(size, tf.int64))
        following = tf.cast(tf.where(inside, ends + behind, 0), tf.int32)
        goes_on = inside & ~wanted & leads_on & (following < size) & (count < MOST_PARTS)
        found = tf.where(inside & wanted, length, 0)
        return following, goes_on, tf.cast(begins, tf.int32), tf.cast(found, tf.int32), count + 1

    start = tf.gather(_FIRST_PARTS, kind)
    goes_on = tf.reduce_any(fits) & (start < size)
    _, _, begins, length, _ = tf.while_loop(
        lambda _, goes_on, *state: goes_on, step, (start, goes_on, 0, 0, 0)
    )
    return tf.strings.substr(image_bytes, tf.minimum(begins, size), tf.minimum(length, _MOST_BYTES))


def _number(name: bytes) -> int:
    return int.from_bytes(name, "big")


def _of_directory(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of EXIF's content (string scalar); int32 scalar."""
    skipped = tf.where(formats.starts(exif, _MARK), len(_MARK), 0)
    exif = tf.strings.substr(exif, skipped, _MOST_BYTES)
    is_big = formats.starts(exif, b"MM\0*")
    known = is_big | formats.starts(exif, b"II*\0")
    data = tf.cast(tf.io.decode_raw(tf.strings.join([exif, b"\0" * 2 * _ENTRY]), tf.uint8), tf.int64)
    pair = tf.where(is_big, [256, 1], [1, 256])
    pair = tf.cast(pair, tf.int64)
    high, low = tf.unstack(tf.reduce_sum(tf.reshape(data[4:8], [2, 2]) * pair, axis=1))
    start = tf.where(is_big, high * 2**16 + low, low * 2**16 + high)
    # Behind the end there are zeros: no entries.
    start = tf.minimum(start, tf.size(data, tf.int64) - _ENTRY)
    count = tf.reduce_sum(data[start : start + 2] * pair)
    entries = data[start + 2 : start + 2 + count * _ENTRY]
    entries = tf.reshape(entries[: tf.size(entries) // _ENTRY * _ENTRY], [-1, _ENTRY // 2, 2])
    words = tf.reduce_sum(entries * pair, axis=2)
    noted = known & tf.equal(words[:, 0], _TAG) & tf.equal(words[:, 1], _SHORT) & (words[:, 4] <= 8)
    return tf.cast(tf.reduce_max(tf.concat([tf.where(noted, words[:, 4], 0), [UPRIGHT]], axis=0)), tf.int32)
