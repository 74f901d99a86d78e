"""BMP files of every kind that programs write: palettes, bit fields, run-lengths, the headers of OS/2.

TensorFlow decodes 24 and 32 bits a pixel in the usual order; it exchanges colours where a file says
that they lie elsewhere, and knows no others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pipelines.pictures import bmp_runs, formats

_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_OF_OS2, _OF_OS2_TWO = 12, 64
_FILE_HEADER = 14
_DEPTHS = (1, 2, 4, 8, 16, 24, 32)
_RUNS_OF_8, _RUNS_OF_4, _FIELDS, _JPEG, _PNG, _ALPHA_FIELDS = 1, 2, 3, 4, 5, 6
# Where red, green and blue lie if a file does not say so.
_MASKS = (0xFF0000, 0xFF00, 0xFF)
_MASKS_OF_16 = (0x7C00, 0x3E0, 0x1F)
_PALETTE = 256
_POWERS = 2 ** np.arange(32, dtype=np.int64)


class Header(NamedTuple):
    """What a file says of itself; int64 scalars, [3] for the masks.

    Attributes:
      size: bytes of the header behind the file header.
      width, height: in pixels; a negative height is of rows from the top down.
      bits: a pixel.
      compression: a number of the format.
      palette_at, pixels_at: where the colours' table and the pixels begin.
      colours: entries of the table.
      masks: which bits of a pixel are red, green and blue.
      moved: 1 where the pixels begin behind the table though the file says nothing sensible, else 0.
    """

    size: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor
    bits: tf.Tensor
    compression: tf.Tensor
    palette_at: tf.Tensor
    pixels_at: tf.Tensor
    colours: tf.Tensor
    masks: tf.Tensor
    moved: tf.Tensor

    @property
    def rows(self) -> tf.Tensor:
        return tf.abs(self.height)

    @property
    def row_bytes(self) -> tf.Tensor:
        """Bytes of a row, which fills whole words of 32 bits."""
        return (self.width * self.bits + 31) // 32 * 4

    @property
    def in_runs(self) -> tf.Tensor:
        return tf.equal(self.compression, _RUNS_OF_8) | tf.equal(self.compression, _RUNS_OF_4)

    @property
    def entry(self) -> tf.Tensor:
        """Bytes of one entry of the table."""
        return _either(tf.equal(self.size, _OF_OS2), 3, 4)


def check(image_bytes: tf.Tensor) -> tuple[tf.Tensor, Header]:
    """What is wrong with a file that begins as a BMP, empty when nothing is, and its header."""
    header = _read(image_bytes)
    length = tf.cast(tf.strings.length(image_bytes), tf.int64)
    known_size = tf.reduce_any(tf.equal(header.size, _HEADERS))
    needed = _either(header.in_runs, 2, header.row_bytes * header.rows)
    many_runs = header.in_runs & (length - header.pixels_at > bmp_runs.MAX_BYTES)
    damaged = formats.DAMAGED.format("BMP")
    complaint = formats.first_of(
        [
            ((header.size < min(_HEADERS)) | (header.size > max(_HEADERS)), damaged),
            (~known_size, _words("BMP file with a header of ", header.size, " bytes", _HEADERS)),
            (formats.too_large(header.rows, header.width), _size_words(header)),
            ((header.width < 1) | (header.rows < 1), damaged),
            (tf.constant(True), _compression_words(header)),
        ]
    )
    more = formats.first_of(
        [
            (tf.not_equal(complaint, ""), complaint),
            (
                ~tf.reduce_any(tf.equal(header.bits, _DEPTHS)),
                _words("BMP file of ", header.bits, " bits a pixel", _DEPTHS),
            ),
            (header.pixels_at < _FILE_HEADER + header.size, damaged),
            (many_runs, f"BMP file with more than {bmp_runs.MAX_BYTES} bytes of runs"),
            (header.pixels_at + needed > length, damaged),
        ]
    )
    return more, header


def decode(image_bytes: tf.Tensor, header: Header) -> tf.Tensor:
    """The pixels of a file: string scalar -> uint8 [height, width, 3].

    Alpha is dropped; places that runs leave out have the table's first colour, and numbers beyond the
    table are black.

    Args:
      image_bytes: one about which `check` finds nothing to say.
      header: what `check` found.

    Raises:
      tf.errors.InvalidArgumentError: runs end before the picture does.
    """
    usual = tf.reduce_all(tf.equal(header.masks, _MASKS)) & tf.equal(header.moved, 0)
    plain = (header.bits >= 24) & usual & tf.not_equal(header.size, _OF_OS2)
    return tf.cond(
        header.bits <= 8,
        lambda: _indexed(image_bytes, header),
        lambda: tf.cond(plain, lambda: _plain(image_bytes, header), lambda: _masked(image_bytes, header)),
    )


def _read(image_bytes: tf.Tensor) -> Header:
    numbers = formats.numbers(
        image_bytes,
        *((10, 4), (14, 4), (18, 4), (22, 4), (28, 2), (30, 4), (46, 4), (54, 4), (58, 4), (62, 4)),
        *((18, 2), (20, 2), (24, 2)),
    )
    pixels_at, size, width, height, bits, compression, colours = numbers[:7]
    is_os2 = tf.equal(size, _OF_OS2)
    width = tf.where(is_os2, numbers[10], _signed(width))
    height = tf.where(is_os2, numbers[11], _signed(height))
    bits = tf.where(is_os2, numbers[12], bits)
    compression = _either(is_os2, 0, compression)
    in_fields = _in_fields(compression)
    masks = tf.stack(numbers[7:10])
    given = in_fields & tf.reduce_any(masks > 0)
    usual = _either(tf.equal(bits, 16), _MASKS_OF_16, _MASKS)
    masks = tf.where(given, masks, usual)
    most = tf.bitwise.left_shift(tf.ones([], tf.int64), tf.clip_by_value(bits, 0, 8))
    colours = tf.where(is_os2 | tf.equal(colours, 0), most, colours)
    # In the oldest of Windows' headers, masks follow behind it.
    behind = _either(in_fields & tf.equal(size, 40), 12, 0)
    palette_at = _FILE_HEADER + size
    entry = _either(is_os2, 3, 4)
    table = tf.where(bits <= 8, entry * colours, behind)
    moved = tf.equal(pixels_at, 0) | (tf.equal(pixels_at, palette_at) & (table > 0))
    pixels_at = tf.where(moved, palette_at + table, pixels_at)
    return Header(
        *(size, width, height, bits, compression),
        *(palette_at, pixels_at, colours, masks, tf.cast(moved, tf.int64)),
    )


def _cut(image_bytes: tf.Tensor, start: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """`count` bytes from `start` on; fewer where the file ends before."""
    return tf.strings.substr(image_bytes, tf.cast(start, tf.int64), tf.cast(count, tf.int64))


def _either(condition: tf.Tensor, these: Any, those: Any) -> tf.Tensor:
    """Whole numbers by a condition; int64."""
    return tf.where(condition, tf.cast(these, tf.int64), tf.cast(those, tf.int64))


def _in_fields(compression: tf.Tensor) -> tf.Tensor:
    return tf.equal(compression, _FIELDS) | tf.equal(compression, _ALPHA_FIELDS)


def _compression_words(header: Header) -> tf.Tensor:
    """What is wrong with the compression, empty when nothing is; string scalar."""
    number, bits = header.compression, header.bits
    of_os2 = tf.equal(header.size, _OF_OS2_TWO)
    legal = (
        tf.equal(number, 0)
        | (tf.equal(number, _RUNS_OF_8) & tf.equal(bits, 8))
        | (tf.equal(number, _RUNS_OF_4) & tf.equal(bits, 4))
        | (_in_fields(number) & (bits >= 16) & ~of_os2)
    )
    others = "; those without compression, with runs of 4 or 8 bits and with bit fields are read"
    return formats.first_of(
        [
            (legal, ""),
            (of_os2 & tf.equal(number, 3), f"BMP file of OS/2 in Huffman's code{others}"),
            (of_os2 & tf.equal(number, 4), f"BMP file of OS/2 with runs of 24 bits{others}"),
            (tf.equal(number, _JPEG), f"BMP file that holds a JPEG file{others}"),
            (tf.equal(number, _PNG), f"BMP file that holds a PNG file{others}"),
            (
                tf.constant(True),
                tf.strings.join(
                    ["BMP file of compression ", _text(number), " at ", _text(bits), " bits a pixel", others]
                ),
            ),
        ]
    )


def _size_words(header: Header) -> tf.Tensor:
    return formats.size_complaint("BMP", header.rows, header.width)


def _words(start: str, number: tf.Tensor, end: str, legal: tuple[int, ...]) -> tf.Tensor:
    read = f"{', '.join(map(str, legal[:-1]))} and {legal[-1]} are read"
    return tf.strings.join([start, _text(number), f"{end}; {read}"])


def _text(number: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(number)


def _signed(number: tf.Tensor) -> tf.Tensor:
    """A number of 32 bits as one with a sign; int64 scalar."""
    return tf.where(number < 2**31, number, number - 2**32)


def _plain(image_bytes: tf.Tensor, header: Header) -> tf.Tensor:
    # TensorFlow refuses files with anything behind the pixels.
    end = header.pixels_at + header.rows * header.row_bytes
    return tf.io.decode_bmp(_cut(image_bytes, 0, end), channels=3)


def _masked(image_bytes: tf.Tensor, header: Header) -> tf.Tensor:
    """Pixels of 16, 24 or 32 bits, of which masks say which bits are which colour.

    Of a colour of more than eight bits the upper eight are taken.
    """
    size = header.bits // 8
    pixels = tf.reshape(
        _stored(image_bytes, header)[:, : header.width * size],
        tf.stack([header.rows, header.width, size]),
    )
    words = tf.bitcast(tf.pad(pixels, tf.stack([[0, 0], [0, 0], tf.stack([0, 4 - size])])), tf.uint32)
    lowest = tf.bitwise.bitwise_and(header.masks, -header.masks)
    # How many bits lie below a mask, and how many up to its end.
    below, length = (
        tf.reduce_sum(tf.cast(mask[:, tf.newaxis] >= _POWERS, tf.int64), axis=1)
        for mask in (lowest - 1, header.masks)
    )
    shift = tf.maximum(below, length - 8)
    largest = tf.maximum(tf.bitwise.right_shift(header.masks, shift), 1)
    parts = tf.bitwise.bitwise_and(words[..., tf.newaxis], tf.cast(header.masks, tf.uint32))
    values = tf.cast(tf.bitwise.right_shift(parts, tf.cast(shift, tf.uint32)), tf.int32)
    return _upright(tf.cast(values * 255 // tf.cast(largest, tf.int32), tf.uint8), header)


def _indexed(image_bytes: tf.Tensor, header: Header) -> tf.Tensor:
    """Pixels that are numbers in the file's own table of colours."""

    def runs() -> tf.Tensor:
        data = _cut(image_bytes, header.pixels_at, bmp_runs.MAX_BYTES)
        is_of_4 = tf.equal(header.compression, _RUNS_OF_4)
        return bmp_runs.decode(tf.io.decode_raw(data, tf.uint8), is_of_4, header.rows, header.width)

    numbers = tf.cond(header.in_runs, runs, lambda: _unpacked(image_bytes, header))
    count = tf.minimum(header.colours, _PALETTE)
    table = _cut(image_bytes, header.palette_at, header.entry * count)
    table = tf.strings.join([table, b"\0" * (4 * _PALETTE)])
    table = tf.io.decode_raw(_cut(table, 0, header.entry * _PALETTE), tf.uint8)
    colours = tf.reshape(table, tf.stack([_PALETTE, tf.cast(header.entry, tf.int32)]))[:, 2::-1]
    return _upright(tf.gather(colours, tf.cast(numbers, tf.int32)), header)


def _unpacked(image_bytes: tf.Tensor, header: Header) -> tf.Tensor:
    """Numbers of 1, 2, 4 or 8 bits, the first in the upper bits of a byte: uint8 [height, width]."""
    rows = _stored(image_bytes, header)

    def split() -> tf.Tensor:
        bits = tf.cast(header.bits, tf.uint8)
        shifts = tf.cast(8 - tf.range(header.bits, 9, header.bits), tf.uint8)
        below = tf.bitwise.left_shift(tf.ones([], tf.uint8), bits) - 1
        parts = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[:, :, tf.newaxis], shifts), below)
        return tf.reshape(parts, tf.stack([header.rows, header.row_bytes * 8 // header.bits]))

    return tf.cond(header.bits < 8, split, lambda: rows)[:, : header.width]


def _stored(image_bytes: tf.Tensor, header: Header) -> tf.Tensor:
    """The bytes of the rows as they lie in the file: uint8 [height, bytes of a row]."""
    data = _cut(image_bytes, header.pixels_at, header.rows * header.row_bytes)
    return tf.reshape(tf.io.decode_raw(data, tf.uint8), tf.stack([header.rows, header.row_bytes]))


def _upright(image: tf.Tensor, header: Header) -> tf.Tensor:
    """Rows in the order in which they are seen: files begin with the lowest, unless they say otherwise."""
    return tf.cond(header.height < 0, lambda: image, lambda: tf.reverse(image, [0]))
