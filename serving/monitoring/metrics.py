"""What the server counts and times, under TF Serving's names and, for what TF Serving lacks, under our own.

TF Serving's metrics keep its names, labels, bounds and units (microseconds), so that dashboards made for it
read this server. Ours follow Prometheus' own conventions (`alexnet_tf_serving_...`, base units, no colon: TF
Serving's names begin with one, and Prometheus keeps it for recording rules), so that none is mistaken.
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
# Names that no request has succeeded with are the client's choice: so many are told apart, of this length.
STRANGE_NAMES = 100
STRANGE_NAME_LENGTH = 128
OTHER_NAMES = "(other names)"
# Versions whose loading is remembered: a server that loads one an hour must not have a page of a year's.
PATHS = 100


class ServerMetrics:
    """All metrics of one server. Thread-safe; a request costs a few microseconds.

    TF Serving keeps a label set for every model name that anybody ever asked for. Here a client cannot make
    the page grow: a name gets label sets of its own once a request for it has succeeded, or it is configured
    (see `watch_models`), or it is one of the first 100 others; what comes after counts as `(other names)`.
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
        """Where the page learns which models are configured and in which states their versions are.

        Args:
          models: what is known of each configured model's versions; also asked for when a name turns up that
            no request has succeeded with and there have been too many of those.
        """
        self._models = models
        self._names.configured = models

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Where the page learns how many requests wait for a batch thread."""
        self._queued = length

    def request_done(self, model_name: str, code: Code, api: str, entrypoint: str, seconds: float) -> None:
        """A request of those that TF Serving counts has been answered.

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
        """A session run for one request succeeded; api Predict, Classify or Regress for both transports.

        Args:
          seconds: of the run, and of waiting for a batch where requests are batched.
        """
        name = self._names.label(model_name, succeeded=True)
        self._runtime_latency.observe((name, api, "TF1"), int(seconds * MICROSECONDS))

    def transport_done(self, model_name: str, api: str, entrypoint: str, seconds: float) -> None:
        """A request spent so long outside the core: reading, parsing, writing."""
        self._transport.observe((self._names.label(model_name), api, entrypoint), seconds)

    def examples_counted(self, model_name: str, count: int) -> None:
        """A MultiInference request carried so many examples."""
        name = self._names.label(model_name)
        self._example_counts.observe((name,), count)
        self._example_total.increment((name,), count)

    def load_done(self, path: str, code: Code, seconds: float) -> None:
        """A version was loaded, or an attempt at it failed."""
        if code is Code.OK:
            self._load_latency.increment((path,), int(seconds * MICROSECONDS))
        self._load_attempts.increment((path, "success" if code is Code.OK else "fail"))

    def load_stage_done(self, path: str, stage: str, seconds: float) -> None:
        """A stage of a successful loading: restore_graph (graph, variables) or init_graph (its init op)."""
        self._load_stages.observe((path, stage), int(seconds * MICROSECONDS))

    def warmup_done(self, path: str, code: Code, seconds: float, records: int) -> None:
        """A version was warmed up with so many records of its file; a failure's label is its code alone."""
        self._warmup_latency.observe((path, code.name), int(seconds * MICROSECONDS))
        self._warmup_records.increment((path, code.name), records)

    def graph_run_done(self, seconds: float) -> None:
        """A session has run a graph without an error, for a batch or for a single request."""
        microseconds = int(seconds * MICROSECONDS)
        self._session_runs.increment()
        self._graph_runs.increment()
        self._graph_time.increment((), microseconds)
        self._graph_times.observe((), microseconds)

    def batch_input(self, rows: int) -> None:
        """An input tensor of so many rows was handed to batching."""
        self._input_sizes.observe((), rows)

    def batch_queued(self, seconds: float) -> None:
        """A request left its queue after so long; the label is empty, as TF Serving's is on this path."""
        self._queuing.observe(("",), int(seconds * MICROSECONDS))

    def batch_formed(self, rows: int, padding: int) -> None:
        """A batch of `rows` rows, `padding` of them repeated ones, is about to run."""
        self._padding.observe((str(rows),), padding)
        self._batch_sizes.observe((), rows)

    def batch_run(self) -> None:
        """A batch is run."""
        self._wrapped_runs.increment()

    def counters(self) -> dict[str, int]:
        """Every counter's sum over its labels, by TensorFlow's name: a reload reports their increase."""
        return {metric.name: metric.total() for metric in self._metrics if isinstance(metric, Counter)}

    def render(self) -> str:
        """The page for Prometheus."""
        return page(self._metrics)

    def _versions_by_state(self) -> dict[Labels, float]:
        """Versions per model and state; a model of which none is AVAILABLE shows 0 there."""
        tally: dict[Labels, float] = {}
        for name, versions in self._models().items():
            states = Tally(version.state for version in versions)
            states[State.AVAILABLE] += 0
            tally.update({(name, state.name): count for state, count in states.items()})
        return tally


class _ModelNames:
    """Which model names get label sets of their own."""

    def __init__(self) -> None:
        self.configured: Callable[[], Container[str]] = tuple
        self._known = {""}
        self._strange: set[str] = set()
        self._lock = threading.Lock()

    def label(self, name: str, *, succeeded: bool = False) -> str:
        """The label for a model's name; `succeeded` when a request for it did."""
        if name in self._known:
            return name
        if not succeeded:
            with self._lock:
                if name in self._strange:
                    return name
                if len(self._strange) < STRANGE_NAMES and len(name) <= STRANGE_NAME_LENGTH:
                    self._strange.add(name)
                    return name
            # Asked without the lock: whoever answers may hold one of its own and be counting something.
            if name not in self.configured():
                return OTHER_NAMES
        with self._lock:
            self._known.add(name)
            self._strange.discard(name)
        return name


def resident_memory() -> dict[Labels, float]:
    """Bytes of this process in memory; nothing where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return {}
    return {(): pages * os.sysconf("SC_PAGE_SIZE")}
