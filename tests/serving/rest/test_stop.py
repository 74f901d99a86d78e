"""The REST port while the server stops: nothing that was begun is dropped."""

import concurrent.futures
import http.client
import threading
import time

import pytest

from tests.support.rest_running import HOST, PATIENCE, predict, received, servers


@pytest.fixture
def run():
    with servers() as start:
        yield start


def test_stopping_answers_what_was_begun(run):
    running = run()
    idle = running.connect()
    half_sent = running.connect()
    half_sent.sendall(predict(1)[:30])
    with concurrent.futures.ThreadPoolExecutor(1) as pool, idle, half_sent:
        busy = pool.submit(running.post, 99)
        assert running.core.waiting.acquire(timeout=PATIENCE)
        stopped = running.server.begin_stop(PATIENCE)
        while True:  # until the port is closed
            try:
                running.connect().close()
            except ConnectionError:
                break
        half_sent.sendall(predict(1)[30:])
        answer = received(half_sent)
        assert b"[2.5]" in answer
        assert b"connection: close" in answer
        assert received(idle) == b""
        assert not stopped.is_set()
        running.core.gate.set()
        assert busy.result(PATIENCE) == (200, "close", {"predictions": [51.5]})
        assert stopped.wait(PATIENCE)


def test_a_request_that_outlasts_the_grace_is_503(run):
    running = run()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        busy = pool.submit(running.post, 99)
        assert running.core.waiting.acquire(timeout=PATIENCE)
        began = time.monotonic()
        running.server.stop(0.3)
        assert time.monotonic() - began < PATIENCE / 2  # the request would wait so long twice
        assert busy.result(PATIENCE) == (503, "close", {"error": "The server is stopping"})
        running.core.gate.set()


def test_stopping_under_load_drops_nothing_that_was_sent(run):
    running = run()
    failures, answers, stop = [], [], threading.Event()

    def ask():
        connection = http.client.HTTPConnection(HOST, running.port, timeout=PATIENCE)
        while not stop.is_set():
            try:
                status, closing, _ = running.post(1, connection)
            except ConnectionRefusedError:
                return  # a new connection; the load balancer sends it elsewhere
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
                return
            answers.append(status)
            if closing == "close":
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    running.server.stop(PATIENCE)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []
    assert set(answers) == {200}
