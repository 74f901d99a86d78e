"""The order of every epoch, as a pure function of (seed, epoch) that TensorFlow computes itself.

A stream of training pictures opens its epochs in threads of its own, also after the last step. None
of it may be Python's: a thread that enters Python while the interpreter shuts down takes the process
with it, and a stream that calls Python cannot be handed to another process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from pipelines.sources import Source

# Streams of random numbers under one seed.
_ORDER, _BLOCKS = 0, 1
_NO_END = 2**40


def endless(source: Source, per_epoch: int, position: int) -> tf.data.Dataset:
    """The training examples of all epochs one after another.

    Args:
      source: whose `train` split is read.
      per_epoch: so many examples of each epoch's order are used.
      position: of the first example, counted from the start of epoch 0; those before it are left out.

    Returns:
      An infinite dataset of the source's elements.
    """
    first_epoch, seen = divmod(position, per_epoch)

    @tf.autograph.experimental.do_not_convert
    def one_epoch(number: tf.Tensor) -> tf.data.Dataset:
        start = tf.where(number == first_epoch, tf.constant(seen, tf.int64), 0)
        return source.dataset("train", epoch=number, start=start).take(per_epoch - start)

    return tf.data.Dataset.range(first_epoch, _NO_END).flat_map(one_epoch)


def permutation(count: int, seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """The numbers 0 to count - 1 in the order of an epoch, int64 [count]."""
    return _shuffled(tf.range(count, dtype=tf.int64), _words(seed, _ORDER, epoch))


def interleave_shards(
    open_shard: Callable[[tf.Tensor], tf.data.Dataset],
    shards: int,
    seed: int,
    epoch: int | tf.Tensor,
    *,
    at_once: int,
    block: int,
) -> tf.data.Dataset:
    """Elements of a sharded set in the order of an epoch.

    Shards change places, some are read in turn, and their elements are shuffled among each other:
    where a shard mixes the classes already, as good as a shuffle of the whole set.

    Args:
      open_shard: a graph function from a shard's number (int64 scalar) to its elements.
      shards: how many there are.
      seed, epoch: decide the order, and nothing else does.
      at_once: shards read in turn.
      block: elements shuffled among each other.
    """
    order = tf.data.Dataset.from_tensor_slices(permutation(shards, seed, epoch))
    elements = order.interleave(
        open_shard, cycle_length=at_once, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return shuffle_in_blocks(elements, block, seed, epoch)


def shuffle_in_blocks(
    dataset: tf.data.Dataset, block: int, seed: int, epoch: int | tf.Tensor
) -> tf.data.Dataset:
    """Shuffles each run of `block` elements, as a pure function of (seed, epoch).

    `Dataset.shuffle` would depend on TensorFlow's global seed as well.
    """
    words = _words(seed, _BLOCKS, epoch)

    @tf.autograph.experimental.do_not_convert
    def shuffled(number: tf.Tensor, elements: Any) -> tf.data.Dataset:
        size = tf.shape(tf.nest.flatten(elements)[0])[0]
        order = _shuffled(tf.range(size), tf.random.experimental.stateless_fold_in(words, number))
        return tf.data.Dataset.from_tensor_slices(
            tf.nest.map_structure(lambda part: tf.gather(part, order), elements)
        )

    # The next block is read while this one is given out.
    return dataset.batch(block).prefetch(1).enumerate().flat_map(shuffled)


def _words(seed: int, stream: int, epoch: int | tf.Tensor) -> tf.Tensor:
    base = tf.constant([seed % 2**63, stream], tf.int64)
    return tf.random.experimental.stateless_fold_in(base, tf.cast(epoch, tf.int64))


def _shuffled(values: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_shuffle(values, seed=words)
