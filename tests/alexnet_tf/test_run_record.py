"""The run folder: written before step one, opened again, and never mixed with another run's."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf import recipe, run_record
from alexnet_tf.run_record import Run
from pipelines import files
from pipelines.config import DataConfig
from pipelines.errors import UserError
from pipelines.pictures.statistics import ImageStats

CLASSES = ("tabby, tabby cat", "größer\u2028noch", "n01440764")
READABLE = ("tabby", "größer", "tench")


def _stats(side: int = 4) -> ImageStats:
    mean = np.random.default_rng(0).uniform(0, 255, (side, side, 3)).astype("float32")
    return ImageStats(np.ones(3, "float32"), np.eye(3, dtype="float32"), mean, mean.mean(axis=(0, 1)), 9)


def _create(workdir: Path, **settings: str) -> Run:
    return Run.create(
        workdir, recipe.get("original").replace(settings), "folder:pictures", CLASSES, _stats(), READABLE
    )


def test_a_run_is_found_as_it_was_written(tmp_path: Path) -> None:
    created = _create(tmp_path / "a" / "run", seed="5", epochs="2.5")
    opened = Run.open(tmp_path / "a" / "run")
    assert opened == created
    assert dataclasses.asdict(opened.recipe) == {
        **dataclasses.asdict(recipe.get("original")),
        "seed": 5,
        "epochs": 2.5,
    }
    assert opened.data == opened.recipe.data_config("folder:pictures")
    assert isinstance(opened.data, DataConfig)
    assert (opened.class_names, opened.readable_names) == (CLASSES, READABLE)
    np.testing.assert_array_equal(opened.stats.mean_image, _stats().mean_image)
    assert opened.stats.count == 9
    assert opened.checkpoint_dir.is_dir()
    environment = opened.environment
    assert environment["packages"].keys() == set(run_record.PACKAGES)
    assert environment["packages"]["keras"][0].isdigit()
    assert environment["command"].startswith("python -m alexnet_tf.train")
    assert environment["processors"] == os.cpu_count()


def test_a_run_of_an_earlier_version_opens_with_what_it_was_trained_with(tmp_path: Path) -> None:
    """Its recipe.json lacks the younger fields, in which both conventions followed the source by halves."""
    _create(tmp_path)
    path = tmp_path / "recipe.json"
    record = json.loads(path.read_text())
    for field in ("edge_crops", "mean_follows_crop", "colour_rescale", "partial_batch"):
        del record["recipe"][field]
    record["recipe"] |= {"name": "paper", "variant": "paper", "schedule": "plateau", "colour_divisor": 1.1}
    path.write_text(json.dumps(record))
    opened = Run.open(tmp_path)
    assert (opened.data.crop_places, opened.data.mean_moves) == (33, False)
    assert (opened.data.colour_divisor, opened.data.colour_rescale) == (1.1, False)
    assert not opened.data.partial_batch


def test_readable_names_are_the_identifiers_where_nothing_else_is_said(tmp_path: Path) -> None:
    Run.create(tmp_path, recipe.get("original"), "folder:pictures", CLASSES, _stats())
    assert Run.open(tmp_path).readable_names == CLASSES


def test_the_recipe_file_holds_every_field_for_a_reader(tmp_path: Path) -> None:
    _create(tmp_path)
    record = json.loads((tmp_path / "recipe.json").read_text())
    assert record == {"recipe": dataclasses.asdict(recipe.get("original")), "data": "folder:pictures"}


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=rf"{folder}: not a run folder \(no recipe.json\)"):
            Run.open(folder)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("recipe.json", lambda text: text[: len(text) // 2]),
        ("recipe.json", lambda text: ""),
        ("recipe.json", lambda text: "[]"),
        ("recipe.json", lambda text: "{}"),
        ("recipe.json", lambda text: text.replace('"seed"', '"sed"')),
        ("recipe.json", lambda text: text.replace('"logged"', '"sometimes"')),
        ("recipe.json", lambda text: text.replace('"precision": "float32"', '"precision": "auto"')),
        ("recipe.json", lambda text: text.replace('"folder:pictures"', '"folder"')),
        ("recipe.json", lambda text: text.replace('"epochs": 90.0', '"epochs": "many"')),
        ("labels.txt", None),
        ("labels.txt", lambda text: text + "one more\n"),
        ("class_ids.txt", None),
        ("labels.txt", lambda text: b"\xff\xfe\x00"),
    ],
)
def test_a_damaged_run_is_one_line_that_names_the_file(tmp_path: Path, name: str, damage) -> None:
    _create(tmp_path)
    path = tmp_path / name
    if damage is None:
        path.unlink()
    else:
        damaged = damage(path.read_text(encoding="utf-8"))
        path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with pytest.raises(UserError) as caught:
        Run.open(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_run_goes_on_only_with_its_own_settings(tmp_path: Path) -> None:
    run = _create(tmp_path, seed="5")
    same = recipe.get("original").replace({"seed": "5"})
    run.check_same(same, "folder:pictures")
    # How often it reports and saves is no part of what it computes.
    run.check_same(
        same.replace({"log_every": "7", "checkpoint_every": "0", "keep_checkpoints": "9"}), "folder:pictures"
    )
    with pytest.raises(UserError, match=r"belongs to a run with other settings \(seed=5 there, 6 here\)"):
        run.check_same(same.replace({"seed": "6"}), "folder:pictures")
    with pytest.raises(
        UserError, match=r"\(data=folder:pictures there, synthetic here\); choose another --workdir"
    ):
        run.check_same(same, "synthetic")
    with pytest.raises(UserError, match=r"variant=original there, paper here"):
        run.check_same(recipe.get("paper").replace({"seed": "5"}), "folder:pictures")


def test_metrics_are_appended_and_repeated_steps_replaced(tmp_path: Path) -> None:
    run = _create(tmp_path)
    assert run.read_metrics() == []
    for step in (10, 20, 30):
        run.append_metrics({"step": step, "val_loss": 1 / step, "val_top5_error": math.nan})
    run.append_metrics({"step": 20, "val_loss": 0.123456789, "val_top5_error": 0.5})  # resumed after step 10
    assert run.metrics_path.read_text() == "step,val_loss,val_top5_error\n10,0.1,\n20,0.123457,0.5\n"
    first, second = run.read_metrics()
    assert (first["step"], first["val_loss"], second["val_loss"]) == (10.0, 0.1, 0.123457)
    assert math.isnan(first["val_top5_error"])
    with open(run.metrics_path, newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10", "20"]


def test_long_runs_keep_their_steps_and_their_first_digits(tmp_path: Path) -> None:
    run = _create(tmp_path)
    steps = (1_000_899, 1_000_900, 1_000_901)
    for number, step in enumerate(steps):
        run.append_metrics({"step": step, "seconds": 4_000_000.0 + number, "val_loss": 1 / 3})
    run.append_metrics({"step": 1_000_901.0, "seconds": 9e9, "val_loss": 1e-7})
    assert run.metrics_path.read_text().splitlines()[1:] == [
        "1000899,4000000,0.333333",
        "1000900,4000001,0.333333",
        "1000901,9000000000,1e-07",
    ]
    assert [row["step"] for row in run.read_metrics()] == list(steps)


def test_a_resume_takes_back_the_rows_of_steps_that_it_runs_again(tmp_path: Path) -> None:
    run = _create(tmp_path)
    run.drop_metrics_after(0)
    assert not run.metrics_path.exists()
    for step in (10, 20, 30):
        run.append_metrics({"step": step, "val_loss": 0.5})
    run.drop_metrics_after(30)
    assert len(run.read_metrics()) == 3
    run.drop_metrics_after(25)
    assert run.metrics_path.read_text() == "step,val_loss\n10,0.5\n20,0.5\n"
    run.drop_metrics_after(5)
    assert run.read_metrics() == []
    run.append_metrics({"step": 6, "val_loss": 0.25})
    assert run.metrics_path.read_text() == "step,val_loss\n6,0.25\n"


def test_metrics_of_an_earlier_version_are_read_and_kept(tmp_path: Path) -> None:
    """It wrote steps over a million with six digits; its columns are not lost where others came since."""
    run = _create(tmp_path)
    run.metrics_path.write_text("step,epoch,val_loss\n990891,99,0.125\n1.0009e+06,100,\n")
    assert [row["step"] for row in run.read_metrics()] == [990891, 1000900]
    run.append_metrics({"step": 1_010_909, "val_loss": 0.25, "dead_fc7": 0.5})
    assert run.metrics_path.read_text() == (
        "step,val_loss,dead_fc7,epoch\n990891,0.125,,99\n1.0009e+06,,,100\n1010909,0.25,0.5,\n"
    )


@pytest.mark.parametrize(
    "text", ["step,val_loss\n10,abc\n", "step\n10,2,3\n", "val_loss\n0.5\n", "step\n1\xff"]
)
def test_damaged_metrics_are_one_line_that_names_the_file(tmp_path: Path, text: str) -> None:
    run = _create(tmp_path)
    run.metrics_path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"metrics\.csv: .*"):
        run.append_metrics({"step": 20, "val_loss": 0.1})


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    files.write_text(path, "old\n")

    def full(self: Path, text: str, **settings) -> None:
        with open(self, "w") as file:
            file.write(text[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new\n")
    assert path.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_an_interrupted_creation_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """recipe.json comes last: a folder that has one has all the rest."""
    monkeypatch.setattr(run_record, "describe_environment", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _create(tmp_path)
    with pytest.raises(UserError, match="not a run folder"):
        Run.open(tmp_path)
