"""Identifiers of classes and what a person calls them."""

import numpy as np
import pytest

from pipelines import labels
from pipelines.errors import DataError

CRANES = ("n02012849", "n03126707", "n01440764")


@pytest.mark.parametrize("name", labels.WORD_LISTS)
def test_first_synonyms_are_the_names(tmp_path, name):
    (tmp_path / name).write_text("n01440764 tench, Tinca tinca\nn03126707 hoist\nn02012849 crane\n")
    assert labels.readable_names(CRANES, [tmp_path]) == ("crane", "hoist", "tench")


def test_equal_names_are_told_apart(tmp_path):
    (tmp_path / "synset_words.txt").write_text(
        "n02012849 crane, wader\nn03126707 crane, hoist\nn01440764 tench\nn1 maillot\nn2 maillot\n"
    )
    names = labels.readable_names((*CRANES, "n1", "n2"), [tmp_path])
    assert names == ("crane, wader", "crane, hoist", "tench", "maillot (n1)", "maillot (n2)")


def test_without_a_list_names_are_the_folders(tmp_path):
    assert labels.readable_names(("cat", "dog"), [tmp_path, tmp_path / "none"]) == ("cat", "dog")


def test_classes_that_the_list_leaves_out_keep_their_folder(tmp_path):
    (tmp_path / "labels.txt").write_text("n01440764\ttench\n\nn99999999 nothing of ours\nn02012849\n")
    assert labels.readable_names(CRANES, [tmp_path]) == ("n02012849", "n03126707", "tench")


def test_the_first_folder_counts(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "labels.txt").write_text("a outer\n")
    (tmp_path / "inner" / "labels.txt").write_text("a inner\n")
    assert labels.readable_names(["a"], [tmp_path / "inner", tmp_path]) == ("inner",)


@pytest.mark.parametrize(
    ("classes", "content", "names"),
    [
        pytest.param(("cat", "dog"), "cat 0\ndog 1\n", ("cat", "dog"), id="numbered"),
        pytest.param(("cat", "dog"), "0 cat\n1 dog\n", ("cat", "dog"), id="numbers first"),
        pytest.param(("cat", "dog"), "dog house\ncat\nowl\n", ("cat", "dog"), id="plain list"),
        pytest.param(("0", "1"), "0 cat\n1 dog\n", ("cat", "dog"), id="folders are the numbers"),
        pytest.param(("cat", "dog"), "\ufeffcat Katze\ndog Hund\n", ("Katze", "Hund"), id="byte order mark"),
        pytest.param(("cat", "dog"), "cat\tKatze\r\ndog\tHund\r\n", ("Katze", "Hund"), id="Windows"),
        pytest.param(("a b", "a"), "a b Ypsilon\na A, B\n", ("Ypsilon", "A"), id="blanks in a class"),
        pytest.param(
            ("cat", "dog"), "cat Katze\ndog Hund\nowl Eule\n", ("Katze", "Hund"), id="more than ours"
        ),
        pytest.param(
            ("M\u00fcller", "b"), "Mu\u0308ller Mu\u0308\nb B\n", ("M\u00fc", "B"), id="normal form"
        ),
    ],
)
def test_a_list_renames_only_classes_that_it_is_about(tmp_path, classes, content, names):
    (tmp_path / "labels.txt").write_bytes(content.encode())
    found = labels.find_names(classes, [tmp_path])
    assert found.names == names
    note = "labels.txt not taken for names: each line must be a class, a blank and its name"
    assert found.note == (note if names == classes else "")


def test_a_plain_list_of_the_same_names_is_nothing_to_speak_of(tmp_path):
    (tmp_path / "labels.txt").write_text("Paris, Texas\nRome\n")
    assert labels.find_names(("Paris, Texas", "Rome"), [tmp_path]) == (("Paris, Texas", "Rome"), "")


def test_only_word_lists_have_synonyms(tmp_path):
    assert labels.readable_names(("Paris, Texas", "Paris"), []) == ("Paris, Texas", "Paris")
    (tmp_path / "labels.txt").write_text("b Rome, Georgia\n")
    assert labels.readable_names(("Paris, Texas", "b"), [tmp_path]) == ("Paris, Texas", "Rome")


def test_a_list_that_does_not_count_leaves_the_next_one_its_turn(tmp_path):
    (tmp_path / "LOC_synset_mapping.txt").write_text("nothing of ours\n")
    (tmp_path / "labels.txt").write_text("a first\nb second\n")
    assert labels.find_names(("a", "b"), [tmp_path]) == (("first", "second"), "")


def test_synsets_have_names_without_a_list(tmp_path):
    assert labels.readable_names(("n01440764", "n02012849", "n03126707"), [tmp_path]) == (
        "tench",
        "crane (n02012849)",
        "crane (n03126707)",
    )
    with_another = ("n01440764", "n99999999")
    assert labels.readable_names(with_another, [tmp_path]) == with_another


def test_the_table_holds_the_synsets_of_the_challenge_in_order():
    lines = labels.CLASS_TABLE.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split(",") for line in lines]
    assert [int(index) for index, _, _ in rows] == list(range(1000))
    assert len({synset for _, synset, _ in rows}) == 1000
    assert all(labels.is_synset(synset) and name for _, synset, name in rows)


def test_a_list_that_is_no_text(tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00n")
    with pytest.raises(DataError, match=r"labels\.txt: not a list of class names"):
        labels.readable_names(["a"], [tmp_path])


def test_synset_ids():
    assert labels.is_synset("n01440764")
    assert not any(map(labels.is_synset, ("n0144076", "n014407640", "m01440764", "tench")))


def test_order_of_brings_one_order_into_another():
    theirs = ("kit fox", "tench", "crane")
    scores = np.array([10.0, 20.0, 30.0])
    ours = ("tench", "crane", "kit fox")
    np.testing.assert_array_equal(scores[labels.order_of(ours, theirs)], [20.0, 30.0, 10.0])


@pytest.mark.parametrize("other", [("a", "c"), ("a",), ("a", "b", "b")])
def test_order_of_needs_the_same_classes(other):
    with pytest.raises(DataError, match="the same classes once each"):
        labels.order_of(("a", "b"), other)
