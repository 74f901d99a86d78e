"""A run folder while it is trained in: one training at a time, leftovers of killed ones, new devices."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from alexnet_tf import model, recipe, run_record, train
from alexnet_tf.run_record import Run
from alexnet_tf.training import placement, run_folder
from alexnet_tf.training.run_folder import LOCK_FILE
from pipelines import files, scan
from pipelines.errors import DataError, UserError
from pipelines.sources.source import SPLITS
from tests.support import small_runs
from tests.support.tiny_network import tiny_network
from tests.support.training import arguments


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)


def hold(path, held, release):
    with files.exclusive(path, "a training"):
        held.set()
        release.wait(60)


def test_two_trainings_do_not_share_a_folder(tmp_path, capsys):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    (tmp_path / "w").mkdir()
    other = context.Process(target=hold, args=(tmp_path / "w" / LOCK_FILE, held, release))
    other.start()
    try:
        assert held.wait(60)
        assert train.main(arguments(tmp_path / "w")) == 2
        line = capsys.readouterr().err
        assert f"{tmp_path / 'w'}: a training is under way there already (process {other.pid})" in line
        release.set()
        other.join()
        assert train.main(arguments(tmp_path / "w")) == 0
    finally:
        other.kill()
        other.join()


def test_a_lock_is_free_once_its_holder_is_killed(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "lock", held, release))
    other.start()
    assert held.wait(60)
    with (
        pytest.raises(DataError, match="a training is under way"),
        files.exclusive(tmp_path / "lock", "a training"),
    ):
        pass
    other.kill()
    other.join()
    with files.exclusive(tmp_path / "lock", "a training"):
        pass


def test_what_a_killed_training_left_half_written_is_removed(tmp_path):
    left = [
        tmp_path / "w" / "checkpoints" / "step-00000003.npz.77.part",
        tmp_path / "w" / "metrics.csv.77.part",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert train.main(arguments(tmp_path / "w")) == 0
    assert not any(path.exists() for path in left)


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    assert train.main(arguments(tmp_path / "file" / "w")) == 2
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1
    assert str(Path(tmp_path / "file" / "w")) in line


SMALL = {"batch_size": "8", "precision": "float32", "resize": "224", "pad": "0", "val_fraction": "0.3"}


@pytest.fixture
def pictures(class_folder) -> Path:
    return class_folder({"cat": 10, "dog": 10})


@pytest.fixture
def scans(monkeypatch) -> list[str]:
    """The data sets that were scanned, by a scan that decodes nothing: empty files are broken pictures."""
    looked_at: list[str] = []

    def look(source, config, *, strict=False):
        looked_at.append(config.spec)
        examples = [e for split in SPLITS for e in source.pick(split, range(source.count(split)))]
        broken = tuple(scan.Skipped(e.key, "empty") for e in examples if not e.image_bytes)
        return scan.Scan(small_runs.stats(config.resize), broken)

    monkeypatch.setattr(scan, "scan", look)
    return looked_at


def opened(workdir: Path, spec: str, **settings: str) -> Run:
    """Opens a run folder as a training does, and lets go of it."""
    wanted = recipe.get("quickstart").replace({**SMALL, **settings})
    with run_folder.opened(workdir, wanted, spec, placement.place()) as run:
        return run


def checkpointed(run: Run) -> Run:
    """The same run once it has saved."""
    (run.checkpoint_dir / "step-00000001.npz").touch()
    return run


def test_a_batch_larger_than_the_set_is_refused_before_the_scan(pictures, tmp_path, scans):
    with pytest.raises(DataError, match=r"fewer than one batch; received batch_size=64"):
        opened(tmp_path / "w", f"folder:{pictures}", batch_size="64")
    assert scans == []
    assert not (tmp_path / "w" / "recipe.json").exists()
    assert opened(tmp_path / "w", f"folder:{pictures}").recipe.batch_size == 8


def test_a_batch_larger_than_what_can_be_read_writes_no_run(pictures, tmp_path, scans):
    for number in range(8):
        (pictures / "cat" / f"{number:04d}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds \d+ pictures, fewer than one batch"):
        opened(tmp_path / "w", f"folder:{pictures}", batch_size="14")
    assert len(scans) == 1
    assert not (tmp_path / "w" / "recipe.json").exists()


def test_a_folder_without_a_checkpoint_is_begun_anew(pictures, tmp_path, capsys, scans):
    spec, workdir = f"folder:{pictures}", tmp_path / "w"
    run = opened(workdir, spec)
    run.append_metrics({"step": 3, "val_loss": 1.0})
    (workdir / "tensorboard").mkdir()
    capsys.readouterr()
    opened(workdir, spec)  # the same again needs no word
    assert "begun anew" not in capsys.readouterr().out

    run = opened(workdir, spec, learning_rate="0.001", epochs="3")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "anew" in line]
    assert line == (
        f"{workdir}: begun anew (learning_rate=0.015 before, 0.001 now; epochs=1.25 before, 3 now), "
        "as it has no checkpoint yet"
    )
    assert Run.open(workdir) == run
    assert run.recipe.learning_rate == 0.001
    assert run.read_metrics() == []
    assert not (workdir / "tensorboard").exists()

    shutil.copytree(pictures / "cat", pictures / "ant")
    run = opened(workdir, spec, learning_rate="0.001", epochs="3")
    assert "begun anew ('ant' is new; 3 classes, 2 in the run)" in capsys.readouterr().out
    assert run.class_names == ("ant", "cat", "dog")
    run.open_source(training=True)


def test_with_a_checkpoint_other_settings_are_refused(pictures, tmp_path, scans):
    spec = f"folder:{pictures}"
    checkpointed(opened(tmp_path / "w", spec))
    with pytest.raises(UserError, match=r"other settings \(learning_rate=0.015 there, 0.001 here\)"):
        opened(tmp_path / "w", spec, learning_rate="0.001")
    assert opened(tmp_path / "w", spec + "/", epochs="7").recipe.epochs == 7


def test_data_that_moved_go_on_from_their_new_place(pictures, tmp_path, capsys, scans):
    there, here = f"folder:{pictures}", f"folder:{pictures.with_name('moved')}"
    checkpointed(opened(tmp_path / "w", there))
    shutil.copytree(pictures, pictures.with_name("moved"))
    (pictures.with_name("moved") / "cat" / "0003.jpg").unlink()
    with pytest.raises(UserError, match=r"on other data \(.* there, .* here: 1 .* picture gone\)"):
        opened(tmp_path / "w", here)
    shutil.copy(pictures / "cat" / "0003.jpg", pictures.with_name("moved") / "cat")
    shutil.rmtree(pictures)
    with pytest.raises(DataError, match=r"no such folder.*; --data says where the data now lie"):
        opened(tmp_path / "w", there).open_source(training=True)
    capsys.readouterr()
    run = opened(tmp_path / "w", here)
    assert capsys.readouterr().out == f"{tmp_path / 'w'}: its data now lie at {here}\n"
    assert run.data.spec == here
    run.open_source(training=True)
    assert Run.open(tmp_path / "w").data.spec == here
    assert json.loads((tmp_path / "w" / "recipe.json").read_text())["data"] == here
    opened(tmp_path / "w", here)
    assert capsys.readouterr().out == ""
    assert scans == [there]


def test_the_runs_of_a_sweep_share_a_scan_of_the_same_pictures(pictures, tmp_path, scans):
    spec = f"folder:{pictures}"
    (pictures / "cat" / "0001.jpg").write_bytes(b"")
    run_record.prepare(tmp_path / "w", range(3))
    for seed in (0, 1):
        checkpointed(opened(tmp_path / "w" / f"seed-{seed}", spec, seed=str(seed)))
    assert scans == [spec]
    assert (tmp_path / "w" / "seed-1" / "skipped.csv").exists()
    shutil.copy(pictures / "cat" / "0000.jpg", pictures / "cat" / "new.jpg")
    with pytest.raises(UserError, match=r"not the pictures with which .*seed-0 began \(1 .* picture more\)"):
        opened(tmp_path / "w" / "seed-2", spec, seed="2")
