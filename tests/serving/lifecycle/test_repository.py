"""What is configured, found and chosen: starting, base paths, versions, statuses."""

from __future__ import annotations

import shutil
import threading

import pytest

from serving.errors import Code
from serving.lifecycle.model_config import single_model
from serving.lifecycle.repository import ModelServerConfig
from serving.settings.messages import parse_text
from serving.specs import ModelSpec, State, VersionStatus
from tests.support.fake_servables import serving_threads, states, wait_for
from tests.support.serving_errors import error_of
from tests.support.small_repositories import Call, add, chosen, config, rest


def test_start(make_repository, tmp_path, loader):
    add(tmp_path / "m", 1, 2)
    repository = make_repository(single_model("m", f"{tmp_path}/m"))
    assert not repository.ready()
    repository.start()
    assert repository.ready()
    assert repository.models() == ["m"]
    assert repository.statuses("m") == [VersionStatus(2, State.AVAILABLE)]
    assert chosen(repository, "m") == 2
    assert loader.loads == [(2, f"{tmp_path}/m/2")]


def test_start_loads_models_side_by_side(make_repository, tmp_path, loader, monkeypatch):
    monkeypatch.setattr("serving.settings.flags.cpus", lambda: 1)
    gates = [loader.gate(version) for version in range(1, 6)]
    for version in range(1, 6):
        add(tmp_path / f"m{version}", version)
    repository = make_repository(config(tmp_path, *(f"m{version}" for version in range(1, 6))))
    starting = Call(repository.start)
    wait_for(repository._manager, lambda: loader.most == 4)
    for gate in gates[:4]:
        gate.set()
    wait_for(repository._manager, lambda: len(loader.loads) == 5)
    wait_for(repository._manager, lambda: repository.missing() == ["m5"])
    gates[4].set()
    assert starting.over() is None
    assert loader.most == 4
    # Afterwards one at a time.
    wait_for(repository._manager, lambda: serving_threads().count("serving-load") == 1)


def test_start_fails_when_a_model_does(make_repository, tmp_path, loader):
    add(tmp_path / "m", 1)
    add(tmp_path / "n", 2)
    loader.fail(1)
    repository = make_repository(config(tmp_path, "m", "n"))
    assert error_of(repository.start) == (
        Code.UNKNOWN,
        "1 servable(s) did not become available: "
        "{{{name: m version: 1} due to error: DATA_LOSS: bad file}, }",
    )
    assert serving_threads() == []


def test_start_needs_but_one_version(make_repository, tmp_path, loader):
    add(tmp_path / "m", 1, 2)
    gate = loader.gate(2)
    repository = make_repository(config(tmp_path, "m", more="model_version_policy { all {} }"))
    repository.start()
    assert states(repository._manager) == {2: "LOADING", 1: "AVAILABLE"}
    gate.set()


def test_start_waits_for_a_base_path_and_its_first_version(make_repository, tmp_path):
    repository = make_repository(single_model("m", f"{tmp_path}/m"), file_system_poll_wait_seconds=0.01)
    starting = Call(repository.start)
    (tmp_path / "m").mkdir()
    starting.join(0.1)
    assert starting.is_alive()
    assert not repository.ready()
    add(tmp_path / "m", 1)
    assert starting.over() is None
    assert repository.ready()


def test_stop_ends_the_wait(make_repository, tmp_path):
    repository = make_repository(single_model("m", f"{tmp_path}/m"), file_system_poll_wait_seconds=0.01)
    starting = Call(repository.start)
    repository.stop()
    assert starting.over().code == Code.CANCELLED


@pytest.mark.parametrize("there", [False, True])
def test_looking_once_does_not_wait_for_what_cannot_come(make_repository, tmp_path, there):
    if there:
        (tmp_path / "m").mkdir()
    code, message = error_of(make_repository(single_model("m", f"{tmp_path}/m")).start)
    assert code == Code.UNKNOWN
    reason = (
        "No versions of servable m found"
        if there
        else f"Could not find base path {tmp_path}/m for servable m"
    )
    assert message.startswith(
        f"1 servable(s) did not become available: {{{{{{name: m}} due to error: NOT_FOUND: {reason}"
    )


@pytest.mark.parametrize("text", ["", "model_config_list {}"])
def test_no_models(make_repository, tmp_path, text):
    repository = make_repository(parse_text(text, ModelServerConfig()))
    repository.start()
    assert repository.ready()
    assert repository.models() == []
    add(tmp_path / "m", 1)
    repository.reload(config(tmp_path, "m"))
    assert chosen(repository, "m") == 1


def test_choosing(make_repository, tmp_path, loader):
    add(tmp_path / "m", 1, 2, 3)
    loader.fail(3)
    repository = make_repository(config(tmp_path, "m", more="model_version_policy { all {} }"))
    loader.gates[3] = threading.Event()
    repository.start()
    loader.gates[3].set()
    rest(repository)
    assert chosen(repository, "m") == 2
    assert chosen(repository, "m", 1) == 1
    chooses = [
        (ModelSpec(""), Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (ModelSpec("x"), Code.NOT_FOUND, "Servable not found for request: Latest(x)"),
        (ModelSpec("m", 3), Code.NOT_FOUND, "Servable not found for request: Specific(m, 3)"),
        (ModelSpec("m", -7), Code.NOT_FOUND, "Servable not found for request: Specific(m, -7)"),
        (ModelSpec("m", label="a"), Code.INVALID_ARGUMENT, "Unrecognized servable version label: a"),
        (ModelSpec("m", label=""), Code.INVALID_ARGUMENT, "Unrecognized servable version label: "),
        (ModelSpec("x", label="a"), Code.INVALID_ARGUMENT, "Unrecognized servable version label: a"),
    ]
    for spec, code, message in chooses:
        assert error_of(repository.servable(spec).__enter__) == (code, message)


def test_statuses(make_repository, tmp_path, loader):
    add(tmp_path / "m", 1, 2)
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    add(tmp_path / "m", 10)
    rest(repository)
    assert repository.statuses("m") == [VersionStatus(10, State.AVAILABLE), VersionStatus(2, State.END)]
    assert repository.statuses("m", 2) == [VersionStatus(2, State.END)]
    not_found = Code.NOT_FOUND
    assert error_of(repository.statuses, "m", 1) == (not_found, "Could not find version 1 of model m")
    assert error_of(repository.statuses, "x", 1) == (not_found, "Could not find version 1 of model x")
    assert error_of(repository.statuses, "x") == (not_found, "Could not find any versions of model x")


def test_a_version_removed_while_it_is_used(make_repository, tmp_path):
    add(tmp_path / "m", 1)
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    with repository.servable(ModelSpec("m")) as servable:
        shutil.rmtree(tmp_path / "m" / "1")
        repository.poll()
        assert repository.statuses("m") == [VersionStatus(1, State.UNLOADING)]
        assert servable.predict() == 1
        assert not repository.ready()
    assert rest(repository) == {1: "END"}


def test_a_base_path_that_vanishes_unloads_nothing(make_repository, tmp_path, caplog):
    add(tmp_path / "m", 1)
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    (tmp_path / "m").rename(tmp_path / "away")
    for _ in range(3):
        assert rest(repository) == {1: "AVAILABLE"}
    assert caplog.text.count(f"Could not find base path {tmp_path}/m for servable m") == 1
    # There again, but empty: that is meant.
    (tmp_path / "m").mkdir()
    assert rest(repository) == {1: "END"}
    assert "No versions of servable m found under base path" in caplog.text
    assert error_of(repository.servable(ModelSpec("m")).__enter__)[0] == Code.NOT_FOUND


def test_one_bad_path_does_not_keep_others_from_being_looked_at(make_repository, tmp_path):
    add(tmp_path / "n", 1)
    repository = make_repository(config(tmp_path, "m", "n"), file_system_poll_wait_seconds=0.01)
    starting = Call(repository.start)
    wait_for(repository._manager, lambda: states(repository._manager, "n") == {1: "AVAILABLE"})
    add(tmp_path / "n", 2)
    wait_for(repository._manager, lambda: states(repository._manager, "n") == {2: "AVAILABLE", 1: "END"})
    add(tmp_path / "m", 7)
    assert starting.over() is None
