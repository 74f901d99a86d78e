"""The command `prepare`, as a user meets it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import dataset, prepare
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.sources import open_source

# What folders of records lack that were written before there was a choice.
NEW_SETTINGS = {"exif_orientation", "resize_rule"}
ROOT = Path(__file__).resolve().parents[2]


def run(capsys, *arguments):
    """Exit status, the JSON object or None, and the lines on stderr that are errors."""
    status = prepare.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    figures = json.loads(captured.out.splitlines()[-1]) if captured.out else None
    return status, figures, [line for line in captured.err.splitlines() if line.startswith("error: ")]


def test_prepares_verifies_and_goes_on(capsys, class_folder, tmp_path):
    data, out = f"folder:{class_folder({'cat': 10, 'dog': 10})}", tmp_path / "new" / "records"
    command = ("--data", data, "--out", out, "--size", 16, "--seed", 3, "--val-fraction", 0.2, "--json")
    status, figures, errors = run(capsys, *command)
    assert (status, errors) == (0, [])
    assert (figures["pictures"], figures["skipped"], figures["shards_written"]) == (20, 0, 2)
    assert figures["pictures_per_second"] > 0
    source = open_source(DataConfig(f"records:{out}", resize=16, crop=16))
    assert (source.prepared_size, source.count("train") + source.count("val")) == (16, 20)

    assert run(capsys, "--verify", out, "--json") == (0, {"pictures": 20, "shards": 2}, [])
    shard = out / "val-00000-of-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    status, _, errors = run(capsys, "--verify", out)
    assert status == 2
    assert len(errors) == 1
    assert str(shard) in errors[0]

    status, figures, _ = run(capsys, *command)
    assert (status, figures["shards_kept"], figures["shards_written"]) == (0, 1, 1)
    assert run(capsys, "--verify", out)[0] == 0


def test_the_encoding_is_chosen_once(capsys, class_folder, tmp_path):
    out = tmp_path / "r"
    command = ("--data", f"folder:{class_folder({'cat': 4, 'dog': 4})}", "--out", out, "--size", 16)
    assert run(capsys, *command, "--encoding", "png")[2] == [
        "error: --encoding must be jpeg or ppm; received 'png'"
    ]
    assert run(capsys, *command, "--encoding", "ppm", "--json")[1]["pictures"] == 8
    (error,) = run(capsys, *command)[2]
    assert "`encoding` is ppm; received jpeg" in error


def test_broken_pictures_are_counted(capsys, class_folder, tmp_path):
    folder = class_folder({"cat": 4, "dog": 4})
    (folder / "cat" / "broken.jpg").write_bytes(b"")
    _, figures, _ = run(capsys, "--data", f"folder:{folder}", "--out", tmp_path / "r", "--size", 16, "--json")
    assert (figures["pictures"], figures["skipped"]) == (8, 1)
    assert "cat/broken.jpg,empty file" in (tmp_path / "r" / "skipped.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "folder:none", "--out", "r"], ["none", "no such folder"]),
        (["--data", "floder:x", "--out", "r"], ["floder:x"]),
        (["--data", "synthetic", "--out", "r", "--size", "0"], ["--size", "received 0"]),
        (["--data", "synthetic", "--out", "r", "--val-fraction", "2"], ["val_fraction", "received 2.0"]),
        (["--verify", "none"], ["none", "no such folder"]),
        (["--data", "synthetic:24,24", "--out", "file"], ["file"]),
    ],
)
def test_a_users_mistake_is_one_line(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    status, figures, errors = run(capsys, *arguments)
    assert (status, figures, len(errors)) == (2, None, 1)
    assert all(word in errors[0] for word in words)


def test_half_a_command_shows_the_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        prepare.main(["--data", "synthetic"])
    assert stop.value.code == 2
    assert "give --data and --out, or --verify" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_started_again_ends_with_the_same_bytes(class_folder, tmp_path):
    data = f"folder:{class_folder({'cat': 1200, 'dog': 1200})}"

    def command(out):
        return [
            sys.executable,
            "-m",
            "pipelines.prepare",
            "--data",
            data,
            "--out",
            str(tmp_path / out),
            "--size",
            "32",
        ]

    def content(out):
        return {path.name: path.read_bytes() for path in sorted((tmp_path / out).iterdir())}

    subprocess.run(command("whole"), cwd=ROOT, check=True, capture_output=True)
    process = subprocess.Popen(
        command("killed"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    index = tmp_path / "killed" / "records.json"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (index.exists() and json.loads(index.read_text())["shards"]):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(json.loads(index.read_text())["shards"]) < 4
    subprocess.run(command("killed"), cwd=ROOT, check=True, capture_output=True)
    assert content("killed") == content("whole")


def test_the_rule_and_the_orientation_are_those_of_the_records(capsys, class_folder, tmp_path):
    out = tmp_path / "r"
    command = ("--data", f"folder:{class_folder({'cat': 4, 'dog': 4})}", "--out", out)
    assert run(capsys, *command, "--resize-rule", "warp_16", "--json")[1]["pictures"] == 8
    for other, words in (
        (("--resize-rule", "short_side_16"), "`resize_rule` is warp; received short_side"),
        (("--resize-rule", "warp_16", "--no-exif-orientation"), "`exif_orientation` is True; received False"),
        (("--resize-rule", "warp_16", "--size", 20), "resize_rule=warp_16, resize=20"),
    ):
        (error,) = run(capsys, *command, *other)[2]
        assert words in error
    warped = DataConfig(f"records:{out}", resize=16, crop=16, resize_rule="warp")
    source = open_source(warped)
    assert dataset.build(source, warped, "train", 2, training=True, stats=source.stored_stats())
    plain = dataclasses.replace(warped, resize_rule="short_side")
    with pytest.raises(DataError, match="prepared with resize_rule=warp; received resize_rule=short_side"):
        dataset.build(open_source(plain), plain, "val", 2, training=False)
    index = out / "records.json"
    older = {k: v for k, v in json.loads(index.read_text()).items() if k not in NEW_SETTINGS}
    index.write_text(json.dumps(older))
    assert dataset.build(open_source(plain), plain, "val", 2, training=False)
