"""The SLURM script under an srun and an scontrol of our own, which do what SLURM does with the variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_tf import train
from alexnet_tf.distribute import cluster

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "slurm" / "train.sbatch"
SRUN = """
import os, subprocess, sys
words = sys.argv[1:]
options = [words.pop(0) for word in list(words) if word.startswith("--") and words[0] == word]
assert options == ["--distribution=block", "--kill-on-bad-exit=0"], options
tasks = [int(number) for number in os.environ["FAKE_TASKS"].split(",")]
statuses, procid = [], 0
for node, count in enumerate(tasks):
    for local in range(count):
        step = {
            "SLURM_PROCID": procid,
            "SLURM_NODEID": node,
            "SLURM_LOCALID": local,
            "SLURM_STEP_NUM_TASKS": sum(tasks),
            "SLURM_STEP_NODELIST": f"node[01-{len(tasks):02d}]",
            "SLURM_STEP_TASKS_PER_NODE": ",".join(map(str, tasks)),
        }
        variables = os.environ | {name: str(value) for name, value in step.items()}
        statuses.append(subprocess.run(words, env=variables).returncode)
        procid += 1
sys.exit(max(statuses))
"""
SCONTROL = """
import sys
print("scontrol", *sys.argv[1:])
"""
# Stands in for the Python of the nodes: writes down how a worker was started.
WORKER = """
import json, os, sys
from pathlib import Path
from alexnet_tf.distribute import cluster
found = cluster.from_environment()
record = [sys.argv[1:], found.workers, found.index]
Path(os.environ["FAKE_OUT"], f"{found.index}.json").write_text(json.dumps(record))
sys.exit(int(os.environ["FAKE_STATUS"]) if found.index == 0 else 0)
"""


@pytest.fixture
def submit(tmp_path):
    """Runs the script as sbatch would; returns its status, its output and the workers' records."""
    for name, code in (("srun", SRUN), ("scontrol", SCONTROL), ("python", WORKER)):
        (tmp_path / name).write_text(f"#!{sys.executable}\n{code}")
        (tmp_path / name).chmod(0o755)

    def run(*words, tasks="1,1", status=0, **variables):
        fakes = {"FAKE_TASKS": tasks, "FAKE_OUT": str(tmp_path), "FAKE_STATUS": str(status)}
        slurm = {"SLURM_JOB_ID": "123456", "PYTHON": str(tmp_path / "python"), "PYTHONPATH": str(ROOT)}
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", str(SCRIPT), *words],
            env={**os.environ, **fakes, **slurm, "PATH": path, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        records = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("*.json"))]
        return done, records

    return run


def options():
    """The script's lines for sbatch, as names and values."""
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    words = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH --")]
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def test_bash_accepts_it():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    first = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(n for n, line in enumerate(lines) if line.startswith("#SBATCH")) < first  # sbatch stops there


def test_it_asks_slurm_for_what_a_training_needs():
    asked = options()
    assert asked["signal"] == "TERM@120"  # to the tasks, not to the script, which has to queue the job again
    assert asked["requeue"] == ""
    assert asked["open-mode"] == "append"
    assert asked["ntasks-per-node"] == "1"


@pytest.mark.parametrize("tasks", ["1", "1,1,1", "2,2"])
def test_every_task_finds_its_cluster(submit, tasks):
    done, records = submit("--recipe", "smoke", "--data", "synthetic", "--workdir", "a b", tasks=tasks)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    port = 10_000 + 123_456 % 20_000
    workers = [
        f"node{node + 1:02d}:{port + local}"
        for node, count in enumerate(map(int, tasks.split(",")))
        for local in range(count)
    ]
    assert [record[1:] for record in records] == [[workers, index] for index in range(len(workers))]
    (words,) = {tuple(record[0]) for record in records}
    assert words[:2] == ("-m", "alexnet_tf.train")
    args = train.make_parser().parse_args(words[2:])
    assert (args.devices, args.recipe, args.workdir) == ("multi-worker", "smoke", "a b")


@pytest.mark.parametrize(
    ("status", "starts", "queued"),
    [
        (0, "0", False),
        (2, "0", False),
        (130, "0", True),
        (130, "99", True),
        (75, "0", True),
        (137, "9", True),
        (137, "10", False),
    ],
)
def test_when_the_job_is_queued_again(submit, status, starts, queued):
    done, _ = submit("--data", "synthetic", status=status, SLURM_RESTART_COUNT=starts)
    assert done.returncode == status
    assert (done.stdout == "scontrol requeue 123456\n") == queued
    assert bool(done.stderr) == (status != 0)


def test_the_ports_of_two_jobs_differ(submit):
    first = submit("--data", "synthetic")[1][0][1]
    second = submit("--data", "synthetic", SLURM_JOB_ID="123457")[1][0][1]
    assert set(first).isdisjoint(second)
    for address in (*first, *second):
        assert 1024 < cluster.split_address(address)[1] < 32_768  # below the ports of outgoing connections
