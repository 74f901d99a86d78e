"""The serving benchmark's clients, peer and figures, on a small model."""

import json

import pytest

from benchmarks import serving, serving_lifetime
from benchmarks.serving_clients import TRANSPORTS, Load, clients, percentile
from benchmarks.serving_peer import in_process
from benchmarks.serving_processes import MODEL, grpc_requests, rest_requests
from pipelines.errors import DataError
from tests.support.picture_model import brightness, encoded, running

PICTURES = [encoded(level) for level in (10, 240)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / MODEL
    brightness(folder)
    return folder


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_clients_count_answers_and_failures(base, transport):
    requests = {"gRPC": grpc_requests, "REST": rest_requests}[transport](PICTURES)
    with running(model_name=MODEL, model_base_path=str(base)) as server:
        port = server.grpc_port if transport == "gRPC" else server.rest_port
        with clients(transport, port, requests) as run:
            load = run(3, 0.5)
        counted = server.metrics.counters()["/tensorflow/serving/request_count"]
        assert load.failures == []
        assert len(load.times) == counted > 3
        assert 0 < load.processor < 2 * load.seconds
        with clients(
            transport,
            port,
            grpc_requests([b"no picture"]) if transport == "gRPC" else rest_requests([b"no picture"]),
        ) as run:
            load = run(1, 0.2)
    assert load.times == []
    assert load.failures


def test_the_peer_calls_the_signature(base):
    with in_process(base / "1", PICTURES) as run:
        assert run(2, 0.2) > 0
        assert len(run(1, 0.1, times=True)) >= 1


def test_a_peer_without_a_model_is_told_of(tmp_path):
    with in_process(tmp_path, PICTURES) as run, pytest.raises(DataError, match="in-process peer ended"):
        run(1, 0.1)


def test_rates_latencies_and_percentiles():
    load = Load(2.0, [(10.0, 0.1), (11.0, 0.3), (12.0, 0.2)], [], 0.5)
    assert load.rate == 1.5
    assert load.latencies(10.5, 12.0) == [0.3]
    assert percentile([float(n) for n in range(101)], 99) == 99.0


def test_the_figures_of_a_switch(capsys):
    loads = [Load(9, [(0.5, 0.1)] * 50 + [(2.5, 0.3)] * 50, [], 1), Load(9, [(2.6, 0.3)], ["UNAVAILABLE"], 1)]
    figures = serving_lifetime._shown_switch(loads, (0.0, 2.0), [(2.0, 3.0)])
    assert figures["switch_failures"] == 1
    assert figures["switch_p99"] == pytest.approx(3.0)
    assert "first failure: UNAVAILABLE" in capsys.readouterr().out


def test_requests_are_what_a_server_takes():
    path, _, body = rest_requests([b"abc"])[0].partition(b"\n")
    assert path == b"/v1/models/alexnet:predict"
    assert json.loads(body) == {"instances": [{"b64": "YWJj"}]}


@pytest.mark.parametrize("words", [["--only", "throughput,speed"], []])
def test_wrong_words(words, capsys):
    with pytest.raises(SystemExit) as stop:
        serving.main(["--export", "e", *words] if words else [])
    assert stop.value.code == 2
    capsys.readouterr()


def test_an_export_without_versions(tmp_path, capsys):
    assert serving.main(["--export", str(tmp_path)]) == 2
    assert "no version folder" in capsys.readouterr().err
