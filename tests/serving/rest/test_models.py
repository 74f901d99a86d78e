"""REST over real SavedModels: what a client of TF Serving sends, and what it must read."""

import base64
import gzip
import http.client
import json

import pytest

from serving.model_server import ModelServer
from serving.settings.flags import Flags
from tests.support import saved_models

HOST = "127.0.0.1"
PICTURE = b"\x89PNG\r\n\x1a\n\xff\x00"


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A function from method, path and body to status and answer, on one connection."""
    base = tmp_path_factory.mktemp("models") / "kinds"
    saved_models.kinds(base, version=3)
    flags = Flags(model_name="kinds", model_base_path=str(base), rest_api_timeout_in_ms=3000)
    with ModelServer(flags, host=HOST, pick_ports=True) as server:
        connection = http.client.HTTPConnection(HOST, server.rest_port, timeout=20)

        def send(method, path, body=None, **headers):
            content = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
            connection.request(method, path, content, headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

        yield send
        connection.close()


def predict(ask, signature, **body):
    return ask("POST", "/v1/models/kinds:predict", {"signature_name": signature, **body})


def error(ask, signature, **body):
    status, answer = predict(ask, signature, **body)
    assert list(answer) == ["error"]
    return status, answer["error"]


def test_several_inputs_and_outputs(ask):
    rows = [{"a": [1, 2], "b": [10, 20]}, {"a": [0.5, 0], "b": [1, 1]}]
    status, answer = predict(ask, "", instances=rows)
    assert status == 200
    assert answer == {"predictions": [{"sum": [11, 22], "rows": 2}, {"sum": [1.5, 1], "rows": 2}]}
    columns = {"a": [[1, 2], [0.5, 0]], "b": [[10, 20], [1, 1]]}
    status, answer = predict(ask, "serving_default", inputs=columns)
    assert (status, answer) == (200, {"outputs": {"sum": [[11, 22], [1.5, 1]], "rows": [2, 2]}})


def test_strings_and_bytes(ask):
    status, answer = predict(ask, "texts", inputs=["é", "a\nb"])
    assert status == 200
    assert answer["outputs"]["echo"] == ["é", "a\nb"]
    assert answer["outputs"]["length"] == [2, 3]
    picture = base64.b64encode(PICTURE).decode()
    status, answer = predict(ask, "texts", instances=["é", {"b64": base64.b64encode(b"x").decode()}])
    assert [row["echo_bytes"]["b64"] for row in answer["predictions"]] == ["w6k=", "eA=="]
    with pytest.raises(UnicodeDecodeError):  # as TF Serving has it: only `_bytes` outputs are safe for bytes
        predict(ask, "texts", instances=[{"b64": picture}])


def test_gzip(ask):
    body = gzip.compress(json.dumps({"signature_name": "scalar", "inputs": 2}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/html"}
    assert ask("POST", "/v1/models/kinds:predict", body, **headers) == (200, {"outputs": 4.0})


def test_scalars_and_their_lack_of_rows(ask):
    assert predict(ask, "scalar", inputs=1.25) == (200, {"outputs": 2.5})
    status, answer = predict(ask, "scalar", inputs={"x": 1e39})
    assert (status, answer) == (200, {"outputs": float("inf")})


def test_other_types(ask):
    assert predict(ask, "lookup", instances=[0, 2, 7]) == (200, {"predictions": ["zero", "two", "?"]})
    _, answer = predict(ask, "flags", instances=[{"flag": True, "d": 0.1}, {"flag": False, "d": 1}])
    assert answer == {"predictions": [{"not": False, "d": 0.1}, {"not": True, "d": 1.0}]}
    assert predict(ask, "flags", instances=[{"flag": 1, "d": 0.1}])[0] == 400


def test_classify_and_regress(ask):
    examples = [{"x": 0.75}, {"x": 0.5}]
    status, answer = ask(
        "POST", "/v1/models/kinds:classify", {"signature_name": "classify", "examples": examples}
    )
    assert (status, answer) == (
        200,
        {"results": [[["yes", 0.75], ["no", 0.25]], [["yes", 0.5], ["no", 0.5]]]},
    )
    body = {"signature_name": "regress", "context": {"x": 0.5}, "examples": [{}, {"x": 0.25}]}
    assert ask("POST", "/v1/models/kinds:regress", body) == (200, {"results": [5.0, 2.5]})
    status, answer = ask("POST", "/v1/models/kinds:regress", {"signature_name": "none", "examples": examples})
    assert (status, answer) == (400, {"error": "No signature was found with the name: none"})
    status, answer = ask(
        "POST", "/v1/models/kinds:classify", {"signature_name": "classify", "examples": [{"x": 1}]}
    )
    assert status == 400
    assert "Data types don't match" in answer["error"]


def test_errors_of_the_model(ask):
    status, message = error(ask, "fails", instances=[-1.0])
    assert status == 400
    assert "x must be positive" in message
    assert error(ask, "slow", instances=[1000.0])[0] == 504
    assert predict(ask, "fails", instances=[1.0]) == (200, {"predictions": [1.0]})


def test_errors_of_the_request(ask):
    assert error(ask, "S", instances=[1]) == (400, 'Serving signature name: "S" not found in signature def')
    assert error(ask, "lookup", instances=[1.0])[0] == 400
    status, answer = ask("POST", "/v1/models/kinds/versions/4:predict", {"instances": [1]})
    assert (status, answer) == (404, {"error": "Servable not found for request: Specific(kinds, 4)"})
    status, answer = ask("POST", "/v1/models/kinds/labels/new:predict", {"instances": [1]})
    assert (status, answer) == (400, {"error": "Unrecognized servable version label: new"})
    status, answer = ask("POST", "/v1/models/who:predict", {"instances": [1]})
    assert (status, answer) == (404, {"error": "Servable not found for request: Latest(who)"})


def test_status_and_metadata(ask):
    status, answer = ask("GET", "/v1/models/kinds/labels/any")
    assert (status, answer["model_version_status"][0]["version"]) == (200, "3")
    assert ask("GET", "/v1/models/kinds/versions/9") == (
        404,
        {"error": "Could not find version 9 of model kinds"},
    )
    assert ask("GET", "/v1/models/who") == (404, {"error": "Could not find any versions of model who"})
    status, answer = ask("GET", "/v1/models/kinds/versions/3/metadata")
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    assert answer["model_spec"] == {"name": "kinds", "signature_name": "", "version": "3"}
    assert definitions["classify"]["method_name"] == "tensorflow/serving/classify"
    assert definitions["serving_default"]["inputs"]["a"]["tensor_shape"]["dim"] == [
        {"size": "-1", "name": ""},
        {"size": "2", "name": ""},
    ]


def test_our_own_pages(ask):
    assert ask("GET", "/readyz") == (200, {"ready": True, "not_available": {}})
    status, answer = ask("GET", "/models")
    assert [(model["name"], model["version_labels"]) for model in answer["models"]] == [("kinds", {})]
    status, answer = ask("POST", "/models/kinds/versions/3:retry")
    assert status == 400
    assert ask("POST", "/models/kinds/versions/8:retry")[0] == 404
