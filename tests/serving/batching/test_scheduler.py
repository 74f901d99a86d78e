"""One pool of threads for all queues: whose turn it is, deadlines, and the end."""

import threading
import time

import numpy as np
import pytest

from serving.batching.parameters import BatchingParameters
from serving.errors import Code, ServingError
from tests.support.batch_runners import PATIENCE, Recorder, batching, until

LONG = 10**9  # microseconds; longer than any test


def refusal(future):
    with pytest.raises(ServingError) as caught:
        future.result(PATIENCE)
    return caught.value.code, caught.value.message


def in_seconds(seconds):
    return time.monotonic() + seconds


def test_models_take_turns():
    order = []

    class Named(Recorder):
        def __init__(self, name):
            super().__init__()
            self.fault = lambda rows: order.append((name, *rows))

    with batching(max_batch_size=1) as bench:
        sessions = [bench.another_session(Named(name)) for name in "abc"]
        with bench.busy():
            futures = bench.queue([1], [2], [3], session=sessions[0])
            futures += bench.queue([1], session=sessions[1])
            futures += bench.queue([1], [2], session=sessions[2])
        for future in futures:
            future.result(PATIENCE)
    assert order == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("c", 2), ("a", 3)]


def test_batches_run_on_all_threads():
    with batching(max_batch_size=1, num_batch_threads=3, thread_pool_name="pool") as bench:
        names = {thread.name for thread in threading.enumerate()}
        assert {"pool_0", "pool_1", "pool_2"} <= names
        with bench.busy():  # three runs at a time
            futures = bench.queue([1])
        assert futures[0].result(PATIENCE)[0].tolist() == [2]


def test_no_timeout_means_at_once():
    with batching(max_batch_size=100, batch_timeout_micros=0) as bench:
        began = time.monotonic()
        bench.send([1]).result(PATIENCE)
        assert time.monotonic() - began < PATIENCE / 2


def test_a_request_waits_for_company_and_no_longer():
    with batching(max_batch_size=2, batch_timeout_micros=50_000) as bench:
        began = time.monotonic()
        bench.send([1]).result(PATIENCE)
        assert 0.05 <= time.monotonic() - began < PATIENCE / 2


def test_company_ends_the_wait():
    with batching(max_batch_size=2, batch_timeout_micros=LONG) as bench:
        (first,) = bench.queue([1])
        assert not first.done()
        second = bench.send([2])
        assert first.result(PATIENCE)[0].tolist() == [2]
        assert second.result(PATIENCE)[0].tolist() == [4]
        assert bench.recorder.batches == [[1, 2]]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_patient_queue_does_not_hold_up_an_impatient_one(threads):
    with batching(max_batch_size=2, batch_timeout_micros=LONG, num_batch_threads=threads) as bench:
        impatient = bench.another_session(Recorder(), BatchingParameters(batch_timeout_micros=20_000))
        (patient,) = bench.queue([1])
        for _ in range(3):
            began = time.monotonic()
            bench.send([1], session=impatient).result(PATIENCE)
            assert time.monotonic() - began < PATIENCE / 2
        assert not patient.done()
        bench.send([2])
        patient.result(PATIENCE)


def test_a_thread_that_leaves_with_a_batch_has_another_watch_the_rest():
    with batching(max_batch_size=9, batch_timeout_micros=300_000, num_batch_threads=2) as bench:
        slower = bench.another_session(Recorder(), BatchingParameters(batch_timeout_micros=900_000))
        bench.recorder.gate.clear()
        (stuck,) = bench.queue([1])
        (other,) = bench.queue([2], session=slower)
        assert other.result(PATIENCE)[0].tolist() == [4]
        assert not stuck.done()
        bench.recorder.gate.set()
        assert stuck.result(PATIENCE)[0].tolist() == [2]


def test_a_full_queue_refuses_at_once():
    with batching(max_batch_size=2, max_enqueued_batches=2) as bench:
        with bench.busy():
            futures = bench.queue([1, 2], [3, 4])
            assert refusal(bench.send([5])) == (
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently 2 batches "
                "enqueued and max_enqueued_batches is 2",
            )
            # The limit is each queue's own.
            futures += bench.queue([5], fetches=("x:0",))
        assert [future.result(PATIENCE)[0].tolist() for future in futures] == [[2, 4], [6, 8], [5]]


def test_a_deadline_that_passes_in_the_queue():
    with batching() as bench, bench.busy():
        began = time.monotonic()
        futures = bench.queue([1], [2], deadline=in_seconds(0.2))
        for future in futures:
            assert refusal(future) == (
                Code.RESOURCE_EXHAUSTED,
                "Run() timeout exceeded while waiting in batching queue",
            )
        assert 0.2 <= time.monotonic() - began < PATIENCE / 2


def test_a_deadline_that_passes_beside_a_request_with_more_time():
    with batching() as bench:
        with bench.busy():
            (short,) = bench.queue([1], deadline=in_seconds(1.0))
            (long,) = bench.queue([2])
            assert refusal(short) == (Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        assert long.result(PATIENCE)[0].tolist() == [4]
        assert bench.recorder.batches == [[2]]  # nobody waited for the other any more


def test_a_deadline_that_passes_while_the_batch_runs():
    with batching() as bench:
        bench.recorder.gate.clear()
        future = bench.send([1], deadline=in_seconds(1.0))
        until(lambda: len(bench.recorder.batches) == 1)
        assert refusal(future) == (Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        assert bench.recorder.batches == [[1]]
        bench.recorder.gate.set()
        assert bench.send([2]).result(PATIENCE)[0].tolist() == [4]


def test_a_deadline_that_has_passed_already():
    with batching() as bench:
        code, _ = refusal(bench.send([1], deadline=in_seconds(-1)))
        assert code in (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED)


def test_a_batch_of_expired_requests_is_not_run():
    with batching() as bench:
        with bench.busy():
            refusal(bench.queue([1], deadline=in_seconds(0.05))[0])
        until(lambda: bench.scheduler.queue_length() == 0)
        assert bench.recorder.batches == []


def test_queues_of_odd_requests_leave_nothing_behind():
    with batching() as bench:
        for number in range(200):
            bench.session.run({"x:0": np.array([1, 2])}, [f"odd{number}:0"])
        assert len(bench.scheduler._queues) == 0


def test_closing_a_session_runs_what_waits():
    with batching(max_batch_size=10, batch_timeout_micros=LONG) as bench:
        (future,) = bench.queue([1])
        bench.session.close()
        assert bench.recorder.closed
        assert future.result(PATIENCE)[0].tolist() == [2]
        assert refusal(bench.send([1])) == (Code.UNAVAILABLE, "The batch scheduler has been stopped")
        other = bench.another_session(Recorder(), BatchingParameters())
        assert bench.send([3], session=other).result(PATIENCE)[0].tolist() == [6]


def test_closing_a_session_waits_for_its_run_though_nobody_waits_for_the_answer():
    with batching() as bench:
        bench.recorder.gate.clear()
        future = bench.send([1], deadline=in_seconds(1.0))
        until(lambda: len(bench.recorder.batches) == 1)
        refusal(future)
        closing = threading.Thread(target=bench.session.close)
        closing.start()
        closing.join(0.1)
        assert closing.is_alive()
        assert not bench.recorder.closed
        bench.recorder.gate.set()
        closing.join(PATIENCE)
        assert bench.recorder.closed


def test_closing_the_scheduler_ends_all_waiting():
    with batching(max_batch_size=1) as bench:
        bench.recorder.gate.clear()
        running = bench.send([1])
        until(lambda: len(bench.recorder.batches) == 1)
        waiting = bench.queue([2], [3])
        closing = threading.Thread(target=bench.scheduler.close)
        closing.start()
        for future in waiting:
            assert refusal(future) == (Code.UNAVAILABLE, "The batch scheduler has been stopped")
        bench.recorder.gate.set()
        assert running.result(PATIENCE)[0].tolist() == [2]  # what runs is answered
        closing.join(PATIENCE)
        assert not any(thread.name.startswith("batch_threads") for thread in threading.enumerate())
        assert refusal(bench.send([4])) == (Code.UNAVAILABLE, "The batch scheduler has been stopped")
        bench.session.close()
        assert bench.recorder.closed


def test_the_page_shows_how_many_wait():
    with batching() as bench, bench.busy():
        bench.queue([1], [2])
        assert "alexnet_tf_serving_queue_length{} 2\n" in bench.metrics.render()
