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
    (tmp_path / "labels.txt").write_text("n01440764\ttench\n\nn99 nothing of ours\nn02012849\n")
    assert labels.readable_names(CRANES, [tmp_path]) == ("n02012849", "n03126707", "tench")


def test_the_first_folder_counts(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "labels.txt").write_text("a outer\n")
    (tmp_path / "inner" / "labels.txt").write_text("a inner\n")
    assert labels.readable_names(["a"], [tmp_path / "inner", tmp_path]) == ("inner",)


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
