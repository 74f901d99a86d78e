"""The REST interface's URLs, status codes and headers, without a socket."""

import pytest

from serving.errors import HTTP_STATUS, Code, ServingError
from serving.specs import ModelSpec

PREDICT = "/v1/models/half:predict"
ROWS = {"instances": [1, 2, 5]}
TOKEN = "open sesame"


# --- /v1/


def test_predict(browser):
    reply = browser().post(PREDICT, ROWS)
    assert reply.status == 200
    assert reply.json == {"predictions": [2.5, 3.0, 4.5]}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert browser().post(PREDICT, {"inputs": {"x": 2}}).json == {"outputs": 3.0}


def test_classify_and_regress(browser):
    examples = {"examples": [{"x": 1.5}, {"x": 2.5}]}
    pairs = [["yes", 0.75], ["no", 0.25]]
    assert browser().post("/v1/models/half:classify", examples).json == {"results": [pairs, pairs]}
    assert browser().post("/v1/models/half:regress", examples).json == {"results": [2.0, 2.0]}


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("/v1/models/half:predict", ModelSpec("half")),
        ("/V1/Models/half/VERSIONS/0003:predict", ModelSpec("half", 3)),
        ("/v1/models/half/versions/9223372036854775807:predict", ModelSpec("half", 2**63 - 1)),
        ("/v1/models/h%61lf/labels/st%61ble%2F:predict", ModelSpec("half", None, "stable/")),
        ("/v1/models/h%zz%:predict", ModelSpec("h%zz%")),
        ("/v1/models/h%C3%A9%FF%00:predict", ModelSpec("h\xe9\ufffd\0")),
        ("/v1/models/..:predict", ModelSpec("..")),
        ("/v1/models/..%2F..%2Fetc:predict", ModelSpec("../../etc")),
    ],
)
def test_paths_of_inference(browser, path, spec):
    client = browser()
    reply = client.post(path, ROWS)
    assert client.core.calls == [spec]
    assert reply.status == (200 if spec.name == "half" else 404)


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("/v1/models/half", ModelSpec("half")),
        ("/v1/models/half?", ModelSpec("half")),
        ("/v1/models/half?verbose=1", ModelSpec("half?verbose=1")),
        ("/v1/models/half/versions/12", ModelSpec("half", 12)),
        ("/v1/models/half/labels/nobody", ModelSpec("half", None, "nobody")),
        ("/v1/models/metadata", ModelSpec("metadata")),
    ],
)
def test_paths_of_status(browser, path, spec):
    client = browser()
    client.get(path)
    assert client.core.calls == [spec]


def test_status_and_metadata(browser):
    client = browser()
    assert client.get("/v1/models/half").json == {
        "model_version_status": [
            {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    for path in ("/v1/models/half/metadata", "/v1/models/half/labels/l/metadata"):
        found = client.get(path).json
        assert found["model_spec"] == {"name": "half", "signature_name": "", "version": "3"}
        assert list(found["metadata"]["signature_def"]["signature_def"]) == ["serving_default"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/half/"),
        ("GET", PREDICT),
        ("POST", "/v1/models/half"),
        ("POST", "/v1/models/half:explain"),
        ("POST", "/v1/models/half:Predict"),
        ("POST", f"{PREDICT}?a=b"),
        ("POST", f"{PREDICT}/"),
        ("POST", "/v1/models/half/versions/1/labels/a:predict"),
        ("POST", "/v1/models/half/versions/-1:predict"),
        ("POST", "/v1/models/half/versions/one:predict"),
        ("PUT", PREDICT),
        ("DELETE", "/v1/models/half"),
        ("HEAD", "/v1/models/half"),
        ("BREW", "/v1/models/half"),
    ],
)
def test_malformed(browser, method, target):
    client = browser()
    reply = client.send(method, target, b"{}")
    assert (reply.status, reply.error) == (400, f"Malformed request: {method} {target}")
    assert client.metrics.requests == [("", "INVALID_ARGUMENT", "", "REST")]
    assert client.core.calls == []


def test_other_mistakes_in_paths(browser):
    client = browser()
    for path in ("/v1/models", "/v1/models/versions/1", "/v1/models/metadata/metadata"[:10]):
        assert client.get(path).error == "Missing model name in request."
    for version in ("9223372036854775808", "9" * 5000):
        reply = client.post(f"/v1/models/half/versions/{version}:predict", ROWS)
        assert (reply.status, reply.error) == (400, f"Failed to convert version: {version} to numeric.")


@pytest.mark.parametrize(
    "path", ["/v1", "/v2/models/half", "/index.html", "/v1models", "/../v1/models/half", "*"]
)
def test_outside(browser, path):
    client = browser()
    for method in ("GET", "POST", "OPTIONS"):
        reply = client.send(method, path)
        assert reply.status == 404
        assert reply.headers["content-type"].startswith("text/html")
    assert client.metrics.requests == []


def test_bad_json_comes_before_an_unknown_model(browser):
    client = browser()
    assert client.post("/v1/models/who:predict", b"{").status == 400
    reply = client.post("/v1/models/who:predict", ROWS)
    assert (reply.status, reply.error) == (404, "Servable not found for request: Latest(who)")
    assert client.post("/v1/models/who:predict", {"instances": []}).status == 404
    reply = client.post(PREDICT, {"signature_name": "S", "instances": []})
    assert (reply.status, reply.error) == (400, 'Serving signature name: "S" not found in signature def')


@pytest.mark.parametrize("code", sorted(set(Code) - {Code.OK}))
def test_every_code_has_its_status(browser, code):
    client = browser()

    def fail(*arguments, **settings):
        raise ServingError(code, "why \udcff")

    client.core.predict = fail
    reply = client.post(PREDICT, ROWS)
    assert (reply.status, reply.error) == (HTTP_STATUS[code], "why ?")
    assert client.metrics.requests == [("half", code.name, "predict", "REST")]
    assert client.metrics.transports == []


def test_a_mistake_of_ours_is_500_and_counted(browser, caplog):
    client = browser()
    reply = client.post(PREDICT, {"instances": [500]})
    assert (reply.status, reply.error) == (500, "Internal error")
    assert client.metrics.requests == [("half", "INTERNAL", "predict", "REST")]
    assert "a mistake of ours" in caplog.text


def test_what_is_counted(browser):
    client = browser()
    client.post(PREDICT, ROWS)
    client.get("/v1/models/half")
    client.get("/v1/models/half/metadata")
    client.get("/livez")
    assert client.metrics.requests == [
        ("half", "OK", "predict", "REST"),
        ("half", "OK", "", "REST"),
        ("half", "OK", "", "REST"),
    ]
    assert client.metrics.transports == [("half", "predict", "REST")]


# --- bodies


def test_a_body_in_parts(browser):
    reply = browser().send("POST", PREDICT, pieces=[b'{"inst', b"", b'ances": [1', b"]}"])
    assert reply.json == {"predictions": [2.5]}


def test_a_client_that_leaves_gets_no_answer(browser):
    client = browser()
    assert client.send("POST", PREDICT, pieces=[b'{"inst', None]) is None
    assert client.core.calls == []


def test_a_large_body_is_refused_before_it_is_read(browser):
    client = browser(max_request_bytes=100)
    reply = client.send("POST", PREDICT, pieces=[b"x"], headers={"content-length": "101"})
    assert (reply.status, reply.error) == (413, "Request body is larger than the limit of 100 bytes")
    assert reply.headers["connection"] == "close"
    assert client.send("POST", PREDICT, pieces=[b" " * 60, b" " * 60]).status == 413  # no length given
    assert client.send("POST", PREDICT, headers={"content-length": "9" * 5000}).status == 413
    fits = b'{"instances": [1]}' + b" " * 82
    assert client.post(PREDICT, fits, content_length="100").status == 200
    assert client.metrics.requests[0] == ("half", "INVALID_ARGUMENT", "predict", "REST")
    assert browser(max_request_bytes=0).post(PREDICT, fits, content_length="100").status == 200


# --- headers


def test_cors(browser):
    expected = {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "POST, GET",
        "access-control-allow-headers": "Content-Type",
    }
    client = browser(enable_cors_support=True)
    for reply in (client.post(PREDICT, ROWS), client.get("/v1/models"), client.send("OPTIONS", "/v1/x")):
        assert expected.items() <= reply.headers.items()
    assert "access-control-allow-origin" not in client.get("/livez").headers
    assert "access-control-allow-origin" not in browser().post(PREDICT, ROWS).headers
    allowed = browser(enable_cors_support=True, api_token=TOKEN).get("/v1/models").headers
    assert allowed["access-control-allow-headers"] == "Content-Type, Authorization"


@pytest.mark.parametrize(
    ("origin", "status"), [("http://a", 200), ("https://a", 200), ("a", 400), (None, 400)]
)
def test_preflight(browser, origin, status):
    reply = browser(api_token=TOKEN).send("OPTIONS", PREDICT, headers={"origin": origin} if origin else {})
    assert (reply.status, reply.body) == (status, b"")


def test_token(browser):
    client = browser(api_token=TOKEN, prometheus_path="/metrics")
    for given_token in (
        {},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer \xff"},
    ):
        for path in ("/v1/models/half", "/v1/", "/models", "/metrics"):
            reply = client.send("GET", path, headers=given_token)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == "Bearer"
        assert client.send("POST", "/models/half/versions/4:retry", headers=given_token).status == 401
    assert client.core.calls == []
    assert client.get("/livez").status == client.get("/readyz").status == 200
    for word in ("Bearer", "bearer"):
        assert client.get("/v1/models/half", authorization=f"{word} {TOKEN}").status == 200
