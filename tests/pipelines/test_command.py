"""What every command does with errors, Ctrl-C and `--json`."""

import argparse
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines import command
from pipelines.errors import DataError, UserError

ROOT = Path(__file__).resolve().parents[2]


def raising(error):
    def body():
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("two\n  lines"), "error: two lines"),
        (UserError("wrong"), "error: wrong"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/d/f"),
            "error: /d/f: No space left on device (free some",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/d/f"),
            "error: /d/f: Permission denied (choose a folder",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"),
            "error: /x: No such file or directory",
        ),
        (OSError("odd"), "error: odd"),
    ],
)
def test_what_a_user_can_cause_is_one_line(capsys, error, line):
    assert command.run(raising(error)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert len(err.splitlines()) == 1


def test_ctrl_c_has_its_own_status(capsys):
    assert command.run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        command.run(raising(ZeroDivisionError()))
    with pytest.raises(ValueError, match="x"):  # of which a user's errors are a kind
        command.run(raising(ValueError("x")))


def test_figures_are_printed_when_asked_for(capsys):
    figures = {"count": 3, "rate": np.float32(0.5)}
    assert command.run(lambda: figures) == 0
    assert capsys.readouterr().out == ""
    assert command.run(lambda: figures, as_json=True) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"count": 3, "rate": 0.5}


def test_the_json_flag():
    parser = argparse.ArgumentParser()
    command.add_json_flag(parser)
    assert parser.parse_args([]).json is False
    assert parser.parse_args(["--json"]).json is True


def start(code, environment=None):
    """Runs Python code without the setting that conftest makes."""
    settings = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", f"from pipelines import command\n{code}"],
        cwd=ROOT,
        env=settings | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_backend_of_keras_is_not_followed():
    code = "import os\ncommand.run(lambda: {}, tensorflow=False)\nprint(os.environ['KERAS_BACKEND'])"
    for asked, said in (
        ("jax", "KERAS_BACKEND=jax is not followed: this command needs tensorflow\n"),
        ("tensorflow", ""),
        ("", ""),
    ):
        done = start(code, {"KERAS_BACKEND": asked})
        assert (done.stdout, done.stderr) == ("tensorflow\n", said)


def test_tensorflow_and_keras_start_without_notices_whatever_a_notebook_and_keras_json_say(tmp_path):
    (tmp_path / "keras.json").write_text(
        '{"backend": "jax", "floatx": "bfloat16", "epsilon": 1, "image_data_format": "channels_first"}'
    )
    code = (
        "command.quiet_tensorflow()\nimport keras, tensorflow as tf\nassert tf.ones(()) == 1\n"
        "print(keras.config.backend(), keras.config.floatx(), keras.config.image_data_format())"
    )
    environment = {"KERAS_HOME": str(tmp_path), "MPLBACKEND": "module://of_a_notebook"}
    done = start(code, environment | {"PYTHONWARNINGS": "error"})
    assert (done.stdout, done.stderr) == ("tensorflow float32 channels_last\n", "")


def test_notices_of_a_failing_import_are_shown(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'the reason')\nraise ImportError('no library')\n"
    )
    done = start("command.quiet_tensorflow()", {"PYTHONPATH": str(tmp_path)})
    assert done.returncode != 0
    assert "the reason" in done.stderr
    assert "no library" in done.stderr
