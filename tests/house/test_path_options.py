"""`~` in every option that takes a file or folder: after `=`, as in `--out=~/a`, no shell expands it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
from collections.abc import Iterator

import pytest

from alexnet_tf.visualize.__main__ import METHODS
from benchmarks.help_time import commands
from pipelines.config import SOURCE_KINDS, DataConfig
from pipelines.errors import DataError
from serving.settings import flags
from tests.support.command_lines import main_of

BENCHMARKS = ("explain", "input", "resume", "scaling", "serving", "train_step")
# Options that take text which is no path.
WORDS = {
    "--recipe",
    "--data",
    "--set",
    "--devices",
    "--seeds",
    "--data-service",
    "--host",
    "--server",
    "--grpc",
}
WORDS |= {
    "--encoding",
    "--model",
    "--label",
    "--split",
    "--signature",
    "--class",
    "--layer",
    "--variant",
    "--only",
    "--resize-rule",
}
# The same of the server's flags.
TEXTS = {"model_name", "saved_model_tags", "grpc_channel_arguments", "mixed_precision"}


class _Seen(BaseException):
    """A parser is complete."""


def parser_of(module: str, *words: str) -> argparse.ArgumentParser:
    """The parser that a command asks."""
    seen: list[argparse.ArgumentParser] = []

    def only_look(self: argparse.ArgumentParser, *given: object) -> None:
        seen.append(self)
        raise _Seen

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        patch.setattr(argparse.ArgumentParser, "parse_args", only_look)
        with pytest.raises(_Seen):
            main_of(module)(list(words))
    return seen[0]


def text_options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """A parser's options whose values are free text."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                yield from text_options(part)
        elif action.nargs != 0 and not action.choices and action.type not in (int, float):
            yield action


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for module in commands():
        if module == "serving.server":
            continue  # it has flags of its own
        for words in [[method] for method in METHODS] if module == "alexnet_tf.visualize" else [[]]:
            yield " ".join([module, *words]), parser_of(module, *words)
    for name in BENCHMARKS:
        yield f"benchmarks.{name}", parser_of(f"benchmarks.{name}")


def test_options_of_all_commands(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    found, kept = set(), set()
    for command, parser in parsers():
        for action in text_options(parser):
            name = action.option_strings[0] if action.option_strings else action.dest
            if name in WORDS:
                continue
            value = parser._get_value(action, "~/here")
            (found if str(value) == "/home/of/somebody/here" else kept).add((command, name))
    # Another option that takes text belongs to WORDS, or takes `type=command.path`.
    assert kept == set()
    assert {("alexnet_tf.train", "--workdir"), ("serving.client", "--ca-file")} <= found


def test_flags_of_the_server(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    texts = {known.name for known in dataclasses.fields(flags.Flags) if isinstance(known.default, str)}
    assert texts - TEXTS == flags.PATHS
    for name in flags.PATHS:
        given = {"model_base_path": "/models", name: "~/here"}
        assert getattr(flags.Flags(**given), name) == "/home/of/somebody/here"
    parsed, _ = flags.parse(["--model_base_path=~/models"])
    assert parsed.model_base_path == "/home/of/somebody/models"


def test_data_sets(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    for kind in SOURCE_KINDS:
        place = DataConfig(f"{kind}:~/here").location
        assert place == ("~/here" if kind in ("synthetic", "tfds") else "/home/of/somebody/here")
    with pytest.raises(DataError, match=r"folder:~nobody-of-this-name/x: no such user"):
        DataConfig("folder:~nobody-of-this-name/x")


def test_a_folder_of_the_home_is_opened(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main_of("pipelines.samples")(["--data=synthetic:12,12", "--out=~/out", "--count=1"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert str(tmp_path / "out") in capsys.readouterr().out
