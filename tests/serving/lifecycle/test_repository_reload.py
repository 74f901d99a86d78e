"""What HandleReloadConfigRequest does: replaces the models, and waits for the new ones."""

from __future__ import annotations

import pytest

from serving.errors import Code
from serving.lifecycle.repository import ModelServerConfig
from serving.settings.messages import parse_text
from serving.specs import ModelSpec
from tests.support.fake_servables import states, wait_for
from tests.support.serving_errors import error_of
from tests.support.small_repositories import Call, add, chosen, config, label, rest


def test_reload_replaces(make_repository, tmp_path, loader):
    add(tmp_path / "a", 1)
    add(tmp_path / "b", 2)
    add(tmp_path / "c", 3)
    repository = make_repository(config(tmp_path, "a", "b"))
    repository.start()
    repository.reload(config(tmp_path, "c", "b"))
    assert repository.models() == ["b", "c"]
    assert chosen(repository, "c") == 3
    assert rest(repository, "a") == {1: "END"}
    assert error_of(repository.servable(ModelSpec("a")).__enter__)[0] == Code.NOT_FOUND
    assert loader.open == [2, 3]
    # And back: what ended before does not count as an answer.
    repository.reload(config(tmp_path, "a", "b", "c"))
    assert chosen(repository, "a") == 1


def test_reload_does_not_wait_for_a_changed_policy(make_repository, tmp_path, loader):
    add(tmp_path / "m", 1, 2)
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    gate = loader.gate(1)
    repository.reload(config(tmp_path, "m", more="model_version_policy { all {} }"))
    wait_for(repository._manager, lambda: states(repository._manager).get(1) == "LOADING")
    gate.set()
    assert rest(repository) == {2: "AVAILABLE", 1: "AVAILABLE"}
    repository.reload(config(tmp_path, "m", more="model_version_policy { specific { versions: 1 } }"))
    assert rest(repository) == {2: "END", 1: "AVAILABLE"}


def test_reload_of_a_model_that_fails(make_repository, tmp_path, loader):
    add(tmp_path / "m", 1)
    add(tmp_path / "n", 5)
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    loader.fail(5)
    assert error_of(repository.reload, config(tmp_path, "m", "n")) == (
        Code.UNKNOWN,
        "1 model(s) did not become available: {{{name: n version: 5} due to error: DATA_LOSS: bad file}, }",
    )
    assert chosen(repository, "m") == 1
    assert not repository.ready()
    assert repository.missing() == ["n"]
    # Known by now, so not waited for.
    repository.reload(config(tmp_path, "m", "n"))
    loader.errors.clear()
    repository.retry("n", 5)
    assert rest(repository, "n") == {5: "AVAILABLE"}
    assert repository.ready()


@pytest.mark.parametrize("text", ["", "custom_model_config {}"])
def test_reload_takes_only_lists(make_repository, tmp_path, text):
    add(tmp_path / "m", 1)
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    assert error_of(repository.reload, parse_text(text, ModelServerConfig())) == (
        Code.INVALID_ARGUMENT,
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
        "currently supported",
    )


def test_a_reload_that_is_refused_changes_nothing(make_repository, tmp_path):
    add(tmp_path / "m", 1)
    repository = make_repository(config(tmp_path, "m"))
    repository.start()
    assert error_of(repository.reload, config(tmp_path, "n", "n"))[0] == Code.INVALID_ARGUMENT
    assert (
        error_of(repository.reload, config(tmp_path, "m", more=label("a", 9)))[0] == Code.FAILED_PRECONDITION
    )
    assert repository.models() == ["m"]
    assert rest(repository) == {1: "AVAILABLE"}


def test_a_reload_waits_for_a_bad_path_but_blocks_no_other(make_repository, tmp_path):
    add(tmp_path / "m", 1)
    repository = make_repository(config(tmp_path, "m"), file_system_poll_wait_seconds=0.01)
    repository.start()
    waiting = Call(repository.reload, config(tmp_path, "m", "late", "wrong"))
    wait_for(repository._manager, lambda: repository.models() == ["late", "m", "wrong"])
    assert waiting.is_alive()
    # The mistake is mended by a second call while the first one still waits.
    mended = Call(repository.reload, config(tmp_path, "m", "late"))
    assert mended.over() is None
    add(tmp_path / "late", 3)
    error = waiting.over()
    assert (error.code, error.message) == (
        Code.UNKNOWN,
        "1 model(s) did not become available: "
        "{{{name: wrong} due to error: ABORTED: a later configuration leaves it out}, }",
    )
    assert chosen(repository, "late") == 3
