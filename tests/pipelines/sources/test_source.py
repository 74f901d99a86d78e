"""Sources: what is found, how it is split and ordered, and what a user is told who brings something else."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.sources import open_source
from pipelines.sources.source import BrokenPicture, Source


def opened(folder, **settings):
    return open_source(DataConfig(f"folder:{folder}", **settings))


def keys(source, split, **which):
    return [
        key.decode() for key in source.dataset(split, **which).map(lambda e: e["key"]).as_numpy_iterator()
    ]


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
