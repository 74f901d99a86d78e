"""The state machine: what loads, what unloads, in which order, and what requests see meanwhile."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import tensorflow as tf
from fake_servables import SECONDS, Events, FakeClock, FakeLoader, at_rest, serving_threads, states, wait_for

from serving import process_memory
from serving.errors import Code, ServingError
from serving.manager import Manager
from serving.specs import State, VersionStatus


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """A full collection takes as long as a hundred of these tests' steps, and there is nothing to collect."""
    monkeypatch.setattr(process_memory, "give_back", lambda: None)


@pytest.fixture
def loader():
    return FakeLoader()


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(loader, events, clock):
    """A function that makes a manager, stopped after the test with every thread gone."""
    made = []

    def manager(**settings):
        made.append(Manager(loader, on_event=events, clock=clock, **settings))
        return made[-1]

    yield manager
    for gate in loader.gates.values():
        gate.set()
    for each in made:
        each.stop(SECONDS)
    assert serving_threads() == []
    assert loader.open == []


def want(manager, *versions, name="m"):
    manager.set_wanted(name, {version: f"/base/{version}" for version in versions})


def rest(manager, name="m"):
    wait_for(manager, lambda: at_rest(manager, name))
    return states(manager, name)


def test_a_version_goes_through_its_states(make, events, loader):
    manager = make()
    want(manager, 1)
    assert rest(manager) == {1: "AVAILABLE"}
    want(manager)
    assert rest(manager) == {1: "END"}
    assert events == [(1, "START"), (1, "LOADING"), (1, "AVAILABLE"), (1, "UNLOADING"), (1, "END")]
    assert manager.statuses("m") == [VersionStatus(1, State.END, Code.OK, "")]
    assert loader.loads == [(1, "/base/1")]


def test_highest_first_one_at_a_time(make, loader):
    manager = make()
    want(manager, 1, 3, 2)
    assert rest(manager) == {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}
    assert [version for version, _ in loader.loads] == [3, 2, 1]
    assert loader.most == 1


def test_a_version_that_comes_later_overtakes(make, loader):
    gate, manager = loader.gate(2), make()
    want(manager, 1, 2)
    wait_for(manager, lambda: loader.loads == [(2, "/base/2")])
    want(manager, 1, 2, 9)
    gate.set()
    rest(manager)
    assert [version for version, _ in loader.loads] == [2, 9, 1]


def test_models_take_turns(make, loader):
    gate, manager = loader.gate(9), make()
    want(manager, 9, name="first")
    wait_for(manager, lambda: bool(loader.loads))
    want(manager, 3, 4, name="a")
    want(manager, 1, 2, name="b")
    gate.set()
    rest(manager, "a")
    rest(manager, "b")
    assert [version for version, _ in loader.loads] == [9, 4, 2, 3, 1]


def test_the_old_version_serves_until_the_new_one_can(make, loader, events):
    manager = make()
    want(manager, 1)
    rest(manager)
    gate = loader.gate(2)
    want(manager, 2)
    wait_for(manager, lambda: len(loader.loads) == 2)
    assert states(manager) == {2: "LOADING", 1: "AVAILABLE"}
    assert manager.has_available("m", 1)
    gate.set()
    assert rest(manager) == {2: "AVAILABLE", 1: "END"}
    assert events[3:] == [(2, "START"), (2, "LOADING"), (2, "AVAILABLE"), (1, "UNLOADING"), (1, "END")]


def test_a_failing_version_leaves_the_old_one(make, loader):
    manager = make(max_num_load_retries=0)
    want(manager, 1)
    rest(manager)
    loader.fail(2)
    want(manager, 2)
    assert rest(manager) == {2: "END", 1: "AVAILABLE"}
    assert manager.statuses("m")[0] == VersionStatus(2, State.END, Code.DATA_LOSS, "bad file")
    # Mended, but its folder stays: not tried again. Gone and back: tried again.
    loader.errors.clear()
    want(manager, 2)
    assert rest(manager) == {2: "END", 1: "AVAILABLE"}
    want(manager, 1)
    assert manager.statuses("m")[0] == VersionStatus(2, State.END, Code.DATA_LOSS, "bad file")
    want(manager, 2)
    assert rest(manager) == {2: "AVAILABLE", 1: "END"}


def test_of_several_unwanted_versions_the_highest_stays(make, loader):
    manager = make(max_num_load_retries=0)
    want(manager, 1, 2, 3)
    rest(manager)
    loader.fail(4)
    want(manager, 4)
    assert rest(manager) == {4: "END", 3: "AVAILABLE", 2: "END", 1: "END"}


def test_tries_and_their_intervals(make, loader, clock, events):
    manager = make(max_num_load_retries=2, load_retry_interval_seconds=60)
    loader.fail(1, "not yet")

    def tried(times):
        wait_for(manager, lambda: len(loader.loads) == times and not any(v.loading for v in versions()))

    def versions():
        return list(manager._models["m"].values())

    want(manager, 1)
    tried(1)
    for second, times in ((59.9, 1), (60.0, 2), (119.9, 2)):
        clock.now = second
        manager.wake()
        tried(times)
        assert manager.statuses("m") == [VersionStatus(1, State.LOADING, Code.OK, "")]
    clock.now = 120.0
    manager.wake()
    rest(manager)
    assert manager.statuses("m") == [VersionStatus(1, State.END, Code.DATA_LOSS, "not yet")]
    assert len(loader.loads) == 3
    assert events == [(1, "START"), (1, "LOADING"), (1, "END")]


def test_a_version_between_two_tries_holds_up_nobody(make, loader):
    manager = make(load_retry_interval_seconds=3600)
    loader.fail(2)
    want(manager, 1, 2)
    wait_for(manager, lambda: manager.has_available("m", 1))
    assert states(manager) == {2: "LOADING", 1: "AVAILABLE"}


def test_a_version_not_wanted_any_more_is_not_tried_again(make, loader, clock):
    manager = make(load_retry_interval_seconds=60)
    loader.fail(1, "gone")
    want(manager, 1)
    wait_for(manager, lambda: len(loader.loads) == 1 and not manager._models["m"][1].loading)
    want(manager)
    assert manager.statuses("m") == [VersionStatus(1, State.END, Code.DATA_LOSS, "gone")]
    clock.now = 1000
    manager.wake()
    want(manager)
    assert len(loader.loads) == 1


def test_a_version_not_wanted_any_more_while_it_loads(make, loader, events):
    gate, manager = loader.gate(1), make()
    want(manager, 1)
    wait_for(manager, lambda: bool(loader.loads))
    want(manager)
    assert states(manager) == {1: "LOADING"}
    gate.set()
    assert rest(manager) == {1: "END"}
    assert events.of(1) == ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


def test_a_version_that_never_got_its_turn(make, loader, events):
    gate, manager = loader.gate(2), make()
    want(manager, 1, 2)
    wait_for(manager, lambda: bool(loader.loads))
    want(manager, 2)
    gate.set()
    assert rest(manager) == {2: "AVAILABLE", 1: "END"}
    assert events.of(1) == ["START", "END"]


def test_unloading_waits_for_requests(make, loader):
    manager = make()
    want(manager, 1)
    rest(manager)
    held, again = manager.acquire("m"), manager.acquire("m", 1)
    want(manager, 2)
    wait_for(manager, lambda: states(manager) == {2: "AVAILABLE", 1: "UNLOADING"})
    assert manager.acquire("m", 1) is None
    newer = manager.acquire("m")
    assert newer.servable.predict() == 2
    manager.release(newer)
    manager.release(held)
    assert again.servable.predict() == 1
    assert states(manager)[1] == "UNLOADING"
    manager.release(again)
    assert rest(manager) == {2: "AVAILABLE", 1: "END"}
    assert again.servable is None


def test_wanted_again_while_unloading(make, loader, events):
    manager = make()
    want(manager, 1)
    rest(manager)
    held = manager.acquire("m")
    want(manager)
    want(manager, 1)
    assert states(manager) == {1: "UNLOADING"}
    manager.release(held)
    assert rest(manager) == {1: "AVAILABLE"}
    once = ["START", "LOADING", "AVAILABLE"]
    assert events.of(1) == [*once, "UNLOADING", "END", *once]


def test_latest_is_the_highest_available_one(make, loader):
    manager = make(max_num_load_retries=0)
    assert manager.acquire("m") is None
    loader.fail(10)
    want(manager, -1, 2, 9, 10)
    rest(manager)
    held = manager.acquire("m")
    assert held.servable.predict() == 9
    manager.release(held)
    assert manager.acquire("m", 10) is None
    assert manager.acquire("other") is None


def test_threads_load_side_by_side(make, loader):
    gates = [loader.gate(version) for version in (1, 2, 3)]
    manager = make(num_load_threads=2)
    want(manager, 1, 2, 3)
    wait_for(manager, lambda: len(loader.loads) == 2)
    manager.limit_load_threads(3)
    want(manager, 1, 2, 3)
    wait_for(manager, lambda: loader.most == 3)
    for gate in gates:
        gate.set()
    assert set(rest(manager).values()) == {"AVAILABLE"}
    manager.limit_load_threads(1)
    wait_for(manager, lambda: serving_threads() == ["serving-load"])


def test_retry(make, loader):
    manager = make(max_num_load_retries=0)
    loader.fail(1, "bad disk")
    want(manager, 1)
    assert rest(manager) == {1: "END"}
    manager.retry("m", 1)
    assert rest(manager) == {1: "END"}
    assert len(loader.loads) == 2
    loader.errors.clear()
    manager.retry("m", 1)
    assert rest(manager) == {1: "AVAILABLE"}


def test_retry_of_what_cannot_be_retried(make, loader):
    manager = make(max_num_load_retries=0)
    loader.fail(1)
    want(manager, 1, 2)
    rest(manager)

    def refused(name, version):
        with pytest.raises(ServingError) as caught:
            manager.retry(name, version)
        return caught.value.code, caught.value.message

    assert refused("m", 2) == (
        Code.FAILED_PRECONDITION,
        "Version 2 of model m has not failed to load: it is AVAILABLE",
    )
    assert refused("m", 3) == (Code.NOT_FOUND, "Could not find version 3 of model m")
    assert refused("n", 1) == (Code.NOT_FOUND, "Could not find version 1 of model n")
    want(manager, 2)
    assert refused("m", 1) == (
        Code.FAILED_PRECONDITION,
        "Version 1 of model m is not wanted any more: its folder is gone, or the version policy leaves it "
        "out",
    )


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (ServingError(Code.NOT_FOUND, "no file"), Code.NOT_FOUND, "no file"),
        (tf.errors.DataLossError(None, None, "checksum"), Code.DATA_LOSS, "checksum"),
        (ValueError("odd"), Code.UNKNOWN, "ValueError: odd"),
        (MemoryError(), Code.UNKNOWN, "MemoryError: "),
        (SystemExit(3), Code.UNKNOWN, "SystemExit: 3"),
    ],
)
def test_whatever_loading_raises(make, loader, raised, code, message):
    manager = make(max_num_load_retries=0)
    loader.errors[1] = raised
    want(manager, 1)
    rest(manager)
    assert manager.statuses("m") == [VersionStatus(1, State.END, code, message)]
    want(manager, 2)
    assert rest(manager) == {2: "AVAILABLE", 1: "END"}


def test_a_failed_load_holds_no_memory(clock):
    class Half:
        """Of a model."""

    halves = []

    def load(servable_id, path):
        half = Half()
        halves.append(weakref.ref(half))
        raise ServingError(Code.DATA_LOSS, "cut short")

    manager = Manager(load, max_num_load_retries=0, clock=clock)
    want(manager, 1)
    assert rest(manager) == {1: "END"}
    gc.collect()
    assert [half() for half in halves] == [None]
    manager.stop()


def test_closing_that_fails_ends_the_version_all_the_same(make, loader, caplog):
    manager = make()
    want(manager, 1)
    rest(manager)
    loader.made[0].close()  # so that the manager's own call raises
    want(manager)
    assert rest(manager) == {1: "END"}
    assert "{name: m version: 1} is closed twice" in caplog.text


def test_a_folder_that_moved(make, loader, caplog):
    manager = make(max_num_load_retries=0)
    loader.fail(2)
    want(manager, 1, 2)
    rest(manager)
    loader.errors.clear()
    for _ in range(3):
        manager.set_wanted("m", {1: "/other/1", 2: "/other/2"})
    assert rest(manager) == {2: "AVAILABLE", 1: "AVAILABLE"}
    assert loader.loads == [(2, "/base/2"), (1, "/base/1"), (2, "/other/2")]
    assert caplog.text.count("stays as it was loaded") == 1


def test_versions_that_ended_are_bounded(make):
    manager = make()
    for version in range(120):
        want(manager, version)
        wait_for(manager, lambda version=version: manager.has_available("m", version))
    wait_for(manager, lambda: at_rest(manager))
    # The one that is available and the last hundred that ended.
    assert list(states(manager)) == list(range(119, 18, -1))


def test_waiting_ends_with_the_manager(make):
    manager = make()
    caught = []

    def wait():
        try:
            manager.wait_until(lambda: False)
        except ServingError as error:
            caught.append(error.code)

    waiting = threading.Thread(target=wait)
    waiting.start()
    manager.stop()
    waiting.join(SECONDS)
    assert caught == [Code.CANCELLED]
    want(manager, 1)
    assert manager.statuses("m") == []


def test_stopping_does_not_wait_for_ever_for_a_request(make, loader, caplog):
    manager = make()
    want(manager, 1, 2)
    rest(manager)
    held = manager.acquire("m", 1)
    manager.stop(timeout=0.05)
    assert "{name: m version: 1}" in caplog.text
    assert held.servable.predict() == 1
    assert loader.open == [1]
    held.servable.close()


def test_requests_of_many_threads_during_fifty_switches(make):
    manager = make(num_load_threads=2, num_unload_threads=2)
    want(manager, 0)
    rest(manager)
    over, answers, failures = threading.Event(), [], []

    def ask():
        last = 0
        while not over.is_set():
            held = manager.acquire("m")
            try:
                version = held.servable.predict()
            except (AttributeError, RuntimeError) as error:  # no version, or a closed one
                failures.append(repr(error))
                return
            manager.release(held)
            if version < last:
                failures.append(f"{version} after {last}")
            last = version
            answers.append(version)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for version in range(1, 51):
        want(manager, version)
        wait_for(manager, lambda version=version: manager.has_available("m", version))
    over.set()
    for thread in threads:
        thread.join(SECONDS)
    assert failures == []
    assert len(set(answers)) > 10
    assert rest(manager)[50] == "AVAILABLE"
