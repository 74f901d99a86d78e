"""The predict command: the same names from a run and from an export, and a line for each bad picture."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import checkpoint, predict
from alexnet_tf.evaluation import naming
from pipelines.errors import UserError
from pipelines.pictures import preprocess
from tests.support import small_runs

CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_runs.create(tmp_path_factory.mktemp("runs") / "run", "synthetic:24,24", CLASSES)


@pytest.fixture(scope="module")
def network():
    return small_runs.network(len(CLASSES))


@pytest.fixture(autouse=True)
def small_network(monkeypatch, network):
    monkeypatch.setattr(naming, "load_network", lambda run: checkpoint.Trained(network, 7))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(small_runs.jpeg(number, height=240 + 20 * number))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def export(tmp_path_factory, run, network):
    """Version 9 names classes in the order of their labels; version 10 is the network's."""
    folder = tmp_path_factory.mktemp("export")
    for version in (9, 10):
        save(folder / str(version), run, network, sort=version == 10)
    (folder / "11").mkdir()  # unfinished
    (folder / "notes").mkdir()
    return folder


def save(folder, run, network, sort):
    """A SavedModel with the two signatures that the command asks for."""
    module = tf.Module()
    module.weights = network.variables
    stats, config = run.stats, run.data

    def signature(function, crops):
        def answer(image_bytes):
            spec = tf.TensorSpec([*([10] * (crops == 10)), 224, 224, 3], tf.uint8)
            images = tf.map_fn(lambda one: function(one, config), image_bytes, fn_output_signature=spec)
            pixels = preprocess.to_pixels(images, stats, config)
            each = tf.nn.softmax(network(tf.reshape(pixels, [-1, 224, 224, 3]), training=False))
            average = tf.reduce_mean(tf.reshape(each, [-1, crops, len(CLASSES)]), axis=1)
            best = tf.math.top_k(average if sort else tf.zeros_like(average), 5)
            return {"classes": tf.gather(tf.constant(CLASSES), best.indices), "scores": best.values}

        return tf.function(answer, input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])

    signatures = {
        "serving_default": signature(preprocess.evaluation_crop, 1),
        "ten_crop": signature(preprocess.ten_crops, 10),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def expected(run, network, path, crops):
    """Classes and probabilities, best first, one crop at a time."""
    picture = preprocess.prepare(tf.io.read_file(path), run.data).numpy() - run.stats.mean_image
    corners = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)] if crops == 10 else [(16, 16)]
    pixels = [picture[np.newaxis, top : top + 224, left : left + 224] / 60 for top, left in corners]
    pixels += [one[:, :, ::-1] for one in pixels] if crops == 10 else []
    average = np.mean([tf.nn.softmax(network(one)).numpy()[0] for one in pixels], axis=0)
    best = np.argsort(-average)
    return [CLASSES[index] for index in best], average[best]


def answers(capsys, *arguments):
    assert predict.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"]


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("source", ["--workdir", "--export"])
def test_names_and_probabilities(run, network, export, pictures, capsys, source, crops):
    place = run.workdir if source == "--workdir" else export
    found = answers(capsys, source, place, *pictures, "--crops", crops)
    assert [picture["file"] for picture in found] == pictures
    for picture in found:
        names, scores = expected(run, network, picture["file"], crops)
        assert picture["classes"] == names[:5]
        np.testing.assert_allclose(picture["scores"], scores[:5], rtol=1e-4)
    assert len({picture["scores"][0] for picture in found}) == len(pictures)


def test_top_decides_how_many_names(run, export, pictures, capsys):
    for top, shown in ((1, 1), (3, 3), (100, len(CLASSES))):
        assert (
            len(answers(capsys, "--workdir", run.workdir, pictures[0], "--top", top)[0]["classes"]) == shown
        )
    assert len(answers(capsys, "--export", export, pictures[0], "--top", 2)[0]["scores"]) == 2


def test_the_newest_version_is_the_highest_number(export, pictures, capsys):
    assert naming.find_version(export) == export / "10"
    assert naming.find_version(export / "9") == export / "9"
    assert answers(capsys, "--export", export / "9", pictures[0])[0]["classes"] == list(CLASSES[:5])


@pytest.mark.parametrize("source", ["--workdir", "--export"])
def test_bad_pictures_are_named_and_the_others_answered(run, export, pictures, tmp_path, capsys, source):
    files = {"text.jpg": b"no picture", "cut.jpg": small_runs.jpeg(0)[:400], "empty.png": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    asked = [pictures[0], tmp_path / "text.jpg", tmp_path / "missing.jpg", pictures[1], tmp_path / "cut.jpg"]
    asked += [tmp_path / "empty.png", tmp_path, pictures[2]]
    place = run.workdir if source == "--workdir" else export
    assert predict.main([source, str(place), *map(str, asked), "--json"]) == 2
    captured = capsys.readouterr()
    figures = json.loads(captured.out.splitlines()[-1])
    assert [picture["file"] for picture in figures["pictures"]] == pictures[:3]
    bad = [str(path) for path in asked if str(path) not in pictures]
    assert [failure["file"] for failure in figures["failed"]] == bad
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(bad)
    assert all(line.startswith(f"error: {path}: ") for line, path in zip(lines, bad, strict=True))
    alone = answers(capsys, source, place, pictures[2])
    assert figures["pictures"][2]["classes"] == alone[0]["classes"]
    np.testing.assert_allclose(figures["pictures"][2]["scores"], alone[0]["scores"], rtol=1e-5)


def test_batches_are_no_larger_than_asked(tmp_path):
    paths = []
    for number in range(7):
        paths.append(str(tmp_path / f"{number}"))
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
    sizes = []

    def classifier(contents):
        sizes.append(len(contents))
        return [naming.TopClasses([content.decode()], [1.0]) for content in contents]

    found = list(naming.classify_files(classifier, paths, 3))
    assert sizes == [3, 3, 1]
    assert [answer.classes for _, answer in found] == [[str(number)] for number in range(7)]


def test_the_table_fits_the_terminal(run, pictures, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "48")
    assert predict.main(["--workdir", str(run.workdir), pictures[0]]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == pictures[0]
    assert len(lines) == 5
    assert all(len(line) <= 48 for line in lines)
    shares = [float(line.split()[1]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    lengths = [line.count("█") for line in lines]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 0


def test_bars_are_as_long_as_the_share():
    assert predict.bar(1.0, 10) == "█" * 10
    assert predict.bar(0.5, 10) == "█" * 5
    assert predict.bar(0.3, 5) == "█▌"
    assert predict.bar(0.0, 10) == predict.bar(0.5, -3) == ""


def test_file_names_that_are_no_text_can_be_shown(run, pictures, tmp_path, capsys):
    odd = str(tmp_path / "caf\udce9.jpg")  # a byte that is no UTF-8, as Python reads it
    shutil.copy(pictures[0], odd)
    assert predict.main(["--workdir", str(run.workdir), odd]) == 0
    assert "caf\\xe9.jpg" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--export", "{export}", "--top", "6"], "--top: an export names 5 classes; received 6"),
        (["--export", "{export}", "--top", "0"], "--top must be 1 or more; received 0"),
        (["--export", "{export}/none"], "no such folder"),
        (["--export", "{export}/notes"], "holds no exported version"),
        (["--workdir", "{export}"], "an export, without recipe.json"),
        (["--workdir", "{export}/none"], "not a run folder"),
    ],
)
def test_settings_that_cannot_be(export, pictures, capsys, arguments, words):
    assert predict.main([text.format(export=export) for text in arguments] + [pictures[0]]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_a_damaged_export_is_one_line(tmp_path, export):
    shutil.copytree(export / "9", tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be loaded as a SavedModel"):
        naming.load_export(str(tmp_path), 5, 1)


def test_an_export_without_the_signature_says_what_it_offers(tmp_path):
    module = tf.Module()
    double = tf.function(
        lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")]
    )
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": double})
    with pytest.raises(UserError, match=r"no signature ten_crop .* it offers serving_default"):
        naming.load_export(str(tmp_path), 5, 10)
    with pytest.raises(UserError, match="no signature serving_default that takes image_bytes"):
        naming.load_export(str(tmp_path), 5, 1)


def test_one_source_must_be_given(pictures, capsys):
    for arguments in ([pictures[0]], ["--workdir", "a", "--export", "b", pictures[0]]):
        with pytest.raises(SystemExit) as stop:
            predict.main(arguments)
        assert stop.value.code == 2
    assert "--export" in capsys.readouterr().err


def test_a_picture_that_only_an_older_export_refuses(pictures):
    def older(contents):
        raise tf.errors.InvalidArgumentError(None, None, "Number of channels\n\t does not match")

    ((_, answer),) = naming.classify_files(older, pictures[:1], 1)
    assert answer == "refused (Number of channels does not match)"
