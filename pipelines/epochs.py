"""One endless dataset out of a source's epochs.

An epoch's order is Python's business: a source takes an int and may permute lists. So the stream calls
Python once an epoch, to open the next one; the examples themselves never pass through Python.
"""

from __future__ import annotations

import atexit
import functools
import threading
import time
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from pipelines.sources import Source

EXAMPLE_SPEC = {
    "image_bytes": tf.TensorSpec([], tf.string),
    "label": tf.TensorSpec([], tf.int64),
    "key": tf.TensorSpec([], tf.string),
}
_NO_END = 2**40


def endless(source: Source, per_epoch: int, position: int) -> tf.data.Dataset:
    """The training examples of all epochs one after another.

    Args:
      source: whose `train` split is read.
      per_epoch: so many examples of each epoch's order are used.
      position: of the first example, counted from the start of epoch 0; those before it are not read.

    Returns:
      An infinite dataset of the source's elements.
    """
    first_epoch, seen = divmod(position, per_epoch)
    exit_guard = _exit_guard()

    @tf.autograph.experimental.do_not_convert
    def open_epoch(number: tf.Tensor) -> tf.Tensor:
        epoch = int(number)
        start = seen if epoch == first_epoch else 0
        with exit_guard.opening, tf.device("CPU:0"):
            examples = source.dataset("train", epoch=epoch, start=start).take(per_epoch - start)
            return tf.data.experimental.to_variant(examples)

    def one_epoch(number: tf.Tensor) -> tf.data.Dataset:
        with tf.control_dependencies([exit_guard.check()]):
            variant = tf.ensure_shape(tf.py_function(open_epoch, [number], tf.variant), [])
        return tf.data.experimental.from_variant(variant, EXAMPLE_SPEC)

    return tf.data.Dataset.range(first_epoch, _NO_END).flat_map(one_epoch)


class _ExitGuard:
    """Keeps a stream out of Python while the interpreter shuts down.

    A stream reads ahead in threads of its own, also after the last step. A thread that enters Python
    during shutdown is killed by it, and the process with it ("terminate called without an active
    exception"): an otherwise finished training would end with an error.
    """

    def __init__(self) -> None:
        self.opening = threading.Lock()
        # A table, not a variable: strategies make copies of every variable created in their scope.
        with tf.init_scope(), tf.device("CPU:0"):
            self._closing = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, default_value=0)
        atexit.register(self._close)

    def check(self) -> tf.Operation:
        """An operation that fails once the interpreter shuts down."""
        closing = self._closing.lookup(tf.constant(0, tf.int64))
        return tf.debugging.Assert(tf.equal(closing, 0), ["the program ends"])

    def _close(self) -> None:
        self._closing.insert(tf.constant(0, tf.int64), tf.constant(1, tf.int64))
        time.sleep(0.01)  # for a thread that has just passed the check
        with self.opening:
            pass


@functools.cache
def _exit_guard() -> _ExitGuard:
    return _ExitGuard()
