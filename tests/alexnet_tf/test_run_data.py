"""Data of a run: other classes and exchanged pictures are noticed before they do harm, moved ones go on."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf import run_data
from alexnet_tf.run_data import PICTURES_FILE, Pictures
from alexnet_tf.run_record import Run
from pipelines import sources
from pipelines.errors import DataError, UserError
from pipelines.sources.source import SPLITS
from tests.support import small_runs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Class folders of which a share is held out; nothing in them is decoded."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "data" / name / f"{number:03d}.jpg").touch()
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Run:
    return _run(tmp_path / "w", f"folder:{data}")


def _run(workdir: Path, spec: str) -> Run:
    """A run folder as a training writes it."""
    run = small_runs.create(workdir, spec, ["cat", "dog"], val_fraction="0.3")
    Pictures.of(sources.open_source(run.data)).save(workdir)
    return run


def _keys(source, split: str) -> set[str]:
    return {example.key for example in source.pick(split, range(source.count(split)))}


def test_unchanged_data_are_opened_without_a_word(run: Run, capsys) -> None:
    for training in (False, True):
        source = run.open_source(training=training)
        assert source.count("train") + source.count("val") == 40
    assert capsys.readouterr().err == ""


def _rename(data: Path) -> None:
    (data / "cat").rename(data / "zebra")


def _add(data: Path) -> None:
    shutil.copytree(data / "cat", data / "ant")


def _remove(data: Path) -> None:
    shutil.copytree(data / "cat", data / "ant")
    shutil.rmtree(data / "cat")
    shutil.rmtree(data / "dog")
    shutil.copytree(data / "ant", data / "bee")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_rename, r"'cat' of the run is not among them; 'zebra' is new; label 0 is 'dog', 'cat' in the run"),
        (_add, r"'ant' is new; 3 classes, 2 in the run"),
        (_remove, r"'cat', 'dog' of the run are not among them; 'ant', 'bee' are new"),
    ],
)
def test_other_classes_are_refused(run: Run, data: Path, change, words: str, training: bool) -> None:
    change(data)
    with pytest.raises(UserError, match=words) as caught:
        run.open_source(training=training)
    line = str(caught.value)
    assert line.startswith(f"folder:{data}: its classes are not those of the run {run.workdir} (")
    assert "\n" not in line


def test_a_training_goes_on_only_with_all_of_its_pictures(run: Run, data: Path) -> None:
    source = sources.open_source(run.data)
    training, validation = (min(_keys(source, split)) for split in SPLITS)
    for key, word in ((training, "training"), (validation, "validation")):
        content = (data / key).read_bytes()
        (data / key).unlink()
        with pytest.raises(UserError, match=rf"not the pictures .* began \(1 {word} picture gone\); restore"):
            run.open_source(training=True)
        (data / key).write_bytes(content)
    for number in range(100, 130):
        (data / "cat" / f"{number}.jpg").touch()
    with pytest.raises(UserError, match=r"\(\d+ training pictures more, \d+ validation pictures? more\)"):
        run.open_source(training=True)


def test_new_validation_pictures_are_told_once(run: Run, data: Path, capsys) -> None:
    for number in range(100, 160):
        (data / "cat" / f"{number}.jpg").touch()
    for _ in range(2):
        run.open_source()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: folder:{data}: not the validation pictures of the run {run.workdir} (")
    assert "more" in line


def test_training_pictures_are_never_validation_pictures(run: Run, data: Path) -> None:
    """One that trained is given a folder of its own for validation, as sorting by hand would."""
    moved = dataclasses.replace(run.data, data_seed=5)
    with pytest.raises(
        UserError, match=r"of its \d+ validation pictures trained the run .*; restore the data"
    ):
        run_data.check(run, sources.open_source(moved))


def test_a_split_of_its_own_that_took_training_pictures(tmp_path: Path, class_folder) -> None:
    root = class_folder({"cat": 6, "dog": 6}, "own/train").parent
    class_folder({"cat": 2, "dog": 2}, "own/val")
    run = _run(tmp_path / "w", f"folder:{root}")
    run.open_source()
    (root / "train" / "cat" / "0000.jpg").rename(root / "val" / "cat" / "0100.jpg")
    with pytest.raises(UserError, match=r"\(1 training picture gone, 1 validation picture more\)"):
        run.open_source(training=True)


@pytest.mark.parametrize("named", ["{}/", "{}//", "{}/../data", "{}/./"])
def test_one_place_has_many_names(run: Run, data: Path, named: str) -> None:
    assert run_data.same_place(run.data.spec, "folder:" + named.format(data))
    run.check_same(run.recipe, "folder:" + named.format(data))


def test_relative_and_absolute_names_of_a_place(data: Path, monkeypatch) -> None:
    monkeypatch.chdir(data.parent)
    monkeypatch.setenv("HOME", str(data.parent))
    assert run_data.same_place("folder:data", f"folder:{data}")
    assert run_data.same_place("folder:~/data", f"folder:{data}")
    assert not run_data.same_place("records:data", f"folder:{data}")
    assert not run_data.same_place("tfds:data", f"tfds:{data}")
    assert run_data.same_place("synthetic", "synthetic")


def test_data_that_moved_are_still_the_run_s_own(run: Run, data: Path) -> None:
    (run.workdir / "skipped.csv").write_text("key,reason\ncat/003.jpg,damaged\n")
    data.rename(data.with_name("moved"))
    with pytest.raises(DataError, match=r"data: no such folder.*; --data says where the data now lie"):
        run.open_source()
    moved = run.open_source(f"folder:{data.with_name('moved')}")
    assert moved.count("train") + moved.count("val") == 39  # what was broken there is left out here, too

    shutil.rmtree(data.with_name("moved") / "dog")
    (data.with_name("moved") / "dog").mkdir()
    (data.with_name("moved") / "dog" / "new.jpg").touch()
    others = run.open_source(f"folder:{data.with_name('moved')}")
    assert others.count("train") + others.count("val") == 21


def test_runs_without_a_record_of_their_pictures(run: Run, capsys) -> None:
    (run.workdir / PICTURES_FILE).unlink()
    run.open_source()
    (line,) = capsys.readouterr().err.splitlines()
    assert "trained the run" in line
    assert "is unknown" in line
    with pytest.raises(
        UserError, match="a share is now held out by another rule; train in another --workdir"
    ):
        run.open_source(training=True)


def test_where_the_data_have_a_split_of_their_own_an_older_run_goes_on(tmp_path: Path, capsys) -> None:
    names = sources.open_source(small_runs.create(tmp_path / "x", "synthetic:24,12", ["a"]).data).class_names
    older = small_runs.create(tmp_path / "w", "synthetic:24,12", names)
    assert older.open_source(training=True).count("val") == 12
    assert capsys.readouterr().err == ""


def test_a_damaged_record_of_pictures_is_one_line(run: Run) -> None:
    path = run.workdir / PICTURES_FILE
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=rf"{path}: damaged \("):
        run.open_source()


def test_changes_in_words() -> None:
    before = Pictures(np.array([1, 2, 3], np.uint64), np.array([7], np.uint64))
    now = Pictures(np.array([1, 4, 5], np.uint64), np.array([7, 8], np.uint64))
    assert before.changes(before) == ""
    assert before.changes(now) == (
        "2 training pictures more, 2 training pictures gone, 1 validation picture more"
    )
    assert before.changes(Pictures(before.train, before.val[:0]), "shards") == "1 validation shard gone"
