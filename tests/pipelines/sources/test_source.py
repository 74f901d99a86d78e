"""Sources: what is found, how it is split and ordered, and what a user is told who brings something else."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.sources import open_source
from pipelines.sources.source import SPLITS, BrokenPicture, Source
from tests.support.pictures import encoded, textured


def opened(folder, **settings):
    return open_source(DataConfig(f"folder:{folder}", **settings))


def keys(source, split, **which):
    return [
        key.decode() for key in source.dataset(split, **which).map(lambda e: e["key"]).as_numpy_iterator()
    ]


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
        assert "3 other files ignored" in source.description

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
            ({"cat": 1, "dog": 1}, "leaves none to hold out"),
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
        with pytest.raises(DataError, match="no such folder"):
            opened(tmp_path / "file")

    def test_splits_of_different_classes(self, class_folder):
        root = class_folder({"cat": 2, "dog": 2, "cow": 2}, "data/train").parent
        class_folder({"cat": 2, "dog": 2, "emu": 2}, "data/val")
        with pytest.raises(DataError, match="val/ lacks cow; train/ lacks emu"):
            opened(root)

    def test_a_split_that_does_not_exist(self, class_folder):
        with pytest.raises(DataError, match="`split` must be one of train, val; received 'test'"):
            opened(class_folder({"cat": 2, "dog": 2})).count("test")


class TestOrder:
    @pytest.fixture
    def folder(self, class_folder):
        return class_folder({"cat": 30, "dog": 30})

    def test_an_epoch_is_a_function_of_seed_and_number(self, folder):
        source = opened(folder)
        first = keys(source, "train", epoch=0)
        tf.random.set_seed(7)
        assert keys(opened(folder), "train", epoch=0) == first
        assert keys(source, "train", epoch=1) != first
        assert keys(opened(folder, seed=1), "train", epoch=0) != first
        assert sorted(keys(source, "train", epoch=1)) == sorted(first) == sorted(keys(source, "train"))

    def test_start_leaves_out_the_front(self, folder):
        source = opened(folder)
        for epoch in (None, 3):
            assert keys(source, "train", epoch=epoch, start=17) == keys(source, "train", epoch=epoch)[17:]
        assert keys(source, "val", start=source.count("val")) == []

    def test_without_shuffling_epochs_are_equal_and_still_mixed(self, folder):
        source = opened(folder, shuffle=False)
        fixed = keys(source, "train")
        assert keys(source, "train", epoch=0) == keys(source, "train", epoch=5) == fixed
        assert len({key[:3] for key in fixed[:10]}) == 2

    def test_left_out_pictures_are_gone_for_good(self, folder):
        source = opened(folder)
        dropped = keys(source, "train")[:5] + keys(source, "val")[:1]
        rest = source.without(dropped)
        assert rest.count("train") == source.count("train") - 5
        assert rest.count("val") == source.count("val") - 1
        assert sorted(keys(rest, "train", epoch=2) + keys(rest, "val") + dropped) == sorted(
            keys(source, "train") + keys(source, "val")
        )
        assert source.count("train") + source.count("val") == 60
        np.testing.assert_array_equal(rest.fingerprints("train"), source.fingerprints("train"))
        assert source.without([]) is source

    def test_any_source_can_leave_pictures_out(self, folder):
        listed = opened(folder)
        plain = Plain(listed)
        dropped = keys(listed, "train")[3:6]
        rest = plain.without(dropped)
        assert (rest.count("train"), rest.count("val")) == (listed.count("train") - 3, listed.count("val"))
        expected = [key for key in keys(listed, "train", epoch=4) if key not in dropped]
        assert keys(rest, "train", epoch=4) == expected
        assert keys(rest, "train", epoch=4, start=7) == expected[7:]


class Plain(Source):
    """Only what every source must have."""

    def __init__(self, source):
        self._source = source
        self.class_names, self.readable_names = source.class_names, source.readable_names
        self.description = source.description

    def count(self, split):
        return self._source.count(split)

    def fingerprints(self, split):
        return self._source.fingerprints(split)

    def dataset(self, split, *, epoch=None, start=0):
        return self._source.dataset(split, epoch=epoch).skip(start)


class TestPositions:
    @pytest.mark.parametrize("kind", [Plain, lambda source: source])
    @pytest.mark.parametrize("positions", [None, [], [0], [3, 4, 9], [17]])
    def test_numbered_gives_the_places_asked_for(self, class_folder, kind, positions):
        source = kind(opened(class_folder({"cat": 10, "dog": 10})))
        fixed = keys(source, "train")
        chosen = None if positions is None else np.array(positions, np.int64)
        received = [
            (e["position"], e["key"].decode()) for e in source.numbered("train", chosen).as_numpy_iterator()
        ]
        assert received == [(p, fixed[p]) for p in (range(18) if positions is None else positions)]
        if positions is not None:
            assert [example.key for example in source.pick("train", positions)] == [
                fixed[p] for p in positions
            ]

    def test_a_missing_file_costs_its_own_position_only(self, class_folder):
        root = class_folder({"cat": 10, "dog": 10})
        source = opened(root)
        fixed = keys(source, "train")
        (root / fixed[4]).unlink()
        received = {
            int(e["position"]): e["key"].decode() for e in source.numbered("train").as_numpy_iterator()
        }
        assert received == {p: key for p, key in enumerate(fixed) if p != 4}
        picked = source.pick("train", [3, 4, 5])
        assert next(picked).key == fixed[3]
        with pytest.raises(BrokenPicture, match="cannot be read"):
            next(picked)
        assert next(picked).key == fixed[5]
