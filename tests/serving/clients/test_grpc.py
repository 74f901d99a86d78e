"""The client over gRPC, and that both transports give the same, on this project's server."""

from __future__ import annotations

import socket
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import client
from serving.client import Code, ServingError, connect
from serving.clients.grpc import columns
from serving.command import UserError
from serving.specs import ModelSpec, State, VersionStatus
from tests.support.picture_model import brightness, encoded, running
from tests.support.saved_models import kinds

CONFIG = """
model_config_list {{
  config {{ name: "kinds" base_path: "{0}/kinds" model_platform: "tensorflow" }}
  config {{ name: "pictures" base_path: "{0}/pictures" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    kinds(root / "kinds", version=5)
    brightness(root / "pictures")
    (root / "models.config").write_text(CONFIG.format(root))
    with running(model_config_file=str(root / "models.config")) as one:
        yield one


@pytest.fixture(params=["rest", "grpc"])
def ask(request, server):
    """A client of either kind: every test with it holds for both."""
    over_grpc = request.param == "grpc"
    port = server.grpc_port if over_grpc else server.rest_port
    with connect(f"127.0.0.1:{port}", grpc=over_grpc, model="kinds") as one:
        yield one


def test_columns_and_rows(ask):
    columns_form = ask.predict({"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[1, 1], [2, 2]]})
    assert columns_form.outputs == {"sum": [[2.0, 3.0], [5.0, 6.0]], "rows": [2, 2]}
    rows = [{"a": [1.0, 2.0], "b": [1, 1]}, {"a": [3.0, 4.0], "b": [2, 2]}]
    assert ask.predict(rows).outputs == columns_form.outputs


def test_arrays(ask):
    a, b = np.array([[0.5, 1.5]], np.float32), np.array([[1, 2]], np.int32)
    assert ask.predict({"a": a, "b": b}).outputs["sum"] == [[1.5, 3.5]]


def test_text_and_bytes(ask):
    outputs = ask.predict({"text": ["grüß", b"\x00a"]}, signature_name="texts").outputs
    assert outputs["echo"] == ["grüß", "\x00a"]
    assert outputs["echo_bytes"] == ["grüß".encode(), b"\x00a"]
    assert outputs["length"] == [6, 2]


def test_scalars_and_single_outputs(ask):
    assert ask.predict({"x": 3}, signature_name="scalar").outputs == {"double": 6.0}
    assert ask.predict([0, 2, 9], signature_name="lookup").outputs == {"label": ["zero", "two", "?"]}


def test_types_follow_the_signature(ask):
    outputs = ask.predict({"flag": [True, False], "d": [1, 0.1]}, signature_name="flags").outputs
    assert outputs == {"not": [False, True], "d": [1.0, 0.1]}


def test_examples(ask):
    pairs = ask.classify([{"x": 0.75}, {"x": [0.25]}], signature_name="classify")
    assert pairs == [[("yes", 0.75), ("no", 0.25)], [("yes", 0.25), ("no", 0.75)]]
    assert ask.regress([{"x": 0.5}], signature_name="regress") == [5.0]


def test_what_is_known_of_a_model(ask):
    assert ask.status() == [VersionStatus(5, State.AVAILABLE)]
    metadata = ask.metadata()
    assert (metadata.model, metadata.version) == ("kinds", 5)
    assert metadata.signatures["two" if "two" in metadata.signatures else "serving_default"].inputs["a"][
        :2
    ] == (
        "DT_FLOAT",
        (-1, 2),
    )
    assert ask.metadata(model=ModelSpec("kinds", version=5)) == metadata


@pytest.mark.parametrize(
    ("inputs", "signature_name", "model", "code"),
    [
        ({"x": 1.0}, "", "nobody", Code.NOT_FOUND),
        ({"x": [-1.0]}, "fails", None, Code.INVALID_ARGUMENT),
        ({"a": [[1.0, 1.0]], "b": [[0.5, 1.0]]}, "", None, Code.INVALID_ARGUMENT),
        ({"text": [1]}, "texts", None, Code.INVALID_ARGUMENT),
        ([{"a": [1.0, 1.0]}, {"b": [1, 1]}], "", None, Code.INVALID_ARGUMENT),
    ],
)
def test_refusals(ask, inputs, signature_name, model, code):
    with pytest.raises(ServingError) as caught:
        ask.predict(inputs, signature_name=signature_name, model=model)
    assert caught.value.code == code


def test_the_deadline(ask):
    began = time.monotonic()
    ask.predict({"x": [0.6]}, signature_name="slow", timeout=100)
    whole = time.monotonic() - began
    began = time.monotonic()
    with pytest.raises(ServingError) as caught:
        ask.predict({"x": [0.6]}, signature_name="slow", timeout=whole / 4)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert time.monotonic() - began < whole  # told without waiting for the answer


def test_the_version_that_answered(server):
    with connect(f"127.0.0.1:{server.grpc_port}", grpc=True, model="kinds") as one:
        assert one.predict([1], signature_name="lookup").version == 5
        with pytest.raises(ServingError, match="over REST only"):
            one.models()


def test_rows_need_one_input_or_names():
    with pytest.raises(ServingError, match="this one has none"):
        columns([1, 2], {})
    with pytest.raises(ServingError, match="one row or more"):
        columns([], {})


def test_the_command_over_both(server, tmp_path, capsys):
    for name, grey in (("day.png", 250), ("night.png", 5)):
        (tmp_path / name).write_bytes(encoded(grey))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    shown = []
    for words in (
        ["--server", f"127.0.0.1:{server.rest_port}"],
        ["--grpc", "--server", f"127.0.0.1:{server.grpc_port}"],
    ):
        assert client.main([*words, "--model", "pictures", str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        shown.append(out)
        assert err.startswith(f"error: {tmp_path}/broken.png: ")
        assert len(err.splitlines()) == 1
    assert shown[0] == shown[1]
    assert [line.split()[0] for line in shown[0].splitlines()] == [
        *(f"{tmp_path}/day.png", "light", "dark"),
        *(f"{tmp_path}/night.png", "dark", "light"),
    ]


class Scripted(
    prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer
):
    """Refuses with the codes in `codes` first."""

    def __init__(self):
        self.codes, self.metadata = [], []

    def GetModelStatus(self, request, context):  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        if self.codes:
            context.abort(self.codes.pop(0), "its own words")
        return get_model_status_pb2.GetModelStatusResponse()

    def Predict(self, request, context):  # noqa: N802
        return predict_pb2.PredictResponse(outputs=request.inputs)


@pytest.fixture
def scripted():
    service = Scripted()
    running_server = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, running_server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, running_server)
    service.port = running_server.add_insecure_port("127.0.0.1:0")
    running_server.start()
    yield service
    running_server.stop(None).wait(5)


def test_only_what_may_pass_is_tried_again(scripted):
    with connect(f"127.0.0.1:{scripted.port}", grpc=True, retries=2, token="s3cret") as one:
        scripted.codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert one.status() == []
        assert [one["authorization"] for one in scripted.metadata] == ["Bearer s3cret"] * 3
        scripted.codes = [grpc.StatusCode.NOT_FOUND]
        with pytest.raises(ServingError, match=r"^its own words$") as caught:
            one.status()
        assert caught.value.code == Code.NOT_FOUND
        scripted.codes = [grpc.StatusCode.UNAVAILABLE] * 5
        with pytest.raises(ServingError):
            one.status()
        assert len(scripted.codes) == 2


def test_a_server_that_tells_no_signatures(scripted):
    with connect(f"127.0.0.1:{scripted.port}", grpc=True) as one:
        outputs = one.predict({"f": [0.5], "i": [1], "s": ["a"], "d": np.array([0.1])}).outputs
    assert outputs == {"f": [0.5], "i": [1], "s": ["a"], "d": [0.1]}


def test_nobody_listens_and_closing():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = connect(f"127.0.0.1:{port}", grpc=True, retries=1)
    with pytest.raises(ServingError) as caught:
        one.status()
    assert caught.value.code == Code.UNAVAILABLE
    one.close()
    with pytest.raises(ServingError, match="the client is closed"):
        one.status()


def test_threads_share_a_client(server):
    with (
        connect(f"127.0.0.1:{server.grpc_port}", grpc=True, model="kinds") as one,
        futures.ThreadPoolExecutor(8) as pool,
    ):
        found = list(
            pool.map(lambda n: one.predict([n % 3], signature_name="lookup").outputs["label"][0], range(40))
        )
    assert found == [("zero", "one", "two")[n % 3] for n in range(40)]
    assert not [t for t in threading.enumerate() if t.name.startswith("pictures")]


def test_the_rest_port_by_mistake(server):
    with connect(f"127.0.0.1:{server.rest_port}", grpc=True) as one, pytest.raises(ServingError) as caught:
        one.status()
    assert caught.value.code == Code.UNAVAILABLE


def test_gRPC_takes_no_path():  # noqa: N802
    with pytest.raises(UserError, match="without a path"):
        connect("https://host/tf", grpc=True)


def test_tls_and_mutual_tls(certificates):
    pem = {name: path.read_bytes() for name, path in certificates.items()}
    key, certificate = pem["server"], pem["server"]
    service, running_server = Scripted(), grpc.server(futures.ThreadPoolExecutor(2))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, running_server)
    plain = grpc.ssl_server_credentials([(key, certificate)])
    mutual = grpc.ssl_server_credentials([(key, certificate)], pem["ca"], True)
    ports = [running_server.add_secure_port("localhost:0", one) for one in (plain, mutual)]
    running_server.start()
    ours = {"grpc": True, "ca_file": certificates["ca"], "retries": 0, "timeout": 5}
    try:
        with connect(f"localhost:{ports[0]}", **ours) as one:
            assert one.status() == []
        with connect(f"localhost:{ports[1]}", cert_file=certificates["client"], **ours) as one:
            assert one.status() == []
        for where, others in ((ports[1], ours), (ports[0], {**ours, "ca_file": None, "tls": True})):
            with connect(f"localhost:{where}", **others) as one, pytest.raises(ServingError) as caught:
                one.status()
            assert caught.value.code == Code.UNAVAILABLE
        assert "its certificate is not trusted" in str(caught.value)
    finally:
        running_server.stop(None).wait(5)
