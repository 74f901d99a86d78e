"""Loads the wanted versions (TF Serving: aspired), unloads others, and lends loaded ones to requests.

No thread is blocked by a version that waits: neither between two tries to load it, nor while requests still
use it before it is unloaded. Loading and unloading themselves run outside of the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from serving.errors import Code, ServingError, from_tensorflow
from serving.lifecycle import versions as transitions
from serving.lifecycle.threads import Job, ThreadPool
from serving.lifecycle.versions import Version, VersionHistory
from serving.monitoring import memory as process_memory
from serving.specs import ServableId, State, VersionStatus

if TYPE_CHECKING:
    from serving.model.servable import Servable


log = logging.getLogger("serving")

Load = Callable[[ServableId, str], "Servable"]


def load(loader: Load, servable_id: ServableId, path: str) -> tuple[Servable | None, ServingError | None]:
    """Tries once to load a version folder.

    Returns:
      (servable, None), or (None, the error).
    """
    log.info("Loading servable version %s from %s", servable_id, path)
    try:
        return loader(servable_id, path), None
    except BaseException as error:  # no content of a version folder may end the thread
        if not isinstance(error, ServingError):
            log.debug("Loading %s raised", servable_id, exc_info=True)
        failure = _as_serving_error(error)
    # Only now are the error, its frames and the partly loaded model in them unreferenced.
    process_memory.release_memory()
    return None, failure


def unload(servable: Servable, servable_id: ServableId) -> None:
    """Closes a servable that no request holds; its memory is free once the caller drops its reference."""
    try:
        servable.close()
    except BaseException as error:  # noqa: BLE001 - the version is gone all the same
        log.error("Unloading servable version %s: %s: %s", servable_id, type(error).__name__, error)


def _as_serving_error(error: BaseException) -> ServingError:
    """A new error without the old one's frames, which would live as long as the version's status."""
    if isinstance(error, ServingError):
        return ServingError(error.code, error.message)
    # TensorFlow's own error, recognized by its attributes so that TensorFlow need not be imported here.
    if hasattr(error, "error_code") and hasattr(error, "message"):
        return from_tensorflow(error)
    return ServingError(Code.UNKNOWN, f"{type(error).__name__}: {error}")


OnEvent = Callable[[ServableId, VersionStatus], None]


class Manager:
    """The state machine of all models' versions. Thread-safe.

    Args:
      load: loads a version folder as a servable and warms it up; any exception is a failed try.
      max_num_load_retries: tries after the first.
      load_retry_interval_seconds: from a failed try to the next.
      num_load_threads: versions loaded at once; 0 is 1.
      num_unload_threads: versions unloaded at once; 0 is 1.
      on_event: called at every change of state, in order and under the manager's lock: it must be quick and
        must not raise.
      clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        load: Load,
        max_num_load_retries: int = 5,
        load_retry_interval_seconds: float = 60.0,
        num_load_threads: int = 0,
        num_unload_threads: int = 0,
        on_event: OnEvent = lambda servable_id, status: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._max_tries = 1 + max(max_num_load_retries, 0)
        self._retry_interval = load_retry_interval_seconds
        self._on_event = on_event
        self._clock = clock
        # Guards all attributes below, and is notified of every change.
        self.changed = threading.Condition()
        self._models: dict[str, dict[int, Version]] = {}
        self._history = VersionHistory()
        self._to_close: deque[Version] = deque()
        self._stopping = False
        self._loaders = ThreadPool("load", self.changed, self._take_load, self._until_due, num_load_threads)
        self._unloaders = ThreadPool("unload", self.changed, self._take_unload, limit=num_unload_threads)

    def set_wanted(self, name: str, paths: Mapping[int, str]) -> None:
        """Sets the versions of a model to serve, with their folders by number; returns at once."""
        with self.changed:
            known = self._models.get(name, {})
            # Most polls find what the previous one found.
            if self._stopping or paths == {n: version.path for n, version in known.items() if version.wanted}:
                return
            versions = self._models.setdefault(name, {})
            for number, version in versions.items():
                version.wanted = number in paths
            for number in sorted(paths, reverse=True):
                if number in versions:
                    self._moved(versions[number], paths[number])
                else:
                    self._begin(ServableId(name, number), paths[number])
            self._settle(name)

    def acquire(self, name: str, number: int | None = None) -> Version | None:
        """Lends an available version, without `number` the highest, or None; `release` must follow."""
        with self.changed:
            found = self._available(name, number)
            if found is not None:
                found.users += 1
            return found

    def has_available(self, name: str, number: int | None = None) -> bool:
        """Whether a version is available, without `number` any version."""
        with self.changed:
            return self._available(name, number) is not None

    def release(self, version: Version) -> None:
        """Takes back a version that `acquire` lent."""
        with self.changed:
            version.users -= 1
            if version.users == 0 and version.state == State.UNLOADING:
                self._close_soon(version)

    def statuses(self, name: str) -> list[VersionStatus]:
        """States of every known version of a model, highest first."""
        with self.changed:
            found = {status.version: status for status in self._history.of(name)}
            found.update({n: version.status for n, version in self._models.get(name, {}).items()})
            return [found[number] for number in sorted(found, reverse=True)]

    def outcome(self, name: str) -> VersionStatus | None:
        """The status of the highest available version, else of the highest failed one, else None."""
        with self.changed:
            version = transitions.outcome(self._models.get(name, {}).values())
            return None if version is None else version.status

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Waits until `done()` holds; it is called under the lock, after every change.

        Raises:
          ServingError: CANCELLED when the manager is stopped first.
        """
        with self.changed:
            self.changed.wait_for(lambda: self._stopping or done())
            if self._stopping:
                raise ServingError(Code.CANCELLED, "The server is stopping")

    def wake(self) -> None:
        """Makes waiting threads check again: the clock moved, or a condition of `wait_until` changed."""
        with self.changed:
            self.changed.notify_all()

    def limit_load_threads(self, number: int) -> None:
        """Sets how many versions may be loaded at once."""
        with self.changed:
            self._loaders.set_limit(number)
            self._grow_loaders()

    def retry(self, name: str, number: int) -> None:
        """Loads a failed version again, with all its tries; returns at once.

        Raises:
          ServingError: NOT_FOUND for an unknown version, FAILED_PRECONDITION when it has not failed or is not
            wanted any more.
        """
        with self.changed:
            version = self._models.get(name, {}).get(number)
            if version is not None and version.failed:
                self._begin(version.id, version.path)
                self._settle(name)
                return
            status = next((s for s in self.statuses(name) if s.version == number), None)
        if status is None:
            raise ServingError(Code.NOT_FOUND, f"Could not find version {number} of model {name}")
        if status.state == State.END:
            why = "is not wanted any more: its folder is gone, or the version policy leaves it out"
        else:
            why = f"has not failed to load: it is {status.state.name}"
        raise ServingError(Code.FAILED_PRECONDITION, f"Version {number} of model {name} {why}")

    def stop(self, timeout: float = 10.0) -> None:
        """Unloads everything and ends the threads; once.

        Args:
          timeout: seconds to wait for loads in progress and for requests that hold a version. Versions still
            in use after that stay in memory, but do not keep the process alive.
        """
        end = time.monotonic() + timeout
        with self.changed:
            if self._stopping:
                return
            self._stopping = True
            for name in list(self._models):
                for version in self._models[name].values():
                    version.wanted = False
                self._settle(name)
            # Loads in progress end with their servable being unloaded.
            self.changed.wait_for(lambda: not self._models, timeout)
            left = [str(v.id) for versions in self._models.values() for v in versions.values()]
        if left:
            log.warning("Stopped while these were still in use: %s", ", ".join(left))
        for pool in (self._loaders, self._unloaders):
            pool.close(end - time.monotonic())
        process_memory.release_memory()

    def _available(self, name: str, number: int | None) -> Version | None:
        versions = self._models.get(name, {})
        if number is None:
            return transitions.available(versions.values())
        version = versions.get(number)
        return version if version is not None and version.state == State.AVAILABLE else None

    def _begin(self, servable_id: ServableId, path: str) -> None:
        """Starts to manage a version."""
        self._history.forget(servable_id)
        version = self._models[servable_id.name][servable_id.version] = Version(servable_id, path)
        self._enter(version, State.START)

    def _moved(self, version: Version, path: str) -> None:
        """Updates a wanted version's folder; one that failed is loaded again from the new folder."""
        if version.path == path:
            return
        version.path = path
        if version.failed:
            self._begin(version.id, path)
        elif version.state == State.AVAILABLE:
            log.warning("%s stays as it was loaded; a new number is needed to load %s", version.id, path)

    def _enter(self, version: Version, state: State) -> None:
        version.state = state
        self._on_event(version.id, version.status)

    def _settle(self, name: str) -> None:
        """Makes a model's due transitions and starts threads for its loads; called after each change."""
        versions = self._models[name]
        for version in list(versions.values()):
            if not version.wanted and version.waiting:
                self._enter(version, State.END)
            if not version.wanted and version.state == State.END:
                self._history.remember(name, version.status)
                del versions[version.id.version]
        while (unwanted := transitions.next_to_unload(versions.values())) is not None:
            self._enter(unwanted, State.UNLOADING)
            if unwanted.users == 0:
                self._close_soon(unwanted)
        if not versions:
            del self._models[name]
        self._grow_loaders()
        self.changed.notify_all()

    def _grow_loaders(self) -> None:
        everything = (version for versions in self._models.values() for version in versions.values())
        self._loaders.grow_to(sum(version.loading or version.waiting for version in everything))

    def _take_load(self) -> Job | None:
        """The next load that is due, models in turn; None when there is none."""
        now = self._clock()
        for name in list(self._models):
            version = transitions.next_to_load(self._models[name].values(), now)
            if version is not None:
                self._models[name] = self._models.pop(name)
                version.loading = True
                version.tries += 1
                if version.state != State.LOADING:
                    self._enter(version, State.LOADING)
                return partial(self._load_now, version, version.path)
        return None

    def _until_due(self) -> float | None:
        """Seconds until the next try of a failed load."""
        due = [v.due for versions in self._models.values() for v in versions.values() if v.waiting]
        return max(min(due) - self._clock(), 0) if due else None

    def _load_now(self, version: Version, path: str) -> None:
        begun = time.monotonic()
        servable, error = load(self._load, version.id, path)
        seconds = time.monotonic() - begun
        with self.changed:
            version.loading = False
            version.servable, version.error = servable, error
            again = error is not None and version.wanted and version.tries < self._max_tries
            if error is None:
                self._enter(version, State.AVAILABLE)
            elif again:
                version.due = self._clock() + self._retry_interval
            else:
                self._enter(version, State.END)
            self._settle(version.id.name)
        if error is None:
            log.info("Successfully loaded servable version %s in %.3f s", version.id, seconds)
        else:
            outlook = f"trying again in {self._retry_interval:g} s" if again else "given up"
            tried = f"try {version.tries} of {self._max_tries}, {outlook}"
            reason = f"{error.code.name}: {' '.join(error.message.split())}"
            log.error("Loading servable: %s failed (%s): %s", version.id, tried, reason)

    def _close_soon(self, version: Version) -> None:
        self._to_close.append(version)
        self._unloaders.grow_to(1 + len(self._to_close))
        self.changed.notify_all()

    def _take_unload(self) -> Job | None:
        return partial(self._unload_now, self._to_close.popleft()) if self._to_close else None

    def _unload_now(self, version: Version) -> None:
        """Closes a version that no request holds, and enters END once its memory is released."""
        begun = time.monotonic()
        servable, version.servable = version.servable, None
        if servable is not None:
            unload(servable, version.id)
        del servable
        if not self._stopping:  # `stop` does it once for all versions
            process_memory.release_memory()
        with self.changed:
            self._enter(version, State.END)
            if version.wanted:
                # Its folder has reappeared meanwhile.
                self._begin(version.id, version.path)
            self._settle(version.id.name)
        log.info("Unloaded servable version %s in %.3f s", version.id, time.monotonic() - begun)
