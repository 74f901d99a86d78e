"""Versions of an export: their numbers, and that each appears whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import checkpoint
from alexnet_tf.evaluation import metrics
from alexnet_tf.export import saved_model
from alexnet_tf.export.__main__ import main
from pipelines import files
from pipelines.errors import UserError
from pipelines.pictures import preprocess
from tests.support import small_runs
from tests.support.pictures import encoded, textured
from tests.support.small_network import small_network

ROOT = Path(__file__).resolve().parents[3]
NAMES = ["cat", "dog", "fish"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder whose network is a small one."""
    network = small_network()
    monkeypatch.setattr(checkpoint, "load_network", lambda run, which: checkpoint.Trained(network, 7))
    return small_runs.create(tmp_path / "run", "synthetic", NAMES)


def export_words(run, folder, *more):
    return ["--workdir", str(run.workdir), "--export-dir", str(folder), *more]


def test_versions_count_up_and_ignore_other_names(run, tmp_path, capsys):
    folder = tmp_path / "export"
    for name in ("00000004", "9.part", "latest", "-12"):
        (folder / name).mkdir(parents=True)
    (folder / "notes.txt").touch()
    assert main(export_words(run, folder, "--json")) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["version"] == 5
    assert main(export_words(run, folder, "--version", "40")) == 0
    assert main(export_words(run, folder)) == 0
    versions = {path.name for path in folder.iterdir() if path.is_dir()}
    assert versions == {"00000004", "9.part", "latest", "-12", "5", "40", "41"}
    assert "serving_default" in tf.saved_model.load(str(folder / "41")).signatures


@pytest.mark.parametrize(
    ("version", "message"), [("3", "version 3 exists"), ("0", "must be 1 to 9223372036854775807; received 0")]
)
def test_a_version_that_cannot_be_is_one_line(run, tmp_path, capsys, version, message):
    (tmp_path / "export" / "3").mkdir(parents=True)
    assert main(export_words(run, tmp_path / "export", "--version", version)) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["3"]


def test_an_export_that_answers_otherwise_does_not_appear(run, tmp_path, monkeypatch, capsys):
    # The check compares with the network in this process; here it finds another one there.
    write = saved_model._write
    monkeypatch.setattr(saved_model, "_write", lambda folder, run, _, step: write(folder, run, other, step))
    other = small_network()
    for variable in other.weights:
        variable.assign(2.0 * variable)
    assert main(export_words(run, tmp_path / "export")) == 2
    assert "answers otherwise than the network" in capsys.readouterr().err
    assert list((tmp_path / "export").iterdir()) == []


@pytest.fixture
def overtaken(tmp_path, monkeypatch):
    """While an export is written, two others take the next two numbers."""
    write = saved_model._write

    def slow(folder, *parts):
        write(folder, *parts)
        for number in ("1", "2"):
            (tmp_path / "export" / number / "variables").mkdir(parents=True)

    monkeypatch.setattr(saved_model, "_write", slow)


def test_of_two_exports_at_once_the_later_takes_the_next_number(run, tmp_path, overtaken, capsys):
    assert main(export_words(run, tmp_path / "export", "--json")) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["version"] == 3
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["1", "2", "3"]
    assert not (tmp_path / "export" / "3" / files.LOCK_NAME).exists()


def test_a_number_that_was_asked_for_and_taken_meanwhile_is_one_line(run, tmp_path, overtaken, capsys):
    assert main(export_words(run, tmp_path / "export", "--version", "2")) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'export'}: another export has taken version 2 meanwhile; leave out --version to "
        "write the next one\n"
    )
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["1", "2"]


def test_many_exports_publish_at_once(run, tmp_path):
    """Threads whose finished folders all have the same number in mind."""

    def publish(_):
        with files.scratch(tmp_path / "export" / "1") as folder:
            (folder / "saved_model.pb").touch()
            ready.wait()
            return saved_model._publish(folder, tmp_path / "export", 1, asked=False)

    (tmp_path / "export").mkdir()
    ready = threading.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        folders = list(threads.map(publish, range(8)))
    assert sorted(int(folder.name) for folder in folders) == list(range(1, 9))
    assert {path.name for path in (tmp_path / "export").iterdir()} == {str(n) for n in range(1, 9)}


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    def full(*_args, **_options):
        raise tf.errors.ResourceExhaustedError(None, None, "variables.data: No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    assert main(export_words(run, tmp_path / "export")) == 2
    complaint = capsys.readouterr().err
    assert "No space left on device" in complaint
    assert complaint.count("\n") == 1
    assert list((tmp_path / "export").iterdir()) == []


KILLED = """
import sys, time
from pipelines import files
with files.appearing(sys.argv[1]) as folder:
    (folder / "saved_model.pb").write_bytes(b"half")
    print("half", flush=True)
    time.sleep(600)
"""


def test_a_killed_export_is_tried_again_by_a_process_of_the_same_number(run, tmp_path, monkeypatch):
    folder = tmp_path / "export"
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder / "1")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert killed.stdout.readline() == "half\n"
    killed.kill()
    killed.communicate()
    assert len(list(folder.glob("*.part"))) == 1
    monkeypatch.setattr(os, "getpid", lambda: killed.pid)
    assert main(export_words(run, folder)) == 0
    assert [path.name for path in folder.iterdir()] == ["1"]
    assert not (folder / "1" / files.LOCK_NAME).exists()
    assert "serving_default" in tf.saved_model.load(str(folder / "1")).signatures


def test_an_export_dir_that_is_a_file_is_one_line(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(export_words(run, tmp_path / "file")) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["--workdir", str(tmp_path), "--export-dir", str(tmp_path / "export")]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()


def test_a_run_without_checkpoint_is_one_line(tmp_path):
    run = small_runs.create(tmp_path / "run", "synthetic", NAMES)
    with pytest.raises(UserError, match="no checkpoint yet"):
        saved_model.export(run, tmp_path / "export")
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    "settings",
    [
        {"variant": "caffe", "crop": "227"},
        {"mean": "channel", "pixel_divisor": "1"},
        {"mean_follows_crop": "false"},
        {"resize": "224", "pad": "28"},
    ],
    ids=["caffe", "channel mean", "mean of the centre", "padded"],
)
def test_every_convention_reaches_the_graph(tmp_path, monkeypatch, settings):
    run = small_runs.create(tmp_path / "run", "synthetic", NAMES, **settings)
    network = small_network(side=run.data.crop)
    monkeypatch.setattr(checkpoint, "load_network", lambda run, which: checkpoint.Trained(network, 7))
    loaded = tf.saved_model.load(str(saved_model.export(run, tmp_path / "export")))
    picture = picture_at_hand = textured(256, 256, seed=2)
    answer = loaded.signatures["probabilities"](image_bytes=tf.constant([encoded(picture, "PNG")]))

    # The same by hand, from a picture that needs no resizing at 256.
    side = run.data.crop
    if run.data.resize == 224:
        picture = np.asarray(tf.image.resize(picture, (224, 224), "area") + 0.5).astype(np.uint8)
    first = (run.data.resize - side) // 2
    window = slice(first, first + side)
    whole = run.stats.mean_image[window, window]
    mean = run.stats.channel_mean if run.data.mean == "channel" else whole
    pixels = (picture[window, window].astype(np.float32) - mean) / run.data.pixel_divisor
    expected = tf.nn.softmax(network(pixels[np.newaxis], training=False))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-5)
    # Ten crops, each less its own part of the mean image, as `evaluate` takes them.
    image_bytes = tf.constant(encoded(picture_at_hand, "PNG"))
    evaluator = metrics.Evaluator(
        network, lambda images: preprocess.to_pixels(images, run.stats, run.data), crops=10
    )
    crops = preprocess.ten_crops(image_bytes, run.data)[tf.newaxis]
    averaged = np.sort(np.exp(evaluator.log_probabilities(crops)[0]))[::-1]
    answer = loaded.signatures["ten_crop"](image_bytes=image_bytes[tf.newaxis])
    np.testing.assert_allclose(answer["scores"][0], averaged, rtol=0, atol=1e-5)
    # Three classes have no five best.
    best = loaded.signatures["serving_default"](image_bytes=tf.constant([encoded(picture, "PNG")]))
    assert sorted(best["classes"].numpy()[0].tolist()) == [b"cat", b"dog", b"fish"]
