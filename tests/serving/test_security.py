"""TLS, client certificates and the API token of a whole server, from its configuration files."""

import json
import ssl
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.errors import ServingError
from serving.model.tensors import to_proto
from serving.server import create_server
from tests.support import saved_models

BODY = json.dumps({"instances": [1.0, 2.0, 5.0]}).encode()
PATH = "/v1/models/half:predict"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "half"
    saved_models.half_plus(folder)
    return folder


@pytest.fixture
def server(base, start_server):
    """A function that starts a server with flags; ended after the test."""
    return lambda **flags: start_server(model_name="half", model_base_path=str(base), **flags)


def parts(path):
    """The key and the certificates of a PEM file."""
    text = path.read_text()
    at = text.index("-----BEGIN PRIVATE KEY")
    return text[at:], text[:at]


def ssl_config(folder, certificates, *, verify=False):
    """An SSLConfig file with the texts of the server's key and certificate, and the authority's."""
    key, certificate = parts(certificates["server"])
    texts = {"server_key": key, "server_cert": certificate, "custom_ca": certificates["ca"].read_text()}
    lines = [f"{name}: {json.dumps(text)}" for name, text in texts.items()]
    path = folder / "ssl.config"
    path.write_text("\n".join([*lines, f"client_verify: {str(verify).lower()}"]))
    return str(path)


def request():
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "half"
    made.inputs["x"].CopyFrom(to_proto(np.array([1, 2, 5], np.float32)))
    return made


def over_grpc(port, certificates, *, client=False, token=""):
    """Predict's answer over TLS, or the name of the code."""
    key, certificate = parts(certificates["client"]) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(
        certificates["ca"].read_bytes(), key and key.encode(), certificate and certificate.encode()
    )
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        metadata = [("authorization", f"Bearer {token}")] if token else None
        try:
            return list(stub.Predict(request(), timeout=20, metadata=metadata).outputs["y"].float_val)
        except grpc.RpcError as error:
            return error.code().name


def over_rest(port, certificates, *, client=False, token="", path=PATH, body=BODY):
    """The predictions over TLS, or the status."""
    context = ssl.create_default_context(cafile=certificates["ca"])
    if client:
        context.load_cert_chain(certificates["client"])
    headers = {"authorization": f"Bearer {token}"} if token else {}
    asked = urllib.request.Request(f"https://localhost:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=20, context=context) as answer:
            return json.loads(answer.read()).get("predictions")
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_tls_on_both_ports(server, certificates, tmp_path):
    config = ssl_config(tmp_path, certificates)
    running = server(ssl_config_file=config, rest_ssl_config_file=config)
    assert over_grpc(running.grpc_port, certificates) == [2.5, 3.0, 4.5]
    assert over_rest(running.rest_port, certificates) == [2.5, 3.0, 4.5]
    with pytest.raises(OSError, match=r".+"):
        urllib.request.urlopen(f"http://localhost:{running.rest_port}/livez", timeout=10)


def test_clients_must_show_a_certificate(server, certificates, tmp_path):
    config = ssl_config(tmp_path, certificates, verify=True)
    running = server(ssl_config_file=config, rest_ssl_config_file=config)
    assert over_grpc(running.grpc_port, certificates, client=True) == [2.5, 3.0, 4.5]
    assert over_grpc(running.grpc_port, certificates) == "UNAVAILABLE"
    assert over_rest(running.rest_port, certificates, client=True) == [2.5, 3.0, 4.5]
    with pytest.raises(OSError, match=r".+"):
        over_rest(running.rest_port, certificates)


def test_a_token_for_both_ports(server, certificates, tmp_path):
    config = ssl_config(tmp_path, certificates)
    (tmp_path / "token").write_text("s3cret\n")
    running = server(
        ssl_config_file=config, rest_ssl_config_file=config, api_token_file=str(tmp_path / "token")
    )
    assert over_grpc(running.grpc_port, certificates, token="s3cret") == [2.5, 3.0, 4.5]
    assert over_grpc(running.grpc_port, certificates) == "UNAUTHENTICATED"
    assert over_rest(running.rest_port, certificates, token="s3cret") == [2.5, 3.0, 4.5]
    assert over_rest(running.rest_port, certificates, token="other") == 401
    assert over_rest(running.rest_port, certificates, path="/livez", body=None) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server_key: 'k'", "ssl.config: SSLConfig needs server_key and server_cert"),
        (
            "server_key: 'k' server_cert: 'c' client_verify: true",
            "ssl.config: SSLConfig with client_verify needs custom_ca",
        ),
        (
            "server_key: 'k' server_cert: 'c'",
            "ssl.config: SSLConfig: server_key and server_cert cannot be used",
        ),
        ("server_keys: 'k'", "Error parsing text-format tensorflow.serving.SSLConfig: 1:1"),
    ],
)
@pytest.mark.parametrize("flag", ["ssl_config_file", "rest_ssl_config_file"])
def test_broken_tls_settings(base, tmp_path, text, message, flag):
    (tmp_path / "ssl.config").write_text(text)
    with pytest.raises(ServingError, match=message):
        create_server(model_base_path=str(base), **{flag: str(tmp_path / "ssl.config")})


def test_a_token_file_must_hold_a_token(base, tmp_path):
    (tmp_path / "token").write_text("two words")
    with pytest.raises(ServingError, match="must hold one word of ASCII characters"):
        create_server(model_base_path=str(base), api_token_file=str(tmp_path / "token"))
