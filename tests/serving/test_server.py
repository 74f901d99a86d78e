"""The server as its users start it: launch lines, signals, errors at the start."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.errors import ServingError
from serving.model.tensors import to_proto
from serving.server import create_server, main
from tests.support import saved_models

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "kinds"
    saved_models.kinds(folder, version=3)
    return folder


def free_ports(count):
    """Ports that nobody listens on now; other programs may take them, but hardly within a second."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def launched(tmp_path):
    """A function that starts `python -m serving.server` with flags; ended after the test."""
    processes = []

    def launch(*flags):
        # The server says nothing of its own on stdout while it runs.
        with (tmp_path / "stderr").open("wb") as stderr, (tmp_path / "stdout").open("wb") as stdout:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.server", *flags],
                cwd=ROOT,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        processes.append(process)
        return process

    launch.stdout = lambda: (tmp_path / "stdout").read_text()
    launch.stderr = lambda: (tmp_path / "stderr").read_text()
    yield launch
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def ask(port, path, body=None, timeout=30):
    """Status and JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def until_ready(process, port, seconds=60):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert process.poll() is None, process.returncode
        try:
            return ask(port, "/readyz")
        except OSError:
            time.sleep(0.05)
    raise AssertionError("not ready")


SLOW = {"signature_name": "slow", "instances": [0.3]}


def slow_request():
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "kinds", "slow"
    request.inputs["x"].CopyFrom(to_proto(np.array([0.3], np.float32)))
    return request


def test_a_launch_line_serves_both_ways_and_drains_on_sigterm(launched, base):
    grpc_port, rest_port = free_ports(2)
    process = launched(
        "--model_name=kinds",
        f"--model_base_path={base}",
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        "--enable_model_warmup=true",
        "--flag_of_another_release=1",
        "--drain_timeout_seconds=200",
        "--rest_api_timeout_in_ms=200000",
        "--json",
    )
    assert until_ready(process, rest_port)[0] == 200
    body = {"inputs": {"a": [[1, 2]], "b": [[10, 20]]}}
    assert ask(rest_port, "/v1/models/kinds:predict", body)[1]["outputs"]["sum"] == [[11, 22]]
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel, ThreadPoolExecutor(8) as pool:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(slow_request())
        answers = [pool.submit(ask, rest_port, "/v1/models/kinds:predict", SLOW, 200) for _ in range(2)]
        answers += [pool.submit(stub.Predict, slow_request(), timeout=200) for _ in range(2)]
        time.sleep(0.3)  # they are on their way
        process.send_signal(signal.SIGTERM)
        assert [answer.result()[0] for answer in answers[:2]] == [200] * 2
        assert all(answer.result().outputs["y"] for answer in answers[2:])
    assert process.wait(60) == 0
    assert json.loads(launched.stdout().splitlines()[-1])["requests"] == 6
    stderr = launched.stderr()
    assert "unknown argument: --flag_of_another_release=1" in stderr
    assert f"Running gRPC ModelServer at 0.0.0.0:{grpc_port} ..." in stderr
    assert f"Exporting HTTP/REST API at:localhost:{rest_port} ..." in stderr
    assert "Traceback" not in stderr


def test_sigterm_ends_a_server_that_waits_for_its_model(launched, tmp_path):
    port = free_ports(1)[0]
    process = launched(f"--model_base_path={tmp_path}/absent", f"--port={port}")
    ends = time.monotonic() + 60
    while "absent" not in launched.stderr() and time.monotonic() < ends:
        time.sleep(0.05)
    assert process.poll() is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert "Traceback" not in launched.stderr()


def test_a_config_that_does_not_parse_ends_the_start(launched, tmp_path):
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { nme: 'm' } }")
    assert launched(f"--model_config_file={config}").wait(60) == 255
    assert launched.stdout().startswith("Failed to start server. Error:")
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in launched.stderr()
    assert "Traceback" not in launched.stderr()


@pytest.fixture
def server(base, start_server):
    """A function that starts a server inside this process."""
    return lambda **flags: start_server(**{"model_name": "kinds", "model_base_path": str(base)} | flags)


def test_inside_a_program(base):
    with create_server(
        host="127.0.0.1", pick_ports=True, model_name="kinds", model_base_path=str(base)
    ) as running:
        assert ask(running.rest_port, "/v1/models/kinds")[1]["model_version_status"][0]["version"] == "3"
        assert running.grpc_port != running.rest_port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.rest_port), 1)


def test_a_model_that_does_not_load(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff")
    made = create_server(
        host="127.0.0.1",
        pick_ports=True,
        model_name="m",
        model_base_path=str(tmp_path),
        max_num_load_retries=0,
    )
    with pytest.raises(
        ServingError, match=r"1 servable\(s\) did not become available: \{\{\{name: m version: 1\}"
    ):
        made.start()
    assert not [t for t in threading.enumerate() if t.name.startswith(("load", "rest", "grpc"))]


def test_a_port_that_is_taken(server, base):
    running = server()
    made = create_server(
        host="127.0.0.1", model_base_path=str(base), model_name="kinds", port=running.grpc_port
    )
    with pytest.raises(ServingError, match=f"gRPC cannot listen on 127.0.0.1:{running.grpc_port}"):
        made.start()
    made = create_server(
        host="127.0.0.1",
        model_base_path=str(base),
        model_name="kinds",
        port=free_ports(1)[0],
        rest_api_port=running.rest_port,
    )
    with pytest.raises((OSError, ServingError), match=str(running.rest_port)):
        made.start()


def test_batching_joins_requests_of_both_transports(server, tmp_path):
    parameters = tmp_path / "batching.config"
    parameters.write_text(
        "max_batch_size { value: 4 } batch_timeout_micros { value: 20000000 } num_batch_threads { value: 1 }"
    )
    running = server(enable_batching=True, batching_parameters_file=str(parameters))
    body = {"signature_name": "lookup", "instances": [1, 2]}
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "kinds", "lookup"
    request.inputs["index"].CopyFrom(to_proto(np.array([0, 9])))
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel, ThreadPoolExecutor(2) as pool:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        began = time.monotonic()
        over_rest = pool.submit(ask, running.rest_port, "/v1/models/kinds:predict", body)
        over_grpc = pool.submit(stub.Predict, request, timeout=30)
        assert over_rest.result() == (200, {"predictions": ["one", "two"]})
        assert list(over_grpc.result().outputs["label"].string_val) == [b"zero", b"?"]
        # A full batch: nobody waited for the time to pass.
        assert time.monotonic() - began < 20
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} 1" in running.metrics.render()


def test_a_scalar_input_cannot_be_batched(server):
    running = server(enable_batching=True)
    status, answer = ask(
        running.rest_port, "/v1/models/kinds:predict", {"signature_name": "scalar", "inputs": 1.5}
    )
    assert status == 400
    assert "Batching Run() input tensors must have at least one dimension" in answer["error"]


def test_per_model_batching_parameters(server, base, tmp_path):
    running = server(enable_batching=True, enable_per_model_batching_parameters=True)
    scalar = {"signature_name": "scalar", "inputs": 1.5}
    # Without a file of its own the model is not batched, and takes scalars.
    assert ask(running.rest_port, "/v1/models/kinds:predict", scalar) == (200, {"outputs": 3.0})
    copy = shutil.copytree(base, tmp_path / "kinds")
    (copy / "3" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    batched = server(
        enable_batching=True, enable_per_model_batching_parameters=True, model_base_path=str(copy)
    )
    assert ask(batched.rest_port, "/v1/models/kinds:predict", scalar)[0] == 400
    many = {"signature_name": "lookup", "instances": [1, 2, 0]}
    status, answer = ask(batched.rest_port, "/v1/models/kinds:predict", many)
    assert status == 400
    assert "Task size 3 is larger than maximum input batch size 2" in answer["error"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"api_token_file": "/absent/token"}, "--api_token_file: /absent/token cannot be read"),
        ({"ssl_config_file": "/absent/ssl"}, "/absent/ssl; No such file or directory"),
        ({"monitoring_config_file": "/absent/m"}, "/absent/m; No such file or directory"),
        (
            {"enable_batching": True, "batching_parameters_file": "/absent/b"},
            "/absent/b; No such file or directory",
        ),
        ({"tensorflow_session_config_file": "/absent/s"}, "/absent/s; No such file or directory"),
    ],
)
def test_files_that_cannot_be_read(base, flags, message):
    with pytest.raises(ServingError, match=message):
        create_server(model_base_path=str(base), **flags)


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["--help"]) == 0
    assert "--rest_api_port=0" in capsys.readouterr().out


def test_a_bad_value_is_one_line(capsys):
    assert main(["--port=x"]) == 255
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: --port must be a whole number; received 'x'")
