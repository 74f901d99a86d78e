"""The first frame of a GIF, cut out of the file before anything is decoded.

TensorFlow decodes all frames, each as large as it says, before it gives the first one back, and keeps
every comment; 150 frames of 4,000 x 4,000 pixels are a file of megabytes and take gigabytes of memory.
"""

from __future__ import annotations

import tensorflow as tf

from pipelines.pictures import formats

_HEADER = 13  # bytes: the signature and the logical screen
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_DESCRIPTOR = 10  # bytes of an image descriptor with its mark
# Bytes that are looked at together.
_WINDOW_BITS = 13
_WINDOW = 2**_WINDOW_BITS
# A step from inside the window leads at most this far out of it.
_NODES = _WINDOW + 257
_IN_DATA, _BETWEEN = 0, 1


def first_frame(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A GIF of the first frame alone, at the corner of its screen and without its extensions.

    Without them no colour is transparent: alpha is dropped here too, and colours stay.

    Args:
      image_bytes: string scalar that begins as a GIF.

    Returns:
      What is wrong with the frame's size, empty when nothing is, and the shorter file; string scalars.
      A file that is cut short stays so, for the decoder to complain of.
    """
    data = tf.io.decode_raw(image_bytes, tf.uint8)
    (flags,) = formats.numbers(image_bytes, (10, 1))
    colours = _HEADER + _colour_bytes(flags)
    start = _walk(data, colours, _BETWEEN)
    mark, width, height, flags = formats.numbers(_from(image_bytes, start), (0, 1), (5, 2), (7, 2), (9, 1))
    complaint = formats.first_of(
        [
            (tf.not_equal(mark, _IMAGE), formats.DAMAGED.format("GIF")),
            (tf.constant(True), formats.size_complaint("GIF", height, width)),
        ]
    )
    compressed = start + _DESCRIPTOR + _colour_bytes(flags) + 1
    end = _walk(data, compressed, _IN_DATA)
    frame = tf.strings.substr(_from(image_bytes, start + 5), 0, end - start - 5)
    corner = bytes([_IMAGE, 0, 0, 0, 0])  # in the file's place: TensorFlow cuts off what reaches beyond it
    trailer = bytes([_TRAILER])
    return complaint, tf.strings.join([tf.strings.substr(image_bytes, 0, colours), corner, frame, trailer])


def _colour_bytes(flags: tf.Tensor) -> tf.Tensor:
    """The length of the colour table that follows a descriptor with these flags; int32 scalar."""
    flags = tf.cast(flags, tf.int32)
    return tf.where(flags >= 0x80, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _from(image_bytes: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """The bytes from a position on; none behind the end, where `substr` would fail."""
    position = tf.minimum(position, tf.strings.length(image_bytes))
    return tf.strings.substr(image_bytes, position, tf.strings.length(image_bytes))


def _walk(data: tf.Tensor, position: tf.Tensor, state: int) -> tf.Tensor:
    """Follows a chain of blocks to where it ends.

    A block of data holds its length and that many bytes, and an empty one ends a row of them. Between
    rows an extension begins another one. A loop over single blocks would take seconds for files made
    of tiny ones; here every place of a window learns by doubling where its chain leaves the window, so
    that the time is proportional to the file's size whatever it holds.

    Args:
      data: uint8 [n].
      position: where to begin, int32 scalar.
      state: _IN_DATA goes to behind the empty block; _BETWEEN to what is no extension.

    Returns:
      The position, int32 scalar; n or more where the file ends before.
    """
    size = tf.size(data)

    def step(position: tf.Tensor, state: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        window = data[position : position + _WINDOW]
        inside = tf.size(window)
        table = _steps(window, through_extensions=through_extensions)
        for _ in range(_WINDOW_BITS):
            table = tf.gather(table, table)
        state, moved = tf.unstack(_split(table[state * _NODES]))
        ended = tf.equal(state, _BETWEEN) & (moved < inside)
        return position + moved, state, ended

    through_extensions = state == _BETWEEN
    position, _, _ = tf.while_loop(
        lambda position, _, ended: ~ended & (position < size),
        step,
        (position, tf.constant(state), tf.constant(False)),
    )
    return position


def _steps(window: tf.Tensor, *, through_extensions: bool) -> tf.Tensor:
    """Where one step leads from every place of a window in either state: int32 [2 * _NODES].

    Node `state * _NODES + place`; places behind the window and ends of the chain lead to themselves.
    """
    places = tf.range(_NODES)
    inside = places < tf.size(window)
    values = tf.pad(tf.cast(window, tf.int32), [[0, _NODES - tf.size(window)]])
    between = places + _BETWEEN * _NODES
    in_data = tf.where(inside, tf.where(values > 0, places + 1 + values, between + 1), places)
    if through_extensions:
        between = tf.where(inside & tf.equal(values, _EXTENSION), places + 2, between)
    return tf.concat([in_data, between], axis=0)


def _split(node: tf.Tensor) -> tf.Tensor:
    """State and place of a node: int32 [2]."""
    return tf.stack([node // _NODES, node % _NODES])
