"""Bodies that are packed, and what packed bodies must not do."""

import gzip
import json
import os
import time
import tracemalloc

import pytest

from serving.errors import ServingError
from serving.rest import body as rest_body
from serving.rest.body import BodyTooLarge, gunzip

PREDICT = "/v1/models/half:predict"
ROWS = {"instances": [1, 2, 5]}


def test_gzip(browser):
    client = browser()
    packed = gzip.compress(json.dumps(ROWS).encode())
    for encoding in ("gzip", "GZIP", "x-gzip, identity"):
        assert client.post(PREDICT, packed, content_encoding=encoding).json == {
            "predictions": [2.5, 3.0, 4.5]
        }
    half = len(json.dumps(ROWS)) // 2
    members = gzip.compress(json.dumps(ROWS).encode()[:half]) + gzip.compress(
        json.dumps(ROWS).encode()[half:]
    )
    assert client.post(PREDICT, members, content_encoding="gzip").status == 200
    assert client.post(PREDICT, ROWS, content_encoding="br").status == 200  # looked at for gzip alone
    for broken in (
        packed[:-9],
        b"no gzip",
        packed + b"rest",
        b"\x1f\x8b",
        packed[:30] + b"xxx" + packed[33:],
    ):
        reply = client.post(PREDICT, broken, content_encoding="gzip")
        assert reply.status == 400
        assert reply.error.startswith("Failed to decompress the gzip body: ")
    assert (
        client.post(PREDICT, b"", content_encoding="gzip").error == "JSON Parse error: The document is empty"
    )


def test_a_gzip_body_grows_no_further_than_its_limit(browser):
    client = browser(max_decompressed_bytes=1000)
    bomb = gzip.compress(gzip.compress(b"\0" * 2**24))
    assert client.post(PREDICT, gzip.compress(b"\0" * 10**7), content_encoding="gzip").status == 413
    assert client.post(PREDICT, bomb, content_encoding="gzip").status in (400, 413)
    assert client.post(PREDICT, gzip.compress(b" " * 1000), content_encoding="gzip").status == 400


@pytest.mark.parametrize("size", [0, 1, rest_body.PIECE, rest_body.PIECE + 1, 5 * rest_body.PIECE])
def test_unpacking(size):
    for data in (os.urandom(size), bytes(size)):
        packed = gzip.compress(data, 1)
        assert gunzip(packed, size) == data
        assert gunzip(packed + packed + bytes(100), 2 * size) == data + data
        if size:
            with pytest.raises(BodyTooLarge):
                gunzip(packed, size - 1)
        for end in range(1, len(packed), max(1, len(packed) // 10)):
            with pytest.raises(ServingError):
                gunzip(packed[:end], size)


@pytest.mark.parametrize("cut", [0, 20])
def test_a_refused_body_is_let_go_of_with_the_refusal(cut):
    packed = gzip.compress(bytes(32 * rest_body.PIECE))
    tracemalloc.start()
    try:
        with pytest.raises(ServingError) as refusal:
            gunzip(packed[: len(packed) - cut], (40 if cut else 31) * rest_body.PIECE)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refusal.value is not None  # alive, as it is while the answer goes out
    assert peak > 31 * rest_body.PIECE
    assert held < 4 * rest_body.PIECE


def test_many_members_cost_no_time():
    empty = gzip.compress(b"")
    assert gunzip(empty * 500, 0) == b""
    began = time.monotonic()
    with pytest.raises(ServingError, match="more than 1000 members"):
        gunzip(empty * 500_000, 100)
    assert time.monotonic() - began < 5  # none of them is unpacked beyond the limit: milliseconds
