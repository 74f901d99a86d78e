"""Stderr of real commands: our lines alone, Python's tracebacks, and what a crashing library says last."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import attacks
from tests.support.pictures import encoded, textured

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ["--set", "batch_size=4", "--set", "epochs=1", "--set", "precision=float32", "--set", "resize=224"]


def environment(**settings):
    rest = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return {**rest, "PYTHONPATH": f"{ROOT}:{ROOT}/tests", **settings}


def run(*words, **settings):
    """Python with these words, without the setting that conftest makes."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


def kept(code, **settings):
    """Runs code after `last_words.keep()`, where lines on the file descriptor come from `os.write`."""
    return run(
        "-c", f"import os, sys\nfrom pipelines import last_words\nlast_words.keep()\n{code}", **settings
    )


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Class folders of 16 whole pictures and four over which libjpeg has something to say."""
    root = tmp_path_factory.mktemp("broken") / "data"
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(8):
            whole = encoded(textured(230, 240, 10 * label + number), "JPEG", quality=90)
            (root / name / f"{number}.jpg").write_bytes(whole)
        half = len(whole) // 2
        (root / name / "short.jpg").write_bytes(whole[:half])
        # Read all the same, with a complaint: a code that is none, and bytes between two markers.
        (root / name / "odd.jpg").write_bytes(whole[:half] + b"\x00\xfe\x13" * 9 + whole[half + 27 :])
        (root / name / "more.jpg").write_bytes(whole[:2] + b"\0\0\0" + whole[2:])
    return root


def foreign(stderr):
    """The lines that libraries have written."""
    words = ("JPEG data", "JPEG library", ".cc:", "JPEG file", "absl", "marker", "oneDNN")
    ours = ("damaged or truncated", "error:", "left out")
    lines = [
        line for line in stderr.replace("\r", "\n").splitlines() if not any(word in line for word in ours)
    ]
    return [line for line in lines if any(word in line for word in words)]


def test_libjpeg_does_complain_of_these(broken):
    """Else the tests below would show nothing."""
    code = "import sys, tensorflow as tf\nfor path in sys.argv[1:]:\n"
    code += "    try: tf.io.decode_jpeg(tf.io.read_file(path))\n    except tf.errors.OpError: pass"
    files = [f"{broken}/cat/{name}.jpg" for name in ("short", "odd", "more")]
    assert len(foreign(run("-c", code, *files, TF_CPP_MIN_LOG_LEVEL="2").stderr)) >= len(files)


def test_prepare(broken):
    out = f"{broken}-records"
    done = run("-m", "pipelines.prepare", "--data", f"folder:{broken}", "--out", out, "--size", "224")
    assert done.returncode == 0
    assert foreign(done.stderr) == []
    assert "left out: 4 broken pictures" in done.stderr


def test_train_evaluate_predict_and_visualize(broken, tmp_path):
    workdir = tmp_path / "w"
    trained = run("-m", "tests.support.tiny_train", "--recipe", "quickstart", "--data", f"folder:{broken}",
                  "--workdir", str(workdir), *SETTINGS, TF_CPP_MIN_LOG_LEVEL="2")  # fmt: skip
    assert trained.returncode == 0
    assert foreign(trained.stderr) == []
    assert "broken pictures" in trained.stdout
    code = f"""
import sys
from pipelines import command
command.quiet_tensorflow()
from alexnet_tf import model, evaluate, predict
from alexnet_tf.visualize import __main__ as visualize
from tests.support.tiny_network import tiny_network
model.build = tiny_network
workdir, folder, out = {str(workdir)!r}, {str(broken / "cat")!r}, {str(tmp_path)!r}
assert evaluate.main(["--workdir", workdir]) == 0
assert predict.main(["--workdir", workdir, folder + "/odd.jpg", folder + "/short.jpg"]) == 2
assert visualize.main(["saliency", "--workdir", workdir, "--out", out, "--image", folder + "/short.jpg"]) == 2
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    reason = "short.jpg: damaged or truncated JPEG file"
    assert foreign(done.stderr) == []
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert errors == [f"error: {broken}/cat/{reason}", f"error: {reason}"]


def test_a_crash_has_the_last_word():
    code = f"""
from pipelines import command
command.quiet_tensorflow()
import os
import tensorflow as tf
os.write(2, b"Corrupt JPEG data: premature end of data segment\\nalmost\\n")
tf.io.decode_image({attacks.attacks()["jxl too large"]!r})
"""
    done = run("-c", code)
    assert done.returncode == -signal.SIGABRT
    assert "Check failed" in done.stderr
    assert "almost" in done.stderr
    assert "Corrupt JPEG" not in done.stderr


def test_python_is_heard_at_once_and_libraries_not_at_all():
    done = kept("print('ours', file=sys.stderr); os.write(2, b'theirs'); sys.exit(3)")
    assert (done.returncode, done.stderr) == (3, "ours\n")


def test_a_traceback_comes_with_what_was_kept():
    done = kept("os.write(2, b'the cause\\n'); raise ValueError('the effect')")
    assert done.returncode == 1
    assert done.stderr.index("ValueError: the effect") < done.stderr.index("the cause")


def test_many_words_are_cut_to_the_last():
    done = kept("os.write(2, b'first\\n'); [os.write(2, b'%d\\n' % n) for n in range(5000)]; os.abort()")
    assert done.stderr.split() == [str(number) for number in range(4800, 5000)]


def test_a_terminal_stays_one():
    """Bars ask whether stderr is a terminal; its file descriptor is none any more."""
    main, terminal = pty.openpty()
    code = "from pipelines import last_words\nlast_words.keep()\nimport sys, os\n"
    code += "print(sys.stderr.isatty(), os.isatty(2), end='\\r', file=sys.stderr, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), stderr=terminal
    ) as child:
        os.close(terminal)
        assert os.read(main, 100) == b"True False\r"
        assert child.wait(20) == 0
    os.close(main)
