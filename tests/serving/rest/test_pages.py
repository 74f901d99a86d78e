"""What the REST port has beside TF Serving's URLs: probes, models, retry, demo page, access log."""

import json

from serving.specs import State

PREDICT = "/v1/models/half:predict"
TOKEN = "open sesame"


def test_prometheus(browser):
    client = browser(prometheus_path="/monitoring/prometheus/metrics")
    reply = client.get("/monitoring/prometheus/metrics")
    assert reply.body == b"# TYPE :tensorflow:serving:request_count counter\n"
    assert reply.headers["content-type"] == "text/plain"
    assert client.metrics.requests == []
    assert browser().get("/monitoring/prometheus/metrics").status == 404


def test_probes(browser):
    client = browser()
    assert (client.get("/livez").status, client.get("/livez").json) == (200, {"live": True})
    assert (client.get("/readyz").status, client.get("/readyz").json) == (
        200,
        {"ready": True, "not_available": {}},
    )
    client.core.state = State.LOADING
    reply = client.get("/readyz")
    assert (reply.status, reply.json) == (503, {"ready": False, "not_available": {"half": ["3: LOADING"]}})
    assert client.get("/livez").status == 200


def test_list_of_models(browser):
    (entry,) = browser().get("/models").json["models"]
    assert entry["name"] == "half"
    assert entry["version_labels"] == {"stable": "3"}
    assert [status["state"] for status in entry["model_version_status"]] == ["AVAILABLE"]


def test_retry(browser):
    client = browser()
    assert client.post("/models/half/versions/4:retry", b"").json == {}
    reply = client.post("/models/half/versions/3:retry", b"")
    assert (reply.status, reply.error) == (400, "Version 3 of model half has not failed")
    assert client.get("/models/half/versions/4:retry").status == 404


def test_demo_page(browser, tmp_path):
    folder = tmp_path / "demo"
    (folder / "parts").mkdir(parents=True)
    files = {"index.html": "<p>", "page.js": "1", "parts/look.css": "p {}", ".hidden": "x", "a.py": "x"}
    for name, text in files.items():
        (folder / name).write_text(text)
    (tmp_path / "secret.txt").write_text("x")
    client = browser(demo_folder=folder, api_token=TOKEN)
    assert client.get("/").body == client.get("/index.html").body == b"<p>"
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/?model=half").status == 200
    assert client.get("/page.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/parts/look.css").headers["content-type"] == "text/css; charset=utf-8"
    style = client.get("/parts/look.css").headers
    assert style["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in style["content-security-policy"]
    assert "frame-ancestors 'none'" in style["content-security-policy"]
    for path in (
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "//index.html",
        "/parts",
        "/.hidden",
        "/a.py",
        "/parts/..",
    ):
        assert client.get(path).status == 404
    assert client.post("/", b"").status == 404
    assert browser().get("/").status == 404
    assert browser(demo_folder=tmp_path / "none").get("/").status == 404


def test_access_log(browser, tmp_path):
    path = tmp_path / "access.log"
    client = browser(access_log=str(path))
    client.post(PREDICT, b'{"instances": [1]}')
    client.get("/v1/models?\xff")
    client.send("POST", PREDICT, pieces=[None])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 400, 0]
    first = lines[0]
    assert first["time"].endswith("+00:00")
    assert 0 <= first["seconds"] < 10
    assert {key: first[key] for key in ("method", "path", "bytes_in", "bytes_out", "model", "client")} == {
        "method": "POST",
        "path": PREDICT,
        "bytes_in": 18,
        "bytes_out": 28,
        "model": "half",
        "client": "10.0.0.1",
    }


def test_access_log_on_stdout(browser, capsys):
    browser(access_log="-").get("/livez")
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["path"], json.loads(line)["model"]) == ("/livez", "")


def test_a_log_that_cannot_be_written_costs_no_request(browser, caplog):
    client = browser(access_log="/dev/full")
    assert [client.get("/livez").status for _ in range(3)] == [200] * 3
    assert caplog.text.count("No space left") == 1
