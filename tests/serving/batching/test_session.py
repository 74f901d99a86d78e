"""Requests of many clients in one run: what each gets back, and what happens when something is wrong."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batching.parameters import BatchingParameters
from serving.errors import Code, ServingError, invalid
from tests.support.batch_runners import PATIENCE, Recorder, batching, strings, until


def answers(futures):
    return [future.result(PATIENCE)[0].tolist() for future in futures]


def refusal(future):
    with pytest.raises(ServingError) as caught:
        future.result(PATIENCE)
    return caught.value.code, caught.value.message


def test_a_single_request():
    with batching() as bench:
        doubled, plain, again = bench.session.run(
            {"x:0": np.array([1, 2])}, ["double:0", "x:0", "double:0"], None
        )
        assert (doubled.tolist(), plain.tolist(), again.tolist()) == ([2, 4], [1, 2], [2, 4])
        assert bench.recorder.fetches == [["double:0", "x:0"]]  # one run, each tensor once


def test_waiting_requests_share_a_run_and_get_their_own_rows():
    with batching() as bench:
        with bench.busy():
            futures = bench.queue([1, 2], [3], [4, 5, 6])
        assert answers(futures) == [[2, 4], [6], [8, 10, 12]]
        assert bench.recorder.batches == [[1, 2, 3, 4, 5, 6]]


def test_strings_share_a_run():
    with batching() as bench:
        with bench.busy():
            futures = bench.queue(strings(b"a", b"b\0"), strings(b""))
        assert answers(futures) == [[b"aa", b"b\0b\0"], [b""]]
        assert bench.recorder.batches == [[b"a", b"b\0", b""]]


def test_the_order_of_outputs_does_not_part_requests():
    with batching() as bench:
        with bench.busy():
            one = bench.queue([1], fetches=("x:0", "double:0"))
            two = bench.queue([2], fetches=("double:0", "x:0"))
        assert [array.tolist() for array in one[0].result(PATIENCE)] == [[1], [2]]
        assert [array.tolist() for array in two[0].result(PATIENCE)] == [[4], [2]]
        assert bench.recorder.batches == [[1, 2]]


def test_other_outputs_or_dtypes_are_other_batches():
    with batching() as bench:
        with bench.busy():
            futures = bench.queue(np.array([1.5])) + bench.queue(np.array([2.5]), fetches=("x:0",))
            futures += bench.queue(np.array([3], np.int32))
        assert answers(futures) == [[3.0], [2.5], [6]]
        assert bench.recorder.batches == [[1.5], [2.5], [3]]


def test_padding_repeats_the_first_row_of_the_last_request():
    with batching(max_batch_size=8, allowed_batch_sizes=(2, 8)) as bench:
        with bench.busy():
            futures = bench.queue([1, 2], [3, 4])
        assert answers(futures) == [[2, 4], [6, 8]]
        assert bench.recorder.batches == [[1, 2, 3, 4, 3, 3, 3, 3]]


def test_variable_lengths_are_padded_when_asked():
    with batching(pad_variable_length_inputs=True) as bench:
        with bench.busy():
            futures = bench.queue([[1, 2]], [[3]])
        # As in TF Serving, outputs come back as long as the longest.
        assert answers(futures) == [[[2, 4]], [[6, 6]]]


def test_differing_shapes_fail_together():
    with batching() as bench:
        with bench.busy():
            futures = bench.queue([[1, 2]], [[3]])
        for future in futures:
            code, message = refusal(future)
            assert code == Code.FAILED_PRECONDITION
            assert message.startswith("Tensors with name 'x:0' from different tasks have different shapes")
        assert bench.send([[1, 2]]).result(PATIENCE)[0].tolist() == [[2, 4]]


@pytest.mark.parametrize("rows", [np.float32(3), {}])
def test_what_cannot_be_batched_is_told_at_once(rows):
    with batching() as bench:
        feeds = {"x:0": rows} if isinstance(rows, np.float32) else rows
        with pytest.raises(ServingError, match=r"^Batching Run\(\)") as caught:
            bench.session.run(feeds, ["x:0"])
        assert caught.value.code == Code.INVALID_ARGUMENT
        assert bench.recorder.batches == []


def test_no_rows_at_all_go_straight_to_the_session():
    with batching(batch_timeout_micros=10**9) as bench:
        assert bench.session.run({"x:0": np.zeros([0, 3])}, ["x:0"])[0].shape == (0, 3)


def test_outputs_without_the_batchs_rows():
    with batching() as bench:
        bench.recorder.output = lambda name, x: x.sum()
        assert refusal(bench.send([1, 2])) == (
            Code.FAILED_PRECONDITION,
            "Batched output tensor has 0 dimensions",
        )
        bench.recorder.output = lambda name, x: x[:1]
        assert refusal(bench.send([1, 2]))[1].startswith("Batched output tensor's 0th dimension does not")


def test_a_large_request_is_split_and_put_together_again():
    splitting = {"enable_large_batch_splitting": True, "max_execution_batch_size": 4}
    with batching(max_batch_size=12, **splitting) as bench:
        with bench.busy():
            futures = bench.queue([1], list(range(10, 20)), [2])
        assert answers(futures) == [[2], [2 * x for x in range(10, 20)], [4]]
        assert bench.recorder.batches == [[1, 10, 11, 12], [13, 14, 15, 16], [17, 18, 19, 2]]


def test_a_failing_part_fails_a_split_request_alone():
    splitting = {"enable_large_batch_splitting": True, "max_execution_batch_size": 4}
    with batching(max_batch_size=12, **splitting) as bench:
        bench.recorder.fault = lambda rows: 15 in rows and _refuse(Code.INTERNAL, "fifteen")
        with bench.busy():
            futures = bench.queue([1], list(range(10, 20)), [2])
        assert answers(futures[:1]) == [[2]]
        assert refusal(futures[1]) == (Code.INTERNAL, "fifteen")
        # Nobody waits for the rest of the split request any more: it is left out.
        assert answers(futures[2:]) == [[4]]
        assert bench.recorder.batches == [[1, 10, 11, 12], [13, 14, 15, 16], [2]]


def _refuse(code, message):
    raise ServingError(code, message)


def test_an_error_of_the_graph_is_that_of_all_members():
    with batching() as bench:
        with bench.busy():
            futures = bench.queue([1], [2])
            bench.recorder.fault = lambda rows: 0.0 in rows or _refuse(Code.RESOURCE_EXHAUSTED, "OOM")
        assert [refusal(future) for future in futures] == [(Code.RESOURCE_EXHAUSTED, "OOM")] * 2
        assert len(bench.recorder.batches) == 1


def test_a_bad_request_does_not_fail_its_neighbours():
    def fault(rows):
        if 5 in rows:
            raise invalid("Unknown image file format.")

    with batching() as bench:
        with bench.busy():
            futures = bench.queue(*([value] for value in range(8)))
            bench.recorder.fault = fault
        assert refusal(futures.pop(5)) == (Code.INVALID_ARGUMENT, "Unknown image file format.")
        assert answers(futures) == [[0], [2], [4], [6], [8], [12], [14]]
        # Halves until the bad one stands alone.
        assert bench.recorder.batches == [
            [0, 1, 2, 3, 4, 5, 6, 7],
            [0, 1, 2, 3],
            [4, 5, 6, 7],
            [4, 5],
            [4],
            [5],
            [6, 7],
        ]


def test_bad_requests_alone_are_bounded_work():
    def fault(rows):
        if rows != [0.0]:
            raise invalid(f"bad {rows[0]}")

    with batching() as bench:
        bench.recorder.fault = fault
        with bench.busy():
            futures = bench.queue(*([value] for value in range(1, 9)))
        assert [refusal(future)[1] for future in futures] == [f"bad {value}" for value in range(1, 9)]
        assert len(bench.recorder.batches) == 15


def test_a_mistake_of_ours_is_an_answer_too():
    def fault(rows):
        raise KeyError("y")

    with batching() as bench:
        bench.recorder.fault = fault
        assert refusal(bench.send([1])) == (Code.INTERNAL, "KeyError: 'y'")
        bench.recorder.fault = None
        assert answers([bench.send([1])]) == [[2]]  # the thread is still there


def test_the_batch_runs_until_the_latest_deadline():
    soon, late = time.monotonic() + 50, time.monotonic() + 100
    with batching(max_batch_size=2) as bench:
        with bench.busy():
            futures = bench.queue([1], deadline=soon) + bench.queue([2], deadline=late)
            futures += bench.queue([3], deadline=soon) + bench.queue([4])
        assert answers(futures) == [[2], [4], [6], [8]]
        assert bench.recorder.deadlines == [late, None]


def test_what_is_counted():
    with batching(max_batch_size=4, allowed_batch_sizes=(4,)) as bench:
        with bench.busy():
            futures = bench.queue([1], [2, 3])
        answers(futures)
        page = bench.metrics.render()
        session = ":tensorflow:serving:batching_session:"
        assert f"{session}wrapped_run_count{{}} 2\n" in page
        assert f"{session}input_batch_size_sum{{}} 4\n" in page
        assert f"{session}processed_batch_size_sum{{}} 8\n" in page
        assert f'{session}padding_size_sum{{execution_batch_size="4"}} 4\n' in page
        assert f'{session}queuing_latency_count{{thread_pool_name=""}} 3\n' in page
        assert "alexnet_tf_serving_queue_length{} 0\n" in page


def test_a_session_with_parameters_of_its_own():
    with batching(max_batch_size=2) as bench:
        session = bench.another_session(Recorder(), BatchingParameters(max_batch_size=5))
        assert session.run({"x:0": np.arange(5)}, ["x:0"])[0].tolist() == [0, 1, 2, 3, 4]
        with pytest.raises(ServingError, match="maximum input batch size 2"):
            bench.session.run({"x:0": np.arange(5)}, ["x:0"])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=40),
    parameters=st.fixed_dictionaries(
        {
            "num_batch_threads": st.integers(1, 4),
            "batch_timeout_micros": st.sampled_from([0, 300, 2000]),
            "max_enqueued_batches": st.just(1000),
        }
    ),
    shape=st.sampled_from(
        [
            {"max_batch_size": 7},
            {"max_batch_size": 16, "allowed_batch_sizes": (3, 8, 16)},
            {"max_batch_size": 9, "enable_large_batch_splitting": True, "max_execution_batch_size": 2},
        ]
    ),
    bad=st.sets(st.integers(0, 39), max_size=3),
)
def test_each_caller_gets_exactly_its_own_rows(sizes, parameters, shape, bad):
    """For any mix of concurrent requests, some of them bad."""

    def fault(rows):
        if any(row < 0 for row in rows):
            raise invalid("bad row")

    requests = [
        [-1] if number in bad else list(range(100 * number, 100 * number + rows))
        for number, rows in enumerate(sizes)
    ]
    with batching(**parameters, **shape) as bench:
        bench.recorder.fault = fault
        start = threading.Barrier(len(requests) + 1)
        found = [None] * len(requests)

        def client(number):
            start.wait(PATIENCE)
            try:
                outputs = bench.session.run({"x:0": np.array(requests[number])}, ["double:0", "x:0"])
                found[number] = [array.tolist() for array in outputs]
            except ServingError as error:
                found[number] = error.message

        threads = [threading.Thread(target=client, args=(number,)) for number in range(len(requests))]
        for thread in threads:
            thread.start()
        start.wait(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
        assert found == [
            "bad row" if rows == [-1] else [[2 * row for row in rows], rows] for rows in requests
        ]
        assert max(map(len, bench.recorder.batches)) <= bench.parameters.padded(bench.parameters.batch_rows)
        until(lambda: bench.scheduler.queue_length() == 0)
