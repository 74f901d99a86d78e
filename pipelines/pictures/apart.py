"""Graph functions that stay apart from the graphs that call them, except in those of an export.

Of a data set's graph they stay out: hundreds of operations for rare files would be skipped one by one for
every JPEG, and each data set would optimise them anew. An export takes them in. TensorFlow cancels what runs
beside a function that fails, and a function that is just to begin then may report its cancellation before the
failure is known: of a broken picture among others one request in some hundreds would be told that it was
cancelled, and not why.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import tensorflow as tf

Function = Callable[[tf.Tensor], tf.Tensor]

_TAKEN_IN = contextvars.ContextVar("taken_in", default=False)


def apart(function: Function) -> Function:
    """A graph function of one file (string scalar), traced once in a process for either kind of graph."""

    def traced(attributes: dict[str, bool]) -> Function:
        made: Function = tf.function(
            function,
            autograph=False,
            input_signature=[tf.TensorSpec([], tf.string)],
            experimental_attributes=attributes,
        )
        return made

    stays_out, taken = traced({"_noinline": True}), traced({})

    @functools.wraps(function)
    def call(image_bytes: tf.Tensor) -> tf.Tensor:
        return (taken if _TAKEN_IN.get() else stays_out)(image_bytes)

    return call


@contextlib.contextmanager
def taken_in() -> Iterator[None]:
    """Graphs that are traced meanwhile take functions in that others keep apart."""
    before = _TAKEN_IN.set(True)
    try:
        yield
    finally:
        _TAKEN_IN.reset(before)
