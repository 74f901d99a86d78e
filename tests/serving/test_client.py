"""The client library over REST: addresses, forms of requests and answers, settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.client import Code, ServingError, connect
from serving.clients import addresses
from serving.clients.addresses import Address
from serving.command import UserError
from serving.specs import ModelSpec, State, VersionStatus
from tests.support.fake_serving import PNG

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(fake):
    with connect(fake.address, model="pets", timeout=5.0) as one:
        yield one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", Address("localhost", 8501)),
        ("host:9000", Address("host", 9000)),
        ("[::1]:9000", Address("::1", 9000)),
        ("http://host", Address("host", 80)),
        ("https://host/tf/", Address("host", 443, True, "/tf")),
        ("https://Host:8443", Address("host", 8443, True)),
        ("unix:///run/tf.sock", Address("/run/tf.sock", 0)),
    ],
)
def test_addresses(text, expected):
    assert addresses.parse(text, 8501) == expected


def test_an_address_as_others_take_it():
    assert Address("::1", 9000).netloc == "[::1]:9000"
    assert Address("/run/tf.sock", 0).netloc == "unix:/run/tf.sock"


@pytest.mark.parametrize(
    "text",
    ["", ":80", "host:0", "host:70000", "host:x", "ftp://h", "host/path", "http://u@h", "h h", "http://h?q"],
)
def test_what_is_no_address(text):
    with pytest.raises(UserError, match="a server's address"):
        addresses.parse(text, 8501)


def test_predict_in_both_forms(client, fake):
    columns = client.predict({"image_bytes": [b"cat\xff", b"dog"]})
    assert columns.outputs == {"classes": [["cat", "dog"], ["dog", "cat"]], "scores": [[0.75, 0.25]] * 2}
    assert client.predict([b"cat\xff", b"dog"]) == columns
    bodies = [json.loads(body) for _, _, _, body, _ in fake.requests]
    assert bodies == [
        {"inputs": {"image_bytes": [{"b64": "Y2F0/w=="}, {"b64": "ZG9n"}]}},
        {"instances": [{"b64": "Y2F0/w=="}, {"b64": "ZG9n"}]},
    ]
    assert fake.paths() == ["POST /v1/models/pets:predict"] * 2


def test_arrays_become_lists(client, fake):
    with pytest.raises(ServingError):
        client.predict(
            {"image_bytes": np.array([[1.5, 2.0]], np.float32), "n": np.int64(3), "t": (True, "a")}
        )
    assert json.loads(fake.requests[-1][3])["inputs"] == {
        "image_bytes": [[1.5, 2.0]],
        "n": 3,
        "t": [True, "a"],
    }


def test_bytes_come_back_as_bytes(client):
    outputs = client.predict([b"cat"], signature_name="saliency").outputs
    assert outputs == {"heatmap": [[0.0, 1.0]], "overlay_bytes": [PNG]}


@pytest.mark.parametrize("inputs", [[b"cat"], {"image_bytes": [b"cat"]}])
def test_a_single_output_gets_its_name_from_the_metadata(client, fake, inputs):
    for _ in range(2):
        answer = client.predict(inputs, signature_name="probabilities")
        assert answer.outputs == {"probabilities": [[0.125, 0.25, 0.625]]}
    assert fake.paths().count("GET /v1/models/pets/metadata") == 1


@pytest.mark.parametrize(
    ("answer", "outputs"),
    [
        ({"outputs": 3.0}, {"outputs": 3.0}),
        ({"outputs": {"b64": "AQI="}}, {"outputs": b"\x01\x02"}),
        ({"outputs": {"a": [1], "b": {"b64": "AQ=="}}}, {"a": [1], "b": b"\x01"}),
        ({"predictions": []}, {"outputs": []}),
        (b'{"predictions": [NaN, 1e5]} trailing', None),
        (b'{"outputs": ["\xff"]}', {"outputs": ["\udcff"]}),
        ({"nothing": 1}, None),
        ([], None),
    ],
)
def test_forms_of_answers(client, fake, answer, outputs):
    fake.script = [(200, answer), (404, {"error": "no metadata here"})]
    if outputs is None:
        with pytest.raises(ServingError, match="in TF Serving's form") as caught:
            client.predict([1])
        assert caught.value.code == Code.INTERNAL
    else:
        assert client.predict([1]).outputs == outputs


def test_classify_and_regress(client, fake):
    assert client.classify([{"x": 1.0, "s": b"\x00"}]) == [[("yes", 0.75), ("no", 0.25)]]
    assert client.regress([{"x": 1.5}, {"x": 2}], signature_name="r") == [3.0, 4.0]
    assert json.loads(fake.requests[0][3]) == {"examples": [{"x": 1.0, "s": {"b64": "AA=="}}]}
    assert json.loads(fake.requests[1][3]) == {"examples": [{"x": 1.5}, {"x": 2}], "signature_name": "r"}


def test_status_and_metadata(client):
    assert client.status() == [VersionStatus(7, State.AVAILABLE, Code.OK, "")]
    metadata = client.metadata()
    assert (metadata.model, metadata.version) == ("pets", 7)
    assert metadata.signatures["pixels"].inputs["pixels"] == ("DT_FLOAT", (-1, 2, 2, 3), "t:0")
    assert client.models() == ["pets"]


def test_which_model_is_meant(client, fake):
    for spec in ("other", ModelSpec("a b", version=3), ModelSpec("pets", label="ca/nary")):
        fake.script = [(200, {"model_version_status": []})]
        assert client.status(model=spec) == []
    assert [path for _, path, *_ in fake.requests] == [
        "/v1/models/other",
        "/v1/models/a%20b/versions/3",
        "/v1/models/pets/labels/ca%2Fnary",
    ]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (404, Code.NOT_FOUND),
        (500, Code.INTERNAL),
        (501, Code.UNIMPLEMENTED),
        (504, Code.DEADLINE_EXCEEDED),
    ],
)
def test_refusals_are_not_tried_again(client, fake, status, code):
    fake.script = [(status, {"error": "its own words"})]
    with pytest.raises(ServingError) as caught:
        client.predict([b"cat"])
    assert (caught.value.code, caught.value.message) == (code, "its own words")
    assert len(fake.requests) == 1


def test_an_error_of_something_else_than_tf_serving(client, fake):
    fake.script = [(404, b"<html>nothing\n here</html>")]
    with pytest.raises(ServingError, match=r"HTTP 404 Not Found, .*<html>nothing here</html>"):
        client.status()


def test_the_token_is_sent(fake):
    with connect(fake.address, model="pets", token="s3cret") as one:
        one.status()
    assert fake.requests[0][2]["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": 1, "label": "a"}, "exclude each other"),
        ({"timeout": 0}, "must be positive"),
        ({"retries": -1}, "must be positive and retries not negative"),
        ({"key_file": "k"}, "needs its certificate"),
        ({"token": "a\nb"}, "printable ASCII"),
        ({"address": "unix:/a"}, "UNIX sockets are for gRPC"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(UserError, match=words):
        connect(**{"address": "localhost", **settings})


def test_rest_needs_neither_tensorflow_nor_numpy():
    code = (
        "import sys\nfrom serving.client import connect\nconnect('localhost').close()\n"
        "print(sorted({'tensorflow', 'numpy', 'grpc', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_files_of_tls_that_cannot_be_used(certificates, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    with pytest.raises(UserError, match=r"empty\.pem: no certificate"):
        connect("localhost", ca_file=empty)
    with pytest.raises(UserError, match=r"empty\.pem: no certificate and key"):
        connect("localhost", cert_file=empty)
    with pytest.raises(FileNotFoundError):
        connect("localhost", ca_file=tmp_path / "none.pem")
