"""Workers on this machine: started, last_heard, restarted, and none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet_tf import launch
from alexnet_tf.distribute import local_workers
from pipelines.errors import UserError
from tests.support import worker_runs

ROOT = Path(__file__).resolve().parents[3]
# Stands in for alexnet_tf.train: MODE decides what worker 1 does in the first start.
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
from alexnet_tf.distribute import cluster, peers
from pipelines import command
from pipelines.errors import UserError

def body():
    mode, folder = sys.argv[1], Path(sys.argv[2])
    own = cluster.from_environment()
    asked = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: asked.append(number))
    (folder / f"pid-{os.getpid()}").touch()
    print("words", *sys.argv[3:], flush=True)
    first = not (folder / f"started-{own.index}").exists()
    (folder / f"started-{own.index}").write_text(own.address)
    with peers.rendezvous(own, {}, timeout=60, grace=2.0):
        print("met", os.environ["TF_NUM_INTRAOP_THREADS"], flush=True)
        time.sleep(0.3)  # until the others know, too
        if own.index == 1 and (first or mode.endswith("always")):
            if mode.startswith("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            if mode == "mistaken":
                raise UserError("no such field")
            if mode.startswith("crash"):
                os._exit(7)
        if "deaf" in mode and own.index == 0:
            time.sleep(60)
        while mode == "long" and not asked:
            time.sleep(0.02)
        if asked:
            raise KeyboardInterrupt("saved at step 5 of 9")
    return {"workdir": "w", "index": own.index}

sys.exit(command.run(body, as_json="--json" in sys.argv, tensorflow=False))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The name of a module that the workers find."""
    yield worker_runs.install(tmp_path, monkeypatch, "stand_in_for_train", PROGRAM)
    alive = [int(path.name.partition("-")[2]) for path in tmp_path.glob("pid-*")]
    assert [pid for pid in alive if is_running(pid)] == []


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # where nobody has asked how it ended, it stays as a zombie
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_all_workers_run_and_the_chief_gives_the_figures(program, tmp_path, capfd):
    figures = launch.launch(3, ["fine", str(tmp_path), "--set", "seed=1"], as_json=True, program=program)
    assert figures == {"workdir": "w", "index": 0, "workers": 3, "restarts": 0}
    out, err = capfd.readouterr()
    words = "words --set seed=1 --devices multi-worker --json"
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    threads = max(1, cpus // 3)
    expected = [f"{mark}{line}" for mark in ("", "[1] ", "[2] ") for line in (words, f"met {threads}")]
    assert sorted(out.splitlines()) == sorted(expected)
    assert err == ""


def test_a_death_ends_the_start(program, tmp_path, capfd):
    with pytest.raises(launch.WorkerFailed) as failed:
        launch.launch(2, ["die", str(tmp_path)], program=program)
    assert failed.value.exit_status == 128 + signal.SIGKILL
    assert str(failed.value) == "worker 1 was ended by SIGKILL; see above"
    address = (tmp_path / "started-1").read_text()
    assert f"error: worker 1 ({address}) has gone; start all workers again" in capfd.readouterr().err


def test_all_are_started_again_on_new_ports(program, tmp_path, capfd):
    seen = []

    def show(index, is_error, line):
        seen.append((index, line))

    with local_workers.Workers(2, program, ["die", str(tmp_path)], show) as workers:
        ended = workers.wait()
    assert sorted(ended) == [(0, 75), (1, 137)]
    assert local_workers.first_failure(ended) == (1, 137)
    before = {path.name: path.read_text() for path in tmp_path.glob("started-*")}
    figures = launch.launch(2, ["die", str(tmp_path)], restarts=1, as_json=True, program=program)
    assert figures["restarts"] == 0
    after = {path.name: path.read_text() for path in tmp_path.glob("started-*")}
    assert {*before.values()}.isdisjoint(after.values())


@pytest.mark.parametrize("mode", ["die", "crash"])
def test_restarts(program, tmp_path, capfd, mode):
    figures = launch.launch(2, [mode, str(tmp_path)], restarts=2, as_json=True, program=program)
    assert figures == {"workdir": "w", "index": 0, "workers": 2, "restarts": 1}
    how = "was ended by SIGKILL" if mode == "die" else "ended with status 7"
    assert f"worker 1 {how}; starting all again (1 of 2)\n" in capfd.readouterr().err


def test_restarts_come_to_an_end(program, tmp_path):
    with pytest.raises(launch.WorkerFailed, match="status 7 after 1 restarts; see above") as failed:
        launch.launch(2, ["crash-always", str(tmp_path)], restarts=1, program=program)
    assert failed.value.exit_status == 7


def test_a_mistake_is_not_tried_again(program, tmp_path, capfd):
    with pytest.raises(launch.WorkerFailed) as failed:
        launch.launch(2, ["mistaken", str(tmp_path)], restarts=5, program=program)
    assert failed.value.exit_status == 2
    err = capfd.readouterr().err
    assert "[1] error: no such field\n" in err
    assert "has stopped: no such field\n" in err
    assert "again" not in err


def test_who_does_not_leave_by_itself_is_ended(program, tmp_path):
    arguments = ["die-deaf", str(tmp_path)]
    with local_workers.Workers(2, program, arguments, lambda *line: None, grace=(0.3, 0.3)) as workers:
        ended = workers.wait()
    assert ended == [(1, 137), (0, 137)]  # without the signals worker 0 would end with 75


def launcher(program, mode, folder, **others):
    """`launch` in a process of its own, once all its workers have met."""
    code = (
        "import sys; from alexnet_tf import launch; from pipelines import command; "
        f"sys.exit(command.run(lambda: launch.launch(2, sys.argv[1:], program={program!r}, **{others!r}), "
        "tensorflow=False))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, mode, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    met = 0
    while met < 2:
        met += " met " in f" {process.stdout.readline()}"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("hearing")
def test_a_signal_reaches_every_worker_once(program, tmp_path, number):
    process = launcher(program, "long", tmp_path, restarts=3)
    time.sleep(0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    said = ["[1] saved at step 5 of 9", "all workers have stopped", "saved at step 5 of 9"]
    assert sorted(err.splitlines()) == said


def test_the_third_signal_kills(program, tmp_path):
    process = launcher(program, "deaf", tmp_path)
    time.sleep(0.5)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has gone")
def test_workers_do_not_outlive_a_killed_launcher(program, tmp_path):
    process = launcher(program, "long", tmp_path)
    workers = [int(path.name.partition("-")[2]) for path in tmp_path.glob("pid-*")]
    assert len(workers) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("workers", "restarts", "words", "said"),
    [
        (0, 0, [], "--workers must be 1 or more; received 0"),
        (1, -1, [], "--restarts must be 0 or more; received -1"),
        (2, 0, ["--devices", "one"], "several workers need --devices multi-worker, or none; received 'one'"),
        (2, 0, ["--devices=mirrored"], "received 'mirrored'"),
        (2, 0, ["--dev", "towers"], "received 'towers'"),
        (2, 0, ["--devices"], "received ''"),
    ],
)
def test_settings_that_do_not_fit(workers, restarts, words, said):
    with pytest.raises(UserError) as refused:
        launch.launch(workers, words, restarts=restarts)
    assert said in str(refused.value)


@pytest.mark.parametrize("words", [["--devices", "multi-worker"], ["--devices=multi-worker"]])
def test_the_right_devices_are_not_given_twice(program, tmp_path, capfd, words):
    launch.launch(1, ["fine", str(tmp_path), *words], program=program)
    assert capfd.readouterr().out.splitlines()[0] == " ".join(["words", *words])


def test_the_command_line(capsys):
    for words in (["--workers", "2"], ["--workers", "2", "--recipe", "smoke"]):
        with pytest.raises(SystemExit):
            launch.main(words)
    assert "the options of alexnet_tf.train belong after --" in capsys.readouterr().err
    assert launch.main(["--workers", "2", "--", "--devices", "one"]) == 2
    assert "--devices multi-worker" in capsys.readouterr().err


def test_the_launcher_does_without_tensorflow():
    code = (
        "import sys; from alexnet_tf import launch; "
        "assert launch.main(['--workers', '0', '--']) == 2; sys.exit('tensorflow' in sys.modules)"
    )
    environ = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "error: --workers must be 1 or more; received 0\n")


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ([(0, 0), (1, 0)], None),
        ([(0, 75), (2, 0), (1, 137)], (1, 137)),
        ([(0, 2), (1, 137)], (0, 2)),
        ([(1, 75), (0, 75)], (1, 75)),
    ],
)
def test_who_is_to_blame(ended, expected):
    assert local_workers.first_failure(ended) == expected


def test_gpus_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr(local_workers, "GPU_FOLDER", tmp_path / "none")
    assert local_workers.gpu_shares(2, {}) == [{}, {}]
    assert local_workers.gpu_shares(2, {"CUDA_VISIBLE_DEVICES": "-1"}) == [{}, {}]
    for number in range(5):
        (tmp_path / "gpus" / str(number)).mkdir(parents=True)
    monkeypatch.setattr(local_workers, "GPU_FOLDER", tmp_path / "gpus")
    found = [share["CUDA_VISIBLE_DEVICES"] for share in local_workers.gpu_shares(2, {})]
    assert found == ["0,1", "2,3"]
    named = local_workers.gpu_shares(2, {"CUDA_VISIBLE_DEVICES": "GPU-a, GPU-b"})
    assert named == [{"CUDA_VISIBLE_DEVICES": "GPU-a"}, {"CUDA_VISIBLE_DEVICES": "GPU-b"}]
    with pytest.raises(UserError, match="--workers 6 needs as many GPUs; found 5"):
        local_workers.gpu_shares(6, {})
    assert json.dumps(local_workers.gpu_shares(1, {"CUDA_VISIBLE_DEVICES": ""})) == "[{}]"
