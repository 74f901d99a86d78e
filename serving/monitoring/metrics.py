"""The server's metrics: TF Serving's under its own names, and further ones under this project's.

TF Serving's metrics keep its names, labels, bounds and units (microseconds), so that dashboards made for it
work with this server. Ours follow Prometheus' own conventions (`alexnet_tf_serving_...`, base units, no
colon: TF Serving's names begin with one, and Prometheus reserves it for recording rules), so that none is
mistaken for one of TF Serving's.
"""

from __future__ import annotations

import os
import threading
from collections import Counter as Tally
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

from serving.errors import Code
from serving.monitoring.registry import Counter, Gauge, Histogram, Labels, Metric, exponential, page
from serving.specs import State, VersionStatus

PREFIX = "/tensorflow/serving/"
LOADER = "/tensorflow/cc/saved_model/"
OWN = "alexnet_tf_serving_"
MICROSECONDS = 1e6
# tensorflow_serving/servables/tensorflow/util.cc; the loader and the warm-up use the same.
LATENCY_BOUNDS = exponential(10, 1.8, 33)
# tensorflow_serving/batching/{batching_session.cc,batching_util.h}
QUEUING_BOUNDS = exponential(100, 1.2, 52)
BATCH_BOUNDS = exponential(1, 2, 14)
# tensorflow/core/common_runtime/metrics.cc
GRAPH_RUN_BOUNDS = exponential(1000, 2, 20)
EXAMPLE_BOUNDS = exponential(1, 2, 15)
TRANSPORT_BOUNDS = exponential(1e-5, 1.8, 33)  # seconds
# A client may send any model name: so many names without a successful request get labels, up to this length.
UNKNOWN_NAMES = 100
UNKNOWN_NAME_LENGTH = 128
OTHER_NAMES = "(other names)"
# Versions with metrics of their loading: the page of a server that loads one an hour must not grow for ever.
PATHS = 100


class ServerMetrics:
    """All metrics of one server. Thread-safe; a request costs a few microseconds.

    TF Serving keeps a label set for every model name ever requested. Here a client cannot make the page grow:
    a name gets label sets of its own once a request for it has succeeded, or if it is configured (see
    `watch_models`), or if it is one of the first 100 others; the rest count as `(other names)`.
    """

    def __init__(self) -> None:
        self._names = _ModelNames()
        self._models: Callable[[], Mapping[str, Sequence[VersionStatus]]] = dict
        self._queued: Callable[[], int] = int
        by_model = ("model_name", "API")
        self._request_count = Counter(f"{PREFIX}request_count", ("model_name", "status"))
        self._request_latency = Histogram(
            f"{PREFIX}request_latency", (*by_model, "entrypoint"), LATENCY_BOUNDS
        )
        self._runtime_latency = Histogram(f"{PREFIX}runtime_latency", (*by_model, "runtime"), LATENCY_BOUNDS)
        self._example_counts = Histogram(f"{PREFIX}request_example_counts", ("model",), EXAMPLE_BOUNDS)
        self._example_total = Counter(f"{PREFIX}request_example_count_total", ("model",))
        self._transport = Histogram(
            f"{OWN}transport_seconds", ("model_name", "API", "entrypoint"), TRANSPORT_BOUNDS
        )
        self._add_loading()
        self._add_batching()
        self._add_runtime()
        self._metrics = [metric for metric in vars(self).values() if isinstance(metric, Metric)]
        self._metrics += [
            Gauge(f"{OWN}queue_length", (), lambda: {(): self._queued()}),
            Gauge(f"{OWN}model_versions", ("model_name", "state"), self._versions_by_state),
            Gauge("process_resident_memory_bytes", (), resident_memory, shown_unused=False),
        ]

    def _add_loading(self) -> None:
        by_path, by_stage = ("model_path", "status"), ("model_path", "stage")
        self._load_attempts = Counter(f"{LOADER}load_attempt_count", by_path, most_label_sets=PATHS)
        self._load_latency = Counter(f"{LOADER}load_latency", ("model_path",), most_label_sets=PATHS)
        self._load_stages = Histogram(
            f"{LOADER}load_latency_by_stage", by_stage, LATENCY_BOUNDS, most_label_sets=2 * PATHS
        )
        self._warmup_latency = Histogram(
            f"{PREFIX}model_warmup_latency", by_path, LATENCY_BOUNDS, most_label_sets=PATHS
        )
        self._warmup_records = Counter(f"{PREFIX}model_warmup_records_read", by_path, most_label_sets=PATHS)

    def _add_batching(self) -> None:
        prefix = f"{PREFIX}batching_session/"
        self._queuing = Histogram(f"{prefix}queuing_latency", ("thread_pool_name",), QUEUING_BOUNDS)
        self._wrapped_runs = Counter(f"{prefix}wrapped_run_count")
        # TF Serving registers these three with the first batch.
        self._input_sizes = Histogram(f"{prefix}input_batch_size", (), BATCH_BOUNDS, shown_unused=False)
        self._batch_sizes = Histogram(f"{prefix}processed_batch_size", (), BATCH_BOUNDS, shown_unused=False)
        self._padding = Histogram(
            f"{prefix}padding_size", ("execution_batch_size",), BATCH_BOUNDS, shown_unused=False
        )

    def _add_runtime(self) -> None:
        self._session_runs = Counter("/tensorflow/core/direct_session_runs")
        self._graph_runs = Counter("/tensorflow/core/graph_runs")
        self._graph_time = Counter("/tensorflow/core/graph_run_time_usecs")
        self._graph_times = Histogram("/tensorflow/core/graph_run_time_usecs_histogram", (), GRAPH_RUN_BOUNDS)

    def watch_models(self, models: Callable[[], Mapping[str, Sequence[VersionStatus]]]) -> None:
        """Sets the source of the configured models and their versions' states.

        Args:
          models: returns the states of each configured model's versions; also called for a name without a
            successful request once there are too many of those.
        """
        self._models = models
        self._names.configured = models

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Sets the source of the number of requests that wait for a batch thread."""
        self._queued = length

    def request_done(self, model_name: str, code: Code, api: str, entrypoint: str, seconds: float) -> None:
        """Counts an answered request of the kinds that TF Serving counts.

        These are gRPC's Predict, Classify and Regress (entrypoint GRPC, api so spelled) and every REST
        request under /v1/ (entrypoint REST; api predict, classify, regress, or empty for a GET; model_name
        empty where the path was malformed).

        Args:
          code: of the answer; only successful requests count among the latencies.
          seconds: from the whole request's arrival to the answer.
        """
        name = self._names.label(model_name, succeeded=code is Code.OK)
        self._request_count.increment((name, code.name))
        if code is Code.OK:
            self._request_latency.observe((name, api, entrypoint), int(seconds * MICROSECONDS))

    def run_done(self, model_name: str, api: str, seconds: float) -> None:
        """Records a successful session run for a request; api is Predict, Classify or Regress.

        Args:
          seconds: of the run, including the wait for a batch where requests are batched.
        """
        name = self._names.label(model_name, succeeded=True)
        self._runtime_latency.observe((name, api, "TF1"), int(seconds * MICROSECONDS))

    def transport_done(self, model_name: str, api: str, entrypoint: str, seconds: float) -> None:
        """Records a request's seconds outside the core: reading, parsing, writing."""
        self._transport.observe((self._names.label(model_name), api, entrypoint), seconds)

    def examples_counted(self, model_name: str, count: int) -> None:
        """Records the number of examples of a MultiInference request."""
        name = self._names.label(model_name)
        self._example_counts.observe((name,), count)
        self._example_total.increment((name,), count)

    def load_done(self, path: str, code: Code, seconds: float) -> None:
        """Records a load of a version, or a failed try."""
        if code is Code.OK:
            self._load_latency.increment((path,), int(seconds * MICROSECONDS))
        self._load_attempts.increment((path, "success" if code is Code.OK else "fail"))

    def load_stage_done(self, path: str, stage: str, seconds: float) -> None:
        """Records a stage of a load: restore_graph (graph and variables) or init_graph (its init op)."""
        self._load_stages.observe((path, stage), int(seconds * MICROSECONDS))

    def warmup_done(self, path: str, code: Code, seconds: float, records: int) -> None:
        """Records a warm-up and its number of records; the label of a failure is only its code."""
        self._warmup_latency.observe((path, code.name), int(seconds * MICROSECONDS))
        self._warmup_records.increment((path, code.name), records)

    def graph_run_done(self, seconds: float) -> None:
        """Records a session's run without an error, for a batch or for a single request."""
        microseconds = int(seconds * MICROSECONDS)
        self._session_runs.increment()
        self._graph_runs.increment()
        self._graph_time.increment((), microseconds)
        self._graph_times.observe((), microseconds)

    def batch_input(self, rows: int) -> None:
        """Records the rows of an input tensor that is to be batched."""
        self._input_sizes.observe((), rows)

    def batch_queued(self, seconds: float) -> None:
        """Records a request's seconds in its queue; the label is empty, as TF Serving's is on this path."""
        self._queuing.observe(("",), int(seconds * MICROSECONDS))

    def batch_formed(self, rows: int, padding: int) -> None:
        """Records a batch that is about to run: `rows` rows, of which `padding` are padding."""
        self._padding.observe((str(rows),), padding)
        self._batch_sizes.observe((), rows)

    def batch_run(self) -> None:
        """Counts a run of a batch."""
        self._wrapped_runs.increment()

    def counters(self) -> dict[str, int]:
        """Every counter's sum over its labels, by TensorFlow's name; a reload reports their increase."""
        return {metric.name: metric.total() for metric in self._metrics if isinstance(metric, Counter)}

    def render(self) -> str:
        """The page for Prometheus."""
        return page(self._metrics)

    def _versions_by_state(self) -> dict[Labels, float]:
        """Number of versions by model and state; 0 in AVAILABLE for a model without one there."""
        tally: dict[Labels, float] = {}
        for name, versions in self._models().items():
            states = Tally(version.state for version in versions)
            states[State.AVAILABLE] += 0
            tally.update({(name, state.name): count for state, count in states.items()})
        return tally


class _ModelNames:
    """Decides which model names get label sets of their own."""

    def __init__(self) -> None:
        self.configured: Callable[[], Container[str]] = tuple
        self._known = {""}
        self._unknown: set[str] = set()
        self._lock = threading.Lock()

    def label(self, name: str, *, succeeded: bool = False) -> str:
        """The label for a model's name; `succeeded` when a request for it has succeeded."""
        if name in self._known:
            return name
        if not succeeded:
            with self._lock:
                if name in self._unknown:
                    return name
                if len(self._unknown) < UNKNOWN_NAMES and len(name) <= UNKNOWN_NAME_LENGTH:
                    self._unknown.add(name)
                    return name
            # Called without the lock: the callee may hold a lock of its own in which it counts something.
            if name not in self.configured():
                return OTHER_NAMES
        with self._lock:
            self._known.add(name)
            self._unknown.discard(name)
        return name


def resident_memory() -> dict[Labels, float]:
    """Resident bytes of this process; nothing where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return {}
    return {(): pages * os.sysconf("SC_PAGE_SIZE")}
