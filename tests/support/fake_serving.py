"""A small server in TF Serving's form, over REST, that tests can make misbehave.

Its model names pictures by their first byte: b"c..." is a cat, anything else a dog; b"bad..." is refused.
"""

import base64
import contextlib
import http.server
import json
import threading

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def tensor(dtype, *shape):
    dims = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": "t:0"}


def signature(inputs, outputs, method="tensorflow/serving/predict"):
    return {"inputs": inputs, "outputs": outputs, "method_name": method, "defaults": {}}


IMAGE = {"image_bytes": tensor("DT_STRING", -1)}
SIGNATURES = {
    "serving_default": signature(
        IMAGE, {"classes": tensor("DT_STRING", -1, 2), "scores": tensor("DT_FLOAT", -1, 2)}
    ),
    "saliency": signature(
        IMAGE, {"heatmap": tensor("DT_FLOAT", -1, 2), "overlay_bytes": tensor("DT_STRING", -1)}
    ),
    "probabilities": signature(IMAGE, {"probabilities": tensor("DT_FLOAT", -1, 3)}),
    "pixels": signature({"pixels": tensor("DT_FLOAT", -1, 2, 2, 3)}, {"logits": tensor("DT_FLOAT", -1, 2)}),
}
MODELS = {"models": [{"name": "pets", "versions": []}]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle_one_request(self):
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        fake = self.server.fake
        with fake.lock:
            fake.requests.append((self.command, self.path, dict(self.headers), body, self.client_address))
            step = fake.script.pop(0) if fake.script else None
        if callable(step):
            step(self)
        else:
            status, answer, *headers = step or fake.answer(self.command, self.path, body)
            self.send(status, answer, dict(*headers))

    def send(self, status, answer, headers=()):
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class FakeServing:
    """Listens on a free port of the loopback.

    Attributes:
      requests: (method, path, headers, body, client's address), as they came.
      script: what answers the next requests, before the model does: (status, JSON or bytes[, headers]), or
        a function of the handler.
    """

    def __init__(self, tls=None):
        self.requests, self.script, self.lock = [], [], threading.Lock()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.fake = self
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None
        if tls is not None:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.port = self.http.server_port
        self.address = f"localhost:{self.port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def paths(self):
        return [f"{method} {path}" for method, path, *_ in self.requests]

    def answer(self, method, path, body):
        if (method, path) == ("GET", "/models"):
            return 200, MODELS
        if not path.startswith("/v1/models/pets"):
            name = path.removeprefix("/v1/models/").partition(":")[0]
            return 404, {"error": f"Servable not found for request: Latest({name})"}
        rest = path.removeprefix("/v1/models/pets").removeprefix("/versions/1")
        if rest == "":
            status = {"error_code": "OK", "error_message": ""}
            return 200, {"model_version_status": [{"version": "7", "state": "AVAILABLE", "status": status}]}
        if rest == "/metadata":
            found = {"signature_def": {"signature_def": SIGNATURES}}
            spec = {"name": "pets", "signature_name": "", "version": "7"}
            return 200, {"model_spec": spec, "metadata": found}
        if method == "GET":
            return 404, {"error": "nothing here"}
        try:
            said = json.loads(body)
        except ValueError:
            return 500, {"error": "no JSON"}
        if rest == ":classify":
            return 200, {"results": [[["yes", 0.75], ["no", 0.25]] for _ in said["examples"]]}
        if rest == ":regress":
            return 200, {"results": [one["x"] * 2 for one in said["examples"]]}
        return self.predict(said)

    def predict(self, said):
        name = said.get("signature_name", "serving_default")
        if not {"instances", "inputs"} & set(said):
            return 200, {"predictions": []}
        if name not in SIGNATURES:
            return 400, {"error": f'Serving signature name: "{name}" not found in signature def'}
        rows = said["instances"] if "instances" in said else said["inputs"].get("image_bytes", [0])
        if name == "pixels" or not all(isinstance(row, dict) and set(row) == {"b64"} for row in rows):
            return 400, {"error": "JSON Value: 1 Type: Number is not of expected type: string"}
        pictures = [base64.b64decode(row["b64"]) for row in rows]
        if any(picture.startswith(b"bad") for picture in pictures):
            return 400, {"error": "Unknown image file format. One of JPEG, PNG, GIF, BMP required."}
        answers = [self.one(name, picture) for picture in pictures]
        if "instances" in said:
            return 200, {"predictions": answers}
        if not isinstance(answers[0], dict):
            return 200, {"outputs": answers}
        return 200, {"outputs": {key: [one[key] for one in answers] for key in answers[0]}}

    def one(self, name, picture):
        if name == "saliency":
            return {"heatmap": [0.0, 1.0], "overlay_bytes": {"b64": base64.b64encode(PNG).decode()}}
        if name == "probabilities":
            return [0.125, 0.25, 0.625]
        classes = ["cat", "dog"] if picture.startswith(b"c") else ["dog", "cat"]
        return {"classes": classes, "scores": [0.75, 0.25]}


@contextlib.contextmanager
def fake_serving(tls=None):
    server = FakeServing(tls)
    try:
        yield server
    finally:
        server.close()
