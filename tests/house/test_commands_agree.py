"""The `command` modules of pipelines and of serving, which are copies of each other, behave the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipelines", "serving")
# What would change when something is printed, and what.
UNSET = ("PYTHONUNBUFFERED", "TF_CPP_MIN_LOG_LEVEL")
# Of one package: its `command` module, its UserError, and `run` without the import of TensorFlow.
PRELUDE = """
import errno, fractions, functools, importlib, sys
package = sys.argv[1]
command = importlib.import_module(f"{package}.command")
run = functools.partial(command.run, tensorflow=False) if package == "pipelines" else command.run

def raising(error):
    def body():
        print("begun")
        raise error
    return body

def printing(lines):
    def body():
        for number in range(lines):
            print(f"line {number}")
        return {"lines": lines}
    return body

def os_error(number, path="/d/f"):
    return raising(OSError(number, "Reason", path))
"""
FAILURES = {
    "a user's error": ('raising(command.UserError("two\\n  lines"))', "error: two lines\n"),
    "no such file": ("os_error(errno.ENOENT)", "error: /d/f: Reason\n"),
    "a full disk": (
        "os_error(errno.ENOSPC)",
        "error: /d/f: Reason (free some space or choose another folder",
    ),
    "a used-up quota": ("os_error(errno.EDQUOT)", "error: /d/f: Reason (the quota is used up"),
    "a read-only disk": (
        "os_error(errno.EROFS)",
        "error: /d/f: Reason (choose a folder that can be written)",
    ),
    "a folder of others": (
        "os_error(errno.EACCES)",
        "error: /d/f: Reason (choose a folder that you may write",
    ),
    "an error without a file": ("os_error(errno.ENOSPC, None)", "error: Reason (free some space"),
    "an error without a number": ('raising(OSError("odd"))', "error: odd\n"),
    "a lost connection": ("os_error(errno.ECONNRESET, None)", "error: Reason\n"),
}


class Ended(NamedTuple):
    """How a command ended, and what it printed; output that nobody could read is empty."""

    status: int
    out: str
    err: str


def ended(package: str, code: str, unread: tuple[str, ...] = (), **environment: str) -> Ended:
    """Runs Python code after the prelude; the reader of the streams named in `unread` has left."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    streams = {name: write_end if name in unread else subprocess.PIPE for name in ("stdout", "stderr")}
    settings = {name: value for name, value in os.environ.items() if name not in UNSET}
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"{PRELUDE}\n{code}", package],
            cwd=ROOT,
            env=settings | environment,
            text=True,
            check=False,
            timeout=60,
            **streams,
        )
    finally:
        os.close(write_end)
    return Ended(done.returncode, done.stdout or "", done.stderr or "")


def of_both(code: str, unread: tuple[str, ...] = (), **environment: str) -> Ended:
    """How both packages end, which must be the same."""
    first, second = (ended(package, code, unread, **environment) for package in PACKAGES)
    assert first == second
    return first


@pytest.mark.parametrize("as_json", [False, True])
def test_success(as_json):
    body = 'lambda: print("begun") or {"count": 3, "rate": fractions.Fraction(1, 2)}'
    figures = '{"count": 3, "rate": 0.5}\n' if as_json else ""
    assert of_both(f"sys.exit(run({body}, as_json={as_json}))") == (0, f"begun\n{figures}", "")


@pytest.mark.parametrize(("body", "line"), FAILURES.values(), ids=FAILURES)
def test_what_a_user_can_cause(body, line):
    done = of_both(f"sys.exit(run({body}, as_json=True))")
    assert (done.status, done.out) == (2, "begun\n")
    assert done.err.startswith(line)
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "shown"), [("", "interrupted"), ("stopped after step 7", "stopped after step 7")]
)
def test_ctrl_c(text, shown):
    assert of_both(f"sys.exit(run(raising(KeyboardInterrupt({text!r}))))") == (130, "begun\n", f"{shown}\n")


def test_our_own_mistakes_are_not_hidden():
    status, traceback = 1, "ZeroDivisionError: x"
    for package in PACKAGES:
        done = ended(package, 'sys.exit(run(raising(ZeroDivisionError("x"))))')
        assert (done.status, done.out, done.err.splitlines()[-1]) == (status, "begun\n", traceback)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("lines", [1, 100_000])
def test_nobody_reads_stdout(lines, as_json):
    done = of_both(f"sys.exit(run(printing({lines}), as_json={as_json}))", unread=("stdout",))
    assert done == (141, "", "")


@pytest.mark.parametrize("error", ['command.UserError("wrong")', 'OSError("odd")', "KeyboardInterrupt()"])
@pytest.mark.parametrize("unread", [("stderr",), ("stdout", "stderr")])
def test_nobody_reads_stderr(error, unread):
    done = of_both(f"sys.exit(run(raising({error})))", unread)
    assert done.status == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("as_json", [False, True])
def test_no_room_for_stdout(as_json):
    code = (
        "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
        f"sys.exit(run(printing(3), as_json={as_json}))"
    )
    done = of_both(code)
    assert done.status == 2
    assert done.err.startswith("error: No space left on device (free some space")
    assert len(done.err.splitlines()) == 1


def test_bytes_that_are_no_characters():
    done = of_both('sys.exit(run(raising(command.UserError("no file \\udcff.jpg"))))')
    assert done == (2, "begun\n", "error: no file \\xff.jpg\n")


def test_a_pipe_of_the_body_s_own_breaks():
    assert of_both("sys.exit(run(raising(BrokenPipeError())))") == (141, "begun\n", "")


def test_an_error_is_told_to_a_reader_who_has_left_stdout():
    done = of_both('sys.exit(run(raising(command.UserError("wrong"))))', unread=("stdout",))
    assert (done.status, done.err) == (2, "error: wrong\n")


def test_stdout_that_nobody_reads_after_a_usage_error():
    code = (
        "import argparse\nparser = argparse.ArgumentParser(prog='p')\ncommand.add_json_flag(parser)\n"
        "parser.parse_args(['--help'])"
    )
    assert of_both(code).out.count("--json") == 2
    assert of_both(code, unread=("stdout",)).err == ""


@pytest.mark.parametrize("level", ["", "0", "1", "2", "3"])
@pytest.mark.parametrize("fails", [False, True])
def test_notices_of_tensorflow(tmp_path, level, fails):
    (tmp_path / "tensorflow.py").write_text(
        "import os, types\n"
        "os.write(2, b'a notice\\n')\n"
        "config = types.SimpleNamespace(list_physical_devices=lambda: os.write(2, b'no GPU\\n'))\n"
        f"if {fails}: raise OSError('no library')\n"
    )
    code = (
        "def body():\n    command.quiet_tensorflow()\n    return {'loaded': 'tensorflow' in sys.modules}\n"
        "sys.exit(run(body, as_json=True))"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = of_both(code, PYTHONPATH=paths, **({"TF_CPP_MIN_LOG_LEVEL": level} if level else {}))
    shown = level == "0"
    if fails:
        assert done == (2, "", "a notice\nerror: no library\n")
    else:
        assert done == (0, '{"loaded": true}\n', "a notice\nno GPU\n" if shown else "")


def test_settings_of_the_user_s_own_programs_do_not_reach_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os, types\n"
        "config = types.SimpleNamespace(list_physical_devices=lambda: None)\n"
        "print(*(os.environ[name] for name in ('MPLBACKEND', 'KERAS_BACKEND', 'KERAS_HOME')))\n"
    )
    code = "sys.exit(run(lambda: command.quiet_tensorflow() or {}))"
    done = of_both(
        code,
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
        MPLBACKEND="module://of_a_notebook",
        KERAS_BACKEND="tensorflow",
        KERAS_HOME=str(tmp_path),
    )
    assert done == (0, f"Agg tensorflow {os.devnull}\n", "")


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-8:strict"])
def test_what_an_encoding_lacks_is_escaped(encoding):
    text = "\\udcff \\ud800 \\u4e2d \\U0001f98a"
    code = f"""
def body():
    print("{text}")
    print("{text}", file=sys.stderr)
    raise command.UserError("{text}")
sys.exit(run(body))
"""
    done = of_both(code, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    shown = "\\xff \\ud800 \\u4e2d \\U0001f98a" if encoding.startswith("ascii") else "\\xff \\ud800 中 🦊"
    assert (done.status, done.out) == (2, f"{shown}\n")
    assert done.err.startswith(f"{shown}\nerror: ")
    assert "Traceback" not in done.err
