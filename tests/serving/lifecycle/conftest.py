"""Managers and repositories over a fake loader, which leave no thread and no servable behind a test."""

import contextlib

import pytest

from serving.lifecycle.manager import Manager
from serving.lifecycle.repository import Repository
from serving.lifecycle.settings import RepositorySettings
from serving.monitoring import memory as process_memory
from tests.support.fake_servables import SECONDS, Events, FakeClock, FakeLoader, serving_threads


@pytest.fixture
def loader():
    return FakeLoader()


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def clock():
    return FakeClock()


@contextlib.contextmanager
def _stopped(make, loader):
    """A function that keeps what `make` makes; all of it is stopped at the end."""
    made = []

    def kept(*arguments, **settings):
        made.append(make(*arguments, **settings))
        return made[-1]

    yield kept
    for gate in loader.gates.values():
        gate.set()
    for each in made:
        each.stop(SECONDS)
    assert serving_threads() == []
    assert loader.open == []


@pytest.fixture
def _no_collection(monkeypatch):
    """A full collection takes as long as a hundred of these tests' steps, and there is nothing to collect."""
    monkeypatch.setattr(process_memory, "release_memory", lambda: None)


@pytest.fixture
def make_manager(loader, events, clock, _no_collection):
    def manager(**settings):
        return Manager(loader, on_event=events, clock=clock, **settings)

    with _stopped(manager, loader) as make:
        yield make


@pytest.fixture
def make_repository(loader, _no_collection):
    """A function that makes a repository; it looks for versions when told, and tries each load once."""

    def repository(config, **settings):
        settings = {"file_system_poll_wait_seconds": 0, "max_num_load_retries": 0, **settings}
        return Repository(loader, RepositorySettings(config, **settings))

    with _stopped(repository, loader) as make:
        yield make
