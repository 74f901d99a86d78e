"""Which tasks share a batch, when it is ready, and when a queue is full."""

import math

import numpy as np
import pytest

from serving.batching.parameters import BatchingParameters
from serving.batching.queue import BatchQueue, Task
from serving.errors import Code, ServingError


def task(rows):
    return Task({"x:0": np.zeros(rows)}, ["y:0"], rows, None)


def queue_of(*sizes, **fields):
    queue = BatchQueue(BatchingParameters(**fields))
    for rows in sizes:
        queue.add(task(rows), now=0)
    return queue


def contents(queue):
    """The (begin, end) of each slice of each batch, in the order in which they are taken."""
    batches = []
    while queue:
        batches.append([(piece.begin, piece.end) for piece in queue.take().slices])
    return batches


def refusal(queue, rows):
    with pytest.raises(ServingError) as caught:
        queue.add(task(rows), now=0)
    return caught.value.code, caught.value.message


def test_a_task_that_does_not_fit_closes_the_batch():
    queue = queue_of(3, 2, 2, 1, max_batch_size=4)
    assert len(queue) == 4
    assert contents(queue) == [[(0, 3)], [(0, 2), (0, 2)], [(0, 1)]]
    assert len(queue) == 0


def test_the_timeout_counts_from_the_oldest_task():
    queue = BatchQueue(BatchingParameters(max_batch_size=4, batch_timeout_micros=500_000))
    assert queue.ready_at() == math.inf
    queue.add(task(1), now=10)
    queue.add(task(1), now=10.4)
    assert queue.ready_at() == 10.5
    queue.take()
    queue.add(task(1), now=20)
    assert queue.ready_at() == 20.5


def test_a_full_batch_does_not_wait():
    queue = queue_of(2, 2, max_batch_size=4, batch_timeout_micros=10**9)
    assert queue.ready_at() == -math.inf
    # Nor does one that the next task did not fit into.
    queue = queue_of(3, 2, max_batch_size=4, batch_timeout_micros=10**9)
    assert queue.ready_at() == -math.inf
    queue.take()
    assert queue.ready_at() == 1000
    queue.flushed = True
    assert queue.ready_at() == -math.inf


def test_threads_are_told_of_what_changes_the_plan():
    queue = BatchQueue(BatchingParameters(max_batch_size=4))
    assert queue.add(task(1), now=0)  # a batch begins
    assert not queue.add(task(1), now=0)
    assert queue.add(task(2), now=0)  # it is full
    assert queue.add(task(3), now=0)  # the next begins
    assert queue.add(task(2), now=0)  # that one is closed


def test_a_task_that_is_too_large():
    assert refusal(queue_of(max_batch_size=4), 5) == (
        Code.INVALID_ARGUMENT,
        "Task size 5 is larger than maximum input batch size 4",
    )


def test_a_full_queue():
    queue = queue_of(4, 3, max_batch_size=4, max_enqueued_batches=2)
    assert refusal(queue, 2) == (
        Code.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued "
        "and max_enqueued_batches is 2",
    )
    queue.add(task(1), now=0)  # fits into what is there
    assert refusal(queue, 1)[0] == Code.UNAVAILABLE
    queue.take()
    queue.add(task(1), now=0)


def test_large_tasks_are_split_where_a_batch_is_full():
    splitting = {"enable_large_batch_splitting": True, "max_execution_batch_size": 4, "max_batch_size": 10}
    assert contents(queue_of(10, **splitting)) == [[(0, 4)], [(4, 8)], [(8, 10)]]
    assert contents(queue_of(1, 6, 1, **splitting)) == [[(0, 1), (0, 3)], [(3, 6), (0, 1)]]
    assert contents(queue_of(4, 4, **splitting)) == [[(0, 4)], [(0, 4)]]
    assert refusal(queue_of(**splitting), 11)[1] == "Task size 11 is larger than maximum input batch size 10"


def test_a_queue_too_full_for_a_large_task():
    queue = queue_of(
        4,
        3,
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
        max_batch_size=10,
        max_enqueued_batches=3,
    )
    assert refusal(queue, 6) == (
        Code.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; task size is 6 but scheduling "
        "capacity is only 5 (num_enqueued_batches=2, max_enqueued_batches=3, open_batch_size=3, "
        "max_execution_batch_size=4)",
    )
    queue.add(task(5), now=0)


def test_outputs_of_a_split_task_are_put_in_order():
    split = task(5)
    split.deliver(2, 5, [np.array([3, 4, 5])])
    assert not split.finished
    split.deliver(0, 2, [np.array([1, 2])])
    assert split.finished
    assert split.wait()
    assert split.outputs()[0].tolist() == [1, 2, 3, 4, 5]


def test_a_failed_part_ends_the_task():
    split = task(5)
    split.fail(ServingError(Code.INTERNAL, "broken"))
    split.deliver(0, 5, [np.zeros(5)])
    split.fail(ServingError(Code.UNKNOWN, "later"))
    with pytest.raises(ServingError, match="broken"):
        split.outputs()


def test_a_task_waits_until_its_deadline():
    late = Task({}, [], 1, deadline=0.0)
    assert late.expired(now=0.1)
    assert not late.wait()
