"""The order of the examples in each epoch: a pure function of (seed, epoch), computed by TensorFlow.

A stream of training pictures opens its epochs in threads of its own, also after the last step. None
of it may be Python's: a thread that enters Python while the interpreter shuts down takes the process
with it, and a stream that calls Python cannot be handed to another process.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# Streams of random numbers under one seed.
_ORDER, _BUFFER = 0, 1
# What a shuffle holds: a small set whole, of ImageNet some thousand 256x256 JPEGs.
SHUFFLE_BYTES = 128 << 20


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
    buffer: int,
) -> tf.data.Dataset:
    """Elements of a sharded set in the order of an epoch.

    Shards change places, some are read in turn, and their elements are shuffled among each other:
    where a shard mixes the classes already, as good as a shuffle of the whole set.

    Args:
      open_shard: a graph function from a shard's number (int64 scalar) to its elements.
      shards: how many there are.
      seed, epoch: decide the order, and nothing else does.
      at_once: shards read in turn.
      buffer: elements shuffled among each other.
    """
    order = tf.data.Dataset.from_tensor_slices(permutation(shards, seed, epoch))
    elements = order.interleave(
        open_shard, cycle_length=at_once, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return shuffle(elements, buffer, seed, epoch)


def shuffle(dataset: tf.data.Dataset, buffer: int, seed: int, epoch: int | tf.Tensor) -> tf.data.Dataset:
    """`Dataset.shuffle` as a pure function of (seed, epoch): the method depends on the global seed too.

    Args:
      dataset: of tensors.
      buffer: elements held, one of which is drawn for the next place.
      seed, epoch: decide the order.
    """
    words = tf.unstack(_words(seed, _BUFFER, epoch))
    spec = dataset.element_spec
    shuffled = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=buffer,
        seed=words[0],
        seed2=words[1],
        output_types=[part.dtype for part in tf.nest.flatten(spec)],
        output_shapes=[part.shape for part in tf.nest.flatten(spec)],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled, spec)


def buffer_for(count: int, size: int) -> int:
    """How many elements to shuffle among each other, when `count` of them take `size` bytes."""
    return int(min(max(SHUFFLE_BYTES * count // max(1, size), 512), 65536))


def _words(seed: int, stream: int, epoch: int | tf.Tensor) -> tf.Tensor:
    base = tf.constant([seed % 2**63, stream], tf.int64)
    return tf.random.experimental.stateless_fold_in(base, tf.cast(epoch, tf.int64))


def _shuffled(values: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_shuffle(values, seed=words)
