"""A run that is killed again and again ends bit for bit where an uninterrupted one ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from alexnet_tf import checkpoint
from alexnet_tf.run_record import Run

KILLS = 20
# Imports TensorFlow once, and then forks a process for each life of the run: none of them waits for the
# import. (TensorFlow starts its threads with the first computation, which is in the fork.)
LIVES = """
import json, os, random, signal, sys, time, traceback
sys.path.insert(0, {root!r})
from alexnet_tf import model, train
from alexnet_tf.training import loop as train_loop, placement, run_folder
from tests.support.tiny_network import tiny_network
model.build = tiny_network

def life(words):
    child = os.fork()
    if child:
        return child
    try:
        status = train.main(words)
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    os._exit(status)

def status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def newest(folder):
    try:
        return max(name for name in os.listdir(os.path.join(folder, "checkpoints")) if name.endswith(".npz"))
    except (OSError, ValueError):
        return ""

def goes_on(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

words, whole, parts = {words!r}, {whole!r}, {parts!r}
started = time.monotonic()
child = life([*words, "--workdir", whole])
while not newest(whole):
    time.sleep(0.01)
start_up = time.monotonic() - started
assert status(child) == 0
training = time.monotonic() - started - start_up
rng, kills, lives = random.Random(0), 0, 0
while True:
    child, before = life([*words, "--workdir", parts]), newest(parts)
    lives += 1
    if kills < {kills} and lives % 2:  # while it starts, or soon after
        time.sleep(rng.uniform(0.0, 1.2 * start_up))
        os.kill(child, signal.SIGKILL)
    elif kills < {kills}:  # while it trains
        while newest(parts) == before and goes_on(child):
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, training / {kills}))
        os.kill(child, signal.SIGKILL)
    code = status(child)
    assert code in (0, -signal.SIGKILL), code
    kills += code != 0
    if code == 0 and kills >= {kills}:
        break
    if code == 0:  # it came through before it was to be killed: the next one starts from nothing
        parts += "-again"
print(json.dumps({{"kills": kills, "lives": lives, "parts": parts}}))
"""
SETTINGS = {
    "batch_size": "4",
    "epochs": "20",
    "evaluate_every": "2",
    "checkpoint_every": "1",
    "warmup_steps": "2",
    "precision": "float32",
    "dropout_rate": "0.5",
}


def test_twenty_kills_change_no_bit(tmp_path):
    sets = [word for field, value in SETTINGS.items() for word in ("--set", f"{field}={value}")]
    words = ["--recipe", "quickstart", "--data", "synthetic:24,12", "--deterministic", *sets]
    code = LIVES.format(
        root=str(Path(__file__).resolve().parents[2]),
        words=words,
        whole=str(tmp_path / "whole"),
        parts=str(tmp_path / "parts"),
        kills=KILLS,
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=400, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:] + run.stdout[-1000:]
    lives = json.loads(run.stdout.splitlines()[-1])
    assert lives["kills"] >= KILLS
    whole, parts = Run.open(tmp_path / "whole"), Run.open(lives["parts"])
    for name in ("step-00000120.npz", "step-00000119.npz", checkpoint.BEST):
        expected, _ = checkpoint.read(whole.checkpoint_dir / name)
        found, _ = checkpoint.read(parts.checkpoint_dir / name)
        assert found.keys() == expected.keys()
        for array in expected:
            np.testing.assert_array_equal(found[array], expected[array], err_msg=f"{name}: {array}")
    timing = ("seconds", "images_per_second")
    rows = [{k: v for k, v in row.items() if k not in timing} for row in parts.read_metrics()]
    assert str(rows) == str(
        [{k: v for k, v in row.items() if k not in timing} for row in whole.read_metrics()]
    )
    assert not list(parts.workdir.rglob("*.part"))
