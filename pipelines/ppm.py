"""Uncompressed pictures: PPM files (Netpbm's "P6"), three bytes a pixel after a line or two of header.

Most viewers open them, and TensorFlow reads a window of one in a tenth of a JPEG's time: BMP would be
as simple, but has blue before red, and changing the order costs more than everything else.
"""

from __future__ import annotations

import tensorflow as tf

_CHANNELS = 3
_MOST_HEADER = 32  # bytes; ours take 15 and the like


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


def is_ppm(image_bytes: tf.Tensor) -> tf.Tensor:
    """Whether a file begins as one of `encode`; bool scalar."""
    return tf.equal(tf.strings.substr(image_bytes, 0, 3), b"P6\n")


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """A file whose header is laid out as by `encode`, of any size: string scalar -> uint8 [H, W, 3].

    Raises:
      tf.errors.InvalidArgumentError: the header is laid out otherwise, the picture has no pixels or
        more than 8 bits a channel, or the file is cut short.
    """
    lines = tf.strings.split(tf.strings.substr(image_bytes, 0, _MOST_HEADER), "\n", maxsplit=3)
    width, height = tf.unstack(tf.strings.to_number(tf.strings.split(lines[1], " "), tf.int32), num=2)
    legal = (width > 0) & (height > 0) & (lines[2] == b"255")
    with tf.control_dependencies([tf.debugging.Assert(legal, ["a PPM of 8 bits needs pixels"])]):
        width = tf.identity(width)
    header = 3 + tf.strings.length(lines[1]) + 1 + tf.strings.length(lines[2]) + 1
    pixels = tf.io.decode_raw(tf.strings.substr(image_bytes, header, height * width * _CHANNELS), tf.uint8)
    return tf.reshape(pixels, [height, width, _CHANNELS])


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
