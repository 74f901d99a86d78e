"""A batch that is refused runs in halves until the bad item stands alone."""

import pytest

from serving.batching.halving import run_in_halves
from serving.errors import Code, ServingError, invalid


class Runs(list):
    """Every run, in order, and what became of each item."""

    def __init__(self, bad=(), error=None):
        super().__init__()
        self.bad = set(bad)
        self.error = error or invalid("bad item")
        self.answered, self.refused = [], []

    def __call__(self, items):
        self.append(tuple(items))
        if self.bad & set(items):
            raise self.error
        self.answered += items

    def refuse(self, item, error):
        self.refused.append((item, error.message))


def test_a_good_batch_runs_once():
    runs = Runs()
    run_in_halves("abc", runs, runs.refuse)
    assert runs == [("a", "b", "c")]
    assert runs.answered == ["a", "b", "c"]


def test_an_empty_batch_does_not_run():
    runs = Runs()
    run_in_halves("", runs, runs.refuse)
    assert runs == []


@pytest.mark.parametrize("bad", range(8))
def test_one_bad_item_costs_two_runs_for_each_halving(bad):
    runs = Runs({bad})
    run_in_halves(range(8), runs, runs.refuse)
    assert len(runs) == 2 * 3 + 1
    assert runs.answered == [item for item in range(8) if item != bad]
    assert runs.refused == [(bad, "bad item")]


def test_bad_items_alone():
    runs = Runs(range(5))
    run_in_halves(range(5), runs, runs.refuse)
    assert len(runs) == 2 * 5 - 1
    assert [item for item, _ in runs.refused] == [0, 1, 2, 3, 4]


def test_items_that_need_no_run_any_more_are_left_out():
    runs = Runs({0, 3})
    run_in_halves(range(4), runs, runs.refuse, lambda item: len(runs) < 1 or item not in (1, 2))
    assert runs == [(0, 1, 2, 3), (0,), (3,)]
    assert [item for item, _ in runs.refused] == [0, 3]


def test_other_errors_are_no_item_s_fault():
    runs = Runs({1}, ServingError(Code.UNAVAILABLE, "full"))
    with pytest.raises(ServingError, match="full"):
        run_in_halves(range(4), runs, runs.refuse)
    assert runs == [(0, 1, 2, 3)]
