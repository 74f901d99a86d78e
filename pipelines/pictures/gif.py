"""The first frame of a GIF, cut out of the file before anything is decoded.

TensorFlow decodes all frames, each as large as it says, before it gives the first one back, and keeps
every comment; 150 frames of 4,000 x 4,000 pixels are a file of megabytes and take gigabytes of memory.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from pipelines.pictures import formats

_HEADER = 13  # bytes: the signature and the logical screen
# Width, height and flags of the screen; mark, place, size and flags of an image's descriptor.
_SCREEN = ((6, 2), (8, 2), (10, 1))
_DESCRIPTION = ((0, 1), (1, 2), (3, 2), (5, 2), (7, 2), (9, 1))
# An extension that says, among other things, which colour is transparent, up to its length.
_CONTROL = b"!\xf9\x04"
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_DESCRIPTOR = 10  # bytes of an image descriptor with its mark
# Bytes that are looked at together.
_WINDOW_BITS = 13
_WINDOW = 2**_WINDOW_BITS
# A step from inside the window leads at most this far out of it.
_NODES = _WINDOW + 257
_IN_DATA, _BETWEEN = 0, 1


class Frame(NamedTuple):
    """Where the first frame lies in a file, and on the canvas; int32 scalars.

    Attributes:
      tables_end: the end of the header and of the colours that all frames share.
      start, end: of the frame, from its mark to behind its data; `start` is 0 where there is none.
      flags: those of its descriptor.
      left, top, width, height: in pixels.
      canvas: height and width, int32 [2]: of the screen, or more where the frame reaches beyond it.
    """

    tables_end: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor
    flags: tf.Tensor
    left: tf.Tensor
    top: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor
    canvas: tf.Tensor


def check(image_bytes: tf.Tensor) -> tuple[tf.Tensor, Frame]:
    """What is wrong with a file that begins as a GIF, empty when nothing is, and its first frame.

    A file that is cut short is the decoder's to complain of.
    """
    frame = _first(tf.io.decode_raw(image_bytes, tf.uint8), image_bytes)
    height, width = tf.unstack(tf.cast(frame.canvas, tf.int64))
    complaint = formats.first_of(
        [
            (tf.equal(frame.start, 0), formats.DAMAGED.format("GIF")),
            (tf.constant(True), formats.size_complaint("GIF", height, width)),
        ]
    )
    return complaint, frame


def decode(image_bytes: tf.Tensor, frame: Frame) -> tf.Tensor:
    """The first frame on its canvas, as Pillow shows it: string scalar -> uint8 [height, width, 3].

    Where the canvas is larger than the frame, it has the colour that stands for transparency, if there is
    one, else the first of the frame's colours; a background colour is not looked at. Transparent
    places of the frame have the colour that stands for them, too.

    Args:
      image_bytes: one about which `check` finds nothing to say.
      frame: what `check` found.

    Raises:
      tf.errors.InvalidArgumentError: the file is cut short.
    """
    image = tf.io.decode_gif(_alone(image_bytes, frame))[0]

    def on_canvas() -> tf.Tensor:
        beside = frame.canvas - tf.stack([frame.top + frame.height, frame.left + frame.width])
        paddings = tf.stack([[frame.top, beside[0]], [frame.left, beside[1]], [0, 0]])
        around = tf.pad(tf.zeros_like(image), paddings, constant_values=tf.constant(1, tf.uint8))
        return tf.pad(image, paddings) + around * _fill(image_bytes, frame)

    fills = tf.reduce_all(tf.equal(frame.canvas, tf.stack([frame.height, frame.width])))
    return tf.cond(fills, lambda: image, on_canvas)


def _first(data: tf.Tensor, image_bytes: tf.Tensor) -> Frame:
    """Finds the first frame of a file (string scalar), of which `data` are the bytes."""
    screen_width, screen_height, flags = (_int(n) for n in formats.numbers(image_bytes, *_SCREEN))
    colours = _HEADER + _colour_bytes(flags)
    start = _walk(data, colours, _BETWEEN)
    mark, left, top, width, height, flags = (
        _int(n) for n in formats.numbers(_from(image_bytes, start), *_DESCRIPTION)
    )
    end = _walk(data, start + _DESCRIPTOR + _colour_bytes(flags) + 1, _IN_DATA)
    canvas = tf.stack([tf.maximum(screen_height, top + height), tf.maximum(screen_width, left + width)])
    start = tf.where(tf.equal(mark, _IMAGE), start, 0)
    return Frame(colours, start, end, flags, left, top, width, height, canvas)


def _alone(image_bytes: tf.Tensor, frame: Frame) -> tf.Tensor:
    """A GIF of the first frame alone, at the corner of its screen and without its extensions.

    Without them no colour is transparent: alpha is dropped here too, and colours stay. A file that is cut
    short stays so.
    """
    content = tf.strings.substr(_from(image_bytes, frame.start + 5), 0, frame.end - frame.start - 5)
    corner = bytes([_IMAGE, 0, 0, 0, 0])  # in the file's place: TensorFlow cuts off what reaches beyond it
    header = tf.strings.substr(image_bytes, 0, frame.tables_end)
    return tf.strings.join([header, corner, content, bytes([_TRAILER])])


def _fill(image_bytes: tf.Tensor, frame: Frame) -> tf.Tensor:
    """The colour of the canvas around a frame: uint8 [3]."""
    extensions = _from(tf.strings.substr(image_bytes, 0, frame.start), frame.tables_end)
    controls = formats.split(extensions, _CONTROL)
    # The part before the first mark is none.
    flags, transparent, end = formats.numbers(controls[-1], (0, 1), (3, 1), (4, 1))
    given = (tf.size(controls) > 1) & tf.equal(flags % 2, 1) & tf.equal(end, 0)
    index = tf.where(given, _int(transparent), 0)
    own = frame.flags >= 0x80
    table = tf.where(own, frame.start + _DESCRIPTOR, _HEADER)
    length = tf.where(own, _colour_bytes(frame.flags), frame.tables_end - _HEADER)
    colours = tf.strings.substr(_from(image_bytes, table), 0, length)
    # A number beyond the table is black.
    colour = _from(tf.strings.join([colours, bytes(3 * 256)]), 3 * index)
    return tf.io.decode_raw(tf.strings.substr(colour, 0, 3), tf.uint8)


def _int(number: tf.Tensor) -> tf.Tensor:
    return tf.cast(number, tf.int32)


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
