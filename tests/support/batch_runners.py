"""Runners that remember what they ran, and batching around them that is closed at the end."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np

from serving.batching.parameters import BatchingParameters
from serving.batching.scheduler import BatchScheduler
from serving.batching.session import BatchingSession
from serving.monitoring.metrics import ServerMetrics

PATIENCE = 20


class Recorder:
    """Doubles `x:0` (strings: repeats them), remembers every run, and can be held up.

    Attributes:
      batches: a list of the rows of `x:0` for each run.
      deadlines, fetches: of each run.
      gate: runs wait until it is set.
      fault: called with the rows; what it raises, the run raises.
    """

    def __init__(self):
        self.batches, self.deadlines, self.fetches = [], [], []
        self.gate = Event()
        self.gate.set()
        self.fault = None
        self.closed = False

    def run(self, feeds, fetches, deadline=None):
        assert not self.closed
        x = feeds["x:0"]
        self.batches.append(x.tolist())
        self.deadlines.append(deadline)
        self.fetches.append(list(fetches))
        assert self.gate.wait(PATIENCE)
        if self.fault is not None:
            self.fault(x.tolist())
        return [self.output(name, x) for name in fetches]

    def output(self, name, x):
        return x + x if name == "double:0" else x

    def close(self):
        self.closed = True


class Bench:
    """One scheduler with a session around a Recorder, and clients in threads."""

    def __init__(self, parameters):
        self.metrics = ServerMetrics()
        self.parameters = parameters
        self.scheduler = BatchScheduler(parameters, self.metrics)
        self.recorder = Recorder()
        self.session = self.another_session(self.recorder)
        self._clients = ThreadPoolExecutor(64)

    def another_session(self, recorder, parameters=None):
        return BatchingSession(recorder, self.scheduler, parameters or self.parameters, self.metrics)

    def send(self, rows, session=None, fetches=("double:0",), deadline=None):
        """Runs in a thread of its own; a future of the list of outputs."""
        feeds = {"x:0": rows if isinstance(rows, np.ndarray) else np.array(rows)}
        return self._clients.submit((session or self.session).run, feeds, list(fetches), deadline)

    def queue(self, *requests, **options):
        """Sends requests one by one, each once the one before stands in line; futures."""
        sent = []
        for rows in requests:
            waiting = self.scheduler.queue_length()
            sent.append(self.send(rows, **options))
            until(lambda before=waiting: self.scheduler.queue_length() > before)
        return sent

    @contextlib.contextmanager
    def busy(self):
        """Keeps the threads busy with a run each; what the block queues waits until it ends."""
        self.recorder.gate.clear()
        threads = self.parameters.num_batch_threads
        held = []
        for _ in range(threads):
            held.append(self.send([0.0]))
            until(lambda: len(self.recorder.batches) == len(held))
        self.recorder.batches.clear()
        self.recorder.deadlines.clear()
        self.recorder.fetches.clear()
        try:
            yield
        finally:
            self.recorder.gate.set()
        for future in held:
            future.result(PATIENCE)

    def close(self):
        self.recorder.gate.set()
        self.scheduler.close()
        self._clients.shutdown()


@contextlib.contextmanager
def batching(**fields):
    """A Bench with one batch thread, unless the fields of BatchingParameters say otherwise."""
    bench = Bench(BatchingParameters(**{"num_batch_threads": 1, **fields}))
    try:
        yield bench
    finally:
        bench.close()


def until(condition):
    """Waits for what another thread is about to do."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.0005)


def strings(*values):
    return np.array(values, object)
