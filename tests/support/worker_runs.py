"""The training command's words for several workers, and programs that stand in for it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.training import arguments

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "batch_size": "8",
    "epochs": "3",
    "evaluate_every": "1",
    "checkpoint_every": "2",
    "warmup_steps": "2",
    "precision": "float32",
    "log_every": "1",
    "steps_per_call": "2",
    "dropout_rate": "0",
}


def words(workdir, *extra, settings=SETTINGS):
    return arguments(workdir, *extra, settings=settings, data="synthetic:26,13")


def install(folder, monkeypatch, name, program, gpus=""):
    """Makes a program a module that workers find by its name, which is returned; shows them some GPUs."""
    (folder / f"{name}.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    return name
