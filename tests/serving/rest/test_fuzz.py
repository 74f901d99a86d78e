"""Any bytes, documents and requests: errors are the client's to read, never the server's to fall over."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.codec import examples as json_examples
from serving.codec import predict as json_codec
from serving.errors import Code
from tests.support.rest_fakes import Browser, check_equal, decode, infos
from tests.support.serving_errors import code_of

PREDICT = "/v1/models/half:predict"
FLOAT, DOUBLE, INT32, INT64, BOOL, UINT64 = 1, 2, 3, 9, 10, 23

KINDS = {
    FLOAT: np.float32,
    DOUBLE: np.float64,
    INT32: np.int32,
    INT64: np.int64,
    UINT64: np.uint64,
    BOOL: np.bool_,
}
shapes = arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_round_trips(dtype, data):
    array = data.draw(arrays.arrays(KINDS[dtype], shapes))
    for is_row, key, sent in ((True, "predictions", "instances"), (False, "outputs", "inputs")):
        body = json_codec.encode({"x": array}, is_row).replace(f'"{key}"'.encode(), f'"{sent}"'.encode())
        check_equal(decode(body, infos(x=dtype))["x"], array, KINDS[dtype])


leaf = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just({"b64": "aGk="})
)
nested = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
)
documents = st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name", "x"]), nested)


@settings(max_examples=500)
@given(documents, st.sets(st.sampled_from("ab"), min_size=1), st.integers(1, 30))
def test_any_document_gives_tensors_or_a_serving_error(document, names, dtype):
    found = {}
    code = code_of(lambda: found.update(decode(document, infos(**dict.fromkeys(names, dtype)))))
    assert code in (Code.OK, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
    if code is Code.OK:
        assert set(found) == names
        assert all(isinstance(array, np.ndarray) for array in found.values())


item = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just({"b64": "aGk="})
)
feature = item | st.lists(item | st.lists(item, max_size=1), max_size=3)
examples = st.lists(st.dictionaries(st.text(max_size=3), feature, max_size=3) | item, max_size=3) | item


@given(st.fixed_dictionaries({"examples": examples}, optional={"context": feature, "signature_name": item}))
def test_any_document_gives_examples_or_a_serving_error(document):
    found = []
    request = json_codec.Request(document, "")
    code = code_of(lambda: found.extend(json_examples.decode(request)))
    assert code in (Code.OK, Code.INVALID_ARGUMENT)
    assert len(found) == (len(document["examples"]) if code is Code.OK else 0)


@pytest.fixture(scope="module")
def fuzzed():
    client = Browser(enable_cors_support=True, prometheus_path="/metrics", max_request_bytes=2000)
    yield client
    client.close()


paths = st.text(alphabet="/v1models:half%2F?ernpdictag.\xff", max_size=40) | st.lists(
    st.sampled_from(
        [
            "/v1",
            "/models",
            "/half",
            "/versions",
            "/3",
            "/labels",
            "/metadata",
            ":predict",
            ":classify",
            "?",
            "%",
            "/",
        ]
    ),
    max_size=7,
).map("".join)
targets = paths.map(lambda path: "/" + path.removeprefix("/"))
bodies = st.binary(max_size=60) | st.sampled_from(
    [b'{"instances": [1]}', b'{"inputs": 1}', b'{"examples": [{"x": 1}]}', gzip.compress(b'{"inputs": 1}')]
)
header_names = st.sampled_from(
    ["content-encoding", "content-length", "origin", "authorization", "content-type"]
)
header_values = st.sampled_from(["gzip", "17", "99999", "-1", "http://a"]) | st.text(
    st.characters(max_codepoint=255), max_size=8
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["GET", "POST", "POST", "OPTIONS", "HEAD", "PUT", "NO"]),
    targets | st.just(PREDICT),
    st.dictionaries(header_names, header_values, max_size=3),
    st.lists(bodies | st.none(), max_size=3),
)
def test_no_request_is_answered_500(fuzzed, method, target, headers, pieces):
    before = len(fuzzed.metrics.requests)
    reply = fuzzed.send(method, target, headers=headers, pieces=pieces)
    if reply is None:
        assert pieces == [] or None in pieces
        return
    assert reply.status < 500 or reply.status == 501
    assert len(reply.body) == int(reply.headers["content-length"])
    assert len(fuzzed.metrics.requests) - before == target.lower().startswith("/v1/")
    if reply.headers.get("content-type") == "application/json":
        json.loads(reply.body)
