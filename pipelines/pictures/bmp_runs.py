"""Run-length codes of BMP files (RLE8 and RLE4), decoded without a loop over single codes.

A code is two bytes. (n, v) is a run of n pixels; (0, 0) ends the row, (0, 1) the picture; (0, 2) goes on
at a place to the right and further rows on, which the next two bytes give; (0, n) is followed by n pixels
and filled up to whole words. In RLE4 a run alternates between the two halves of v.
"""

from __future__ import annotations

import tensorflow as tf

from pipelines.pictures import formats

# What decoding takes is many times the codes: files with more do not exist but to take memory.
MAX_BYTES = 2**23
_END_OF_ROW, _END, _JUMP, _FEWEST_LITERALS = 0, 1, 2, 3


def decode(data: tf.Tensor, is_of_4: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Numbers of a picture, rows as they follow one another in the file.

    What a run has beyond the end of its row is left out; places that no code reaches are 0.

    Args:
      data: uint8 [n], the codes, and whatever lies behind them.
      is_of_4: whether it is RLE4, bool scalar.
      height, width: int64 scalars.

    Returns:
      uint8 [height, width].

    Raises:
      tf.errors.InvalidArgumentError: the codes end neither the picture nor with its last pixel.
    """
    # No code reaches further than a row of 255 pixels and a word behind itself.
    data = tf.cast(tf.concat([data[: tf.size(data) // 2 * 2], tf.zeros([260], tf.uint8)], axis=0), tf.int32)
    words = (tf.size(data) - 260) // 2
    first, second = data[::2], data[1::2]
    literal_bytes = tf.where(is_of_4, (second + 1) // 2, second)
    is_literal = tf.equal(first, 0) & (second >= _FEWEST_LITERALS)
    is_jump = tf.equal(first, 0) & tf.equal(second, _JUMP)
    length = 1 + tf.where(is_literal, (literal_bytes + 1) // 2, tf.where(is_jump, 1, 0))
    follows = tf.minimum(tf.range(words) + length[:words], words)
    ends = tf.equal(first, 0) & tf.equal(second, _END)
    follows = tf.concat([tf.where(ends[:words], words, follows), [words]], axis=0)
    codes = _chain(follows, words)

    first, second, is_literal, is_jump = (
        tf.gather(part, codes) for part in (first, second, is_literal, is_jump)
    )
    right, up = (tf.gather(data, 2 * codes + place) for place in (2, 3))
    count = tf.where(is_literal, second, first)
    is_end_of_row = tf.equal(first, 0) & tf.equal(second, _END_OF_ROW)
    column, row = _places(
        tf.where(is_jump, right, count),
        is_end_of_row,
        tf.where(is_jump, up, tf.cast(is_end_of_row, tf.int32)),
    )
    filled = (row[-1] >= height) | (tf.equal(row[-1], height - 1) & (column[-1] >= width))
    whole = ends[codes[-1]] | (filled & (codes[-1] + length[codes[-1]] <= words))
    with tf.control_dependencies([tf.debugging.Assert(whole, [formats.DAMAGED.format("BMP")])]):
        column, row = tf.minimum(column[:-1], width), tf.minimum(row[:-1], height)
    shown = (tf.cast(row, tf.int32), tf.cast(column, tf.int32), count, is_literal, codes)
    paints = count > 0
    shown = tuple(tf.boolean_mask(part, paints) for part in shown)
    return _painted(data, is_of_4, shown, tf.cast(tf.stack([height, width]), tf.int32))


def _chain(follows: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """The codes that follow one another from the first: ascending int32 places before `end`.

    Each round doubles the list and how far its members see.
    """

    def double(found: tf.Tensor, jumps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.concat([found, tf.gather(jumps, found)], axis=0), tf.gather(jumps, jumps)

    found, _ = tf.while_loop(
        lambda found, _: found[-1] < end,
        double,
        (tf.zeros([1], tf.int32), follows),
        shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None])),
    )
    return tf.boolean_mask(found, found < end)


def _places(moves: tf.Tensor, ends_row: tf.Tensor, rises: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Column and row at which each code begins, and those behind the last one: int64 [codes + 1]."""

    def before(steps: tf.Tensor) -> tf.Tensor:
        return tf.cumsum(tf.concat([[0], tf.cast(steps, tf.int64)], axis=0))

    moved, rows_ended = before(moves), before(ends_row)
    starts = tf.concat([[0], tf.boolean_mask(moved[1:], ends_row)], axis=0)
    return moved - tf.gather(starts, rows_ended), before(rises)


def _painted(
    data: tf.Tensor, is_of_4: tf.Tensor, codes: tuple[tf.Tensor, ...], shape: tf.Tensor
) -> tf.Tensor:
    """Fills a picture with the pixels of runs and literals.

    Along the picture's pixels, numbers change only at few places: their differences are put there and
    added up, modulo 256. Even and odd columns have numbers of their own, for the runs of RLE4.

    Args:
      data: int32 [n], the bytes.
      is_of_4: bool scalar.
      codes: row, column and number of pixels, whether they are literals, and the place of the code; [codes].
      shape: int32 [2].
    """
    row, column, count, is_literal, place = codes
    height, width = tf.unstack(shape)
    # A run changes the number where it begins and behind it; a literal at each of its pixels, too.
    changes = tf.where(is_literal, count + 1, 2)
    starts = tf.cumsum(changes, exclusive=True)
    total = tf.reduce_sum(changes)
    code = tf.cumsum(tf.scatter_nd(starts[:, tf.newaxis], tf.ones_like(starts), total[tf.newaxis])) - 1
    number = tf.range(total) - tf.gather(starts, code)
    is_literal = tf.gather(is_literal, code)
    count, place, column = (tf.gather(part, code) for part in (count, place, column))
    is_last = tf.equal(number, tf.where(is_literal, count, 1))
    offset = tf.where(is_literal, number, tf.where(is_last, count, 0))
    at = tf.gather(row, code) * width + tf.minimum(column + offset, width)

    literal_at = 2 * place + 2 + tf.where(is_of_4, number // 2, number)
    value = tf.gather(data, tf.where(is_literal, literal_at, 2 * place + 1))
    high, low = value // 16, value % 16
    literal = tf.where(tf.equal(number % 2, 0), high, low)
    begins_even = tf.equal(column % 2, 0)

    def numbers(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        run = tf.where(begins_even, first, second)
        own = tf.where(is_of_4, tf.where(is_literal, literal, run), value)
        own = tf.where(is_last, 0, own)
        differences = tf.cast((own - tf.concat([[0], own[:-1]], axis=0)) % 256, tf.uint8)
        # The last place gathers what lies behind the picture.
        pixels = tf.minimum(at, height * width)[:, tf.newaxis]
        changed = tf.scatter_nd(pixels, differences, (height * width + 1)[tf.newaxis])
        return tf.reshape(tf.cumsum(changed)[:-1], tf.stack([height, width]))

    def alternating() -> tf.Tensor:
        is_even = tf.equal(tf.range(width) % 2, 0)
        return tf.where(is_even, numbers(high, low), numbers(low, high))

    return tf.cond(is_of_4, alternating, lambda: numbers(value, value))
