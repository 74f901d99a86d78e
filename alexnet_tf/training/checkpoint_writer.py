"""Writing of checkpoints in a background thread, while training goes on."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from alexnet_tf.checkpoint import Arrays, Checkpoints

LOWEST_PRIORITY = 19  # as `nice` counts


def _lower_priority() -> None:
    """Gives this thread the lowest priority where the system has one for each thread."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process'
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)


class CheckpointWriter:
    """Writes checkpoints in one background thread, one at a time.

    A second checkpoint waits until the first is on the disk, so that no more than one copy of the run is
    held. What goes wrong while one is written (a full disk) is raised by the next call.

    Args:
      checkpoints: where they go.
      unbroken: wraps the writing of each (see `Placement`).
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        unbroken: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.checkpoints, self._unbroken = checkpoints, unbroken
        self.saved_at: int | None = None  # the newest step that is on the disk
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_lower_priority)
        self._pending: Future[None] | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # An error that is under way already is the one to hear of.
            if error is None:
                self.wait()
        finally:
            self._executor.shutdown(wait=True)

    def save(self, step: int, arrays: Arrays, state: dict[str, Any], *, best: bool = False) -> None:
        """Begins to write the checkpoint of `step`, and before it the best weights if these are the best.

        Args:
          step: updates taken.
          arrays, state: of `TrainState.capture`, which takes the same memory again: `wait` comes first.
          best: whether the validation error has never been as low.

        Raises:
          OSError: the checkpoint before could not be written.
        """
        self.wait()
        self._pending = self._executor.submit(self._write, step, arrays, state, best)

    def wait(self) -> None:
        """Waits until every checkpoint begun is on the disk.

        Raises:
          OSError: it could not be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, step: int, arrays: Arrays, state: dict[str, Any], best: bool) -> None:
        with self._unbroken():
            if best:
                self.checkpoints.save_best(step, arrays, state["best_error"])
            self.checkpoints.save(step, arrays, state)
        self.saved_at = step
