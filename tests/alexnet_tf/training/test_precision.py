"""`precision=auto`: what is measured, what follows from it, and that a run keeps what it began with."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from alexnet_tf import launch, model, recipe, train
from alexnet_tf.run_record import Run
from alexnet_tf.training import placement, precision
from alexnet_tf.training.precision import Speeds
from alexnet_tf.visualize.report import sections as report_sections
from alexnet_tf.visualize.report.html import rendered
from pipelines.errors import UserError
from tests.support import small_runs
from tests.support.tiny_network import tiny_network
from tests.support.training import SETTINGS, arguments
from tests.support.worker_runs import ROOT, words

ISA = "ONEDNN_MAX_CPU_ISA"
AUTO = {**SETTINGS, "precision": "auto"}


class Clock:
    """A clock that only work moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, *seconds):
        """Work that takes these seconds, the last of them ever after."""
        left = list(seconds)

        def work():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


@pytest.fixture
def measured(monkeypatch):
    """A function that puts speeds in the place of measured ones, and the list of the measurements."""
    monkeypatch.setattr(model, "build", tiny_network)
    calls = []

    def put(factor):
        monkeypatch.setattr(precision, "measure", lambda: calls.append(1) or Speeds(factor, 1.0))

    put.calls = calls
    return put


@pytest.mark.parametrize(
    ("float32", "bfloat16", "factor", "worthwhile", "emulated"),
    [
        ((0.07, 0.017), (0.04, 0.01), 1.7, True, False),  # the first time of each sets something up
        ((0.017, 0.9, 0.017), (0.01, 0.01, 0.5), 1.7, True, False),  # a busy machine disturbs either
        ((0.01,), (0.3, 0.01, 0.3, 0.3), 1.0, False, False),
        ((0.01,), (0.0095,), 1.05, False, False),
        ((0.02,), (0.2,), 0.1, False, True),
    ],
)
def test_the_least_times_decide(float32, bfloat16, factor, worthwhile, emulated):
    clock = Clock()
    speeds = precision.race(clock.work(*float32), clock.work(*bfloat16), clock)
    assert speeds.factor == pytest.approx(factor, rel=0.01)
    assert (speeds.worthwhile, speeds.emulated) == (worthwhile, emulated)


def test_it_is_cut_short_once_it_is_clear_or_takes_too_long():
    slow, long, fast = Clock(), Clock(), Clock()
    precision.race(slow.work(0.02), slow.work(0.25), slow)
    assert slow.now == pytest.approx(2 * 0.27)
    precision.race(long.work(0.2), long.work(0.19), long)
    assert long.now == pytest.approx(2 * 0.39)
    precision.race(fast.work(0.005), fast.work(0.003), fast)
    assert fast.now == pytest.approx(precision.ROUNDS * 0.008)


def test_what_cannot_be_computed_is_no_faster():
    speeds = Speeds(1.0, math.inf)
    assert (speeds.factor, speeds.worthwhile, speeds.emulated) == (0.0, False, True)


@pytest.mark.parametrize(
    ("asked", "begun", "factor", "others", "name", "line"),
    [
        ("auto", None, 1.7, 1.0, "bfloat16", "bfloat16: 1.7 times as fast as float32 here"),
        ("auto", None, 0.102, 0.0, "float32", "float32: bfloat16 is emulated here, 9.8 times slower"),
        ("auto", None, 1.04, 0.0, "float32", "float32: bfloat16 is no faster here (1.04 times the speed)"),
        ("auto", None, 0.0, 0.0, "float32", "float32: bfloat16 convolutions cannot be computed here"),
        ("auto", None, 1.7, 0.5, "float32", "float32: bfloat16 is no faster on some of the workers"),
        ("auto", "bfloat16", 1.7, 1.0, "bfloat16", "bfloat16, in which this run began: 1.7 times as fast"),
        ("auto", "bfloat16", 0.1, 0.0, "bfloat16", "warning: bfloat16, in which this run began, is emulated"),
        ("auto", "float32", 1.7, 1.0, "float32", "float32, in which this run began; bfloat16 would be 1.7"),
        ("auto", "float32", 0.1, 0.0, "float32", "float32: bfloat16 is emulated here, 10.0 times slower"),
        ("bfloat16", None, 1.7, 1.0, "bfloat16", ""),
        ("bfloat16", "float32", 1.7, 1.0, "bfloat16", ""),  # which the run folder refuses
        ("bfloat16", None, 0.1, 0.0, "bfloat16", "warning: bfloat16 is emulated here, 10.0 times slower"),
    ],
)
def test_what_is_decided_and_said(measured, monkeypatch, asked, begun, factor, others, name, line):
    measured(factor)
    monkeypatch.setattr(precision, "_begun", lambda workdirs: begun)
    voted = []

    def mean(votes):
        voted.append(list(votes))
        return [others, *votes[1:]]

    settled = precision.settle(asked, [], SimpleNamespace(is_chief=True, cluster=object(), mean=mean))
    assert (settled.name, settled.requested) == (name, asked)
    assert settled.line.startswith(line)
    assert bool(settled.line) == bool(line)
    assert voted == [[factor >= 1.15, factor > 0, begun == "float32", begun == "bfloat16"]]
    assert settled.environment()["precision"] == {"asked": asked, "bfloat16_speedup": round(factor, 2)}


def test_float32_is_not_measured(measured):
    measured(1.7)
    assert precision.settle("float32", [], placement.place()) == precision.Precision("float32", "float32")
    assert measured.calls == []


def test_bfloat16_that_cannot_be_computed_is_refused(measured, tmp_path):
    measured(0.0)
    with pytest.raises(UserError, match="legal here: precision=float32 or auto"):
        precision.settle("bfloat16", [tmp_path], placement.place())
    run = small_runs.create(tmp_path / "w", "synthetic:24,12", ["cat"], precision="bfloat16")
    assert precision.settle("auto", [tmp_path / "w"], placement.place()).name == "float32"  # nothing is lost
    (run.checkpoint_dir / "step-00000001.npz").touch()
    with pytest.raises(UserError, match="this run began in bfloat16, in which"):
        precision.settle("auto", [tmp_path / "w"], placement.place())


def test_only_a_settled_precision_is_written_or_computed_in(tmp_path):
    asked = recipe.get("quickstart")
    assert asked.precision == "auto"
    with pytest.raises(ValueError, match="precision"):
        Run.create(tmp_path / "w", asked, "synthetic", ["cat"], None)
    with pytest.raises(ValueError, match="precision"):
        placement.place().build(asked, 2)


@pytest.mark.parametrize(("first", "then"), [(1.7, 0.1), (0.1, 1.7)])
def test_a_run_goes_on_in_what_it_began_with(measured, tmp_path, capsys, first, then):
    measured(first)
    name = "bfloat16" if first > 1 else "float32"
    half = {**AUTO, "epochs": "1"}
    assert train.main(arguments(tmp_path / "w", settings=half)) == 0
    assert capsys.readouterr().out.startswith(f"{name}: ")
    written = json.loads((tmp_path / "w" / "recipe.json").read_text())["recipe"]
    assert written["precision"] == name
    run = Run.open(tmp_path / "w")
    assert run.recipe.precision == name
    assert run.environment["precision"] == {"asked": "auto", "bfloat16_speedup": first}
    assert f"auto; bfloat16 was measured {first} times as fast" in rendered(report_sections.recipe(run))

    measured(then)
    assert train.main(arguments(tmp_path / "w", settings=half)) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "in which this run began" in line]
    assert ("10.0 times slower" in line) == (name == "bfloat16")
    other = "float32" if name == "bfloat16" else "bfloat16"
    assert train.main(arguments(tmp_path / "w", settings={**half, "precision": other})) == 2
    assert f"precision={name} there, {other} here" in capsys.readouterr().err


def test_a_sweep_decides_once_and_for_all_its_members(measured, tmp_path, capsys):
    measured(1.7)
    assert train.main(arguments(tmp_path / "w", "--seeds", "2", settings={**AUTO, "epochs": "1"})) == 0
    assert len(measured.calls) == 1
    measured(0.1)
    assert train.main(arguments(tmp_path / "w", "--seeds", "2,0", settings={**AUTO, "epochs": "1"})) == 0
    runs = [Run.open(tmp_path / "w" / f"seed-{seed}") for seed in range(3)]
    assert [run.recipe.precision for run in runs] == ["bfloat16"] * 3
    assert dataclasses.replace(runs[2].recipe, seed=0) == runs[0].recipe


def test_two_workers_agree(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TINY_TRAIN_SPEEDS", "1.7,0.1")
    line = words(tmp_path / "w", "--set", "precision=auto", "--set", "epochs=0.4")
    figures = launch.launch(2, line, program="tests.support.tiny_train", as_json=True)
    assert figures["steps"] == 1
    assert Run.open(tmp_path / "w").recipe.precision == "float32"
    assert capfd.readouterr().out.count("float32: bfloat16 is no faster on some of the workers") == 1


def on_this_processor(isa):
    """What a fresh process settles on with oneDNN held to an instruction set, and the factor it measured."""
    script = (
        "from pipelines import command; command.quiet_tensorflow()\n"
        "from alexnet_tf.training import placement, precision\n"
        "settled = precision.settle('auto', [], placement.place())\n"
        "print(settled.name, settled.speeds.factor)"
    )
    environment = {k: v for k, v in os.environ.items() if k != ISA} | ({ISA: isa} if isa else {})
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    name, factor = done.stdout.split()
    return name, float(factor)


def flags():
    path = Path("/proc/cpuinfo")
    return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()


def test_on_a_processor_held_to_older_instructions():
    name, factor = on_this_processor("AVX2")
    assert name == "float32"
    assert factor < 1.0


@pytest.mark.skipif(not {"avx512_bf16", "amx_bf16"} & flags(), reason="no bfloat16 in this processor")
def test_on_a_processor_with_bfloat16():
    name, factor = on_this_processor("")
    assert name == "bfloat16"
    assert factor >= precision.WORTHWHILE
