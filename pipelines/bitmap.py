"""Uncompressed pictures: BMP files that any viewer opens and that cost a training step next to nothing."""

from __future__ import annotations

import struct

import tensorflow as tf

_HEADER_BYTES = 54
_CHANNELS = 3


def _row_bytes(side: int) -> int:
    """Rows are filled up to a multiple of four bytes."""
    return -(-side * _CHANNELS // 4) * 4


def encode(image: tf.Tensor, side: int) -> tf.Tensor:
    """A BMP file of 24 bits a pixel, its first row first.

    Args:
      image: uint8 [side, side, 3], RGB.
      side: in pixels.

    Returns:
      string scalar.
    """
    row = _row_bytes(side)
    count = side * row
    header = struct.pack("<2sIHHI", b"BM", _HEADER_BYTES + count, 0, 0, _HEADER_BYTES)
    # A negative height says that the first row comes first; 2835 pixels a metre are 72 an inch.
    header += struct.pack("<IiiHHIIiiII", 40, side, -side, 1, 24, 0, count, 2835, 2835, 0, 0)
    rows = tf.reshape(tf.ensure_shape(image, [side, side, _CHANNELS])[:, :, ::-1], [side, -1])
    rows = tf.pad(rows, [[0, 0], [0, row - side * _CHANNELS]])
    # No operation turns numbers into a string as they are; a serialized tensor ends with them.
    serialized = tf.io.serialize_tensor(rows)
    return tf.strings.join([header, tf.strings.substr(serialized, -count, count)])


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
    row = _row_bytes(side)
    rows = tf.strings.substr(image_bytes, _HEADER_BYTES + top * row, size * row)
    rows = tf.reshape(tf.io.decode_raw(rows, tf.uint8), [size, row])
    window = tf.slice(rows, [0, left * _CHANNELS], [size, size * _CHANNELS])
    return tf.reshape(window, [size, size, _CHANNELS])[:, :, ::-1]
