"""What is configured changes: version labels, and the configuration file that is read again."""

from __future__ import annotations

import logging

import pytest

from serving.errors import Code
from serving.specs import ModelSpec
from tests.support.fake_servables import states, wait_for
from tests.support.serving_errors import error_of
from tests.support.small_repositories import Call, add, chosen, config, label, rest


def not_available(version):
    return (
        Code.FAILED_PRECONDITION,
        f"Request to assign label to version {version} of model m, which is not currently available for "
        "inference",
    )


ALL = "model_version_policy { all {} } "


def test_labels(make_repository, tmp_path):
    add(tmp_path / "m", 1, 2)
    repository = make_repository(config(tmp_path, "m", more=ALL))
    repository.start()
    rest(repository)
    repository.reload(config(tmp_path, "m", more=ALL + label("stable", 1) + label("old", 1)))
    assert repository.labels("m") == {"stable": 1, "old": 1}
    assert chosen(repository, "m", label="stable") == 1
    # Moved, and the other one left out.
    repository.reload(config(tmp_path, "m", more=ALL + label("stable", 2)))
    assert chosen(repository, "m", label="stable") == 2
    assert error_of(repository.servable(ModelSpec("m", label="old")).__enter__) == (
        Code.INVALID_ARGUMENT,
        "Unrecognized servable version label: old",
    )
    assert error_of(repository.reload, config(tmp_path, "m", more=ALL + label("stable", 3))) == not_available(
        3
    )
    assert repository.labels("m") == {"stable": 2}
    assert repository.labels("x") == {}


def test_a_label_of_a_version_that_went(make_repository, tmp_path):
    add(tmp_path / "m", 1)
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    repository.reload(config(tmp_path, "m", more=label("stable", 1)))
    add(tmp_path / "m", 2)
    assert rest(repository) == {2: "AVAILABLE", 1: "END"}
    assert error_of(repository.servable(ModelSpec("m", label="stable")).__enter__) == (
        Code.NOT_FOUND,
        "Servable not found for request: Specific(m, 1)",
    )


def test_labels_at_the_start_need_the_flag(make_repository, tmp_path):
    add(tmp_path / "m", 1)
    labelled = config(tmp_path, "m", more=label("stable", 1))
    assert error_of(make_repository(labelled).start) == not_available(1)
    repository = make_repository(labelled, allow_version_labels_for_unavailable_models=True)
    repository.start()
    assert chosen(repository, "m", label="stable") == 1


def test_the_flag_does_not_let_labels_move_to_what_is_not_there(make_repository, tmp_path):
    add(tmp_path / "m", 1)
    repository = make_repository(config(tmp_path, "m"), allow_version_labels_for_unavailable_models=True)
    repository.start()
    repository.reload(config(tmp_path, "m", more=label("stable", 1) + label("next", 7)))
    assert repository.labels("m") == {"stable": 1, "next": 7}
    moved = config(tmp_path, "m", more=label("stable", 7) + label("next", 7))
    assert error_of(repository.reload, moved) == not_available(7)
    assert repository.labels("m") == {"stable": 1, "next": 7}


@pytest.fixture
def from_file(make_repository, tmp_path):
    """A repository whose configuration file the test has it read, and the file."""
    file = tmp_path / "models.config"
    add(tmp_path / "m", 1)
    add(tmp_path / "n", 2)
    file.write_text(str(config(tmp_path, "m")), encoding="utf-8")
    repository = make_repository(config(tmp_path, "m"), model_config_file=str(file))
    repository.start()
    return repository, file


def test_the_file_is_read_again(from_file, tmp_path):
    repository, file = from_file
    file.write_text(str(config(tmp_path, "m", "n")), encoding="utf-8")
    repository.read_config_file()
    wait_for(repository._manager, lambda: states(repository._manager, "n") == {2: "AVAILABLE"})
    assert repository.models() == ["m", "n"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (
            "model_config_list { config { name: 'm'",
            "Error parsing text-format tensorflow.serving.ModelServerConfig",
        ),
        ("model_config_list { config { nam: 'm' } }", 'has no field named "nam"'),
        ("", "Cannot transition to requested config"),
        ("model_config_list { config { name: 'm' base_path: 'm' } }", "to have an absolute path or URI"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_broken_in_mid_flight(from_file, tmp_path, caplog, broken, reason):
    repository, file = from_file
    whole = str(config(tmp_path, "m", "n"))
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken, encoding="utf-8")
    for _ in range(3):
        repository.read_config_file()
    assert repository.models() == ["m"]
    assert rest(repository) == {1: "AVAILABLE"}
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1
    assert said[0].startswith(f"The configuration stays as it was, since {file} cannot be applied: ")
    assert reason in said[0]
    file.write_text(whole, encoding="utf-8")
    repository.read_config_file()
    wait_for(repository._manager, lambda: states(repository._manager, "n") == {2: "AVAILABLE"})


def test_a_file_that_says_the_same_changes_nothing(from_file, caplog):
    repository, file = from_file
    caplog.clear()
    caplog.set_level(logging.INFO)
    file.write_text("# a comment\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    repository.read_config_file()
    assert caplog.messages == []


def test_a_bad_path_in_the_file_blocks_no_later_reading(make_repository, tmp_path):
    """TF Serving's poller hangs there, and so does every reload after it."""
    file = tmp_path / "models.config"
    add(tmp_path / "m", 1)
    add(tmp_path / "n", 2)
    settings = {"file_system_poll_wait_seconds": 0.01, "model_config_file_poll_wait_seconds": 0.01}
    repository = make_repository(config(tmp_path, "m"), model_config_file=str(file), **settings)
    file.write_text(str(config(tmp_path, "m", "wrong")), encoding="utf-8")
    repository.start()
    wait_for(repository._manager, lambda: repository.models() == ["m", "wrong"])
    file.write_text(str(config(tmp_path, "m", "n")), encoding="utf-8")
    wait_for(repository._manager, lambda: states(repository._manager, "n") == {2: "AVAILABLE"})
    assert repository.models() == ["m", "n"]


def test_a_wrong_path_at_the_start_is_mended_in_the_file(make_repository, tmp_path):
    file = tmp_path / "models.config"
    add(tmp_path / "right", 1)
    settings = {"file_system_poll_wait_seconds": 0.01, "model_config_file_poll_wait_seconds": 0.01}
    wrong = config(tmp_path, "wrong")
    file.write_text(str(wrong), encoding="utf-8")
    repository = make_repository(wrong, model_config_file=str(file), **settings)
    starting = Call(repository.start)
    starting.join(0.05)
    assert starting.is_alive()
    file.write_text(str(config(tmp_path, "right")), encoding="utf-8")
    assert starting.over() is None
    assert chosen(repository, "right") == 1


def test_what_is_said_of_a_bad_path_is_said_once_and_then_forgotten(make_repository, tmp_path, caplog):
    add(tmp_path / "m", 1, "01")
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    repository.reload(config(tmp_path, "m"))
    for _ in range(3):
        rest(repository)
    assert caplog.text.count("Duplicate version directories detected") == 1
    repository.reload(config(tmp_path))
    rest(repository)
    assert repository._catalog._problems == {}
    repository.reload(config(tmp_path, "m"))
    # The model may be available a moment before the line about its folders is written.
    wait_for(repository._manager, lambda: caplog.text.count("Duplicate version directories detected") == 2)
