"""The batch scheduler: one thread pool that runs the batches of all models, queue by queue."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from serving.batching.parameters import BatchingParameters
from serving.batching.queue import Batch, BatchQueue, Slice, Task
from serving.errors import Code, ServingError
from serving.monitoring.metrics import ServerMetrics

TIMED_OUT = "Timed out waiting for notification"
TIMED_OUT_IN_QUEUE = "Run() timeout exceeded while waiting in batching queue"
STOPPED = "The batch scheduler has been stopped"


class BatchOwner(Protocol):
    """A batching session, as the scheduler sees it.

    Attributes:
      parameters: of its queues.
      closed: set by the scheduler once it accepts no more tasks.
    """

    parameters: BatchingParameters
    closed: bool

    def process(self, batch: Batch) -> None:
        """Runs a batch and finishes all of its tasks; never raises."""


class _QueueKey(NamedTuple):
    owner: BatchOwner
    kind: Hashable


class BatchScheduler:
    """Gathers tasks into batches and runs `num_batch_threads` batches at a time, round robin over queues.

    A queue exists only while something waits in it, so that requests with many different output filters do
    not accumulate queues. Thread-safe.

    Args:
      parameters: number and name of the threads; batch sizes and times are each owner's.
      metrics: reads the queue's length.
    """

    def __init__(self, parameters: BatchingParameters, metrics: ServerMetrics) -> None:
        self._lock = threading.Lock()
        self._queues_changed = threading.Condition(self._lock)
        self._batch_ended = threading.Condition(self._lock)
        # In the order in which they are served: a queue goes to the end when a batch was taken from it.
        self._queues: dict[_QueueKey, BatchQueue] = {}
        self._running: dict[BatchOwner, int] = {}
        self._closed = False
        # The earliest time at which an idle thread will wake by itself.
        self._alarm = math.inf
        self._threads = [
            threading.Thread(target=self._work, name=f"{parameters.thread_pool_name}_{index}", daemon=True)
            for index in range(parameters.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()
        metrics.watch_queue(self.queue_length)

    def run(self, owner: BatchOwner, kind: Hashable, task: Task) -> None:
        """Queues a task and waits until it is finished.

        Args:
          owner: the session that runs it.
          kind: tasks of the same kind may share a batch.
          task: finished when this returns.

        Raises:
          ServingError: INVALID_ARGUMENT for a task that is too large; UNAVAILABLE when the queue is full or
            the scheduler closed; RESOURCE_EXHAUSTED or DEADLINE_EXCEEDED when the task's deadline passes
            first (see `_give_up`).
        """
        key = _QueueKey(owner, kind)
        with self._lock:
            if self._closed or owner.closed:
                raise ServingError(Code.UNAVAILABLE, STOPPED)
            queue = self._queues.get(key) or BatchQueue(owner.parameters)
            if queue.add(task, time.monotonic()):
                self._queues_changed.notify()
            self._queues[key] = queue
        if not task.wait():
            self._give_up(task)

    def deliver(self, pieces: Sequence[Slice], outputs: Sequence[list[np.ndarray]]) -> None:
        """Gives each slice's task the outputs of its rows."""
        with self._lock:
            for (task, begin, end), arrays in zip(pieces, outputs, strict=True):
                task.deliver(begin, end, arrays)

    def fail(self, pieces: Sequence[Slice], error: ServingError) -> None:
        """Finishes the slices' tasks with an error."""
        with self._lock:
            for piece in pieces:
                piece.task.fail(error)

    def queue_length(self) -> int:
        """Number of tasks that wait for a thread; a split task counts once for each batch."""
        with self._lock:
            return sum(len(queue) for queue in self._queues.values())

    def finish(self, owner: BatchOwner) -> None:
        """Refuses further tasks of an owner, and returns once its queued ones have run."""
        with self._lock:
            owner.closed = True
            for key, queue in self._queues.items():
                if key.owner is owner:
                    queue.flushed = True
            self._queues_changed.notify_all()
            self._batch_ended.wait_for(lambda: not self._is_busy(owner))

    def close(self) -> None:
        """Fails waiting tasks with UNAVAILABLE, lets running batches finish, and ends the threads."""
        with self._lock:
            self._closed = True
            for queue in self._queues.values():
                while queue:
                    for piece in queue.take().slices:
                        piece.task.fail(ServingError(Code.UNAVAILABLE, STOPPED))
            self._queues.clear()
            self._queues_changed.notify_all()
            self._batch_ended.notify_all()
        for thread in self._threads:
            thread.join()

    def _give_up(self, task: Task) -> None:
        """Fails a task whose deadline has passed, unless it has just been finished.

        TF Serving checks deadlines only when it takes a batch: when those of all members have passed, it
        answers RESOURCE_EXHAUSTED. Here no caller waits beyond the deadline: the answer is RESOURCE_EXHAUSTED
        when the batch that the task waits in could only end like that, else DEADLINE_EXCEEDED.
        """
        with self._lock:
            now = time.monotonic()
            batch = task.batch
            if batch and not batch.taken and all(piece.task.expired(now) for piece in batch.slices):
                task.fail(ServingError(Code.RESOURCE_EXHAUSTED, TIMED_OUT_IN_QUEUE))
            else:
                task.fail(ServingError(Code.DEADLINE_EXCEEDED, TIMED_OUT))

    def _is_busy(self, owner: BatchOwner) -> bool:
        return owner in self._running or any(key.owner is owner for key in self._queues)

    def _work(self) -> None:
        """The body of each thread. It holds no reference to a batch while it waits for the next."""
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Waits for a batch and has it run; False when the scheduler is closed."""
        with self._lock:
            found = self._wait_for_batch()
        if found is None:
            return False
        owner, batch = found
        try:
            owner.process(batch)
        finally:
            with self._lock:
                self._ended(owner)
        return True

    def _wait_for_batch(self) -> tuple[BatchOwner, Batch] | None:
        """Blocks until a batch may run; None when the scheduler is closed."""
        while not self._closed:
            now = time.monotonic()
            key, wake = self._next_queue(now)
            if key is not None:
                return self._taken(key)
            if wake < self._alarm:
                self._alarm = wake
                self._queues_changed.wait(min(wake - now, threading.TIMEOUT_MAX))
                if self._alarm == wake:
                    self._alarm = math.inf
            else:  # nothing waits, or another thread will wake for it
                self._queues_changed.wait()
        return None

    def _next_queue(self, now: float) -> tuple[_QueueKey | None, float]:
        """The first queue with a batch that may run, or None and the time when there will be one."""
        wake = math.inf
        for key, queue in self._queues.items():
            ready_at = queue.ready_at()
            if ready_at <= now:
                return key, now
            wake = min(wake, ready_at)
        return None, wake

    def _taken(self, key: _QueueKey) -> tuple[BatchOwner, Batch]:
        queue = self._queues.pop(key)
        batch = queue.take()
        if queue:
            self._queues[key] = queue
        if self._queues:
            self._queues_changed.notify()  # this thread was perhaps the one that would have woken for them
        self._running[key.owner] = self._running.get(key.owner, 0) + 1
        return key.owner, batch

    def _ended(self, owner: BatchOwner) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
            self._batch_ended.notify_all()
