"""Command lines as the documents show them, held against the parsers that the commands really have."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import itertools
import re
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

# What capital letters stand for where a parser wants a number or one of several words.
PLACEHOLDERS = {"N": "2", "METHOD": "filters"}
REST = "OPTIONS OF TRAIN"


class Parsed(BaseException):
    """A command line has been understood; nothing is to be done."""


def main_of(module: str) -> Callable[[list[str]], int]:
    """The function that `python -m MODULE` calls."""
    return module_of(module).main


def module_of(module: str) -> ModuleType:
    """The module that `python -m MODULE` runs."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    package = spec.submodule_search_locations is not None
    return importlib.import_module(f"{module}.__main__" if package else module)


def complaint(module: str, arguments: list[str]) -> str:
    """What a command says against its arguments; empty when it understands them."""
    if module == "serving.server":  # as TF Serving does it reads flags, and only points out others
        return _complaint_of_server(arguments)
    if module == "alexnet_tf.launch" and "--" in arguments:
        place = arguments.index("--")
        rest = arguments[place + 1 :]
        if wrong := (complaint("alexnet_tf.train", rest) if rest else ""):
            return wrong
    said = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        parse = argparse.ArgumentParser.parse_args

        def only_parse(self: argparse.ArgumentParser, *given: object) -> argparse.Namespace:
            parse(self, *given)
            raise Parsed

        patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
        try:
            main_of(module)(list(arguments))
        except Parsed:
            return ""
        except SystemExit as stop:
            if not stop.code:  # --help
                return ""
    return said.getvalue().strip().rpartition("\n")[2] or "no parser was asked"


def _complaint_of_server(arguments: list[str]) -> str:
    if arguments == ["--help"]:
        return ""
    server = module_of("serving.server")
    try:
        _, notices = server.flag_module.parse(arguments)
    except server.FlagError as error:
        return str(error)
    return "; ".join(notices)


def variants(text: str) -> Iterator[list[str]]:
    """The command lines that a line of a document stands for.

    `[--json]` may be there or not, `(A | B)` and `one|two` are alternatives, `...` more of the same.
    """
    text = re.sub(r"\.\.\.", "", text.replace(REST, ""))
    parts = re.split(r"(\[[^\]]*\]|\([^)]*\))", text)
    choices = [_choices(part) for part in parts]
    seen = set()
    for chosen in itertools.product(*choices):
        for words in _alternatives(" ".join(chosen).split()):
            if tuple(words) not in seen:
                seen.add(tuple(words))
                yield [PLACEHOLDERS.get(word, word) for word in words]


def _choices(part: str) -> list[str]:
    if part.startswith("["):
        return ["", part[1:-1]]
    if part.startswith("("):
        return [choice.strip() for choice in part[1:-1].split(" | ")]
    return [part]


def _alternatives(words: list[str]) -> Iterator[list[str]]:
    """One of `a|b` at a time, the same choice for all words that have one."""
    most = max((word.count("|") for word in words), default=0)
    for number in range(most + 1):
        yield [word.split("|")[min(number, word.count("|"))] for word in words]
