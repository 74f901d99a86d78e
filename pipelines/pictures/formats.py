"""The first bytes of an encoded picture, read by TensorFlow operations so that an export can do it too."""

from __future__ import annotations

import functools
import operator

import numpy as np
import tensorflow as tf

from pipelines.pictures.file_types import MARKS, READ, TEXTS, Format

# A few hundred bytes can announce gigabytes of pixels; the largest photographs have half of this.
MAX_PIXELS = 2**26
EMPTY, DAMAGED = "empty file", "damaged or truncated {} file"

_UTF8_MARK = b"\xef\xbb\xbf"
_HEAD = max(position + len(mark) for position, mark, _ in MARKS)
_BLANK = b"\0" * _HEAD


def numbers(image_bytes: tf.Tensor, *fields: tuple[int, int], big_endian: bool = False) -> list[tf.Tensor]:
    """Whole numbers without sign from the beginning of a file; int64 scalars.

    Args:
      image_bytes: string scalar; counts as followed by zeros.
      *fields: of each number the place of its first byte, and how many it has.
      big_endian: whether the first byte counts most.
    """
    length = max(position + size for position, size in fields)
    weights = np.zeros((len(fields), length), np.int64)
    for row, (position, size) in enumerate(fields):
        powers = 256 ** np.arange(size)
        weights[row, position : position + size] = powers[::-1] if big_endian else powers
    start = tf.strings.join([tf.strings.substr(image_bytes, 0, length), b"\0" * length])
    values = tf.cast(tf.io.decode_raw(start, tf.uint8)[:length], tf.int64)
    found: list[tf.Tensor] = tf.unstack(tf.linalg.matvec(weights, values), num=len(fields))
    return found


def starts(image_bytes: tf.Tensor, mark: bytes, position: int = 0) -> tf.Tensor:
    """Whether a file has `mark` at `position`; bool scalar."""
    known = tf.strings.substr(image_bytes, 0, position + len(mark))
    if position:
        # A file that ends before would be an error of `substr`.
        known = tf.strings.substr(tf.strings.join([known, b"\0" * position]), position, len(mark))
    return tf.equal(known, mark)


def is_of(image_bytes: tf.Tensor, form: Format) -> tf.Tensor:
    """Whether a file begins with all marks of a format; bool scalar."""
    return functools.reduce(operator.and_, (starts(image_bytes, mark, at) for at, mark in form.marks))


def split(text: tf.Tensor, mark: str | bytes, most: int = -1) -> tf.Tensor:
    """The parts of a string scalar between marks, of which no more than `most` count; string [parts]."""
    # tf.strings.split goes by ragged tensors, forty operations for this one.
    parts: tf.Tensor = tf.raw_ops.StringSplitV2(input=[text], sep=mark, maxsplit=most).values
    return parts


def count(image_bytes: tf.Tensor, mark: bytes, most: int) -> tf.Tensor:
    """How often some bytes occur in a file, counted up to `most`; int32 scalar."""
    return tf.size(split(image_bytes, mark, most)) - 1


def too_large(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Whether a picture of this size (int64 scalars) is refused; bool scalar."""
    # Each by itself first: a product of two sizes of 32 bits can leave those of 64.
    return (height > MAX_PIXELS) | (width > MAX_PIXELS) | (height * width > MAX_PIXELS)


def size_complaint(kind: str, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The complaint about a picture that is `too_large`, string scalar; empty for others."""
    limit = f" pixels; a picture may hold at most {MAX_PIXELS} pixels"
    words = [f"{kind} file of ", tf.strings.as_string(width), " x ", tf.strings.as_string(height), limit]
    return tf.where(too_large(height, width), tf.strings.join(words), "")


def first_of(complaints: list[tuple[tf.Tensor, str | tf.Tensor]]) -> tf.Tensor:
    """The words beside the first condition that holds; empty when none does. String scalar."""
    found: str | tf.Tensor = ""
    for condition, words in reversed(complaints):
        found = tf.where(condition, words, found)
    return tf.convert_to_tensor(found)


def foreign_complaint(image_bytes: tf.Tensor) -> tf.Tensor:
    """The complaint about a file in none of the formats that are read; string scalar, never empty."""
    start = tf.strings.join([tf.strings.substr(image_bytes, 0, _HEAD), _BLANK])
    positions = tf.constant([position for position, _, _ in MARKS])
    lengths = tf.constant([len(mark) for _, mark, _ in MARKS])
    parts = tf.strings.substr(tf.fill([len(MARKS)], start), positions, lengths)
    marked = tf.equal(parts, tf.constant([mark for _, mark, _ in MARKS]))

    bare = tf.cond(
        starts(image_bytes, _UTF8_MARK),
        lambda: tf.strings.substr(start, len(_UTF8_MARK), _HEAD),
        lambda: start,
    )
    text = tf.strings.lower(tf.strings.strip(tf.strings.substr(bare, 0, _HEAD)))
    text = tf.strings.join([text, _BLANK])
    sizes = tf.constant([len(mark) for mark, _ in TEXTS])
    parts = tf.strings.substr(tf.fill([len(TEXTS)], text), tf.zeros_like(sizes), sizes)
    written = tf.equal(parts, tf.constant([mark for mark, _ in TEXTS]))

    names = [name for _, _, name in MARKS] + [name for _, name in TEXTS]
    fits = tf.concat([marked, written, [True]], axis=0)
    name = tf.gather(tf.constant([*names, ""]), tf.argmax(fits))
    unknown = f"not a {READ.replace(' and ', ' or ')} file"
    return first_of(
        [
            (tf.equal(image_bytes, ""), EMPTY),
            (tf.equal(name, ""), unknown),
            (tf.constant(True), tf.strings.join(["this is ", name, f"; {READ} are read"])),
        ]
    )
