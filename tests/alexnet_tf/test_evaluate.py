"""The evaluate command: its figures against plain loops over the same pictures, its report, its errors."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_tf import checkpoint, evaluate
from alexnet_tf.evaluation import measure
from alexnet_tf.figures import confusion, mistakes
from pipelines import scan, sources
from pipelines.pictures import preprocess
from pipelines.sources.source import Example
from tests.support import small_runs

CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")
PICTURES = 10  # a class
DRAW_CONFUSION, DRAW_MISTAKES = confusion.draw, mistakes.draw


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_runs.folder(tmp_path_factory.mktemp("data") / "animals", CLASSES, PICTURES)


@pytest.fixture
def networks(monkeypatch):
    """Networks by the name of their run folder, made at first use; a test may put its own here."""
    made = {}

    def load(run, which):
        key = run.workdir.name
        if key not in made:
            made[key] = small_runs.network(len(run.class_names), seed=run.recipe.seed + len(key))
        return checkpoint.Trained(made[key], 7)

    monkeypatch.setattr(measure, "load_network", load)
    # Drawing takes longer than everything else: one test has it done.
    monkeypatch.setattr(confusion, "draw", lambda path, *_: path.write_text("matrix"))
    monkeypatch.setattr(mistakes, "draw", lambda path, *_: path.write_text("sheet"))
    return made


@pytest.fixture
def run(tmp_path, data, networks):
    return small_runs.create(tmp_path / "run", f"folder:{data}", CLASSES, val_fraction="0.3")


class Faultless:
    """Knows every picture by the sum of its pixels."""

    def __init__(self, examples: list[Example], run) -> None:
        self.output_shape = (None, len(run.class_names))
        crops = np.stack([preprocess.evaluation_crop(e.image_bytes, run.data).numpy() for e in examples])
        self.sums = tf.reduce_sum(
            preprocess.to_pixels(tf.constant(crops), run.stats, run.data), axis=(1, 2, 3)
        )
        self.labels = tf.constant([e.label for e in examples])

    def __call__(self, pixels, training):
        sums = tf.reduce_sum(pixels, axis=(1, 2, 3))
        nearest = tf.argmin(tf.abs(sums[:, tf.newaxis] - self.sums), axis=1)
        return tf.one_hot(tf.gather(self.labels, nearest), self.output_shape[1])


def held_out(run) -> list[Example]:
    source = sources.open_source(run.data)
    return list(source.pick("val", range(source.count("val"))))


def probabilities(run, network, example: Example, crops: int = 1) -> np.ndarray:
    """One picture at a time, crop by crop: float64 [classes]."""
    if crops == 10:
        images = preprocess.ten_crops(example.image_bytes, run.data).numpy()
    else:
        images = preprocess.evaluation_crop(example.image_bytes, run.data).numpy()[np.newaxis]
    whole = run.stats.mean_image
    means = [whole[16:240, 16:240]]
    if crops == 10:  # the mean is subtracted before the crop [P 2]
        corners = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
        means = [whole[top : top + 224, left : left + 224] for top, left in corners]
        means += [mean[:, ::-1] for mean in means]
    total = np.zeros(len(run.class_names))
    for image, mean in zip(images, means, strict=True):
        pixels = (image.astype(np.float32) - mean) / run.data.pixel_divisor
        powers = np.exp(network(pixels[np.newaxis]).numpy()[0].astype(np.float64))
        total += powers / powers.sum()
    return total / crops


def read(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures(capsys, *arguments) -> dict:
    assert evaluate.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def error(capsys, *arguments) -> str:
    assert evaluate.main([*map(str, arguments)]) == 2
    captured = capsys.readouterr().err
    lines = [line for line in captured.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured
    return lines[0]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_figures_agree_with_a_plain_loop(run, networks, capsys, batch_size):
    found = figures(capsys, "--workdir", run.workdir, "--batch-size", batch_size)
    examples = held_out(run)
    assert found["count"] == len(examples) > 2 * len(CLASSES)
    expected = np.array([probabilities(run, networks["run"], example) for example in examples])
    labels = np.array([example.label for example in examples])
    ranks = (expected > expected[np.arange(len(labels)), labels][:, np.newaxis]).sum(axis=1)
    assert found["top1_error"] == pytest.approx((ranks >= 1).mean())
    assert found["top5_error"] == pytest.approx((ranks >= 5).mean())
    assert (found["top1_wrong"], found["top5_wrong"]) == ((ranks >= 1).sum(), (ranks >= 5).sum())
    assert 0 < found["top5_error"] < found["top1_error"]
    log_loss = -np.log(expected[np.arange(len(labels)), labels]).mean()
    assert found["loss"] == pytest.approx(log_loss, rel=1e-4)


@pytest.mark.parametrize("crops", [1, 10])
def test_predictions_hold_every_picture_once_with_its_best_classes(run, networks, capsys, crops):
    found = figures(capsys, "--workdir", run.workdir, "--crops", crops)
    rows = read(f"{found['out']}/predictions.csv")
    examples = {example.key: example for example in held_out(run)}
    assert sorted(row["key"] for row in rows) == sorted(examples)
    for row in rows:
        example = examples[row["key"]]
        expected = probabilities(run, networks["run"], example, crops)
        best = np.argsort(-expected)[:5]
        assert row["label"] == CLASSES[example.label]
        assert [row[f"class{place}"] for place in range(1, 6)] == [CLASSES[index] for index in best]
        scores = [float(row[f"score{place}"]) for place in range(1, 6)]
        np.testing.assert_allclose(scores, expected[best], rtol=1e-3)


def test_one_and_ten_crop_reports_lie_side_by_side(run, capsys):
    outs = {figures(capsys, "--workdir", run.workdir, "--crops", crops)["out"] for crops in (1, 10)}
    assert outs == {str(run.workdir / "evaluation"), str(run.workdir / "evaluation-ten-crop")}
    names = {"summary.json", "per_class.csv", "predictions.csv", "confusion.png", "mistakes.png"}
    for out in outs:
        assert {path.name for path in (run.workdir / out).iterdir()} == names


def test_the_sheet_shows_what_the_network_saw(run, capsys, monkeypatch):
    sheets = []
    monkeypatch.setattr(confusion, "draw", DRAW_CONFUSION)
    monkeypatch.setattr(
        mistakes, "draw", lambda path, *rest: (sheets.append(rest), DRAW_MISTAKES(path, *rest))
    )
    found = figures(capsys, "--workdir", run.workdir)
    [(pictures, title)] = sheets
    rows = {row["key"]: row for row in read(f"{found['out']}/predictions.csv")}
    examples = {example.key: example for example in held_out(run)}
    assert len(pictures) == found["top1_wrong"] > 0
    assert str(found["top1_wrong"]) in title
    for picture in pictures:
        crop = preprocess.evaluation_crop(examples[picture.key].image_bytes, run.data).numpy()
        np.testing.assert_array_equal(picture.image, crop)
        row = rows[picture.key]
        assert (picture.true_name, picture.predicted_name) == (row["label"], row["class1"])
        assert picture.probability == pytest.approx(float(row["score1"]), rel=1e-5)
    assert [p.probability for p in pictures] == sorted((p.probability for p in pictures), reverse=True)
    for name in ("confusion.png", "mistakes.png"):
        with Image.open(f"{found['out']}/{name}") as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_a_faultless_network_leaves_no_sheet_of_an_earlier_one(run, networks, capsys):
    sheet = run.workdir / "evaluation" / "mistakes.png"
    assert figures(capsys, "--workdir", run.workdir)["top1_wrong"] > 0
    assert sheet.exists()
    networks["run"] = Faultless(held_out(run), run)
    found = figures(capsys, "--workdir", run.workdir)
    assert (found["top1_wrong"], found["top1_error"]) == (0, 0.0)
    assert not sheet.exists()


def test_an_ensemble_averages_runs_each_with_its_own_preparation(tmp_path, data, networks, capsys):
    spec = f"folder:{data}"
    one = small_runs.create(tmp_path / "one", spec, CLASSES, seed=3)
    two = small_runs.create(tmp_path / "second", spec, CLASSES, seed=3, pixel_divisor="20")
    found = figures(capsys, "--workdir", one.workdir, two.workdir, "--crops", 10, "--batch-size", 20)
    assert (found["runs"], found["count"]) == (2, len(held_out(one)))
    assert (found["steps"], [member["step"] for member in found["members"]]) == ([7, 7], [7, 7])
    assert found["out"] == str(one.workdir / "evaluation-ensemble-ten-crop")
    rows = {row["key"]: row for row in read(f"{found['out']}/predictions.csv")}
    for example in held_out(one):
        expected = (
            probabilities(one, networks["one"], example, 10)
            + probabilities(two, networks["second"], example, 10)
        ) / 2
        assert rows[example.key]["class1"] == CLASSES[expected.argmax()]
        assert float(rows[example.key]["score1"]) == pytest.approx(expected.max(), rel=1e-3)


def test_the_report_agrees_with_itself(run, capsys):
    found = figures(capsys, "--workdir", run.workdir)
    rows = read(f"{found['out']}/predictions.csv")
    taken = {name: [row["class1"] for row in rows if row["label"] == name] for name in CLASSES}
    for row in read(f"{found['out']}/per_class.csv"):
        answers = taken[row["class"]]
        wrong = [answer for answer in answers if answer != row["class"]]
        assert int(row["count"]) == len(answers) > 0
        assert float(row["top1_error"]) == pytest.approx(len(wrong) / len(answers))
        most = max((wrong.count(name) for name in wrong), default=0)
        assert int(row["confused_count"]) == most
        if most:
            assert wrong.count(row["most_confused_with"]) == most
        else:
            assert row["most_confused_with"] == ""
    with open(f"{found['out']}/summary.json", encoding="utf-8") as file:
        assert json.load(file) == found


def test_broken_pictures_that_the_run_left_out_stay_out(run, data, tmp_path, capsys):
    left_out = [held_out(run)[2].key, "ant/no-such-picture.jpg"]
    scan.write_skipped(run.workdir / "skipped.csv", [scan.Skipped(key, "damaged") for key in left_out])
    found = figures(capsys, "--workdir", run.workdir)
    assert (found["count"], found["left_out"]) == (len(held_out(run)) - 1, 1)
    assert left_out[0] not in {row["key"] for row in read(f"{found['out']}/predictions.csv")}


def test_broken_pictures_of_another_data_set_are_found_and_named(run, tmp_path, capsys):
    other = small_runs.folder(tmp_path / "other" / "val", CLASSES, 2, seed=77).parent
    (other / "val").rename(other / "train")
    small_runs.folder(other / "val", CLASSES, 2, seed=99)
    (other / "val" / "bee" / "001.jpg").write_bytes(b"no picture")
    assert evaluate.main(["--workdir", str(run.workdir), "--data", f"folder:{other}", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    assert (found["count"], found["left_out"], found["data"]) == (13, 1, f"folder:{other}")
    assert "val/bee/001.jpg" in captured.err
    assert "14 found = 13 used + 1 left out: 1 broken pictures" in captured.out


def test_data_for_evaluation_alone_are_measured_whole_in_a_folder_of_their_own(run, tmp_path, capsys):
    own = figures(capsys, "--workdir", run.workdir)
    before = {path: path.read_bytes() for path in (run.workdir / "evaluation").iterdir()}
    other = small_runs.folder(tmp_path / "TEST", CLASSES, 3, seed=77)
    found = figures(capsys, "--workdir", run.workdir, "--data", f"folder:{other}")
    assert (found["count"], found["split"], found["own_validation"]) == (3 * len(CLASSES), "all", False)
    assert found["out"] == str(run.workdir / "evaluation-of-TEST")
    assert sorted(row["key"] for row in read(f"{found['out']}/predictions.csv")) == sorted(
        str(path.relative_to(other)) for path in other.rglob("*.jpg")
    )
    assert {path: path.read_bytes() for path in (run.workdir / "evaluation").iterdir()} == before
    assert (own["split"], own["own_validation"], own["out"]) == ("val", True, str(run.workdir / "evaluation"))

    (tmp_path / "more").mkdir()
    again = small_runs.folder(tmp_path / "more" / "TEST", CLASSES, 1, seed=5)
    second = figures(capsys, "--workdir", run.workdir, "--data", f"folder:{again}")
    assert second["out"] == str(run.workdir / "evaluation-of-TEST-2")
    third = figures(capsys, "--workdir", run.workdir, "--data", f"folder:{other}")
    assert third["out"] == found["out"]


@pytest.mark.parametrize(
    ("split", "count", "measured"),
    [(None, 14, "test"), ("test", 14, "test"), ("train", None, "train"), ("all", 35, "all")],
)
def test_data_with_splits_are_measured_by_them(run, tmp_path, capsys, split, count, measured):
    root = small_runs.folder(tmp_path / "D" / "test", CLASSES, 2, seed=77).parent
    small_runs.folder(root / "train", CLASSES, 3, seed=99)
    asked = [] if split is None else ["--split", split]
    found = figures(capsys, "--workdir", run.workdir, "--data", f"folder:{root}", *asked)
    if count is None:  # without the share that is held out
        count = sources.open_source(run.recipe.data_config(f"folder:{root}")).count("train")
        assert 0 < count < 21
    assert (found["count"], found["split"]) == (count, measured)
    assert found["out"] == str(run.workdir / f"evaluation-of-D{'-' * bool(split)}{split or ''}")


def test_a_split_that_is_not_there(run, capsys):
    message = error(capsys, "--workdir", run.workdir, "--split", "test")
    assert "--split must be one of train, val, all for" in message
    assert "received 'test'" in message


def test_the_newest_weights_do_not_take_the_place_of_the_best(run, capsys):
    found = figures(capsys, "--workdir", run.workdir, "--checkpoint", "newest")
    assert found["out"] == str(run.workdir / "evaluation-newest")


def test_the_first_broken_picture_is_an_error_where_that_is_wanted(run, tmp_path, capsys):
    other = small_runs.folder(tmp_path / "other", CLASSES, 1, seed=77)
    (other / "cow" / "000.jpg").write_bytes(b"no picture")
    message = error(capsys, "--workdir", run.workdir, "--data", f"folder:{other}", "--strict")
    assert message.startswith("error: cow/000.jpg: not a JPEG")


def test_few_classes_have_no_top5_error(tmp_path, networks, capsys):
    data = small_runs.folder(tmp_path / "data", CLASSES[:5], 3)
    run = small_runs.create(tmp_path / "run", f"folder:{data}", CLASSES[:5])
    assert evaluate.main(["--workdir", str(run.workdir), "--json"]) == 0
    out = capsys.readouterr().out
    assert "top-5 error  says nothing with 5 classes" in out
    assert json.loads(out.splitlines()[-1])["top5_error"] is None


def test_a_diverged_network_is_named(run, networks, capsys):
    network = small_runs.network(len(CLASSES))
    network.layers[-1].bias.assign([np.nan] * len(CLASSES))
    networks["run"] = network
    assert "not finite" in error(capsys, "--workdir", run.workdir)
    # Nothing half-written is left under the name of a report.
    assert not list((run.workdir / "evaluation").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--batch-size", "0"], "--batch-size must be 1 or more; received 0"), (["--data", "cats"], "'cats'")],
)
def test_settings_that_cannot_be(run, capsys, arguments, words):
    assert words in error(capsys, "--workdir", run.workdir, *arguments)


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert "not a run folder" in error(capsys, "--workdir", tmp_path)


def test_a_run_without_a_checkpoint(tmp_path, data, capsys):
    run = small_runs.create(tmp_path / "run", f"folder:{data}", CLASSES)
    assert "no checkpoint yet" in error(capsys, "--workdir", run.workdir)


def test_a_picture_that_has_vanished_since(run, data, monkeypatch, capsys):
    gone = held_out(run)[0]
    path = data / gone.key
    content = path.read_bytes()
    monkeypatch.setattr(measure.validation, "_check_held_out", lambda *_: path.unlink())
    try:
        assert gone.key in error(capsys, "--workdir", run.workdir)
    finally:
        path.write_bytes(content)


def test_one_pass_writes_what_two_passes_write(run, capsys, tmp_path):
    """The centre is one of the ten crops: `--crops 1 10` gives the reports of two runs."""
    found = figures(capsys, "--workdir", run.workdir, "--crops", 1, 10, "--out", tmp_path / "both")
    assert sorted(found["crops"]) == ["1", "10"]
    for crops, folder in ((1, "evaluation"), (10, "evaluation-ten-crop")):
        alone = figures(capsys, "--workdir", run.workdir, "--crops", crops, "--out", tmp_path / folder)
        together = found["crops"][str(crops)]
        assert together["out"] == str(tmp_path / "both" / folder)
        for name in ("top1_error", "top5_error", "top1_wrong", "count", "crops", "steps", "members"):
            if name == "members":
                assert together[name][0]["top1_error"] == alone[name][0]["top1_error"]
            else:
                assert together[name] == alone[name]
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        files = [parent / folder / "predictions.csv" for parent in (tmp_path / "both", tmp_path)]
        rows = [list(csv.reader(file.read_text(encoding="utf-8").splitlines())) for file in files]
        assert len(rows[0]) == len(rows[1])
        for one, other in zip(*rows, strict=True):
            assert one[:3] == other[:3]  # key, label and the best class
        assert (tmp_path / "both" / folder / "confusion.png").exists()
