"""A pass over the pictures of a source: files go through a graph, block by block on all cores.

A picture on which the graph fails is left out; an error of the source itself is not caught.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from pipelines.pictures.file_types import FORMATS, JPEG, Format, format_of
from pipelines.sources.source import Source

# Pictures that one call works on, one after another: each call costs a fifth of a picture's preparation.
BLOCK = 32

_MARKS_END = max(place + len(mark) for form in FORMATS for place, mark in form.marks)

Outputs = dict[str, tf.Tensor]
T = TypeVar("T")


class FileGraph:
    """What is made of files, one after another in one call, by graphs that a process traces once.

    A stream of tf.data optimises its graph anew each time that it begins, which takes a second with the
    decoders of all formats.

    Args:
      one: from a file (string scalar) and its format, where it is known, to named tensors.
      gives: their shapes and types.
    """

    def __init__(
        self, one: Callable[[tf.Tensor, Format | None], Outputs], gives: dict[str, tf.TensorSpec]
    ) -> None:
        self._one, self._gives = one, gives
        self._graphs: dict[Format | None, Callable[[tf.Tensor], Outputs]] = {}
        self._tracing = threading.Lock()

    def __call__(self, files: tf.Tensor) -> Outputs:
        """What is made of each of some files, string [n] -> tensors [n, ...].

        Raises:
          tf.errors.OpError: it fails on one of them.
        """
        # Most data sets are all JPEGs: the graph of all formats would take longer to begin than a thousand
        # pictures of theirs.
        heads = tf.strings.substr(files, 0, _MARKS_END).numpy()
        return self._graph(JPEG if all(format_of(head) == JPEG for head in heads) else None)(files)

    def readable(self, files: tf.Tensor) -> tuple[list[int], dict[str, np.ndarray]]:
        """The numbers of the files on which it does not fail, ascending, and what is made of these."""
        try:
            made = self(files)
        except tf.errors.OpError:
            return self._one_by_one(files)
        return list(range(len(files))), {name: part.numpy() for name, part in made.items()}

    def _one_by_one(self, files: tf.Tensor) -> tuple[list[int], dict[str, np.ndarray]]:
        numbers, parts = [], [self(files[:0])]
        for number in range(len(files)):
            with contextlib.suppress(tf.errors.OpError):
                parts.append(self(files[number : number + 1]))
                numbers.append(number)
        return numbers, {name: np.concatenate([part[name].numpy() for part in parts]) for name in self._gives}

    def _graph(self, form: Format | None) -> Callable[[tf.Tensor], Outputs]:
        with self._tracing:  # two threads would optimise it twice
            if form not in self._graphs:
                self._graphs[form] = graph = self._traced(form)
                graph(tf.zeros([0], tf.string))
            return self._graphs[form]

    def _traced(self, form: Format | None) -> Callable[[tf.Tensor], Outputs]:
        def all_of(files: tf.Tensor) -> Outputs:
            made: Outputs = tf.map_fn(
                lambda file: self._one(file, form),
                files,
                fn_output_signature=self._gives,
                parallel_iterations=1,
            )
            return made

        graph: Callable[[tf.Tensor], Outputs] = tf.function(
            all_of, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )
        return graph


class Block(NamedTuple):
    """Some pictures that follow one another in a source's fixed order.

    Attributes:
      places: int64, where they stand, readable or not.
      positions: int64 [n], the places of the readable ones, ascending.
      labels: int64 [n].
      keys: bytes [n] (NumPy objects).
      made: what the graph gives of them, [n, ...] each.
    """

    places: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    made: dict[str, np.ndarray]


def blocks(
    source: Source,
    split: str,
    positions: np.ndarray | None,
    graph: FileGraph,
    then: Callable[[Block], T],
    *,
    size: int | None = None,
) -> Generator[T]:
    """Sends pictures through a graph on all cores and gives what comes of each block, in their order.

    Args:
      source: the data set.
      split: one of its splits.
      positions: ascending places in its fixed order; all when None.
      graph: what is made of a file.
      then: is called with each block by the thread that has worked on it.
      size: of a block; BLOCK when None.

    Raises:
      tf.errors.OpError: the source cannot be read.
    """
    if positions is not None and not len(positions):
        return
    if positions is not None and len(positions) == source.count(split):
        positions = None  # nothing to look up
    batches = _untuned(source.numbered(split, positions).batch(size or BLOCK).prefetch(2))
    waiting: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    workers = os.cpu_count() or 1
    pool = concurrent.futures.ThreadPoolExecutor(workers, "pass")
    try:
        for batch in batches:
            waiting.append(pool.submit(lambda batch: then(_block(batch, graph)), batch))
            while len(waiting) > workers + 2 or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """A dataset that ends when its last element was read.

    TensorFlow's tuner sleeps for up to a minute between two looks at a stream, and often enough the end of
    the stream waits until it wakes: three seconds after 4,000 pictures.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _block(batch: Outputs, graph: FileGraph) -> Block:
    places, labels, keys = (batch[name].numpy() for name in ("position", "label", "key"))
    numbers, made = graph.readable(batch["image_bytes"])
    return Block(places, places[numbers], labels[numbers], keys[numbers], made)
