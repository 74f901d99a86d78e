"""The page that Prometheus reads: TF Serving's names, bounds and text, by hand-worked values."""

import mmap
import re
import threading

import pytest

from serving.errors import Code
from serving.monitoring.metrics import OTHER_NAMES, UNKNOWN_NAME_LENGTH, ServerMetrics
from serving.specs import State, VersionStatus

# 10 x 1.8^k with six significant digits, as `%g` prints them.
LATENCY_BOUNDS = re.findall(
    r"\S+",
    "10 18 32.4 58.32 104.976 188.957 340.122 612.22 1102 1983.59 3570.47 6426.84 11568.3 20823 37481.3 "
    "67466.4 121440 218591 393464 708235 1.27482e+06 2.29468e+06 4.13043e+06 7.43477e+06 1.33826e+07 "
    "2.40887e+07 4.33596e+07 7.80473e+07 1.40485e+08 2.52873e+08 4.55172e+08 8.19309e+08 1.47476e+09 +Inf",
)
BATCH_BOUNDS = [*(str(2**power) for power in range(14)), "+Inf"]
REQUEST_LATENCY = ":tensorflow:serving:request_latency"
# What Prometheus' text format takes as a line.
SAMPLE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*\{([a-zA-Z_]\w*="([^"\\\n]|\\["\\n])*",?)*\} [0-9.e+-]+')


@pytest.fixture
def metrics():
    return ServerMetrics()


def lines(metrics, start):
    return [line for line in metrics.render().splitlines() if line.startswith(start)]


def bounds(metrics, name):
    return re.findall(r'le="([^"]*)"', "\n".join(lines(metrics, f"{name}_bucket")))


def test_a_fresh_server_lists_its_metrics_without_values(metrics):
    page = metrics.render()
    assert page.endswith("\n")
    assert "# TYPE :tensorflow:serving:request_count counter\n" in page
    assert "# TYPE :tensorflow:serving:request_latency histogram\n" in page
    assert "# TYPE :tensorflow:cc:saved_model:load_latency counter\n" in page
    assert "HELP" not in page
    assert [line for line in page.splitlines() if line.startswith(":")] == []
    # TF Serving registers these with the first batch.
    assert "processed_batch_size" not in page


def test_metrics_stand_in_the_order_of_their_names(metrics):
    names = [line.split()[2] for line in lines(metrics, "# TYPE :")]
    assert names == sorted(names)
    assert len(names) == len(set(names)) == 16


def test_request_count(metrics):
    metrics.request_done("alexnet", Code.OK, "Predict", "GRPC", 0.1)
    metrics.request_done("alexnet", Code.OK, "predict", "REST", 0.1)
    metrics.request_done("alexnet", Code.NOT_FOUND, "predict", "REST", 0.1)
    metrics.request_done("", Code.INVALID_ARGUMENT, "", "REST", 0.1)
    assert lines(metrics, ":tensorflow:serving:request_count") == [
        ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="alexnet",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_count{model_name="alexnet",status="OK"} 2',
    ]


def test_request_latency_of_successes_alone(metrics):
    metrics.request_done("m", Code.OK, "Predict", "GRPC", 0.000030)  # 30 us: above 18, below 32.4
    metrics.request_done("m", Code.OK, "Predict", "GRPC", 0.0012)  # 1200 us: above 1102, below 1983.59
    metrics.request_done("m", Code.INTERNAL, "Predict", "GRPC", 5.0)
    found = lines(metrics, REQUEST_LATENCY)
    labels = 'model_name="m",API="Predict",entrypoint="GRPC"'
    counts = [0, 0, *[1] * 7, *[2] * 25]
    assert found == [
        *(
            f'{REQUEST_LATENCY}_bucket{{{labels},le="{bound}"}} {count}'
            for bound, count in zip(LATENCY_BOUNDS, counts, strict=True)
        ),
        f"{REQUEST_LATENCY}_sum{{{labels}}} 1230",
        f"{REQUEST_LATENCY}_count{{{labels}}} 2",
    ]


def test_latencies_share_their_bounds(metrics):
    metrics.run_done("m", "Classify", 0.5)
    metrics.warmup_done("/models/m/1", Code.OK, 0.5, 3)
    metrics.load_stage_done("/models/m/1", "restore_graph", 0.5)
    for name in (
        "serving:runtime_latency",
        "serving:model_warmup_latency",
        "cc:saved_model:load_latency_by_stage",
    ):
        assert bounds(metrics, f":tensorflow:{name}") == LATENCY_BOUNDS
    assert lines(metrics, ":tensorflow:serving:runtime_latency_sum") == [
        ':tensorflow:serving:runtime_latency_sum{model_name="m",API="Classify",runtime="TF1"} 500000'
    ]


def test_loading(metrics):
    metrics.load_done("/models/m/1", Code.OK, 1.25)
    metrics.load_done("/models/m/2", Code.NOT_FOUND, 0.5)
    prefix = ":tensorflow:cc:saved_model:load_"
    assert lines(metrics, f"{prefix}a") == [
        f'{prefix}attempt_count{{model_path="/models/m/1",status="success"}} 1',
        f'{prefix}attempt_count{{model_path="/models/m/2",status="fail"}} 1',
    ]
    assert lines(metrics, f"{prefix}latency{{") == [f'{prefix}latency{{model_path="/models/m/1"}} 1250000']


def test_warmup(metrics):
    metrics.warmup_done("/models/m/1", Code.OK, 0.002, 7)
    name = ":tensorflow:serving:model_warmup_"
    assert lines(metrics, f"{name}records") == [
        f'{name}records_read{{model_path="/models/m/1",status="OK"}} 7'
    ]
    assert lines(metrics, f"{name}latency_sum") == [
        f'{name}latency_sum{{model_path="/models/m/1",status="OK"}} 2000'
    ]


def test_batching(metrics):
    metrics.batch_input(3)
    metrics.batch_queued(0.00011)
    metrics.batch_formed(8, 5)
    metrics.batch_run()
    name = ":tensorflow:serving:batching_session:"
    queuing = bounds(metrics, f"{name}queuing_latency")
    assert queuing[:4] == ["100", "120", "144", "172.8"]
    assert queuing[-2:] == ["1.09205e+06", "+Inf"]
    assert len(queuing) == 53
    # 110 us lie above 100 and below 120; the label is empty.
    assert lines(metrics, f"{name}queuing_latency_bucket")[:2] == [
        f'{name}queuing_latency_bucket{{thread_pool_name="",le="100"}} 0',
        f'{name}queuing_latency_bucket{{thread_pool_name="",le="120"}} 1',
    ]
    assert lines(metrics, f"{name}wrapped_run_count") == [f"{name}wrapped_run_count{{}} 1"]
    for histogram in ("input_batch_size", "processed_batch_size", "padding_size"):
        assert bounds(metrics, f"{name}{histogram}") == BATCH_BOUNDS
    assert lines(metrics, f"{name}padding_size_sum") == [
        f'{name}padding_size_sum{{execution_batch_size="8"}} 5'
    ]
    # As in TensorFlow, a value that equals a bound lies above it.
    assert lines(metrics, f"{name}processed_batch_size_bucket")[3:5] == [
        f'{name}processed_batch_size_bucket{{le="8"}} 0',
        f'{name}processed_batch_size_bucket{{le="16"}} 1',
    ]


def test_examples_of_multi_inference(metrics):
    metrics.examples_counted("m", 3)
    metrics.examples_counted("m", 4)
    name = ":tensorflow:serving:request_example_count"
    assert lines(metrics, f"{name}_total") == [f'{name}_total{{model="m"}} 7']
    assert lines(metrics, f"{name}s_sum") == [f'{name}s_sum{{model="m"}} 7']
    assert bounds(metrics, f"{name}s")[-3:] == ["8192", "16384", "+Inf"]


def test_runs_of_a_session(metrics):
    metrics.graph_run_done(0.0015)
    metrics.graph_run_done(0.0001)
    core = ":tensorflow:core:"
    assert lines(metrics, f"{core}direct_session_runs") == [f"{core}direct_session_runs{{}} 2"]
    assert lines(metrics, f"{core}graph_runs") == [f"{core}graph_runs{{}} 2"]
    assert lines(metrics, f"{core}graph_run_time_usecs{{") == [f"{core}graph_run_time_usecs{{}} 1600"]
    histogram = f"{core}graph_run_time_usecs_histogram"
    assert bounds(metrics, histogram)[:3] == ["1000", "2000", "4000"]
    assert bounds(metrics, histogram)[-2:] == ["5.24288e+08", "+Inf"]
    assert lines(metrics, f"{histogram}_bucket")[:2] == [
        f'{histogram}_bucket{{le="1000"}} 1',
        f'{histogram}_bucket{{le="2000"}} 2',
    ]


def test_our_own_metrics_cannot_be_taken_for_tf_servings(metrics):
    metrics.transport_done("m", "predict", "REST", 0.0005)
    metrics.watch_queue(lambda: 4)
    metrics.watch_models(
        lambda: {
            "m": [VersionStatus(2, State.LOADING), VersionStatus(1, State.AVAILABLE)],
            "none": [],
        }
    )
    own = "alexnet_tf_serving_"
    assert lines(metrics, f"{own}transport_seconds_sum") == [
        f'{own}transport_seconds_sum{{model_name="m",API="predict",entrypoint="REST"}} 0.0005'
    ]
    assert lines(metrics, f"{own}queue_length") == [f"{own}queue_length{{}} 4"]
    assert lines(metrics, f"{own}model_versions") == [
        f'{own}model_versions{{model_name="m",state="AVAILABLE"}} 1',
        f'{own}model_versions{{model_name="m",state="LOADING"}} 1',
        f'{own}model_versions{{model_name="none",state="AVAILABLE"}} 0',
    ]


def test_resident_memory_is_that_of_the_process(metrics):
    (line,) = lines(metrics, "process_resident_memory_bytes")
    before = int(line.split()[1])
    with mmap.mmap(-1, 50_000_000) as held:  # malloc might take what was freed before
        held.write(b"1" * 50_000_000)
        (line,) = lines(metrics, "process_resident_memory_bytes")
        assert int(line.split()[1]) - before > 40_000_000


def test_counters_by_tensorflows_names(metrics):
    metrics.request_done("a", Code.OK, "Predict", "GRPC", 0.1)
    metrics.request_done("b", Code.NOT_FOUND, "Predict", "GRPC", 0.1)
    metrics.load_done("/models/a/1", Code.OK, 1)
    counters = metrics.counters()
    assert counters["/tensorflow/serving/request_count"] == 2
    assert counters["/tensorflow/cc/saved_model/load_attempt_count"] == 1
    assert counters["/tensorflow/core/graph_runs"] == 0
    assert "/tensorflow/serving/request_latency" not in counters


def test_label_values_cannot_break_the_page(metrics):
    name = 'a"b\\c\nd\0e\ud800é'
    metrics.request_done(name, Code.NOT_FOUND, "predict", "REST", 0.1)
    (line,) = lines(metrics, ":tensorflow:serving:request_count")
    assert line == r':tensorflow:serving:request_count{model_name="a\"b\\c\nd' + '�e?é",status="NOT_FOUND"} 1'
    metrics.render().encode("utf-8")


def test_every_line_is_prometheus_text(metrics):
    metrics.request_done('odd "name"\n', Code.OK, "Predict", "GRPC", 0.1)
    metrics.transport_done("m", "predict", "REST", 0.1)
    metrics.batch_queued(0.1)
    found = [line for line in metrics.render().splitlines() if not line.startswith("#")]
    assert len(found) > 80
    assert [line for line in found if not SAMPLE.fullmatch(line)] == []


def test_unknown_names_do_not_make_the_page_grow(metrics):
    configured = {}
    metrics.watch_models(lambda: configured)
    for number in range(1000):
        metrics.request_done(f"stranger{number}", Code.NOT_FOUND, "predict", "REST", 0.1)
        metrics.transport_done(f"stranger{number}", "predict", "REST", 0.1)
    counts = lines(metrics, ":tensorflow:serving:request_count")
    assert len(counts) == 101
    assert f':tensorflow:serving:request_count{{model_name="{OTHER_NAMES}",status="NOT_FOUND"}} 900' in counts
    # A model that fails each request still has its own line when it is configured, and one that answers too.
    configured["broken"] = []
    metrics.request_done("broken", Code.FAILED_PRECONDITION, "predict", "REST", 0.1)
    metrics.request_done("good", Code.OK, "predict", "REST", 0.1)
    metrics.request_done("good", Code.INVALID_ARGUMENT, "predict", "REST", 0.1)
    page = metrics.render()
    assert 'request_count{model_name="broken",status="FAILED_PRECONDITION"} 1' in page
    assert 'request_count{model_name="good",status="OK"} 1' in page
    assert 'request_count{model_name="good",status="INVALID_ARGUMENT"} 1' in page


def test_a_huge_name_is_not_kept(metrics):
    metrics.request_done("x" * (UNKNOWN_NAME_LENGTH + 1), Code.NOT_FOUND, "predict", "REST", 0.1)
    assert lines(metrics, ":tensorflow:serving:request_count") == [
        f':tensorflow:serving:request_count{{model_name="{OTHER_NAMES}",status="NOT_FOUND"}} 1'
    ]


def test_a_name_that_succeeds_makes_room_for_another_stranger(metrics):
    for number in range(100):
        metrics.request_done(f"m{number}", Code.NOT_FOUND, "predict", "REST", 0.1)
    metrics.request_done("m0", Code.OK, "predict", "REST", 0.1)
    metrics.request_done("late", Code.NOT_FOUND, "predict", "REST", 0.1)
    assert 'model_name="late"' in metrics.render()


def test_a_year_of_versions_does_not_make_the_page_grow(metrics):
    sizes = []
    for version in range(1000):
        path = f"/models/m/{version:04d}"
        metrics.load_done(path, Code.OK, 1)
        metrics.load_stage_done(path, "restore_graph", 1)
        metrics.load_stage_done(path, "init_graph", 1)
        metrics.warmup_done(path, Code.OK, 1, 2)
        if version in (150, 999):
            sizes.append(len(metrics.render().splitlines()))
    assert sizes[0] == sizes[1]
    assert len(lines(metrics, ":tensorflow:cc:saved_model:load_latency{")) == 100
    assert '"/models/m/0999"' in metrics.render()


def test_threads_lose_nothing(metrics):
    def count():
        for _ in range(2000):
            metrics.request_done("m", Code.OK, "Predict", "GRPC", 0.001)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        counts = [int(line.split()[1]) for line in lines(metrics, f"{REQUEST_LATENCY}_bucket")]
        assert counts == sorted(counts)  # a page made meanwhile is one moment's
    assert metrics.counters()["/tensorflow/serving/request_count"] == 16000
    assert lines(metrics, f"{REQUEST_LATENCY}_count")[0].endswith(" 16000")
