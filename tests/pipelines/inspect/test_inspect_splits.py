"""The command on data with other splits than train and val, and what it says of everything that was found."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from pipelines.inspect import sheets
from pipelines.inspect.__main__ import main
from tests.support.pictures import textured

COUNTS = {"train": 6, "val": 3, "test": 4}
CLASSES = ("cat", "dog")


def picture(seed):
    return Image.fromarray(textured(60, 80, seed))


def fill(root, splits, classes=CLASSES):
    """Pictures of which no two are alike."""
    for split in splits:
        for number, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(COUNTS[split]):
                seed = 1000 * number + 100 * list(COUNTS).index(split) + index
                picture(seed).save(root / split / name / f"{index}.jpg", quality=95)
    return root


def mirrored(path, copy):
    """A copy that is no file seen before."""
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy)


def inspect(root, out, *options):
    words = ["--data", f"folder:{root}", "--out", str(out), "--pictures", "2", *options]
    assert main(words) == 0
    figures = json.loads((out / "inspect.json").read_text(encoding="utf-8"))
    return figures, (out / "index.html").read_text(encoding="utf-8")


def told(figures, weight):
    return [one["text"] for one in figures["findings"] if one["weight"] == weight]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """train/, val/ and test/: of train/cat/0 there is a copy in test/, of val/cat/0 another."""
    root = fill(tmp_path_factory.mktemp("three"), COUNTS)
    mirrored(root / "train" / "cat" / "0.jpg", root / "test" / "cat" / "again.png")
    mirrored(root / "val" / "cat" / "0.jpg", root / "test" / "cat" / "as-val.png")
    return inspect(root, tmp_path_factory.mktemp("out"))


def test_a_test_split_is_counted(three):
    figures, _ = three
    assert (figures["pictures"], figures["train"], figures["val"], figures["test"]) == (28, 12, 6, 10)
    assert figures["per_class"] == [
        {"class": "cat", "name": "cat", "train": 6, "val": 3, "test": 6, "unreadable": 0},
        {"class": "dog", "name": "dog", "train": 6, "val": 3, "test": 4, "unreadable": 0},
    ]


def test_copies_in_a_test_split_are_told_from_those_in_val(three):
    figures, _ = three
    assert figures["copies"] == {
        "groups": 2,
        "pictures": 4,
        "same_file": 0,
        "groups_across_splits": 2,
        "groups_across_classes": 0,
        "val_pictures_also_in_train": 0,
        "test_pictures_also_in_train": 1,
    }
    assert [group["splits"] for group in figures["groups"]] == [["train", "test"], ["val", "test"]]
    (problem,) = told(figures, "problem")
    assert re.match(r"1 of 10 test pictures \(10\s%\) looks like a training picture; what should", problem)
    (note,) = [text for text in told(figures, "note") if "looks like" in text]
    assert re.match(r"1 of 10 test pictures \(10\s%\) looks like a validation picture", note)


def test_the_page_shows_all_three_splits(three):
    _, text = three
    assert text.count('<span class="mark">in several splits</span>') == 2
    assert '<i class="bar third"></i>test, 10</p>' in text
    assert text.count('<path class="bar') == 3
    columns = ["class", "training", "validation", "test", "unreadable", ""]
    assert re.findall(r"<th[^>]*>([^<]*)</th>", text)[: len(columns)] == columns
    headline = dict(re.findall(r"<dt>([^<]+)</dt><dd[^>]*>([^<]+)</dd>", text))
    assert headline["validation pictures that look like a training picture"] == "0"
    assert headline["test pictures that look like a training picture"] == "1"
    # Four copies, and the rows of the sheet.
    assert text.count("<img ") == 4 + 2 * (2 + sheets.DRAWS)


def test_the_two_of_old_know_nothing_of_test(tmp_path):
    figures, text = inspect(fill(tmp_path / "data", ("train", "val")), tmp_path / "out")
    assert "test" not in figures
    assert "test_pictures_also_in_train" not in figures["copies"]
    assert "test pictures" not in text
    assert "no split that has pictures lacks a class" in text


@pytest.mark.parametrize(
    ("split", "word", "lacking"),
    [
        ("val", "validation", "There are no training pictures; these data can be evaluated, not trained on."),
        ("test", "test", "There are no training and no validation pictures; these data can be evaluated"),
    ],
)
def test_pictures_for_evaluation_alone(tmp_path, split, word, lacking):
    root = fill(tmp_path / "data", (split,))
    (root / split / "dog" / "again.jpg").write_bytes((root / split / "dog" / "0.jpg").read_bytes())
    figures, text = inspect(root, tmp_path / "out")
    assert (figures["train"], figures[split]) == (0, 2 * COUNTS[split] + 1)
    assert figures["copies"]["groups"] == 1
    assert told(figures, "problem") == []
    assert sum(note.startswith(lacking) for note in told(figures, "note")) == 1
    assert "class" not in " ".join(told(figures, "note"))
    assert f"Each row is a {word} picture" in text
    assert text.count('<figure class="row">') == 2
    assert "look like a training picture" not in text
    (part,) = re.findall(r'<path class="([^"]+)"', text)
    assert part == {"val": "bar second", "test": "bar third"}[split]


def test_too_few_pictures_to_hold_one_out(tmp_path):
    for number, name in enumerate(CLASSES):
        (tmp_path / "data" / name).mkdir(parents=True)
        picture(number).save(tmp_path / "data" / name / "0.jpg")
    figures, _ = inspect(tmp_path / "data", tmp_path / "out")
    assert (figures["train"], figures["val"]) == (2, 0)
    assert told(figures, "problem") == []
    assert "There are no validation pictures; training needs some." in told(figures, "note")


def test_a_split_of_which_nothing_can_be_read_is_not_one_that_lacks_classes(tmp_path):
    root = fill(tmp_path / "data", ("train", "val"))
    for path in (root / "train").rglob("*.jpg"):
        path.write_bytes(b"<html>")
    figures, _ = inspect(root, tmp_path / "out")
    unreadable, none = told(figures, "problem")
    assert unreadable.startswith("12 pictures")
    assert none == "No training picture can be read."
    assert not any("There are no" in text for text in told(figures, "note"))


@pytest.fixture(scope="module")
def littered(tmp_path_factory):
    """A folder with a broken picture, a hidden file and a text."""
    root = fill(tmp_path_factory.mktemp("littered"), ("train", "val"))
    (root / "train" / "cat" / "broken.jpg").write_bytes(b"<html>not found")
    (root / "train" / "dog" / ".DS_Store").write_bytes(b"x")
    (root / "val" / "dog" / "notes.txt").write_text("x")
    return root


def test_everything_that_was_found_is_accounted_for(littered, tmp_path, capsys):
    figures, text = inspect(littered, tmp_path)
    account = "21 found = 18 used + 3 left out: 1 .txt files, 1 broken pictures, 1 hidden files"
    assert account in capsys.readouterr().err.splitlines()
    assert figures["left_out"] == {".txt files": 1, "broken pictures": 1, "hidden files": 1}
    assert (figures["unreadable"], figures["not_looked_at"]) == (1, 0)
    assert f'<p class="account">{account}</p>' in text


def test_what_a_limit_leaves_unlooked_at_is_neither_used_nor_left_out(littered, tmp_path, capsys):
    figures, text = inspect(littered, tmp_path, "--limit", "2")
    # In the fixed order of these keys the broken picture may be among the first two or not.
    broken = figures["unreadable"]
    used, unseen = 4 - broken, 19 - 4
    assert (figures["train"], figures["val"], figures["not_looked_at"]) == (2 - broken, 2, unseen)
    account = f"21 found = {used} used + {unseen} not looked at + {2 + broken} left out: "
    assert any(line.startswith(account) for line in capsys.readouterr().err.splitlines())
    assert f'<p class="account">{account}' in text
    assert told(figures, "note")[0] == (
        "15 of 19 pictures were not looked at; what is said here is of the others."
    )
    # Of the pictures not looked at nobody knows which classes they are of.
    assert not any("without a" in problem for problem in told(figures, "problem"))


def test_classes_of_which_a_limit_shows_nothing_are_no_problem(tmp_path):
    root = fill(tmp_path / "data", ("train", "val"), classes=("ant", "bee", "cat", "dog"))
    figures, text = inspect(root, tmp_path / "out", "--limit", "1")
    lacking = [note for note in told(figures, "note") if "without a" in note]
    assert len(lacking) == 2
    assert lacking[0].startswith("3 classes without a training picture among those looked at: ")
    assert told(figures, "problem") == []
    assert "Every picture that was looked at can be read" in text
    assert "no split that has pictures lacks a class" not in text
    # A limit that nothing exceeds leaves nothing out.
    figures, text = inspect(root, tmp_path / "out", "--limit", "24")
    assert figures["not_looked_at"] == 0
    assert "no more than" not in text
