"""Runs of several seeds: which seeds, which folders, and their average beside what each does alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alexnet_tf import checkpoint, evaluate, run_record
from alexnet_tf.evaluation import measure
from alexnet_tf.figures import confusion, mistakes
from alexnet_tf.run_record import Run
from pipelines import dataset, sources
from pipelines.errors import UserError
from pipelines.pictures import preprocess
from tests.support import small_runs

CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_runs.folder(tmp_path_factory.mktemp("data") / "animals", CLASSES, 10)


@pytest.fixture
def networks(monkeypatch):
    """Networks by seed, in the place of those of checkpoints."""
    made = {}

    def load(run, which):
        network = made.setdefault(run.recipe.seed, small_runs.network(len(CLASSES), seed=7 * run.recipe.seed))
        return checkpoint.Trained(network, 7)

    monkeypatch.setattr(measure, "load_network", load)
    monkeypatch.setattr(confusion, "draw", lambda path, *_: path.write_text("matrix"))
    monkeypatch.setattr(mistakes, "draw", lambda path, *_: path.write_text("sheet"))
    return made


def train(workdir, data, *seeds, **settings):
    """Run folders without checkpoints, as `train --seeds` lays them out."""
    return [
        small_runs.create(path, f"folder:{data}", CLASSES, seed, val_fraction="0.3", **settings)
        for path, seed in zip(run_record.prepare(workdir, seeds), seeds, strict=True)
    ]


def probabilities(run, network):
    """Labels [n] and float64 [n, classes] of the held-out pictures, one at a time."""
    source = sources.open_source(run.data)
    examples = list(source.pick("val", range(source.count("val"))))
    mean = run.stats.mean_image[16:240, 16:240]
    rows = []
    for example in examples:
        image = preprocess.evaluation_crop(example.image_bytes, run.data).numpy().astype(np.float32)
        logits = network(((image - mean) / run.data.pixel_divisor)[np.newaxis]).numpy()[0].astype(np.float64)
        rows.append(np.exp(logits) / np.exp(logits).sum())
    return np.array([example.label for example in examples]), np.array(rows)


def errors(labels, rows):
    """Top-1 and top-5 error."""
    ranks = (rows > rows[np.arange(len(labels)), labels][:, np.newaxis]).sum(axis=1)
    return (ranks >= 1).mean(), (ranks >= 5).mean()


def figures(capsys, *arguments):
    assert evaluate.main([*map(str, arguments), "--json"]) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    return json.loads(last), shown


def error(capsys, *arguments):
    assert evaluate.main([*map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


class TestSeeds:
    @pytest.mark.parametrize(
        ("text", "first", "seeds"),
        [
            ("5", 0, (0, 1, 2, 3, 4)),
            ("2", 10, (10, 11)),
            ("1", 3, (3,)),
            ("3,7,11", 5, (3, 7, 11)),
            (" 9, 0 ", -1, (9, 0)),
        ],
    )
    def test_how_many_or_which(self, text, first, seeds):
        assert run_record.parse_seeds(text, first) == seeds

    @pytest.mark.parametrize("text", ["", "five", "1.5", "-3", "1,,2", "1,-2", "3,", "²"])
    def test_no_numbers(self, text):
        with pytest.raises(UserError, match=r"--seeds takes how many \(5\) or which \(3,7,11\).*received '"):
            run_record.parse_seeds(text)

    @pytest.mark.parametrize("text", ["0", "1001"])
    def test_too_few_or_too_many(self, text):
        with pytest.raises(UserError, match=f"how many must lie between 1 and 1000; received '{text}'"):
            run_record.parse_seeds(text)

    def test_a_seed_given_twice(self):
        with pytest.raises(UserError, match="received 3 twice"):
            run_record.parse_seeds("3,7,03")

    def test_counting_from_a_negative_seed(self):
        with pytest.raises(UserError, match="0 or more; received -1"):
            run_record.parse_seeds("5", -1)


class TestFolders:
    def test_members_by_number(self, tmp_path):
        folders = run_record.prepare(tmp_path, (10, 2, 0))
        assert folders == [run_record.folder(tmp_path, seed) for seed in (10, 2, 0)]
        assert [path.name for path in run_record.members(tmp_path)] == ["seed-0", "seed-2", "seed-10"]
        assert run_record.prepare(tmp_path, (0, 3)) == [tmp_path / "seed-0", tmp_path / "seed-3"]

    def test_strays_are_no_members(self, tmp_path):
        run_record.prepare(tmp_path, [4])
        for name in ("seed-", "seed-x", "seed-04", "seed-1.old", "my-seed-2", "evaluation-ensemble"):
            (tmp_path / name).mkdir()
        (tmp_path / "seed-5").write_text("a file")
        assert run_record.members(tmp_path) == [tmp_path / "seed-4"]

    def test_a_single_run_has_no_members(self, tmp_path, data):
        small_runs.create(tmp_path / "run", f"folder:{data}", CLASSES)
        (tmp_path / "run" / "seed-1").mkdir()
        assert run_record.members(tmp_path / "run") == []
        assert run_record.members(tmp_path / "nothing") == []
        with pytest.raises(UserError, match=r"run: holds a single run; choose another --workdir"):
            run_record.prepare(tmp_path / "run", [0])

    def test_one_run_is_wanted(self, tmp_path, data):
        for seed in range(7):
            small_runs.create(tmp_path / f"seed-{seed}", f"folder:{data}", CLASSES, seed)
        with pytest.raises(UserError) as caught:
            Run.open(tmp_path)
        listed = ", ".join(str(tmp_path / f"seed-{seed}") for seed in range(5))
        expected = f"{tmp_path}: holds runs of several seeds; give one of them: {listed}, ..."
        assert str(caught.value) == expected


def test_the_average_beside_its_members(tmp_path, data, networks, capsys):
    runs = train(tmp_path, data, 1, 2, 3)
    found, shown = figures(capsys, "--workdir", tmp_path, "--batch-size", 4)
    assert found["workdirs"] == [str(tmp_path / f"seed-{seed}") for seed in (1, 2, 3)]
    assert found["out"] == str(tmp_path / "evaluation-ensemble")
    with open(tmp_path / "evaluation-ensemble" / "summary.json", encoding="utf-8") as file:
        assert json.load(file) == found

    each = [probabilities(run, networks[run.recipe.seed]) for run in runs]
    labels = each[0][0]
    top1, top5 = errors(labels, np.mean([rows for _, rows in each], axis=0))
    assert (found["top1_error"], found["top5_error"]) == (pytest.approx(top1), pytest.approx(top5))
    expected = [errors(*pair) for pair in each]
    assert len(set(expected)) > 1  # or the members could be mixed up
    for run, member, (top1, top5), (_, rows) in zip(runs, found["members"], expected, each, strict=True):
        assert member["workdir"] == str(run.workdir)
        assert (member["top1_error"], member["top5_error"]) == (pytest.approx(top1), pytest.approx(top5))
        assert (member["top1_wrong"], member["count"]) == (round(top1 * len(labels)), len(labels))
        log_loss = -np.log(rows[np.arange(len(labels)), labels]).mean()
        assert member["loss"] == pytest.approx(log_loss, rel=1e-4)
    mean1, mean5 = np.mean(expected, axis=0)
    assert found["members_mean"]["top1_error"] == pytest.approx(mean1)
    assert found["members_mean"]["top5_error"] == pytest.approx(mean5)

    for name, (top1, top5) in zip(["seed-1", "seed-2", "seed-3"], expected, strict=True):
        assert f"{name:<11}  top-1 {100 * top1:.2f} %, top-5 {100 * top5:.2f} %" in shown
    assert f"mean of 3    top-1 {100 * mean1:.2f} %, top-5 {100 * mean5:.2f} %" in shown


def test_sweeps_and_runs_are_averaged_together(tmp_path, data, networks, capsys):
    train(tmp_path / "five", data, 1, 2)
    (other,) = train(tmp_path / "others", data, 3)
    found, shown = figures(capsys, "--workdir", tmp_path / "five", other.workdir, "--crops", 10)
    assert found["runs"] == len(found["members"]) == 3
    assert found["out"] == str(tmp_path / "five" / "evaluation-ensemble-ten-crop")
    train(tmp_path / "seven", data, 2, pixel_divisor="30")
    found, shown = figures(capsys, "--workdir", tmp_path / "five", tmp_path / "seven")
    names = [line.split("  ")[0] for line in shown if "  top-1 " in line]
    assert names == [*(row["workdir"] for row in found["members"]), "mean of 3"]  # two are called seed-2


def test_members_share_the_pictures_that_they_prepare_alike(tmp_path, data, networks, capsys, monkeypatch):
    built, build = [], dataset.build
    monkeypatch.setattr(measure.dataset, "build", lambda *a, **k: (built.append(a[1]), build(*a, **k))[1])
    train(tmp_path, data, 1, 2)
    figures(capsys, "--workdir", tmp_path)
    assert len(built) == 1
    (other,) = train(tmp_path / "other", data, 3, mirror="false")
    figures(capsys, "--workdir", tmp_path, other.workdir)
    assert len(built) == 3


def test_a_sweep_of_one_and_a_single_run(tmp_path, data, networks, capsys):
    (run,) = train(tmp_path, data, 5)
    one, shown = figures(capsys, "--workdir", tmp_path)
    single, shown_too = figures(capsys, "--workdir", run.workdir)
    assert (one["out"], single["out"]) == (
        str(tmp_path / "evaluation-ensemble"),
        str(run.workdir / "evaluation"),
    )
    for found in (one, single):
        (member,) = found["members"]
        for name in ("top1_error", "top5_error", "loss"):
            assert member[name] == found[name] == found["members_mean"][name]
    assert not [line for line in [*shown, *shown_too] if "mean of" in line]


def test_few_classes_have_no_top5_error(tmp_path, networks, capsys):
    data = small_runs.folder(tmp_path / "data", CLASSES[:5], 3)
    for seed in (0, 1):
        small_runs.create(tmp_path / f"seed-{seed}", f"folder:{data}", CLASSES[:5], seed)
    networks.update({seed: small_runs.network(5, seed) for seed in (0, 1)})
    found, shown = figures(capsys, "--workdir", tmp_path)
    assert found["members_mean"]["top5_error"] is found["members"][0]["top5_error"] is None
    assert [line.count("%") for line in shown if line.startswith(("seed-", "mean"))] == [1, 1, 1]


def test_a_member_that_has_not_begun(tmp_path, data, capsys):
    train(tmp_path, data, 0)
    run_record.prepare(tmp_path, range(3))
    assert f"{tmp_path}: not begun: seed-1, seed-2; train" in error(capsys, "--workdir", tmp_path)


def test_a_member_without_a_checkpoint(tmp_path, data, capsys):
    train(tmp_path, data, 4)
    assert "seed-4: the run has no checkpoint yet" in error(capsys, "--workdir", tmp_path)


def test_a_member_that_has_diverged_is_named(tmp_path, data, networks, capsys):
    train(tmp_path, data, 1, 2)
    networks[2] = small_runs.network(len(CLASSES))
    networks[2].layers[-1].bias.assign([np.nan] * len(CLASSES))
    line = error(capsys, "--workdir", tmp_path)
    assert line.startswith(f"error: {tmp_path / 'seed-2'}: ")
    assert "not finite" in line


def test_a_run_counts_once(tmp_path, data, capsys, monkeypatch):
    (run, _) = train(tmp_path / "five", data, 1, 2)
    monkeypatch.chdir(tmp_path)
    line = error(capsys, "--workdir", "five", run.workdir)
    assert "seed-1: given twice" in line


def test_a_folder_of_nothing(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "not a run folder" in error(capsys, "--workdir", tmp_path / "empty")
