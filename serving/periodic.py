"""A thread that looks again every so often, and at once when it is woken."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("serving")


class Periodic:
    """Calls a function in a thread of its own.

    Args:
      name: of the thread.
      work: the function; what it raises is logged, and it is called again.
      seconds: from the end of one call to the next; None or 0 to call it only when woken.
    """

    def __init__(self, name: str, work: Callable[[], None], seconds: float | None) -> None:
        self._work = work
        self._seconds = seconds or None
        self._changed = threading.Condition()
        self._woken = False
        self._stopped = False
        # A file system that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=f"serving-{name}", daemon=True)

    def start(self) -> None:
        """Starts the thread, which waits once before its first call."""
        self._thread.start()

    def wake(self) -> None:
        """Has the function called as soon as it is not being called any more."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self, timeout: float = 5.0) -> None:
        """Ends the thread; a call in progress is waited for.

        Args:
          timeout: seconds to wait.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._woken or self._stopped, self._seconds)
                if self._stopped:
                    return
                self._woken = False
            try:
                self._work()
            except Exception:
                log.exception("%s failed", self._thread.name)
