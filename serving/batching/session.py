"""A session that batches its runs, with TF Serving's rules, errors and metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from serving.batching import tensors
from serving.batching.halving import run_in_halves
from serving.batching.parameters import BatchingParameters
from serving.batching.queue import Batch, Slice, Task
from serving.batching.scheduler import TIMED_OUT_IN_QUEUE, BatchScheduler
from serving.errors import Code, ServingError
from serving.monitoring.metrics import ServerMetrics

if TYPE_CHECKING:
    from serving.model.session import Runner


class BatchingSession:
    """Joins runs that feed and fetch the same tensors, along the first dimension.

    Every input must have a first dimension, equal for all inputs of a run, and every output that of the
    batch; see `tensors` for the errors. The time limit of a batch is the latest deadline of its
    members. Runs whose inputs differ in dtype are never joined; a run of 0 rows is not batched.

    In TF Serving a bad request fails the whole batch. Here a batch that fails with INVALID_ARGUMENT
    is run again in halves until the bad request stands alone (see `halving`): it gets its own error, and the
    others their answers. A graph that changes state may do so more than once. Any other error fails the whole
    batch.

    Args:
      runner: the session, closed with this one.
      scheduler: shared by all sessions.
      parameters: sizes and times of its batches.
      metrics: counts batches and their sizes.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: BatchScheduler,
        parameters: BatchingParameters,
        metrics: ServerMetrics,
    ) -> None:
        self.parameters = parameters
        self._runner = runner
        self._scheduler = scheduler
        self._metrics = metrics
        self.closed = False

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: float | None = None
    ) -> list[np.ndarray]:
        """Runs as part of a batch; see `Runner.run`.

        Raises:
          ServingError: besides what the session raises: INVALID_ARGUMENT and FAILED_PRECONDITION for tensors
            that cannot be batched, UNAVAILABLE when the queue is full or closed, RESOURCE_EXHAUSTED when the
            deadline passed in the queue.
        """
        rows = tensors.rows_of(feeds)
        for _ in feeds:
            self._metrics.batch_input(rows)
        if rows == 0:
            return self._runner.run(feeds, fetches, deadline)
        kind = frozenset((name, array.dtype) for name, array in feeds.items()), frozenset(fetches)
        task = Task(feeds, fetches, rows, deadline)
        self._scheduler.run(self, kind, task)
        return task.outputs()

    def close(self) -> None:
        """Runs the queued batches, waits for all that run, and closes the session."""
        self._scheduler.finish(self)
        self._runner.close()

    def process(self, batch: Batch) -> None:
        """Runs a batch and finishes all of its tasks; called by a thread of the scheduler."""
        now = time.monotonic()
        for piece in batch.slices:
            self._metrics.batch_queued(now - piece.task.queued_at)
        waiting = [piece for piece in batch.slices if not piece.task.finished]
        if all(piece.task.expired(now) for piece in waiting):
            self._scheduler.fail(waiting, ServingError(Code.RESOURCE_EXHAUSTED, TIMED_OUT_IN_QUEUE))
        else:
            run_in_halves(
                waiting,
                self._run_together,
                lambda piece, error: self._scheduler.fail([piece], error),
                # A task's deadline may pass between two runs.
                lambda piece: not piece.task.finished,
            )

    def _run_together(self, pieces: Sequence[Slice]) -> None:
        """Runs slices as one batch and finishes their tasks.

        Raises:
          ServingError: INVALID_ARGUMENT, perhaps the fault of one slice; the tasks are then not finished.
        """
        try:
            outputs = self._outputs(pieces)
        except ServingError as error:
            if error.code is Code.INVALID_ARGUMENT:
                raise
            self._scheduler.fail(pieces, error)
        except Exception as error:  # noqa: BLE001 - the threads that wait for an answer get it, this one goes on
            self._scheduler.fail(pieces, ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        else:
            self._scheduler.deliver(pieces, outputs)

    def _outputs(self, pieces: Sequence[Slice]) -> list[list[np.ndarray]]:
        """Runs slices as one batch; returns arrays for each slice, in the order of its fetches."""
        rows = sum(piece.rows for piece in pieces)
        size = self.parameters.padded(rows)
        self._metrics.batch_formed(size, size - rows)
        feeds = {
            name: tensors.join(
                name,
                [task.feeds[name][begin:end] for task, begin, end in pieces],
                size - rows,
                self.parameters.pad_variable_length_inputs,
            )
            for name in pieces[0].task.feeds
        }
        fetches = sorted(set(pieces[0].task.fetches))
        self._metrics.batch_run()
        arrays = dict(zip(fetches, self._runner.run(feeds, fetches, _latest_deadline(pieces)), strict=True))
        tensors.check_outputs(list(arrays.values()), size)
        outputs = []
        begin = 0
        for piece in pieces:
            end = begin + piece.rows
            outputs.append([arrays[name][begin:end] for name in piece.task.fetches])
            begin = end
        return outputs


def _latest_deadline(pieces: Sequence[Slice]) -> float | None:
    """The latest deadline of the slices' tasks; None when one of them has no deadline."""
    deadlines = [piece.task.deadline for piece in pieces]
    return None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)
