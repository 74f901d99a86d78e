"""The batching queue: requests (tasks), cut into slices, gathered into batches.

Not thread-safe: the scheduler holds its own lock around every call.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from serving.batching.parameters import BatchingParameters
from serving.errors import Code, ServingError, invalid

QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full; "


class Task:
    """One request that waits for a batch.

    Attributes:
      feeds: arrays by tensor name, all with `rows` rows.
      fetches: names of the tensors to return.
      rows: size of the first dimension, at least 1.
      deadline: second of `time.monotonic()` at which the caller stops waiting; None for no limit.
      queued_at: second of the same clock at which it was made.
      finished: whether it has outputs or an error, or its caller has stopped waiting.
      batch: the first batch that it was put in.
    """

    def __init__(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], rows: int, deadline: float | None
    ) -> None:
        self.feeds = feeds
        self.fetches = fetches
        self.rows = rows
        self.deadline = deadline
        self.queued_at = time.monotonic()
        self.finished = False
        self.batch: Batch | None = None
        self._error: ServingError | None = None
        self._parts: list[tuple[int, list[np.ndarray]]] = []
        self._missing = rows
        # Taken until the answer is there: a bare lock is the cheapest thing that a thread can wait for.
        self._answered = threading.Lock()
        self._answered.acquire()

    def expired(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.deadline <= now

    def deliver(self, begin: int, end: int, outputs: list[np.ndarray]) -> None:
        """Adds the outputs of rows [begin, end); the task is finished once all rows have theirs."""
        if not self.finished:
            self._parts.append((begin, outputs))
            self._missing -= end - begin
            if self._missing == 0:
                self._finish()

    def fail(self, error: ServingError) -> None:
        """Finishes the task with an error, unless it is finished already."""
        if not self.finished:
            self._error = error
            self._finish()

    def _finish(self) -> None:
        self.finished = True
        self._answered.release()

    def wait(self) -> bool:
        """Blocks until the task is finished or its deadline has passed; returns whether it is finished.

        Called without the scheduler's lock.
        """
        if self.deadline is None:
            return self._answered.acquire()
        seconds = min(max(self.deadline - time.monotonic(), 0), threading.TIMEOUT_MAX)
        return self._answered.acquire(timeout=seconds)

    def outputs(self) -> list[np.ndarray]:
        """The outputs of a finished task, in the order of its fetches.

        Called without the scheduler's lock.

        Raises:
          ServingError: the task failed.
        """
        if self._error is not None:
            # Each waiting thread raises an exception of its own: they would share one traceback.
            raise ServingError(self._error.code, self._error.message)
        if len(self._parts) == 1:
            return self._parts[0][1]
        parts = [outputs for _, outputs in sorted(self._parts, key=lambda part: part[0])]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


class Slice(NamedTuple):
    """Rows [begin, end) of a task; all its rows unless large requests are split."""

    task: Task
    begin: int
    end: int

    @property
    def rows(self) -> int:
        return self.end - self.begin


class Batch:
    """Slices that run together as one batch.

    Attributes:
      rows: total over the slices.
      opened_at: second of `time.monotonic()` at which the first slice was added; infinity for an empty batch.
      taken: whether a thread has taken it out of the queue.
    """

    def __init__(self) -> None:
        self.slices: list[Slice] = []
        self.rows = 0
        self.opened_at = math.inf
        self.taken = False

    def add(self, piece: Slice, now: float) -> None:
        """Appends a slice."""
        if not self.slices:
            self.opened_at = now
        self.slices.append(piece)
        self.rows += piece.rows
        piece.task.batch = piece.task.batch or self


class BatchQueue:
    """The waiting batches of one kind: full ones, and at the end the one that is being filled.

    Tasks keep their order. As in TF Serving, a task that does not fit closes the batch that is being filled,
    unless it is split there.

    Attributes:
      flushed: whether batches may run without waiting to be filled, as when the model is unloaded.
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        self._parameters = parameters
        self._batches = deque([Batch()])
        self.flushed = False

    def __len__(self) -> int:
        """Number of waiting slices."""
        return sum(len(batch.slices) for batch in self._batches)

    def add(self, task: Task, now: float) -> bool:
        """Adds a task.

        Returns:
          Whether to wake a thread: a batch was begun or became full.

        Raises:
          ServingError: INVALID_ARGUMENT for a task that is too large, UNAVAILABLE when the queue is full.
        """
        self._check(task)
        news = False
        begin = 0
        while begin < task.rows:
            room = self._parameters.batch_rows - self._batches[-1].rows
            rows = min(task.rows - begin, room) if self._splits else task.rows
            if rows > room or rows == 0:
                self._batches.append(Batch())
                news = True
                continue
            batch = self._batches[-1]
            news = news or not batch.slices or rows == room
            batch.add(Slice(task, begin, begin + rows), now)
            begin += rows
        return news

    def ready_at(self) -> float:
        """Second of `time.monotonic()` when the first batch may be taken; infinity for an empty queue."""
        first = self._batches[0]
        if not first.slices:
            return math.inf
        full = len(self._batches) > 1 or first.rows >= self._parameters.batch_rows
        return -math.inf if full or self.flushed else first.opened_at + self._parameters.batch_timeout

    def take(self) -> Batch:
        """Removes and returns the first batch, which gets no more slices."""
        batch = self._batches.popleft()
        if not self._batches:
            self._batches.append(Batch())
        batch.taken = True
        return batch

    @property
    def _splits(self) -> bool:
        return self._parameters.enable_large_batch_splitting

    def _check(self, task: Task) -> None:
        """Raises the errors of tensorflow/core/kernels/batching_util/shared_batch_scheduler.h."""
        largest = self._parameters.max_batch_size
        if task.rows > largest:
            raise invalid(f"Task size {task.rows} is larger than maximum input batch size {largest}")
        waiting, allowed = len(self._batches), self._parameters.queue_batches
        filled, batch_rows = self._batches[-1].rows, self._parameters.batch_rows
        if self._splits:
            capacity = (allowed - waiting) * batch_rows + batch_rows - filled
            if task.rows > capacity:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"{QUEUE_FULL}task size is {task.rows} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={waiting}, max_enqueued_batches={allowed}, "
                    f"open_batch_size={filled}, max_execution_batch_size={batch_rows})",
                )
        elif filled + task.rows > largest and waiting >= allowed:
            raise ServingError(
                Code.UNAVAILABLE,
                f"{QUEUE_FULL}currently {waiting} batches enqueued and max_enqueued_batches is {allowed}",
            )
