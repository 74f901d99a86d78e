"""The held-out share: a hash of each picture's key decides, so that no picture moves another."""

import unicodedata

import numpy as np

from pipelines.sources.splits import fingerprints, held_out


def keys_of(count, start=0, name="cat"):
    return [b"%s/%05d.jpg" % (name.encode(), number) for number in range(start, start + count)]


def chosen(keys, fraction=0.1, seed=0, labels=None):
    labels = np.zeros(len(keys), np.int64) if labels is None else labels
    mask = held_out(keys, labels, fraction, seed)
    return {key for key, held in zip(keys, mask, strict=True) if held}


class TestHeldOut:
    def test_about_the_share_of_every_class(self):
        labels = np.repeat(np.arange(10), 5000)
        keys = [key for label in range(10) for key in keys_of(5000, name=str(label))]
        counts = np.bincount(labels[held_out(keys, labels, 0.1, seed=0)])
        # Five standard deviations of a binomial share.
        assert (np.abs(counts - 500) < 5 * np.sqrt(5000 * 0.1 * 0.9)).all()
        assert abs(counts.sum() - 5000) < 5 * np.sqrt(50_000 * 0.1 * 0.9)

    def test_added_pictures_move_none(self):
        for seed in range(20):
            before = keys_of(20) + keys_of(20, name="dog")
            after = keys_of(60) + keys_of(60, name="dog")
            labels = [np.repeat([0, 1], 20), np.repeat([0, 1], 60)]
            trained = set(before) - chosen(before, seed=seed, labels=labels[0])
            assert not trained & chosen(after, seed=seed, labels=labels[1])

    def test_removed_pictures_move_none(self):
        keys = keys_of(500)
        held = chosen(keys)
        for gone in range(0, 500, 7):
            rest = keys[:gone] + keys[gone + 1 :]
            assert chosen(rest) == held - {keys[gone]}

    def test_neither_order_nor_other_classes_matter(self):
        keys = keys_of(100)
        both = keys + keys_of(70, name="dog")
        labels = np.repeat([0, 1], [100, 70])
        assert chosen(keys) == chosen(keys[::-1]) == chosen(both, labels=labels) & set(keys)

    def test_a_larger_share_contains_a_smaller_one(self):
        keys = keys_of(300)
        assert chosen(keys, 0.1) < chosen(keys, 0.3) < chosen(keys, 0.9)

    def test_the_seed_chooses(self):
        keys = keys_of(200)
        assert chosen(keys, seed=1) == chosen(keys, seed=1) != chosen(keys, seed=2)
        assert chosen(keys, seed=-1) != chosen(keys, seed=1)
        assert len(chosen(keys, seed=10**30)) > 0

    def test_small_classes_stand_on_both_sides(self):
        labels = np.array([0, 1, 1, 2, 2, 2])
        keys = keys_of(6)
        for seed in range(30):
            few = np.bincount(labels[held_out(keys, labels, 0.01, seed)], minlength=3)
            many = np.bincount(labels[held_out(keys, labels, 0.99, seed)], minlength=3)
            assert few.tolist() == [0, 1, 1]
            assert many.tolist() == [0, 1, 2]

    def test_composed_and_decomposed_letters_are_one_name(self):
        names = [f"Müller/{number}.jpg" for number in range(50)]
        composed, apart = (
            [unicodedata.normalize(form, name).encode() for name in names] for form in ("NFC", "NFD")
        )
        assert set(composed).isdisjoint(apart)
        one = np.zeros(50, np.int64)
        np.testing.assert_array_equal(held_out(composed, one, 0.3, 0), held_out(apart, one, 0.3, 0))
        np.testing.assert_array_equal(fingerprints(composed), fingerprints(apart))

    def test_names_that_are_no_text_count_too(self):
        keys = [b"cat/\xff%d.jpg" % number for number in range(40)]
        assert 0 < len(chosen(keys, 0.5)) < 40

    def test_nothing_gives_nothing(self):
        assert held_out([], np.zeros(0, np.int64), 0.1, 0).shape == (0,)


class TestFingerprints:
    def test_the_order_of_the_keys_does_not_matter(self):
        keys = keys_of(30)
        np.testing.assert_array_equal(fingerprints(keys), fingerprints(keys[::-1]))
        assert fingerprints(keys).dtype == np.uint64

    def test_every_key_has_its_own(self):
        few, many = fingerprints(keys_of(1000)), fingerprints(keys_of(1001))
        assert len(np.unique(many)) == 1001
        assert len(np.setdiff1d(many, few)) == 1
