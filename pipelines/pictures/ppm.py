"""Uncompressed pictures: PPM files (Netpbm's "P6"), three bytes a pixel after a line or two of header.

Most viewers open them, and TensorFlow reads a window of one in a tenth of a JPEG's time: BMP would be
as simple, but has blue before red, and changing the order costs more than everything else.
"""

from __future__ import annotations

import tensorflow as tf

from pipelines.pictures import formats

_CHANNELS = 3
_MOST_HEADER = 32  # bytes; ours take 15 and the like
_SIDES = "[1-9][0-9]{0,8} [1-9][0-9]{0,8}"
_DEPTH = "255"


def _header(side: int) -> bytes:
    return b"P6\n%d %d\n255\n" % (side, side)


def encode(image: tf.Tensor, side: int) -> tf.Tensor:
    """A square picture as a file.

    Args:
      image: uint8 [side, side, 3], RGB.
      side: in pixels.

    Returns:
      string scalar.
    """
    count = side * side * _CHANNELS
    # No operation turns numbers into a string as they are; a serialized tensor ends with them.
    serialized = tf.io.serialize_tensor(tf.ensure_shape(image, [side, side, _CHANNELS]))
    return tf.strings.join([_header(side), tf.strings.substr(serialized, -count, count)])


Lines = tuple[tf.Tensor, tf.Tensor]


def check(image_bytes: tf.Tensor) -> tuple[tf.Tensor, Lines]:
    """What is wrong with a file that begins as a PPM, empty when nothing is, and what `decode` needs."""
    sides, depth = lines = _lines(image_bytes)
    legal = tf.strings.regex_full_match(sides, _SIDES) & tf.equal(depth, _DEPTH)

    def size() -> tf.Tensor:
        width, height = _numbers(sides)
        return formats.size_complaint("PPM", height, width)

    words = f"PPM file whose first lines are not P6, width and height, {_DEPTH}"
    return tf.cond(legal, size, lambda: tf.constant(words)), lines


def decode(image_bytes: tf.Tensor, lines: Lines) -> tf.Tensor:
    """A file whose header is laid out as by `encode`, of any size: string scalar -> uint8 [H, W, 3].

    Args:
      image_bytes: one about which `check` finds nothing to say.
      lines: what `check` found.

    Raises:
      tf.errors.InvalidArgumentError: the file is cut short.
    """
    sides, depth = lines
    width, height = _numbers(sides)
    header = 3 + tf.strings.length(sides) + 1 + tf.strings.length(depth) + 1
    count = tf.cast(height * width * _CHANNELS, tf.int32)
    pixels = tf.io.decode_raw(tf.strings.substr(image_bytes, header, count), tf.uint8)
    return tf.reshape(pixels, tf.stack([height, width, _CHANNELS]))


def _lines(image_bytes: tf.Tensor) -> Lines:
    """The second and the third line of a file, empty where there is none; string scalars."""
    lines = formats.split(tf.strings.substr(image_bytes, 0, _MOST_HEADER), "\n", 3)
    # The last part begins the pixels: a line that nothing ends is none.
    lines = tf.concat([lines[:-1], ["", "", ""]], axis=0)
    return lines[1], lines[2]


def _numbers(sides: tf.Tensor) -> list[tf.Tensor]:
    """Width and height from a line that holds nothing else; int64 scalars."""
    found: list[tf.Tensor] = tf.unstack(tf.strings.to_number(formats.split(sides, " "), tf.int64), num=2)
    return found


def decode_window(
    image_bytes: tf.Tensor, side: int, corner: tuple[tf.Tensor, tf.Tensor], size: int
) -> tf.Tensor:
    """Takes a square window out of a picture of `encode`, touching no other row.

    Args:
      image_bytes: string scalar, what `encode` made of a picture of `side` x `side` pixels.
      side: of the whole picture.
      corner: (top, left) of the window, int32 scalars.
      size: side of the window.

    Returns:
      uint8 [size, size, 3], RGB.
    """
    top, left = corner
    row = side * _CHANNELS
    rows = tf.strings.substr(image_bytes, len(_header(side)) + top * row, size * row)
    rows = tf.reshape(tf.io.decode_raw(rows, tf.uint8), [size, side, _CHANNELS])
    return tf.slice(rows, [0, left, 0], [size, size, _CHANNELS])
