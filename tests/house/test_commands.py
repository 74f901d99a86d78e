"""Every public command: what `--help` costs and says, what a wrong option gets, and what the pages show."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.help_time import commands

ROOT = Path(__file__).resolve().parents[2]
# The server goes on after an option that it does not know, as TF Serving does, and ends for want of a model.
EXIT_STATUS = {"serving.server": 255}
HEAVY = ("tensorflow", "keras", "tensorflow_datasets", "matplotlib", "torch", "grpc")
# Runs a module as `python -m` would, then says which heavy packages that has loaded.
RUNNER = f"""
import json, runpy, sys
module, *sys.argv[1:] = json.loads(sys.argv[1])
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    code = 0
except SystemExit as stop:
    code = stop.code or 0
print(json.dumps([code, sorted(set({HEAVY!r}) & set(sys.modules))]))
"""


@functools.cache
def run(module: str, *arguments: str) -> tuple[int, list[str], str, str]:
    """Exit status, heavy packages loaded, stdout and stderr of one command in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, json.dumps([module, *arguments])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    code, loaded = json.loads(last)
    return code, loaded, "\n".join(printed), done.stderr


def parts(module: str) -> list[str]:
    """The methods of a command that has several, such as `visualize filters`."""
    listed = re.search(r"^  \{([\w,-]+)\}$", run(module, "--help")[2], re.MULTILINE)
    return listed[1].split(",") if listed else []


def documented() -> list[list[str]]:
    """The commands that README.md, docs/ and the Makefile show, as words from the module's name on."""
    shown_in = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "Makefile"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in shown_in)
    shown = re.findall(r"-m ((?:alexnet_tf|pipelines|serving)\.[^`#\"\n]*)", text)
    # Brackets and bars mark what may be left out and what are alternatives.
    return [re.sub(r"[\[\]()|\\]", " ", words).split() for words in shown]


def test_the_commands_are_found():
    assert {"alexnet_tf.train", "pipelines.prepare"} <= set(commands())


@pytest.mark.parametrize("module", commands())
def test_help_answers_without_the_heavy_packages(module):
    code, loaded, printed, complaints = run(module, "--help")
    assert code == 0, complaints
    assert loaded == []
    assert printed.startswith(f"usage: python -m {module}")
    assert complaints == ""


@pytest.mark.parametrize("module", commands())
def test_every_command_offers_json(module):
    for part in parts(module) or [""]:
        assert "--json" in run(module, *part.split(), "--help")[2], part


@pytest.mark.parametrize("module", commands())
def test_an_unknown_option_is_refused_in_one_line(module):
    code, loaded, printed, complaints = run(module, "--no-such-option")
    assert code == EXIT_STATUS.get(module, 2)
    assert loaded == []
    assert printed == ""
    errors = [line for line in complaints.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert errors == complaints.splitlines()[-1:]
    assert "Traceback" not in complaints


def test_documented_commands_exist():
    assert documented()
    assert {words[0] for words in documented()} <= set(commands())


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_documented_options_exist(words):
    module, *rest = words
    offered = run(module, "--help")[2]
    for part in parts(module):
        if rest[:1] in ([part], ["METHOD"]):
            offered += run(module, part, "--help")[2]
    if "--" in rest:  # what follows is for the command that this one starts
        offered += run("alexnet_tf.train", "--help")[2]
        rest.remove("--")
    # Every command has `--help`, which not all of them list.
    options = {word.partition("=")[0] for word in rest if word.startswith("--")} - {"--help"}
    assert {option for option in options if not re.search(rf"{option}\b", offered)} == set()
