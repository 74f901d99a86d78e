"""Servables and loaders of no weight, whose loading waits and fails when a test says so."""

import threading
import time

from serving.errors import Code, ServingError
from serving.specs import ServableId, State

SECONDS = 20  # far more than anything here takes; a test that needs it hangs


class FakeServable:
    """Answers with its version; a request that reaches it after it was closed is an error that shows."""

    def __init__(self, servable_id, path):
        self.id, self.path, self.closed = servable_id, path, False

    def predict(self):
        if self.closed:
            raise RuntimeError(f"{self.id} is used after it was closed")
        return self.id.version

    def close(self):
        if self.closed:
            raise RuntimeError(f"{self.id} is closed twice")
        self.closed = True


class FakeLoader:
    """A load callable.

    Attributes:
      errors: what loading a version raises, by version.
      gates: events that loading a version waits for, by version.
      loads: (version, path) of every try, in order.
      made: every servable.
      most: how many loads ran at once.
    """

    def __init__(self):
        self.errors, self.gates = {}, {}
        self.loads, self.made = [], []
        self.most, self._running = 0, 0
        self._lock = threading.Lock()

    def __call__(self, servable_id, path):
        version = servable_id.version
        with self._lock:
            self.loads.append((version, path))
            self._running += 1
            self.most = max(self.most, self._running)
        try:
            gate = self.gates.get(version)
            if gate is not None and not gate.wait(SECONDS):
                raise TimeoutError
            if version in self.errors:
                raise self.errors[version]
            servable = FakeServable(servable_id, path)
            self.made.append(servable)
            return servable
        finally:
            with self._lock:
                self._running -= 1

    def gate(self, version):
        """Has loading `version` wait for the event that is returned."""
        self.gates[version] = threading.Event()
        return self.gates[version]

    def fail(self, version, message="bad file", code=Code.DATA_LOSS):
        self.errors[version] = ServingError(code, message)

    @property
    def open(self):
        """Versions in memory."""
        return sorted(servable.id.version for servable in self.made if not servable.closed)


class FakeClock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Events(list):
    """(version, state's name) of every event, in order."""

    def __call__(self, servable_id: ServableId, status):
        self.append((servable_id.version, status.state.name))

    def of(self, version):
        return [name for number, name in self if number == version]


def want(manager, *versions, name="m"):
    """Says that these versions are wanted, in folders of their numbers."""
    manager.set_wanted(name, {version: f"/base/{version}" for version in versions})


def settled(manager, name="m"):
    """States once nothing is under way."""
    wait_for(manager, lambda: at_rest(manager, name))
    return states(manager, name)


def wait_for(manager, condition):
    """Waits for `condition`, which may be about more than the manager gives notice of."""
    end = time.monotonic() + SECONDS
    with manager.changed:
        while not condition():
            assert time.monotonic() < end
            manager.changed.wait(0.002)


def states(manager, name="m"):
    """State's name by version."""
    return {status.version: status.state.name for status in manager.statuses(name)}


def at_rest(manager, name="m"):
    """Whether nothing is under way."""
    resting = (State.AVAILABLE, State.END)
    return all(status.state in resting for status in manager.statuses(name))


def serving_threads():
    """Those that a repository started and that still run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("serving-")]
