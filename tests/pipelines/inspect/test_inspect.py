"""The command: what it counts, which copies and broken files it finds, and what it leaves."""

from __future__ import annotations

import collections
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from pipelines import scan, sources
from pipelines.config import DataConfig
from pipelines.inspect import copies, kinds, sheets, survey
from pipelines.inspect import page as pages
from pipelines.inspect.__main__ import main
from pipelines.sources import records
from pipelines.sources.source import SPLITS
from tests.support.pictures import encoded, textured

ODD = '<b>"猫" & co'  # a class's name
FEW = {"train": 5, "val": 3}


def picture(seed, height=60, width=80):
    return Image.fromarray(textured(height, width, seed))


def seen_through(seed):
    half = picture(seed)
    half.putalpha(100)
    return half


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes with train/ and val/: some copies, odd kinds of files, and some that are no pictures."""
    root = tmp_path_factory.mktemp("data")
    for split, count in FEW.items():
        for number, name in enumerate((ODD, "dog")):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                seed = 100 * number + 10 * SPLITS.index(split) + index
                picture(seed).save(root / split / name / f"{index}.jpg", quality=95)
    cat, dog, val = root / "train" / ODD, root / "train" / "dog", root / "val" / "dog"
    # Of dog/0: smaller and mirrored in val/, the same file in the other class.
    picture(100).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((40, 30)).save(val / "mirrored.png")
    (cat / "same.jpg").write_bytes((dog / "0.jpg").read_bytes())
    picture(7).convert("CMYK").save(dog / "inks.jpg")
    picture(8).convert("L").save(dog / "gray.png")
    seen_through(9).save(dog / "alpha.webp", lossless=True)
    picture(20, 50, 400).save(dog / "long.bmp")
    for number in range(3):  # of one colour: only the same files are copies
        Image.new("RGB", (40, 40), (number, 0, 0)).save(dog / f"flat{number}.png")
    (dog / "flat3.png").write_bytes((dog / "flat0.png").read_bytes())
    (dog / "cut.jpg").write_bytes((dog / "1.jpg").read_bytes()[:900])
    (dog / "page.png").write_bytes(b"<html>not found")
    with open(os.fsencode(dog) + b"/\xff.jpg", "wb") as file:
        file.write(b"x")
    return root


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("out") / "new" / "folder"
    assert main(["--data", f"folder:{folder}", "--out", str(place), "--pictures", "3", "--json"]) == 0
    return place


@pytest.fixture(scope="module")
def figures(out):
    return json.loads((out / "inspect.json").read_text(encoding="utf-8"))


def test_counts_a_class_and_split(figures):
    assert (figures["pictures"], figures["train"], figures["val"], figures["unreadable"]) == (26, 19, 7, 3)
    assert figures["per_class"] == [
        {"class": ODD, "name": ODD, "train": 6, "val": 3, "unreadable": 0},
        {"class": "dog", "name": "dog", "train": 13, "val": 4, "unreadable": 3},
    ]


def test_kinds_and_sizes(figures):
    formats = {row["name"]: row["count"] for row in figures["formats"]}
    assert formats == {"JPEG": 18, "PNG": 6, "WebP": 1, "BMP": 1}
    colours = {row["name"]: row["count"] for row in figures["colours"]}
    assert colours == {"RGB": 23, "CMYK": 1, "gray": 1, "RGB with alpha": 1}
    width = figures["sizes"]["width"]
    assert (width["least"], width["median"], width["most"]) == (40, 80, 400)
    assert sum(width["count"]) == 26
    assert figures["sizes"]["aspect"]["most"] == 8.0


def test_broken_files_are_those_that_training_leaves_out_with_the_same_words(figures, folder):
    config = DataConfig(spec=f"folder:{folder}", resize=32, crop=32)
    wanted = {(one.key, one.reason) for one in scan.scan(sources.open_source(config), config).skipped}
    assert {(row["key"], row["reason"]) for row in figures["unreadable_pictures"]} == wanted
    assert len(wanted) == figures["unreadable"] == 3


def test_copies_across_splits_and_classes_come_first(figures):
    assert figures["copies"] == {
        "groups": 2,
        "pictures": 5,
        "same_file": 2,
        "groups_across_splits": 1,
        "groups_across_classes": 1,
        "val_pictures_also_in_train": 1,
    }
    worst, flat = figures["groups"]
    members = {(one["key"], one["mirrored"]) for one in worst["members"]}
    same = {(f"train/{ODD}/same.jpg", False), ("train/dog/0.jpg", False)}
    assert members == same | {("val/dog/mirrored.png", True)}
    assert (worst["splits"], worst["same_file"]) == (["train", "val"], False)
    assert {one["key"] for one in flat["members"]} == {"train/dog/flat0.png", "train/dog/flat3.png"}
    assert flat["same_file"]


def test_what_a_person_is_told(figures):
    problems = [one["text"] for one in figures["findings"] if one["weight"] == "problem"]
    assert re.match(r"3 pictures \(10\.3.%\) cannot be read", problems[0])
    assert re.match(r"1 of 7 validation pictures \(14\.3.%\) look", problems[1])
    assert problems[2].startswith("1 group of copies lies in more than one class")
    notes = " ".join(one["text"] for one in figures["findings"] if one["weight"] == "note")
    for words in (
        "are enlarged in preparing",
        "1 picture (3.85\xa0%) is more than twice",
        "1 CMYK",
        "4 pictures are",
    ):
        assert words in notes


def test_the_page_holds_all_it_needs_and_escapes_names(out):
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;&#34;猫&#34; &amp; co" in text
    assert ODD not in text
    assert "\\xff.jpg" in text or "\\udcff.jpg" in text
    assert set(re.findall(r'(?:src|href)="([^"]{5})', text)) == {"data:", "#sect"}
    assert len(re.findall('<figure class="row">', text)) == 3
    assert text.count("<img ") == 3 * (2 + sheets.DRAWS) + 5


def test_the_sheets_are_as_large_as_what_they_hold(out):
    pitch = sheets.CELL + sheets.GAP
    with Image.open(out / "augmentation.png") as sheet:
        assert sheet.size == ((2 + sheets.DRAWS) * pitch + sheets.GAP, 3 * pitch + sheets.GAP)
        cells = np.asarray(sheet)
    assert cells.std() > 10
    with Image.open(out / "copies.png") as sheet:
        assert sheet.size[1] == 2 * (sheets.SMALL + sheets.GAP) + sheets.GAP


def test_another_data_set_leaves_no_copies_of_the_last(tmp_path, capsys):
    (tmp_path / "copies.png").write_bytes(b"of an earlier call")
    words = [
        "--data",
        "synthetic:24,12",
        "--out",
        str(tmp_path),
        "--pictures",
        "1",
        "--limit",
        "12",
        "--json",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    told = json.loads(printed[-1])
    assert (told["train"], told["val"], told["classes"], told["limit"]) == (12, 12, 12, 12)
    assert told["files"] == [
        str(tmp_path / name) for name in ("inspect.json", "augmentation.png", "index.html")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "augmentation.png",
        "index.html",
        "inspect.json",
    ]
    assert printed[-2] == str(tmp_path / "index.html")


def test_records_are_looked_at_like_the_pictures_they_hold(tmp_path):
    shards = []
    for split, count in {"train": 4, "val": 2}.items():
        path = tmp_path / f"{split}-00000-of-00001.tfrecord"
        with survey.tf.io.TFRecordWriter(str(path)) as writer:
            for number in range(count):
                file = encoded(picture(number, 16, 16), "JPEG")
                writer.write(records.serialize(file, number % 2, f"{split}/{number}".encode()))
        shards.append(records.Shard(path.name, split, count, path.stat().st_size, records.checksum(path), ()))
    settings = records.Settings(1, "folder:x", 16, 0, 0.1, 8, {"train": 4, "val": 2}, ("a", "b"), ("a", "b"))
    records.Index(settings, tuple(shards), complete=True).save(tmp_path)
    config = DataConfig(f"records:{tmp_path}")
    seen = survey.survey(sources.open_source(config), config)
    assert (len(seen), set(seen.kind), set(seen.width.tolist())) == (6, {("JPEG", "RGB")}, {16})
    assert (seen.split.tolist(), seen.position.tolist()) == ([0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 0, 1])
    assert not any(seen.broken)


def test_what_the_quick_look_does_not_read_is_looked_at_again(folder, figures, monkeypatch):
    config = DataConfig(spec=f"folder:{folder}")
    source = sources.open_source(config)

    def fails_on_gray(image_bytes, form):
        looked = survey.look_closely(image_bytes, form)
        gray = survey.tf.debugging.Assert(looked["channels"] == 3, ["an odd one"])
        with survey.tf.control_dependencies([gray]):
            return {name: survey.tf.identity(part) for name, part in looked.items()}

    monkeypatch.setattr(survey, "look", fails_on_gray)
    again = survey.survey(source, config)
    assert np.bincount(again.split).tolist() == [figures["train"], figures["val"]]
    assert (np.diff(again.position)[np.diff(again.split) == 0] > 0).all()
    formats = {row["name"]: row["count"] for row in figures["formats"]}
    assert collections.Counter(form for form, _ in again.kind) == formats
    assert [len(some) for some in again.broken] == [3, 0]


def test_groups_on_the_page_are_of_all_sorts():
    split, label = np.array([0, 1, 0, 0, 0, 0]), np.array([0, 0, 0, 1, 0, 0])
    nothing = np.zeros(2, np.int64)
    groups = [copies.Group(np.array(pair), nothing, nothing > 0) for pair in ([0, 1], [2, 3], [4, 5])]
    for most, wanted in ((3, [0, 2, 4]), (30, [0] * 10 + [2] * 10 + [4] * 10)):
        many = tuple(group for group in groups for _ in range(20))
        found = copies.shown(copies.Copies(many, split > 9, split, label, SPLITS), most)
        assert [int(group.members[0]) for group in found] == wanted
    few = copies.Copies((groups[0], *[groups[2]] * 20), split > 9, split, label, SPLITS)
    assert [int(group.members[0]) for group in copies.shown(few, 6)] == [0] + [4] * 5


def test_kinds_by_the_first_bytes():
    rgb = picture(0)
    files = {
        ("PNG", "RGB"): encoded(rgb, "PNG"),
        ("PNG", "gray"): encoded(rgb.convert("L"), "PNG"),
        ("PNG", "gray with alpha"): encoded(rgb.convert("LA"), "PNG"),
        ("PNG", "RGB with alpha"): encoded(rgb.convert("RGBA"), "PNG"),
        ("PNG", "palette"): encoded(rgb.convert("P"), "PNG"),
        ("GIF", "palette"): encoded(rgb, "GIF"),
        ("BMP", "RGB"): encoded(rgb, "BMP"),
        ("BMP", "palette"): encoded(rgb.convert("L"), "BMP"),
        ("WebP", "RGB"): encoded(rgb, "WEBP"),
        ("WebP", "RGB with alpha"): encoded(seen_through(0), "WEBP", lossless=True),
        ("other", "RGB"): b"x",
    }
    assert [kinds.kind_of(file[: kinds.HEAD], 0) for file in files.values()] == list(files)
    jpeg = encoded(rgb, "JPEG")
    assert [kinds.kind_of(jpeg, channels)[1] for channels in (1, 3, 4)] == ["gray", "RGB", "CMYK"]


def test_histograms_have_a_bar_a_value_or_equal_ratios():
    from pipelines.inspect import charts, findings

    few = findings.histogram(np.array([32, 32, 64]))
    assert (few["low"], few["high"], few["count"]) == ([32, 64], [32, 64], [2, 1])
    values = np.random.default_rng(0).integers(3, 9000, 5000)
    many = findings.histogram(values)
    assert (many["least"], many["most"], sum(many["count"])) == (values.min(), values.max(), 5000)
    assert many["low"][1:] == many["high"][:-1]
    for histogram in (few, many):
        drawn = charts.bars("Width", " px", histogram)
        assert drawn.svg.count("<rect") == len(histogram["count"])
    drawn = charts.classes([(9, 1)] + [(1, 0)] * 1999)
    assert "largest class: 10<" in drawn.svg
    assert "smallest of 2,000: 1<" in drawn.svg


def test_the_chart_of_classes_has_a_part_for_each_split_with_pictures():
    from pipelines.inspect import charts

    def parts(counts):
        found = re.findall(r'<path class="([^"]+)" d="M48 [\d.]+H48.0V([\d.]+)', charts.classes(counts).svg)
        return [(kind, float(top)) for kind, top in found]

    assert [kind for kind, _ in parts([(0, 3, 0), (0, 1, 0)])] == ["bar second"]
    three = parts([(4, 1, 5), (6, 2, 2)])
    # What is drawn first is the whole; the largest class comes first, of 10 and most of them training.
    assert [kind for kind, _ in three] == ["bar third", "bar second", "bar"]
    bottom, height = charts.HEIGHT - charts.BOTTOM, charts.HEIGHT - charts.BOTTOM - charts.TOP
    for (_, top), share in zip(three, (1.0, 0.8, 0.6), strict=True):
        assert top == pytest.approx(bottom - share * height, abs=0.1)


def test_wrong_options_are_one_line(tmp_path, capsys):
    where = ["--out", str(tmp_path / "out")]
    wrong = {
        "--near-duplicates must be 0 to 80": ["--data", "synthetic", "--near-duplicates", "81"],
        "--pictures must be 1 or more; received 0": ["--data", "synthetic", "--pictures", "0"],
        "--limit must be 1 or more; received -1": ["--data", "synthetic", "--limit", "-1"],
        f"{tmp_path}/none": ["--data", f"folder:{tmp_path}/none"],
    }
    for words, options in wrong.items():
        assert main([*options, *where]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {words}")
    assert not (tmp_path / "out").exists()


def test_the_default_is_that_of_the_search():
    from pipelines.inspect import __main__ as command
    from pipelines.inspect import duplicates

    assert command.DEFAULT_BITS == duplicates.DEFAULT_BITS
    assert pages.OPEN_CLASSES < pages.MOST_UNREADABLE
