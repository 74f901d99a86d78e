"""The lifecycle's background threads: a thread pool, a periodic task, and a log that they do not flood."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

Job = Callable[[], None]
log = logging.getLogger("serving")
AGAIN_SECONDS = 60.0


class ThreadPool:
    """A thread pool that grows with demand up to an adjustable limit.

    A job is chosen when a thread is free for it: a queue would fix the order in which jobs arrive, but a
    version that appears later may have to be loaded first.

    Args:
      name: of the threads.
      changed: its lock guards the pool, and it is notified when there may be a job.
      take: called under the lock: returns a job, or None when there is none now. A job must not raise.
      pause: called under the lock: seconds until there may be a job without a notification; None for never.
      limit: largest number of threads.
    """

    def __init__(
        self,
        name: str,
        changed: threading.Condition,
        take: Callable[[], Job | None],
        pause: Callable[[], float | None] = lambda: None,
        limit: int = 1,
    ) -> None:
        self._name = name
        self._changed = changed
        self._take = take
        self._pause = pause
        self._limit = max(limit, 1)
        self._ended = False
        self._threads: set[threading.Thread] = set()

    def grow_to(self, jobs: int) -> None:
        """Starts threads for `jobs` jobs, including running ones; called under the lock."""
        while len(self._threads) < min(jobs, self._limit) and not self._ended:
            # A load that hangs in a file system must not keep the process alive.
            thread = threading.Thread(target=self._work, name=f"serving-{self._name}", daemon=True)
            self._threads.add(thread)
            thread.start()

    def set_limit(self, threads: int) -> None:
        """Changes the limit; threads beyond it end after their job. Called under the lock."""
        self._limit = max(threads, 1)
        self._changed.notify_all()

    def close(self, timeout: float) -> None:
        """Takes no further jobs and waits for those in progress; called without the lock.

        Args:
          timeout: seconds to wait.
        """
        with self._changed:
            self._ended = True
            threads = list(self._threads)
            self._changed.notify_all()
        for thread in threads:
            thread.join(max(timeout, 0))

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job()
            # It references what it worked on, and the next may come much later.
            del job

    def _next(self) -> Job | None:
        """Waits for a job; None when this thread is to end."""
        with self._changed:
            while not self._ended and len(self._threads) <= self._limit:
                job = self._take()
                if job is not None:
                    return job
                self._changed.wait(self._pause())
            self._threads.discard(threading.current_thread())
            return None


class PeriodicTask:
    """Calls a function periodically in a thread of its own.

    Args:
      name: of the thread.
      work: the function; an exception is logged, and the function is called again.
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
        """Calls the function without waiting for its period, after a call in progress."""
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


class ThrottledLog:
    """Logs a message about a subject once, and again each minute while it lasts; not thread-safe."""

    def __init__(self) -> None:
        self._reported: dict[str, tuple[str, float]] = {}

    def report(self, subject: str, level: int, text: str) -> None:
        """Logs `text` unless the last message about `subject` was the same; empty when all is well again."""
        if not text:
            self._reported.pop(subject, None)
            return
        now = time.monotonic()
        last, when = self._reported.get(subject, ("", 0.0))
        if text != last or now - when >= AGAIN_SECONDS:
            self._reported[subject] = (text, now)
            log.log(level, "%s", text)
