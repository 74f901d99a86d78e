"""The state machine: what loads, what unloads, in which order, and what requests see meanwhile."""

from __future__ import annotations

import threading

from serving.errors import Code, ServingError
from serving.specs import State, VersionStatus
from tests.support.fake_servables import (
    SECONDS,
    serving_threads,
    settled,
    states,
    wait_for,
    want,
)


def test_a_version_goes_through_its_states(make_manager, events, loader):
    manager = make_manager()
    want(manager, 1)
    assert settled(manager) == {1: "AVAILABLE"}
    want(manager)
    assert settled(manager) == {1: "END"}
    assert events == [(1, "START"), (1, "LOADING"), (1, "AVAILABLE"), (1, "UNLOADING"), (1, "END")]
    assert manager.statuses("m") == [VersionStatus(1, State.END, Code.OK, "")]
    assert loader.loads == [(1, "/base/1")]


def test_highest_first_one_at_a_time(make_manager, loader):
    manager = make_manager()
    want(manager, 1, 3, 2)
    assert settled(manager) == {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}
    assert [version for version, _ in loader.loads] == [3, 2, 1]
    assert loader.most == 1


def test_a_version_that_comes_later_overtakes(make_manager, loader):
    gate, manager = loader.gate(2), make_manager()
    want(manager, 1, 2)
    wait_for(manager, lambda: loader.loads == [(2, "/base/2")])
    want(manager, 1, 2, 9)
    gate.set()
    settled(manager)
    assert [version for version, _ in loader.loads] == [2, 9, 1]


def test_models_take_turns(make_manager, loader):
    gate, manager = loader.gate(9), make_manager()
    want(manager, 9, name="first")
    wait_for(manager, lambda: bool(loader.loads))
    want(manager, 3, 4, name="a")
    want(manager, 1, 2, name="b")
    gate.set()
    settled(manager, "a")
    settled(manager, "b")
    assert [version for version, _ in loader.loads] == [9, 4, 2, 3, 1]


def test_the_old_version_serves_until_the_new_one_can(make_manager, loader, events):
    manager = make_manager()
    want(manager, 1)
    settled(manager)
    gate = loader.gate(2)
    want(manager, 2)
    wait_for(manager, lambda: len(loader.loads) == 2)
    assert states(manager) == {2: "LOADING", 1: "AVAILABLE"}
    assert manager.has_available("m", 1)
    gate.set()
    assert settled(manager) == {2: "AVAILABLE", 1: "END"}
    assert events[3:] == [(2, "START"), (2, "LOADING"), (2, "AVAILABLE"), (1, "UNLOADING"), (1, "END")]


def test_a_version_not_wanted_any_more_while_it_loads(make_manager, loader, events):
    gate, manager = loader.gate(1), make_manager()
    want(manager, 1)
    wait_for(manager, lambda: bool(loader.loads))
    want(manager)
    assert states(manager) == {1: "LOADING"}
    gate.set()
    assert settled(manager) == {1: "END"}
    assert events.of(1) == ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


def test_a_version_that_never_got_its_turn(make_manager, loader, events):
    gate, manager = loader.gate(2), make_manager()
    want(manager, 1, 2)
    wait_for(manager, lambda: bool(loader.loads))
    want(manager, 2)
    gate.set()
    assert settled(manager) == {2: "AVAILABLE", 1: "END"}
    assert events.of(1) == ["START", "END"]


def test_unloading_waits_for_requests(make_manager, loader):
    manager = make_manager()
    want(manager, 1)
    settled(manager)
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
    assert settled(manager) == {2: "AVAILABLE", 1: "END"}
    assert again.servable is None


def test_wanted_again_while_unloading(make_manager, loader, events):
    manager = make_manager()
    want(manager, 1)
    settled(manager)
    held = manager.acquire("m")
    want(manager)
    want(manager, 1)
    assert states(manager) == {1: "UNLOADING"}
    manager.release(held)
    assert settled(manager) == {1: "AVAILABLE"}
    once = ["START", "LOADING", "AVAILABLE"]
    assert events.of(1) == [*once, "UNLOADING", "END", *once]


def test_latest_is_the_highest_available_one(make_manager, loader):
    manager = make_manager(max_num_load_retries=0)
    assert manager.acquire("m") is None
    loader.fail(10)
    want(manager, -1, 2, 9, 10)
    settled(manager)
    held = manager.acquire("m")
    assert held.servable.predict() == 9
    manager.release(held)
    assert manager.acquire("m", 10) is None
    assert manager.acquire("other") is None


def test_threads_load_side_by_side(make_manager, loader):
    gates = [loader.gate(version) for version in (1, 2, 3)]
    manager = make_manager(num_load_threads=2)
    want(manager, 1, 2, 3)
    wait_for(manager, lambda: len(loader.loads) == 2)
    manager.limit_load_threads(3)
    want(manager, 1, 2, 3)
    wait_for(manager, lambda: loader.most == 3)
    for gate in gates:
        gate.set()
    assert set(settled(manager).values()) == {"AVAILABLE"}
    manager.limit_load_threads(1)
    wait_for(manager, lambda: serving_threads() == ["serving-load"])


def test_versions_that_ended_are_bounded(make_manager):
    manager = make_manager()
    for version in range(120):
        want(manager, version)
        wait_for(manager, lambda version=version: manager.has_available("m", version))
    # The one that is available and the last hundred that ended.
    assert list(settled(manager)) == list(range(119, 18, -1))


def test_waiting_ends_with_the_manager(make_manager):
    manager = make_manager()
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


def test_stopping_does_not_wait_for_ever_for_a_request(make_manager, loader, caplog):
    manager = make_manager()
    want(manager, 1, 2)
    settled(manager)
    held = manager.acquire("m", 1)
    manager.stop(timeout=0.05)
    assert "{name: m version: 1}" in caplog.text
    assert held.servable.predict() == 1
    assert loader.open == [1]
    held.servable.close()
    # Threads without work were told to end, not waited for.
    wait_for(manager, lambda: serving_threads() == [])


def test_requests_of_many_threads_during_fifty_switches(make_manager):
    manager = make_manager(num_load_threads=2, num_unload_threads=2)
    want(manager, 0)
    settled(manager)
    over, answers, failures = threading.Event(), set(), []

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
            answers.add(version)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for version in range(1, 51):
        want(manager, version)
        wait_for(manager, lambda version=version: version in answers or failures)
    over.set()
    for thread in threads:
        thread.join(SECONDS)
    assert failures == []
    assert set(range(1, 51)) <= answers
    assert settled(manager)[50] == "AVAILABLE"
