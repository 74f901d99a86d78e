"""Which pictures runs are measured on: the same, of the same classes, and none that trained one of them."""

from __future__ import annotations

import pytest

from alexnet_tf import evaluate
from alexnet_tf.evaluation import validation
from alexnet_tf.run_data import Pictures
from pipelines.errors import DataError, UserError
from pipelines.sources import open_source
from tests.support import small_runs

CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_runs.folder(tmp_path_factory.mktemp("data") / "animals", CLASSES, 10)


def held_out(run) -> set[str]:
    source = open_source(run.data)
    return {example.key for example in source.pick("val", range(source.count("val")))}


def two_runs(tmp_path, spec, *seeds):
    return [small_runs.create(tmp_path / f"run{seed}", spec, CLASSES, data_seed=str(seed)) for seed in seeds]


def test_runs_that_held_out_other_pictures_are_not_mixed(tmp_path, data):
    one, two = two_runs(tmp_path, f"folder:{data}", 1, 2)
    trained_on = len(held_out(one) - held_out(two))
    assert trained_on > 0
    with pytest.raises(
        UserError,
        match=rf"run2: was trained on {trained_on} of the {len(held_out(one))} pictures that .*run1 held out",
    ):
        validation.open_pictures([one, two], one.data)


def test_runs_of_several_seeds_share_their_pictures(tmp_path, data):
    one = small_runs.create(tmp_path / "one", f"folder:{data}", CLASSES, seed=1)
    two = small_runs.create(tmp_path / "two", f"folder:{data}", CLASSES, seed=2, pixel_divisor="20")
    found = validation.open_pictures([one, two], one.data)
    assert {
        example.key for example in found.source.pick("val", range(found.source.count("val")))
    } == held_out(one)
    assert (found.left_out, found.split, found.own_validation) == (0, "val", True)


def test_a_run_s_own_data_may_lie_elsewhere(tmp_path):
    data = small_runs.folder(tmp_path / "here", CLASSES, 3)
    run = small_runs.create(tmp_path / "run", f"folder:{data}", CLASSES)
    Pictures.of(open_source(run.data)).save(run.workdir)
    expected = held_out(run)
    data.rename(tmp_path / "there")
    found = validation.open_pictures([run], run.recipe.data_config(f"folder:{tmp_path / 'there'}"))
    picked = found.source.pick("val", range(found.source.count("val")))
    assert (found.split, found.own_validation) == ("val", True)
    assert {example.key for example in picked} == expected
    with pytest.raises(DataError, match="--data says where the data now lie"):
        validation.open_pictures([run], run.data)


def test_data_seeds_do_not_matter_where_the_data_has_its_own_val_split(tmp_path):
    small_runs.folder(tmp_path / "data" / "train", CLASSES, 1)
    small_runs.folder(tmp_path / "data" / "val", CLASSES, 1, seed=50)
    runs = two_runs(tmp_path, f"folder:{tmp_path / 'data'}", 1, 2)
    assert validation.open_pictures(runs, runs[0].data).source.count("val") == 7


def test_runs_of_other_classes_cannot_be_averaged(tmp_path, data):
    one = small_runs.create(tmp_path / "one", f"folder:{data}", CLASSES)
    two = small_runs.create(tmp_path / "two", f"folder:{data}", (*CLASSES[:6], "yak"))
    with pytest.raises(
        UserError, match=r"two: only runs of the same classes .*label 6 is 'yak', 'gnu' in the run"
    ):
        validation.check_runs([one, two], None)


def test_runs_of_other_data_need_to_be_told_which(tmp_path, data):
    one = small_runs.create(tmp_path / "one", f"folder:{data}", CLASSES)
    two = small_runs.create(tmp_path / "two", "synthetic:24,24", CLASSES)
    with pytest.raises(UserError, match="say with --data"):
        validation.check_runs([one, two], None)
    assert validation.check_runs([one, two], f"folder:{data}") is None


def test_data_of_other_classes_is_one_line(tmp_path, data, capsys):
    run = small_runs.create(tmp_path / "run", f"folder:{data}", CLASSES)
    other = small_runs.folder(tmp_path / "other", CLASSES[:3], 2)
    assert evaluate.main(["--workdir", str(run.workdir), "--data", f"folder:{other}"]) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert "3 classes, 7 in the run" in captured
