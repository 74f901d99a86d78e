"""The dashboard asks for what a server really shows: each query is parsed and held against a scraped page."""

import contextlib
import http.client
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.support import promql
from tests.support.promql import QueryError

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/serving.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
PATH = "/monitoring/prometheus/metrics"
PAGE = """# TYPE requests counter
requests{model="a",status="OK"} 1
# TYPE seconds histogram
seconds_bucket{model="a",le="1"} 0
seconds_bucket{model="a",le="+Inf"} 1
seconds_sum{model="a"} 2.5
seconds_count{model="a"} 1
# TYPE length gauge
length{} 3
# TYPE unused counter
"""


def ask(port, method, path, body=None):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """What a server shows that has batched, failed, and been asked over gRPC and REST."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from serving.server import create_server
    from tests.support import saved_models

    folder = tmp_path_factory.mktemp("dashboard")
    saved_models.half_plus(folder / "half")
    monitoring = folder / "monitoring.txt"
    monitoring.write_text("prometheus_config { enable: true }")
    server = create_server(
        host="127.0.0.1",
        pick_ports=True,
        model_name="half",
        model_base_path=str(folder / "half"),
        enable_batching=True,
        monitoring_config_file=str(monitoring),
    )
    with server:
        url = "/v1/models/half:predict"
        assert ask(server.rest_port, "POST", url, '{"instances": [1.0, 2.0]}')[0] == 200
        assert ask(server.rest_port, "POST", url, '{"instances": "no"}')[0] == 400
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)
        status, page = ask(server.rest_port, "GET", PATH)
        assert status == 200
        yield promql.scraped(page)


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{t}-{g['refId']}" for t, g in TARGETS])
def test_queries_ask_for_what_is_there(title, target, series):
    labels = promql.labels_of(target["expr"], series)
    # A legend that names a label which the query does not give stays empty.
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == labels


def test_variables_ask_for_what_is_there(series):
    assert list(VARIABLES) == ["datasource", "instance", "model"]
    assert VARIABLES["datasource"]["query"] == "prometheus"
    for name in ("instance", "model"):
        query = VARIABLES[name]["query"]["query"]
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
        assert label in promql.labels_of(selector, series)
        assert VARIABLES[name]["definition"] == query
        assert VARIABLES[name]["allValue"] == ".*"


def test_every_query_heeds_the_variables(series):
    for title, target in TARGETS:
        for selector in re.findall(r"[a-z_:]+\{[^}]*\}", target["expr"]):
            assert 'instance=~"$instance"' in selector, title
            name = selector.partition("{")[0]
            assert ('model_name=~"$model"' in selector) == ("model_name" in series[name][1]), title
        assert not set(re.findall(r"\$(\w+)", target["expr"])) - {"instance", "model", "__rate_interval"}


def test_the_dashboard_shows_what_operators_ask_for():
    asked = " ".join(target["expr"] for _, target in TARGETS)
    for metric in (
        ":tensorflow:serving:request_count",
        ":tensorflow:serving:request_latency_bucket",
        ":tensorflow:serving:runtime_latency_bucket",
        "alexnet_tf_serving_transport_seconds_bucket",
        ":tensorflow:serving:batching_session:processed_batch_size_sum",
        ":tensorflow:serving:batching_session:queuing_latency_bucket",
        "alexnet_tf_serving_queue_length",
        "alexnet_tf_serving_model_versions",
        "process_resident_memory_bytes",
    ):
        assert metric in asked


def test_units_are_those_of_the_metrics():
    """TF Serving counts microseconds, our own metric seconds."""
    for panel in PANELS:
        asked = " ".join(target["expr"] for target in panel["targets"])
        unit = panel["fieldConfig"]["defaults"]["unit"]
        if "transport_seconds" in asked:
            assert unit == "s", panel["title"]
        elif "latency" in asked or "usecs" in asked:
            assert unit == "µs", panel["title"]


def test_the_form_is_grafanas():
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_the_scraping_example_asks_for_the_page():
    scraping = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = scraping["scrape_configs"]
    assert job["metrics_path"] == PATH
    assert job["static_configs"][0]["targets"]


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("length", {"instance", "job"}),
        ('sum by (model) (rate(requests{status!="OK"}[5m]))', {"model"}),
        ("(sum(rate(requests[1m])) or vector(0)) / sum(rate(seconds_count[$__rate_interval]))", set()),
        ("histogram_quantile(0.5, sum by (le, model) (rate(seconds_bucket[5m])))", {"model"}),
        ("2 * length", {"instance", "job"}),
    ],
)
def test_good_queries(query, labels):
    assert promql.labels_of(query, promql.scraped(PAGE)) == labels


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("nothing", "no such metric"),
        ("unused", "no such metric"),  # a TYPE line alone is no series
        ('requests{nothing="1"}', "no such label"),
        ("sum by (nothing) (requests)", "no such label"),
        ("rate(length[5m])", "no counter"),
        ("rate(requests)", "no counter"),
        ("requests[5m]", "a range"),
        ("sum(requests[5m])", "of a range"),
        ("histogram_quantile(0.5, sum by (le) (rate(seconds_sum[5m])))", "no such label"),
        ("histogram_quantile(0.5, sum by (model) (rate(seconds_bucket[5m])))", "no histogram"),
        ("sum by (model) (length)", "no such label"),
        ("rate(requests[5m]", "should be"),
        ("rate(requests[5m]))", "superfluous"),
        ("requests ^ 2", "not understood"),
        ("sum by (model) (requests) / sum(length)", "labels differ"),
        ("deriv(length)", "no such function"),
    ],
)
def test_bad_queries(query, reason):
    with pytest.raises(QueryError, match=reason):
        promql.labels_of(query, promql.scraped(PAGE))
