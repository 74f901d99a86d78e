"""What somebody who waits is told: never nothing for long, on a terminal and in a log, and the time left."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from alexnet_tf import recipe
from alexnet_tf.training import monitor as training
from alexnet_tf.training import pace
from alexnet_tf.training.precision import Speeds
from pipelines import command, progress

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 10.0  # seconds without a word
ERASE = "\r\x1b[2K"  # ECMA-48: to the start of the line, erase it whole


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Screen(io.StringIO):
    """A stream that notes when it was written to."""

    def __init__(self, clock, terminal):
        super().__init__()
        self.clock, self.terminal, self.times = clock, terminal, []

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.times.append(self.clock())
        return super().write(text)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress, "SILENCE", 8.0)
    return Clock()


def reporter(clock, *, terminal=False):
    """A reporter whose clock stands still, what it writes to, and a function that lets seconds pass.

    In the place of the thread that looks at the clock, which the test does not wait for.
    """
    screen = Screen(clock, terminal)
    told = progress.Reporter(clock, screen)

    def passes(seconds):
        for _ in range(int(seconds / progress.BEAT)):
            clock.now += progress.BEAT
            told.beat()

    return told, screen, passes


def test_a_log_hears_of_everything_that_lasts(clock):
    told, screen, passes = reporter(clock)
    with told.shown():
        for what in ("one", "two", "three", "four"):  # each of them brief
            with told.phase(what):
                passes(4)
        with told.phase("drawing", total=6000) as drawing:
            for done in range(0, 6000, 1000):
                drawing.reached(done)
                passes(5)
        with told.phase("compiling"):
            passes(20)
    assert max(b - a for a, b in zip([100, *screen.times], screen.times, strict=False)) < LONGEST
    lines = screen.getvalue().splitlines()
    assert lines[:3] == ["two, 0:04", "four, 0:04", "drawing: 1,000 of 6,000"]
    assert lines[3] == "drawing: 3,000 of 6,000, 0:16 left"
    assert lines[-1].startswith("compiling, 0:1")
    assert "\r" not in screen.getvalue()


def test_the_first_part_of_some_work_is_no_pace(clock):
    told, _screen, passes = reporter(clock)
    with told.shown(), told.phase("work", 10, done=4) as work:
        passes(30)  # compiles
        work.reached(5)
        assert work.text(clock()) == "work: 5 of 10"
        passes(4)
        work.reached(6)
        assert work.text(clock()) == "work: 6 of 10, 0:16 left"


def test_a_log_hears_nothing_of_what_is_brief(clock):
    told, screen, passes = reporter(clock)
    with told.shown(), told.phase("work", 3) as work:
        passes(7)
        work.reached(3)
    assert screen.getvalue() == ""


def test_what_else_is_printed_counts(clock):
    told, screen, passes = reporter(clock)
    with told.shown(), told.phase("work"):
        for _ in range(5):
            passes(7)
            told.spoke()
    assert screen.getvalue() == ""


def test_what_may_keep_the_interpreter_s_lock_is_told_as_it_begins(clock):
    told, screen, _ = reporter(clock)
    with told.shown(), told.phase("loading TensorFlow", at_once=True):
        assert screen.getvalue() == "loading TensorFlow\n"


def test_a_terminal_has_one_line_that_is_taken_off(clock):
    told, screen, passes = reporter(clock, terminal=True)
    with told.shown():
        with told.phase("opening"), told.phase("drawing", total=400) as drawing:
            for done in (100, 200):
                passes(2)
                drawing.reached(done)
            passes(0.5)
        assert screen.getvalue().endswith(ERASE)
        written = screen.getvalue().split(ERASE)
        assert written[1:3] == ["drawing: 0 of 400", "drawing: 0 of 400"]
        assert written[-2] == "drawing: 200 of 400, 0:05 left"
        assert "\n" not in screen.getvalue()


def test_a_terminal_s_line_is_cut_by_the_width_of_its_letters(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "12")
    told, screen, passes = reporter(clock, terminal=True)
    with told.shown(), told.phase("[b]縮小画像を数える"):  # letters two columns wide; no markup
        passes(0.5)
        line = screen.getvalue().split(ERASE)[-1]
    assert line == "[b]縮小画 …"  # eleven columns: half a letter cannot be shown


def test_a_bar_of_its_own_is_given_what_makes_it_stand_still(clock):
    told, screen, passes = reporter(clock, terminal=True)
    shown = []
    with told.shown(), told.to_bar(shown.append):
        with told.phase("step 7 of 9"):
            passes(7)
        assert shown == []
        with told.phase("step 8 of 9"):
            passes(8)
        with told.phase("validating", 10):
            passes(0.5)
    assert (shown[0], shown[-1]) == ("step 8 of 9, 0:08", "validating: 0 of 10")
    assert screen.getvalue() == ""


def test_nothing_is_told_outside_a_command_or_by_a_muted_one(clock):
    told, screen, passes = reporter(clock)
    with told.phase("work", at_once=True):
        passes(60)
    with told.shown(), told.phase("work"):
        told.mute()
        passes(60)
    assert screen.getvalue() == ""


@pytest.mark.parametrize("error", [ValueError("closed"), BrokenPipeError("left")])
def test_nobody_s_work_ends_because_nobody_listens(clock, monkeypatch, error):
    told, screen, passes = reporter(clock)
    refused = []

    def refuse(text):
        refused.append(text)
        raise error

    monkeypatch.setattr(screen, "write", refuse)
    with told.shown(), told.phase("work", at_once=True):
        passes(20)
    assert refused == ["work\n", "work, 0:08\n", "work, 0:16\n"]


def test_a_command_s_thread_tells_and_ends(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENCE", 0.2)
    monkeypatch.setattr(progress, "BEAT", 0.05)

    def body():
        with progress.phase("sleeping"):
            time.sleep(0.6)
        return {"n": 1}

    assert command.run(body, as_json=True) == 0
    out, err = capsys.readouterr()
    assert (out, set(err.splitlines())) == ('{"n": 1}\n', {"sleeping"})
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (14.9, "0:14"), (754, "12:34"), (3723, "1:02:03"), (-1, "0:00")]
)
def test_a_clock_s_text(seconds, text):
    assert progress.clock_text(seconds) == text


# Real commands, with a slow source of pictures and a short patience.
SLOW = """
import dataclasses, sys, time
from alexnet_tf.network import variants
from pipelines import progress
from pipelines.rendering import scene
progress.SILENCE, progress.BEAT = 0.4, 0.1
draw = scene.draw
scene.draw = lambda *args: time.sleep(0.03) or draw(*args)
variants.VARIANTS["paper"] = dataclasses.replace(variants.get("paper"), hidden=8)
from {module} import main
sys.exit(main({words!r}))
"""


def output_of(module, *words):
    """Lines of a command on stdout and on stderr; no setting of TensorFlow's is handed on to it."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    script = SLOW.format(module=module, words=[str(word) for word in words])
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [line.rstrip("\n") for line in process.stderr]
        out = process.stdout.read().splitlines()
        assert process.wait(timeout=100) == 0, lines
        return out, lines
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_a_slow_preparation_says_how_far_it_is(tmp_path):
    words = ("--data", "synthetic:36,24", "--out", tmp_path / "records", "--size", 32, "--json")
    out, lines = output_of("pipelines.prepare", *words)
    (figures,) = out
    assert json.loads(figures)["pictures"] == 60
    assert any(
        line.startswith("drawing the built-in train pictures: ") and " of 36" in line for line in lines
    )


def test_a_training_says_what_it_does_before_its_first_step(tmp_path):
    settings = ("--set", "batch_size=4", "--set", "epochs=0.34")
    words = ("--recipe", "smoke", "--data", "synthetic:24,12", "--workdir", tmp_path / "w", *settings)
    out, lines = output_of("alexnet_tf.train", *words, "--json")
    assert json.loads(out[-1])["steps"] == 2
    assert lines[0] == "loading TensorFlow"
    first, second = (line for line in out if line.startswith("step "))
    assert "left" not in first
    assert second.endswith("0:00 left")
    for doing in (
        "drawing the built-in train pictures: ",
        "step 1 of 2, which compiles",
    ):
        assert any(line.startswith(doing) for line in lines), (doing, lines)


# The training's own lines.


def figures(shown, step):
    shown.step(step, 83.4, 1.5, 0.754, 0.0098)


def test_a_log_gets_a_line_every_so_many_steps(capsys):
    with training.TrainingProgress(50, 0, 20, left=lambda step: 60.0 if step > 1 else None) as shown:
        for step in range(1, 51):
            figures(shown, step)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/50", "2/50", "20/50", "40/50", "50/50"]
    assert lines[0].endswith("83 images/s  loss 1.500  top-1 error 75.4%  rate 0.0098")
    assert lines[1].endswith("rate 0.0098  1:00 left")


def test_slow_steps_have_a_line_each_and_a_resumed_run_opens_like_a_new_one(clock, capsys):
    with training.TrainingProgress(100, 41, 20, clock=clock) as shown:
        for step in range(42, 50):
            clock.now += 4.5
            figures(shown, step)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["42/100", "43/100", "45/100", "47/100", "49/100"]


@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_fits_on_a_terminal(monkeypatch, width):
    screen = io.StringIO()
    monkeypatch.setattr(
        training,
        "Console",
        lambda **_: Console(file=screen, force_terminal=True, width=width, color_system=None),
    )
    with training.TrainingProgress(10009, 5000, 20, left=lambda step: 754.0) as shown:
        figures(shown, 5001)
        shown.say("epoch 1.00: validation top-1 error 9.67%")
    last = [line for line in screen.getvalue().splitlines() if "step 5001/10009" in line][-1]
    assert "83 images/s  loss 1.500  top-1 error 75.4%  rate 0.0098" in last
    assert last.rstrip().endswith("12:34")
    assert "epoch 1.00: validation top-1 error 9.67%" in screen.getvalue()
    assert ("━" in last) == (width >= training.WIDE_TERMINAL)


# How long it will take.


def test_the_time_left_is_known_from_the_second_step_without_what_compiles():
    time_ = pace.Pace(total=100, steps_between=25.0)
    time_.stepped(40.0)  # compiles
    assert time_.left(1) is None
    time_.stepped(2.0)
    assert time_.left(2) == pytest.approx(98 * 2.0)
    assert not time_.known
    for seconds in (2.0, 30.0, 2.2, 2.2):  # one that was held up, or compiled another program
        time_.stepped(seconds)
    assert time_.known
    assert time_.seconds_a_step == pytest.approx(2.2)
    time_.evaluated(20.0)  # the first one compiles, too
    assert time_.left(25) == pytest.approx(75 * 2.2 + 3 * 20.0)
    time_.evaluated(8.0)
    assert time_.left(50) == pytest.approx(50 * 2.2 + 2 * 8.0)
    assert time_.left(90) == pytest.approx(10 * 2.2 + 8.0)
    assert time_.left(100) == 0.0


def test_an_evaluation_after_the_last_step_counts():
    time_ = pace.Pace(total=10, steps_between=4.0)  # after 4, 8 and 10
    for _ in range(2):
        time_.stepped(1.0)
    time_.evaluated(100.0)
    assert [time_.left(step) for step in (4, 7, 8, 9)] == [206.0, 203.0, 102.0, 101.0]


def test_advice_is_true_for_the_run():
    fast, slow = Speeds(1.7, 1.0), Speeds(1.0, 10.0)
    paper = recipe.get("paper")
    there = {"gpus": 0, "replicas": 1, "speeds": fast}
    assert pace.cures(paper, "folder", **there) == [
        "precision=bfloat16 (1.7 times as fast in convolutions here)",
        "a GPU (TensorFlow sees none)",
        "fewer epochs (now 90)",
    ]
    assert pace.cures(paper, "folder", **{**there, "speeds": slow})[0].startswith("a GPU")
    assert pace.cures(paper, "folder", **{**there, "speeds": None})[0].startswith("a GPU")
    emulated = paper.replace({"precision": "bfloat16", "epochs": "1"})
    assert pace.cures(emulated, "records", **{**there, "speeds": slow}) == [
        "precision=float32 (bfloat16 is emulated here)",
        "a GPU (TensorFlow sees none)",
    ]
    assert pace.cures(emulated, "imagenet", gpus=4, replicas=1, speeds=None) == [
        "--devices mirrored (TensorFlow sees 4 GPUs)",
        "records, which decode faster (python -m pipelines.prepare)",
    ]
    assert pace.cures(emulated, "records", gpus=4, replicas=4, speeds=None) == []


def test_a_long_run_in_words():
    line = pace.explain(93784.0, 4.1, 22874, ["a GPU (TensorFlow sees none)"])
    assert line == (
        "at this pace 1 day 2 hours are left (22,874 steps of 4.1 s); what would help, in a new --workdir: "
        "a GPU (TensorFlow sees none)"
    )
    assert (
        pace.explain(4830.0, 0.5, 9660, [])
        == "at this pace 1 hour 20 minutes are left (9,660 steps of 0.5 s)"
    )
    assert [pace.in_words(s) for s in (3600, 59.0, 20, 90000)] == [
        "1 hour",
        "1 minute",
        "0 minutes",
        "1 day 1 hour",
    ]
