"""What `--devices` cannot do is said before TensorFlow is loaded."""

from __future__ import annotations

import json

import pytest

from alexnet_tf import recipe, train
from alexnet_tf.training.device_choice import DeviceChoice
from pipelines import command
from pipelines.errors import UserError


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [
        ("one", "one", None),
        ("mirrored", "mirrored", None),
        ("mirrored:3", "mirrored", 3),
        ("multi-worker", "multi-worker", None),
        ("towers", "towers", None),
    ],
)
def test_the_values_of_devices(text, kind, count):
    assert DeviceChoice.parse(text) == DeviceChoice(kind, count)


@pytest.mark.parametrize(
    "text", ["", "two", "one:1", "towers:2", "mirrored:", "mirrored:0", "mirrored:²", "One"]
)
def test_values_that_are_none(text):
    with pytest.raises(UserError, match="--devices") as refused:
        DeviceChoice.parse(text)
    assert f"received {text!r}" in str(refused.value)


def test_what_can_be_shared_out_is_not_refused():
    chosen = recipe.get("paper").replace({"batch_size": "12", "accumulation_steps": "2"})
    DeviceChoice("mirrored", 3).check(chosen)
    DeviceChoice("multi-worker").check(chosen, workers=6)
    DeviceChoice("mirrored").check(chosen)  # how many there are is not known here
    DeviceChoice("towers").check(chosen)


def cluster_of(workers):
    addresses = [f"127.0.0.1:{port}" for port in range(2001, 2001 + workers)]
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--devices", "twin"], "--devices must be one of one, mirrored, multi-worker, towers"),
        (
            ["--devices", "mirrored:3", "--set", "batch_size=8"],
            "`batch_size` must be a multiple of the 3 replicas; received 8",
        ),
        (
            ["--devices", "mirrored:2", "--set", "batch_size=12", "--set", "accumulation_steps=4"],
            "`batch_size` must be a multiple of the 2 replicas x 4 parts; received 12",
        ),
        (
            ["--devices", "multi-worker", "--set", "batch_size=8"],
            "`batch_size` must be a multiple of the 3 replicas; received 8",
        ),
        (
            ["--devices", "towers", "--set", "variant=merged"],
            "`variant` must have two towers: paper, original",
        ),
        (["--devices", "towers", "--set", "xla=true"], "one XLA program has one device; leave out xla=true"),
        (["--set", "variant=none"], "`variant` must be one of"),
        (["--set", "batch_size=10", "--set", "accumulation_steps=4"], "a multiple of `accumulation_steps`"),
        (["--data-service", "host"], "--data-service takes HOST:PORT"),
        (["--data", "nothing:x"], "--data must be"),
        (["--seeds", "-1"], "--seeds takes"),
    ],
)
def test_nothing_is_loaded_for_what_cannot_work(monkeypatch, tmp_path, capsys, words, said):
    def load(**_):
        raise AssertionError("TensorFlow is loaded")

    monkeypatch.setattr(command, "quiet_tensorflow", load)
    monkeypatch.setenv("TF_CONFIG", cluster_of(3))
    workdir = tmp_path / "w"
    data = [] if "--data" in words else ["--data", "synthetic"]
    assert train.main(["--recipe", "paper", "--workdir", str(workdir), *data, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not workdir.exists()
