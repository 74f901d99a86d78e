"""The training command's words for a run of a few steps."""

from __future__ import annotations

SETTINGS = {
    "batch_size": "8",
    "epochs": "2",
    "evaluate_every": "1",
    "learning_rate": "0.01",
    "warmup_steps": "2",
    "precision": "float32",
    "log_every": "1",
    "steps_per_call": "1",
    "dropout_rate": "0.5",
}
DATA = "synthetic:24,12"


def arguments(workdir, *extra, settings=SETTINGS, data=DATA):
    sets = [word for field, value in settings.items() for word in ("--set", f"{field}={value}")]
    return ["--recipe", "quickstart", "--data", data, "--workdir", str(workdir), *sets, *extra]
