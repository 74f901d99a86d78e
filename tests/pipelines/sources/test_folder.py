"""Class folders: which folders are classes and which splits, what is read, and what is left out."""

import collections
import os
import tarfile
import unicodedata

import numpy as np
import pytest

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.sources import open_source
from pipelines.sources.source import SPLITS
from tests.support.pictures import encoded, textured
from tests.support.small_records import keys


def opened(folder, **settings):
    return open_source(DataConfig(f"folder:{folder}", **settings))


class TestFolder:
    def test_elements_are_the_files(self, class_folder):
        root = class_folder({"dog": 4, "cat": 6})
        source = opened(root)
        assert source.class_names == source.readable_names == ("cat", "dog")
        for split in SPLITS:
            for element in source.dataset(split).as_numpy_iterator():
                key = element["key"].decode()
                assert element["image_bytes"] == (root / key).read_bytes()
                assert source.class_names[element["label"]] == key.split("/")[0]
                assert element["label"].dtype == np.int64
        assert sorted(keys(source, "train") + keys(source, "val")) == sorted(
            str(path.relative_to(root)) for path in root.rglob("*.jpg")
        )

    def test_the_share_is_seeded_and_stratified(self, class_folder):
        root = class_folder({"cat": 20, "dog": 10})
        source = opened(root, val_fraction=0.2)
        assert source.held_out
        assert source.count("train") + source.count("val") == 30
        held = collections.Counter(key[:3] for key in keys(source, "val"))
        assert 1 <= held["cat"] <= 9
        assert 1 <= held["dog"] <= 6
        assert keys(opened(root, val_fraction=0.2), "val") == keys(source, "val")
        assert set(keys(opened(root, val_fraction=0.2, data_seed=1), "val")) != set(keys(source, "val"))

    def test_train_alone_is_split_and_val_is_taken_where_it_is(self, class_folder):
        root = class_folder({"cat": 10, "dog": 10}, "data/train").parent
        assert opened(root).held_out
        assert opened(root).count("train") + opened(root).count("val") == 20
        class_folder({"cat": 3, "dog": 1}, "data/val")
        source = opened(root)
        assert not source.held_out
        assert (source.count("train"), source.count("val")) == (20, 4)
        assert {key.split("/")[0] for key in keys(source, "val")} == {"val"}

    def test_a_class_may_be_called_train(self, class_folder):
        source = opened(class_folder({"train": 4, "bus": 4}))
        assert source.class_names == ("bus", "train")

    def test_pictures_are_known_by_any_letter_case_and_others_are_counted(self, class_folder):
        root = class_folder({"cat": 2, "dog": 2})
        for name in ("a.JPEG", "b.Png", "c.GIF", "d.bmp", "e.WebP"):
            (root / "cat" / name).write_bytes(encoded(textured(9, 9), "PNG"))
        for name in ("Thumbs.db", "notes.txt", ".DS_Store"):
            (root / "dog" / name).write_text("no picture")
        (root / ".cache").mkdir()
        source = opened(root)
        assert source.count("train") + source.count("val") == 9
        assert source.left_out == {".db files": 1, ".txt files": 1, "hidden files": 1}

    def test_word_lists_name_the_classes(self, class_folder):
        root = class_folder({"n01440764": 2, "n01443537": 2})
        (root / "synset_words.txt").write_text(
            "n01443537 goldfish, Carassius auratus\nn01440764 tench, Tinca tinca\n"
        )
        source = opened(root)
        assert source.class_names == ("n01440764", "n01443537")
        assert source.readable_names == ("tench", "goldfish")

    def test_names_of_any_letters(self, class_folder):
        root = class_folder({"Hunde & Katzen": 2, "größe": 2})
        source = opened(root)
        assert {key.split("/")[0] for key in keys(source, "train")} == {"Hunde & Katzen", "größe"}
        assert all(element["image_bytes"] for element in source.dataset("train").as_numpy_iterator())


class TestFolderErrors:
    @pytest.mark.parametrize(
        ("counts", "message"),
        [
            ({"cat": 3}, "only one class (cat)"),
            ({"cat": 3, "dog": 0}, "dog: no pictures"),
        ],
    )
    def test_too_little(self, class_folder, counts, message):
        with pytest.raises(DataError, match="data") as caught:
            opened(class_folder(counts))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_missing_and_empty(self, tmp_path):
        with pytest.raises(DataError, match="no such folder"):
            opened(tmp_path / "none")
        with pytest.raises(DataError, match="holds no class folders"):
            opened(tmp_path)

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="a file, not a folder"):
            opened(tmp_path / "file")

    def test_an_archive_is_to_be_unpacked(self, class_folder, tmp_path):
        root = class_folder({"cat": 2, "dog": 2})
        with tarfile.open(tmp_path / "data.tar", "w") as archive:
            archive.add(root, "data")
        with pytest.raises(DataError, match=r"data\.tar: an archive, not a folder; unpack it"):
            opened(tmp_path / "data.tar")

    def test_a_class_of_another_format_says_what_it_holds(self, class_folder):
        root = class_folder({"cat": 2, "dog": 0})
        for number in range(3):
            (root / "dog" / f"{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
        message = r"it holds 3 \.heic files, such as 0\.HEIC, a HEIC file: convert them to JPEG or PNG"
        with pytest.raises(DataError, match=message):
            opened(root)

    def test_a_name_that_is_no_text(self, class_folder):
        root = class_folder({"cat": 2, "dog": 2})
        os.rename(root / "dog", os.fsencode(root) + b"/d\xf6g")
        with pytest.raises(DataError, match="must be UTF-8"):
            opened(root)

    def test_two_classes_of_one_name(self, class_folder):
        names = [unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")]
        root = class_folder(dict.fromkeys(names, 2))
        with pytest.raises(DataError, match="two class folders are called Müller"):
            opened(root)

    def test_splits_of_different_classes(self, class_folder):
        root = class_folder({"cat": 2, "dog": 2, "cow": 2}, "data/train").parent
        class_folder({"cat": 2, "dog": 2, "emu": 2}, "data/val")
        with pytest.raises(DataError, match="val/ lacks cow; train/ lacks emu"):
            opened(root)

    def test_a_split_that_does_not_exist(self, class_folder):
        with pytest.raises(DataError, match="`split` must be one of train, val; received 'test'"):
            opened(class_folder({"cat": 2, "dog": 2})).count("test")


class TestSplits:
    @pytest.mark.parametrize(
        ("train", "val"),
        [("train", "val"), ("Training", "VALID"), ("TRAIN", "Validation"), ("train", "valid")],
    )
    def test_usual_names_in_any_letter_case(self, class_folder, train, val):
        class_folder({"cat": 5, "dog": 5}, f"data/{train}")
        root = class_folder({"cat": 2, "dog": 1}, f"data/{val}").parent
        source = opened(root)
        assert (source.count("train"), source.count("val"), source.held_out) == (10, 3, False)
        assert f"{train}/ for train, {val}/ for val" in source.description

    def test_test_pictures_are_for_evaluation_alone(self, class_folder):
        for split, count in (("train", 5), ("val", 2), ("Test", 3)):
            root = class_folder({"cat": count, "dog": count}, f"data/{split}").parent
        source = opened(root)
        assert source.splits == ("train", "val", "test")
        assert [source.count(split) for split in source.splits] == [10, 4, 6]
        assert {key.split("/")[0] for key in keys(source, "test")} == {"Test"}

    def test_test_pictures_are_never_held_out(self, class_folder):
        class_folder({"cat": 20, "dog": 20}, "data/train")
        root = class_folder({"cat": 3, "dog": 3}, "data/test").parent
        source = opened(root)
        assert source.held_out
        assert source.count("train") + source.count("val") == 40
        assert "train/ for train, test/ for test, a share of train/ for val" in source.description

    @pytest.mark.parametrize("split", ["val", "test"])
    def test_without_training_pictures_there_is_something_to_evaluate(self, class_folder, split):
        root = class_folder({"cat": 3, "dog": 2}, f"data/{split}").parent
        source = opened(root)
        assert source.class_names == ("cat", "dog")
        assert (source.count("train"), source.count(split)) == (0, 5)
        assert list(source.dataset("train")) == []

    def test_other_folders_are_passed_over_by_name(self, class_folder):
        class_folder({"cat": 5, "dog": 5}, "data/train")
        root = class_folder({"cat": 2, "dog": 2}, "data/val").parent
        (root / "annotations").mkdir()
        class_folder({"one": 1}, "data/unlabelled")
        (root / "test").mkdir()
        (root / "test" / "1.jpg").write_bytes(encoded(textured(9, 9), "JPEG"))
        assert opened(root).description.endswith(
            "; annotations/ passed over; test/ passed over; unlabelled/ passed over"
        )

    def test_test_pictures_of_other_classes_are_left_out_and_counted(self, class_folder):
        class_folder({"cat": 5, "dog": 5}, "data/train")
        root = class_folder({"cat": 2, "cow": 2}, "data/test").parent
        source = opened(root)
        assert source.splits == SPLITS
        assert source.left_out == {"pictures of test/, whose classes are others": 4}

    def test_two_folders_for_one_split(self, class_folder):
        for name in ("train", "val", "validation"):
            root = class_folder({"cat": 2, "dog": 2}, f"data/{name}").parent
        with pytest.raises(DataError, match="both val/ and validation/ could hold the val pictures"):
            opened(root)

    @pytest.mark.parametrize("split", ["train", "val", "test"])
    def test_classes_beside_a_split(self, class_folder, split):
        class_folder({"cat": 2, "dog": 2}, f"data/{split}")
        root = class_folder({"cow": 2}, "data")
        with pytest.raises(DataError, match=f"{split}/ could be a split, and cow beside it classes"):
            opened(root)

    def test_a_validation_folder_without_classes(self, class_folder):
        root = class_folder({"cat": 2, "dog": 2}, "data/train").parent
        (root / "val").mkdir()
        with pytest.raises(DataError, match=r"val: holds no class folders, and so cannot be the val split"):
            opened(root)

    def test_letters_composed_or_not_are_one_class(self, class_folder):
        for split, form in (("train", "NFC"), ("val", "NFD")):
            names = [unicodedata.normalize(form, "Müller"), "Meier"]
            root = class_folder(dict.fromkeys(names, 2), f"data/{split}").parent
        source = opened(root)
        assert source.class_names == ("Meier", unicodedata.normalize("NFC", "Müller"))
        assert [len(list(source.dataset(split))) for split in SPLITS] == [4, 4]
        assert all(e["image_bytes"] for e in source.dataset("val").as_numpy_iterator())


class TestDepth:
    def test_sub_folders_belong_to_their_class(self, class_folder):
        class_folder({"cat": 10, "dog": 10})
        root = class_folder({"wild": 30}, "data/cat").parent
        class_folder({"far/below": 3}, "data/dog")
        source = opened(root)
        held = keys(source, "train") + keys(source, "val")
        assert collections.Counter(key[:3] for key in held) == {"cat": 40, "dog": 13}
        assert {"cat/wild/0007.jpg", "dog/far/below/0000.jpg"} < set(held)
        assert "33 of them in sub-folders of their class" in source.description

    def test_hidden_files_are_no_pictures(self, class_folder):
        root = class_folder({"cat": 4, "dog": 4})
        for path in list((root / "cat").glob("*.jpg")):
            (root / "cat" / f"._{path.name}").write_bytes(b"\0\x05\x16\x07")
        (root / "dog" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (root / "dog" / ".thumbnails").mkdir()
        (root / "__MACOSX" / "cat").mkdir(parents=True)
        source = opened(root)
        assert source.class_names == ("cat", "dog")
        assert source.count("train") + source.count("val") == 8
        assert source.left_out == {"hidden files": 5, "hidden folders": 1}

    def test_links_are_followed_but_not_in_circles(self, class_folder, tmp_path):
        root = class_folder({"cat": 4, "dog": 4})
        class_folder({"more": 2}, "elsewhere")
        (root / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "more")
        (root / "cat" / "again").symlink_to(root)
        source = opened(root)
        assert source.count("train") + source.count("val") == 10
        assert source.left_out == {"links to folders above": 1}


def test_a_word_list_that_is_not_taken_is_spoken_of(class_folder):
    root = class_folder({"Paris, Texas": 2, "Rome": 2})
    (root / "labels.txt").write_text("Rome 0\nParis, Texas 1\n")
    source = opened(root)
    assert source.readable_names == ("Paris, Texas", "Rome")
    assert "; labels.txt not taken for names: each line must be " in source.description
    (root / "labels.txt").write_text("Rome Roma, Urbs\n")
    assert opened(root).readable_names == ("Paris, Texas", "Roma")
