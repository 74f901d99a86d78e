"""Workers compare their data before anything is built, and come to the same verdict, with the same status."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from alexnet_tf.distribute import agreement, losses
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.sources import open_source
from tests.support.small_clusters import clusters, together

DATA = {
    "classes": 2,
    "class names": ["cat", "dog"],
    "train pictures": 18,
    "names of the train pictures": "af",
}


def compared(*facts):
    """What the comparison ends with on each of the workers."""
    parts = clusters(len(facts))
    return parts[0].workers, together(parts, lambda index, others: others.compare("data", facts[index]))


def test_equal_data_may_be_compared_any_number_of_times():
    def work(index, others):
        for _ in range(3):
            others.compare("data", DATA)
            others.compare("more", {"of": [index * 0]})
        return "agreed"

    assert together(clusters(3), work) == ["agreed"] * 3
    assert together(clusters(1), work) == ["agreed"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"class names": ["zebra", "dog"]}, "class 0 is 'zebra', not 'cat'"),
        ({"train pictures": 17}, "17 train pictures, not 18"),
        ({"names of the train pictures": "05"}, "names of the train pictures differ"),
        (
            {"classes": 3, "class names": ["cat", "dog", "elk"], "train pictures": 17},
            "3 classes, not 2, 17 train pictures, not 18",
        ),
    ],
)
def test_what_differs_is_named_on_all_workers_alike(other, said):
    workers, ended = compared(DATA, DATA, DATA | other)
    assert [str(one) for one in ended] == [
        f"worker 2 ({workers[2]}) has other data than worker 0: {said}; give all workers the same data"
    ] * 3
    assert all(losses.is_mistake(one) for one in ended)


def test_many_differences_are_counted():
    with pytest.raises(agreement.Disagreement, match=r"1 a, not 0, 1 b, not 0, 1 c, not 0, and 1 more; give"):
        agreement.check("data", {0: dict.fromkeys("abcd", 0), 1: dict.fromkeys("abcd", 1)}, ("x:1", "y:1"))


@pytest.mark.parametrize("early", [False, True])
def test_data_that_cannot_be_opened_end_all_workers_for_good(early):
    failed = threading.Event()

    def work(index, others):
        if index == 1:
            time.sleep(0.0 if early else 0.5)
            failed.set()
            raise DataError("/d: no such folder")
        if early:
            failed.wait()
            time.sleep(0.3)  # its farewell has come before anybody asks for its data
        others.compare("data", DATA)

    zero, one, two = together(parts := clusters(3), work)
    assert type(one) is DataError
    for other in (zero, two):
        assert str(other) == f"worker 1 ({parts[1].address}) has stopped: /d: no such folder"
        assert losses.is_mistake(other)


def test_a_worker_that_dies_meanwhile_may_be_started_again():
    def work(index, others):
        if index == 1:
            raise ZeroDivisionError
        others.compare("data", DATA)

    zero, _ = together(clusters(2), work)
    assert isinstance(zero, losses.PeerLost)
    assert zero.exit_status == losses.EXIT_PEER_LOST == 75


def test_other_settings_end_all_workers_for_good():
    ended = together(clusters(3), settings=[{"seed": 0}, {"seed": 1}, {"seed": 0}])
    assert all(losses.is_mistake(one) for one in ended), ended


def test_the_facts_of_a_data_set(tmp_path):
    def facts(folder):
        return agreement.of_data(open_source(DataConfig(f"folder:{folder}")))

    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for number in range(12):
            (tmp_path / "d" / name / f"{number}.jpg").touch()  # listed, not read
    first = facts(tmp_path / "d")
    (tmp_path / "d").rename(tmp_path / "elsewhere")
    moved = facts(tmp_path / "elsewhere")
    assert first == moved
    assert first["class names"] == ["cat", "dog"]
    assert first["train pictures"] + first["val pictures"] == 24
    (tmp_path / "elsewhere" / "cat" / "0.jpg").rename(tmp_path / "elsewhere" / "cat" / "00.jpg")
    other = facts(tmp_path / "elsewhere")
    assert [name for name in first if first[name] != other[name]] != []


def test_very_many_classes_travel_as_a_digest(monkeypatch):
    monkeypatch.setattr(agreement, "MOST_BYTES", 10)

    class Source:
        class_names = ("a" * 10, "b")
        count = staticmethod({"train": 2, "val": 1}.get)
        fingerprints = staticmethod(lambda split: np.zeros(1, np.uint64))

    assert len(agreement.of_data(Source())["class names"]) == agreement.DIGITS


def test_the_code_is_told_by_its_files(monkeypatch, tmp_path):
    first = agreement.of_code()
    assert {"alexnet_tf", "python", "tensorflow", "keras", "numpy"} == set(first)
    (tmp_path / "alexnet_tf.py").write_text("")
    monkeypatch.setattr(agreement.pipelines, "__path__", [str(tmp_path)])
    changed = agreement.of_code()
    assert [name for name in first if first[name] != changed[name]] == ["alexnet_tf"]
