"""Commands whose stdout nobody reads any more, as after `| head -1`: a quiet end, and no training lost."""

import errno
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_tf import checkpoint, launch, train
from alexnet_tf.run_record import Run
from pipelines import command

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"batch_size": "4", "epochs": "2", "evaluate_every": "1", "checkpoint_every": "2"}
FINAL = "step-00000012.npz"

# Every command with a stdout of its own that is closed already; what they end with goes to a file.
COMMANDS = """
import importlib, json, os, sys
from alexnet_tf import model
from tests.support.tiny_network import tiny_network
model.build = tiny_network
ended = []
for module, words in json.loads(sys.argv[1]):
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.close(writing)
    ended.append(importlib.import_module(module).main(words))
with open(sys.argv[2], "w") as file:
    json.dump(ended, file)
"""
PRINTS = """
import sys
from pathlib import Path
from pipelines import command
def body():
    for number in range(9999):
        print("x" * 99)
    Path(sys.argv[1]).touch()
    return {"lines": 9999}
sys.exit(command.run(body, as_json=True, tensorflow=False, outlives_reader=bool(sys.argv[2:])))
"""
LIBRARY = """
import os, sys
from pathlib import Path
from pipelines import command
def body():
    os.write(2, b"a library's\\n")
    print("ours", file=sys.stderr)
    for path in sys.argv[1:]:
        Path(path).touch()
    return {}
sys.exit(command.run(body, outlives_reader=True))
"""


def started(*words, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, *words], stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment, **options
    )


def unread():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def training_words(workdir):
    sets = [word for field, value in SETTINGS.items() for word in ("--set", f"{field}={value}")]
    return ["--recipe", "quickstart", "--data", "synthetic:24,12", "--workdir", str(workdir), *sets]


def test_every_command_ends_quietly_and_a_training_goes_on(tmp_path):
    workdir, pictures = str(tmp_path / "w"), tmp_path / "pictures"
    run, data = ["--workdir", workdir], ["--data", "synthetic:24,12"]
    asked = [
        ("alexnet_tf.train", [*training_words(workdir), "--json"], 0),
        ("alexnet_tf.evaluate", run, 141),
        ("alexnet_tf.evaluate", [*run, "--json"], 141),
        ("pipelines.samples", [*data, "--out", str(pictures), "--count", "1"], 141),
        ("alexnet_tf.predict", [*run, "--json", str(pictures)], 141),
        ("alexnet_tf.visualize.__main__", ["filters", *run, "--out", str(tmp_path / "figures")], 141),
        ("pipelines.prepare", [*data, "--out", str(tmp_path / "records"), "--size", "32", "--json"], 141),
    ]
    words = json.dumps([(module, words) for module, words, _ in asked])
    with started("-c", COMMANDS, words, str(tmp_path / "ended"), stdout=subprocess.DEVNULL) as process:
        complaints = process.communicate(timeout=200)[1]
    assert process.returncode == 0, complaints
    assert json.loads((tmp_path / "ended").read_text()) == [status for *_, status in asked], complaints
    assert "roken pipe" not in complaints
    assert "Error" not in complaints
    assert (tmp_path / "w" / "checkpoints" / FINAL).exists()
    # What was to be written was written before there was anything to say about it.
    assert any((tmp_path / "figures").iterdir())
    assert (tmp_path / "records" / "records.json").exists()


def test_a_reader_that_leaves_a_training_is_not_missed(tmp_path):
    with started(
        "-m", "tests.support.tiny_train", *training_words(tmp_path / "w"), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()
        complaints = process.stderr.read()
        assert process.wait(200) == 0, complaints
    assert "roken pipe" not in complaints
    found = checkpoint.Checkpoints(Run.open(tmp_path / "w").checkpoint_dir).newest()[0]
    assert found.name == FINAL


@pytest.mark.parametrize(("more", "status", "done"), [([], 141, False), (["outlives"], 0, True)])
def test_a_body_ends_or_goes_on(tmp_path, more, status, done):
    with started("-c", PRINTS, str(tmp_path / "done"), *more, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == status
    assert (tmp_path / "done").exists() == done


def test_both_streams_may_lose_their_reader(tmp_path):
    writing = unread()
    words = [sys.executable, "-c", PRINTS, str(tmp_path / "done")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, stdout=writing, stderr=writing, env=environment, cwd=ROOT, timeout=60)
    os.close(writing)
    assert ended.returncode == 141


def test_what_libraries_say_is_kept_back_from_a_training_too():
    with started("-c", LIBRARY, stdout=subprocess.DEVNULL) as process:
        lines = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 0
    assert "ours" in lines
    assert "a library's" not in lines


@pytest.mark.parametrize("silence", [8.0, 0.0])
def test_a_training_goes_on_when_both_streams_lose_their_reader(tmp_path, silence):
    writing = unread()
    # Without patience it is told that TensorFlow is being loaded, as on a slow machine.
    code = f"from pipelines import progress; progress.SILENCE = {silence}\n{LIBRARY}"
    words = [sys.executable, "-c", code, str(tmp_path / "done")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, stdout=writing, stderr=writing, env=environment, cwd=ROOT, timeout=120)
    os.close(writing)
    assert ended.returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "module", ["alexnet_tf.train", "pipelines.prepare", "serving.client", "serving.check"]
)
def test_help_that_nobody_reads(module):
    writing = unread()
    with started("-m", module, "--help", stdout=writing) as process:
        os.close(writing)
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize("package", ["pipelines", "serving"])
def test_figures_that_nobody_reads(package):
    script = f"import sys; from {package} import command; sys.exit(command.run(dict, as_json=True{{}}))"
    script = script.format(", tensorflow=False" if package == "pipelines" else "")
    writing = unread()
    with started("-c", script, stdout=writing) as process:
        os.close(writing)
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 141


def test_a_connection_s_broken_pipe_is_no_reader_s(capsys):
    def body():
        raise BrokenPipeError(32, "Broken pipe")

    assert command.run(body, tensorflow=False) == command.EXIT_BROKEN_PIPE
    assert capsys.readouterr().err == ""
    assert command.run(body, tensorflow=False, outlives_reader=True) == 2
    assert capsys.readouterr().err == "error: Broken pipe\n"


@pytest.mark.parametrize(
    ("main", "words"),
    [(train.main, ["--data", "synthetic", "--workdir", "w"]), (launch.main, ["--workers", "2", "--"])],
)
def test_trainings_outlive_their_readers(monkeypatch, main, words):
    seen = []
    monkeypatch.setattr(command, "run", lambda body, **options: seen.append(options["outlives_reader"]) or 0)
    assert main(words) == 0
    assert seen == [True]


def test_a_training_outlives_its_terminal(tmp_path, monkeypatch):
    """Once a terminal is closed, what is written to it is an input/output error."""
    ours, its = pty.openpty()
    with open(its, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        def body():
            print("before", flush=True)
            os.close(ours)
            with pytest.raises(OSError, match="Input/output error"):
                os.write(its, b"gone")
            print("after", flush=True)
            (tmp_path / "saved").touch()
            return {}

        assert command.run(body, tensorflow=False, outlives_reader=True) == 0
    assert (tmp_path / "saved").exists()


def test_an_input_output_error_of_a_disk_is_told(tmp_path):
    class Failing(io.TextIOWrapper):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

    with (
        Failing(open(tmp_path / "log", "wb")) as stream,
        pytest.raises(OSError, match="Input/output error"),
    ):
        command._Unread(stream).write("line")
