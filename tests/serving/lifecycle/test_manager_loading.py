"""Loads that fail: tries and their times, what is said of them, what goes on meanwhile."""

from __future__ import annotations

import gc
import weakref

import pytest
import tensorflow as tf

from serving.errors import Code, ServingError
from serving.lifecycle.manager import Manager
from serving.specs import State, VersionStatus
from tests.support.fake_servables import (
    settled,
    states,
    wait_for,
    want,
)


def test_a_failing_version_leaves_the_old_one(make_manager, loader):
    manager = make_manager(max_num_load_retries=0)
    want(manager, 1)
    settled(manager)
    loader.fail(2)
    want(manager, 2)
    assert settled(manager) == {2: "END", 1: "AVAILABLE"}
    assert manager.statuses("m")[0] == VersionStatus(2, State.END, Code.DATA_LOSS, "bad file")
    # Mended, but its folder stays: not tried again. Gone and back: tried again.
    loader.errors.clear()
    want(manager, 2)
    assert settled(manager) == {2: "END", 1: "AVAILABLE"}
    want(manager, 1)
    assert manager.statuses("m")[0] == VersionStatus(2, State.END, Code.DATA_LOSS, "bad file")
    want(manager, 2)
    assert settled(manager) == {2: "AVAILABLE", 1: "END"}


def test_of_several_unwanted_versions_the_highest_stays(make_manager, loader):
    manager = make_manager(max_num_load_retries=0)
    want(manager, 1, 2, 3)
    settled(manager)
    loader.fail(4)
    want(manager, 4)
    assert settled(manager) == {4: "END", 3: "AVAILABLE", 2: "END", 1: "END"}


def test_tries_and_their_intervals(make_manager, loader, clock, events):
    manager = make_manager(max_num_load_retries=2, load_retry_interval_seconds=60)
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
    settled(manager)
    assert manager.statuses("m") == [VersionStatus(1, State.END, Code.DATA_LOSS, "not yet")]
    assert len(loader.loads) == 3
    assert events == [(1, "START"), (1, "LOADING"), (1, "END")]


def test_a_version_between_two_tries_holds_up_nobody(make_manager, loader):
    manager = make_manager(load_retry_interval_seconds=3600)
    loader.fail(2)
    want(manager, 1, 2)
    wait_for(manager, lambda: manager.has_available("m", 1))
    assert states(manager) == {2: "LOADING", 1: "AVAILABLE"}


def test_a_version_not_wanted_any_more_is_not_tried_again(make_manager, loader, clock):
    manager = make_manager(load_retry_interval_seconds=60)
    loader.fail(1, "gone")
    want(manager, 1)
    wait_for(manager, lambda: len(loader.loads) == 1 and not manager._models["m"][1].loading)
    want(manager)
    assert manager.statuses("m") == [VersionStatus(1, State.END, Code.DATA_LOSS, "gone")]
    clock.now = 1000
    manager.wake()
    want(manager)
    assert len(loader.loads) == 1


def test_retry(make_manager, loader):
    manager = make_manager(max_num_load_retries=0)
    loader.fail(1, "bad disk")
    want(manager, 1)
    assert settled(manager) == {1: "END"}
    manager.retry("m", 1)
    assert settled(manager) == {1: "END"}
    assert len(loader.loads) == 2
    loader.errors.clear()
    manager.retry("m", 1)
    assert settled(manager) == {1: "AVAILABLE"}


def test_retry_of_what_cannot_be_retried(make_manager, loader):
    manager = make_manager(max_num_load_retries=0)
    loader.fail(1)
    want(manager, 1, 2)
    settled(manager)

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
def test_whatever_loading_raises(make_manager, loader, raised, code, message):
    manager = make_manager(max_num_load_retries=0)
    loader.errors[1] = raised
    want(manager, 1)
    settled(manager)
    assert manager.statuses("m") == [VersionStatus(1, State.END, code, message)]
    want(manager, 2)
    assert settled(manager) == {2: "AVAILABLE", 1: "END"}


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
    assert settled(manager) == {1: "END"}
    gc.collect()
    assert [half() for half in halves] == [None]
    manager.stop()


def test_closing_that_fails_ends_the_version_all_the_same(make_manager, loader, caplog):
    manager = make_manager()
    want(manager, 1)
    settled(manager)
    loader.made[0].close()  # so that the manager's own call raises
    want(manager)
    assert settled(manager) == {1: "END"}
    assert "{name: m version: 1} is closed twice" in caplog.text


def test_a_folder_that_moved(make_manager, loader, caplog):
    manager = make_manager(max_num_load_retries=0)
    loader.fail(2)
    want(manager, 1, 2)
    settled(manager)
    loader.errors.clear()
    for _ in range(3):
        manager.set_wanted("m", {1: "/other/1", 2: "/other/2"})
    assert settled(manager) == {2: "AVAILABLE", 1: "AVAILABLE"}
    assert loader.loads == [(2, "/base/2"), (1, "/base/1"), (2, "/other/2")]
    assert caplog.text.count("stays as it was loaded") == 1
