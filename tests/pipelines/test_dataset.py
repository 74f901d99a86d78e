import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines import dataset
from pipelines.config import DataConfig, PictureSettings
from pipelines.errors import DataError
from pipelines.pictures import augment, decode, preprocess
from pipelines.pictures.statistics import StatsAccumulator
from tests.support.memory_source import SMALL, MemorySource, assert_equal_batches, collected, source_of, train
from tests.support.pictures import coordinates, encoded, textured


def evaluate(source, batch_size, config=SMALL, **options):
    return dataset.build(source, config, "val", batch_size, training=False, **options)


class TestEvaluation:
    source = source_of(11)

    @pytest.mark.parametrize(("batch_size", "batches"), [(1, 11), (4, 3), (5, 3), (11, 1), (16, 1)])
    def test_every_example_once_and_a_mask_for_the_rest(self, batch_size, batches):
        found = collected(evaluate(self.source, batch_size))
        assert len(found) == batches
        assert all(len(part) == batch_size for batch in found for part in batch.values())
        mask = np.concatenate([batch["mask"] for batch in found])
        np.testing.assert_array_equal(mask, np.arange(batches * batch_size) < 11)
        keys = np.concatenate([batch["key"] for batch in found])
        np.testing.assert_array_equal(keys[mask == 1], [b"%03d" % number for number in range(11)])
        labels = np.concatenate([batch["label"] for batch in found])
        np.testing.assert_array_equal(labels[mask == 1], np.arange(11) % 3)
        images = np.concatenate([batch["image"] for batch in found])
        assert not images[mask == 0].any()

    def test_layout(self):
        batches = evaluate(self.source, 4)
        assert batches.element_spec == {
            "image": tf.TensorSpec([4, 32, 32, 3], tf.uint8),
            "label": tf.TensorSpec([4], tf.int32),
            "mask": tf.TensorSpec([4], tf.float32),
            "key": tf.TensorSpec([4], tf.string),
        }
        assert batches.cardinality() == 3

    def test_crops_are_those_of_preprocess(self):
        pictures = [example["image_bytes"] for example in self.source.dataset("val")]
        (single,) = collected(evaluate(self.source, 11))
        (ten,) = collected(evaluate(self.source, 11, crops=10))
        assert ten["image"].shape == (11, 10, 32, 32, 3)
        for number in (0, 10):
            np.testing.assert_array_equal(
                single["image"][number], preprocess.evaluation_crop(pictures[number], SMALL)
            )
            np.testing.assert_array_equal(ten["image"][number], preprocess.ten_crops(pictures[number], SMALL))
        (nine,) = collected(evaluate(self.source, 11, crops=9))
        np.testing.assert_array_equal(nine["image"][10], preprocess.views(pictures[10], SMALL, 9))

    @pytest.mark.parametrize("upright", [True, False])
    def test_photographs_lie_alike_in_training_and_evaluation(self, upright):
        noted = Image.Exif()
        noted[0x0112] = 3
        upside = encoded(textured(50, 60)[::-1, ::-1], "PNG", exif=noted)
        config = dataclasses.replace(SMALL, exif_orientation=upright, mirror=False, edge_crops=True)
        source = MemorySource([upside] * 4)
        seen = encoded(textured(50, 60) if upright else textured(50, 60)[::-1, ::-1], "PNG")
        whole = preprocess.prepare(tf.constant(seen), config).numpy()
        (batch,) = collected(evaluate(source, 4, config))
        np.testing.assert_array_equal(batch["image"][0], whole[4:36, 4:36])
        (batch,) = collected(train(source, 4, config), 1)
        for image, (top, left, _) in zip(batch["image"], batch["window"], strict=True):
            np.testing.assert_array_equal(image, whole[top : top + 32, left : left + 32])

    def test_prepared_pictures_are_never_turned(self):
        noted = Image.Exif()
        noted[0x0112] = 3
        pictures = [encoded(textured(40, 40, seed=seed), "JPEG", exif=noted) for seed in range(4)]
        source = MemorySource(pictures, prepared_size=40)
        (batch,) = collected(evaluate(source, 4))
        np.testing.assert_array_equal(batch["image"][1], decode.decode(pictures[1])[4:36, 4:36])

    @pytest.mark.parametrize("shards", [2, 3, 4])
    def test_shards_share_every_example_in_equally_many_batches(self, shards):
        parts = [collected(evaluate(self.source, 12, shard=(index, shards))) for index in range(shards)]
        assert {len(part) for part in parts} == {1}
        assert all(len(part[0]["label"]) == 12 // shards for part in parts)
        seen = [key for part in parts for batch in part for key in batch["key"][batch["mask"] == 1]]
        assert sorted(seen) == [b"%03d" % number for number in range(11)]

    def test_a_shard_without_examples_still_steps_along(self):
        (batch,) = collected(evaluate(source_of(1), 2, shard=(1, 2)))
        np.testing.assert_array_equal(batch["mask"], [0])

    def test_an_empty_split_is_an_error(self):
        with pytest.raises(DataError, match="the val split is empty"):
            evaluate(MemorySource([]), 4)


class TestTraining:
    source = source_of(22)

    def test_layout(self):
        batches = train(self.source, 8)
        assert batches.element_spec == {
            "image": tf.TensorSpec([8, 32, 32, 3], tf.uint8),
            "label": tf.TensorSpec([8], tf.int32),
            "mask": tf.TensorSpec([8], tf.float32),
            "key": tf.TensorSpec([8], tf.string),
            "colour_shift": tf.TensorSpec([8, 3], tf.float32),
            "window": tf.TensorSpec([8, 3], tf.int32),
        }

    def test_windows_are_told_where_the_mean_follows_them(self):
        (batch,) = collected(train(self.source, 8, start_step=3), 1)
        drawn = augment.draw_windows(SMALL, tf.constant([SMALL.seed * 2, 3], tf.int64), 8)
        np.testing.assert_array_equal(batch["window"], np.stack(drawn, axis=1))
        for settings in ({"mean": "channel"}, {"mean_follows_crop": False}):
            fixed = dataclasses.replace(SMALL, **settings)
            assert "window" not in train(self.source, 8, fixed).element_spec

    @pytest.mark.parametrize("start", [1, 2, 5, 8])
    def test_any_step_can_be_the_first(self, start):
        # 22 pictures in batches of 8: two steps an epoch.
        whole = collected(train(self.source, 8), 10)
        rest = collected(train(self.source, 8, start_step=start), 10 - start)
        for left, right in zip(whole[start:], rest, strict=True):
            assert_equal_batches(left, right)

    def test_an_epoch_shows_no_example_twice_and_leaves_the_remainder_out(self):
        batches = collected(train(self.source, 8), 6)
        passes = [
            np.concatenate([batch["key"] for batch in batches[first : first + 2]]) for first in (0, 2, 4)
        ]
        for keys in passes:
            assert len(set(keys)) == 16
        assert len({tuple(keys) for keys in passes}) == 3
        for batch in batches:
            np.testing.assert_array_equal(batch["label"], batch["key"].astype(int) % 3)
            assert batch["mask"].all()

    def test_two_runs_are_equal_and_two_seeds_are_not(self):
        first, again = (collected(train(self.source, 8), 3) for _ in range(2))
        for left, right in zip(first, again, strict=True):
            assert_equal_batches(left, right)
        other = collected(train(self.source, 8, DataConfig(**{**vars(SMALL), "seed": 4})), 3)
        assert np.abs(other[0]["colour_shift"] - first[0]["colour_shift"]).min() > 0
        assert (other[0]["image"] != first[0]["image"]).any(axis=(1, 2, 3)).all()

    def test_a_picture_looks_different_in_the_next_epoch(self):
        looks = collections.defaultdict(set)
        for batch in collected(train(self.source, 22), 5):
            for key, image, shift in zip(batch["key"], batch["image"], batch["colour_shift"], strict=True):
                looks[key].add((image.tobytes(), tuple(shift)))
        assert len(looks) == 22
        assert all(len(seen) == 5 for seen in looks.values())

    def test_each_example_is_augmented_by_its_step_and_place(self):
        (batch,) = collected(train(self.source, 8, start_step=3), 1)
        (example,) = self.source.dataset("train", epoch=1, start=8 + 5).take(1)
        drawn = augment.draw_windows(SMALL, tf.constant([SMALL.seed * 2, 3], tf.int64), 8)
        image = preprocess.prepare(example["image_bytes"], PictureSettings(resize=40))
        expected = augment.crop_mirror(image, SMALL, augment.Window(*(part[5] for part in drawn)))
        np.testing.assert_array_equal(batch["image"][5], expected)
        colour_seed = tf.constant([SMALL.seed * 2 + 1, 3], tf.int64)
        expected = augment.colour_shifts(SMALL, None, colour_seed, 8)
        np.testing.assert_array_equal(batch["colour_shift"], expected)

    @pytest.mark.parametrize(("share", "groups"), [(1, 64), (4, 16), (32, 2)])
    def test_consecutive_pictures_share_a_window(self, share, groups):
        config = DataConfig(resize=64, crop=32, share_crops=share, colour_statistics="published", seed=1)
        source = MemorySource([encoded(coordinates(64), "PNG")] * 64)
        (batch,) = collected(train(source, 64, config), 1)
        grouped = batch["image"].reshape(groups, share, -1)
        assert (grouped == grouped[:, :1]).all()
        # 33 x 33 x 2 windows: two groups of 64 may meet in one, most do not.
        assert len({group[0].tobytes() for group in grouped}) >= groups - 4
        assert len({tuple(shift) for shift in batch["colour_shift"]}) == 64

    def test_a_shared_window_crosses_batches(self):
        config = DataConfig(resize=64, crop=32, share_crops=4, colour_noise="none", seed=1)
        source = MemorySource([encoded(coordinates(64), "PNG")] * 6)
        images = np.concatenate([batch["image"] for batch in collected(train(source, 6, config), 6)])
        groups = [images[first : first + 4] for first in range(0, 36, 4)]
        assert all((group == group[0]).all() for group in groups)
        assert len({group[0].tobytes() for group in groups}) == 9
        again = collected(train(source, 6, config, start_step=3), 1)
        np.testing.assert_array_equal(again[0]["image"], images[18:24])

    @pytest.mark.parametrize("shards", [2, 4])
    def test_shards_together_are_the_global_batch(self, shards):
        whole = collected(train(self.source, 8), 5)
        parts = [collected(train(self.source, 8, shard=(index, shards)), 5) for index in range(shards)]
        for step, batch in enumerate(whole):
            for index in range(shards):
                assert_equal_batches(
                    {name: part[index::shards] for name, part in batch.items()}, parts[index][step]
                )

    def test_colour_is_measured_on_the_training_set_unless_published(self):
        accumulator = StatsAccumulator()
        accumulator.update(textured(40, 40)[np.newaxis])
        config = DataConfig(resize=40, crop=32)
        (batch,) = collected(train(self.source, 8, config, stats=accumulator.result()), 1)
        seed = tf.constant([1, 0], tf.int64)
        expected = augment.colour_shifts(config, accumulator.result(), seed, 8)
        np.testing.assert_array_equal(batch["colour_shift"], expected)


class TestPreparedPictures:
    pictures = tuple(encoded(textured(40, 40, seed=number), "JPEG", quality=90) for number in range(8))

    def test_decoding_the_window_alone_changes_nothing(self):
        (fast,) = collected(train(MemorySource(self.pictures, prepared_size=40), 8), 1)
        (whole,) = collected(train(MemorySource(self.pictures), 8), 1)
        assert_equal_batches(fast, whole)
        positions = fast["key"].astype(int)
        assert fast["image"][0].tobytes() in {
            view.tobytes()
            for top in range(9)
            for left in range(9)
            for crop in [decode.decode(self.pictures[positions[0]]).numpy()[top : top + 32, left : left + 32]]
            for view in (crop, crop[:, ::-1])
        }

    def test_another_size_is_resized(self):
        config = DataConfig(resize=20, crop=16, colour_noise="none")
        (batch,) = collected(evaluate(MemorySource(self.pictures, prepared_size=40), 8, config), 1)
        boxes = decode.decode(self.pictures[0]).numpy().reshape(20, 2, 20, 2, 3).astype(int).sum(axis=(1, 3))
        np.testing.assert_array_equal(batch["image"][0], ((boxes + 2) // 4)[2:18, 2:18])
        (batch,) = collected(train(MemorySource(self.pictures, prepared_size=40), 8, config), 1)
        (plain,) = collected(train(MemorySource(self.pictures), 8, config), 1)
        assert_equal_batches(batch, plain)

    def test_a_border_is_kept(self):
        config = DataConfig(resize=40, crop=40, pad=6, colour_noise="none")
        (batch,) = collected(train(MemorySource(self.pictures, prepared_size=40), 8, config), 1)
        (plain,) = collected(train(MemorySource(self.pictures), 8, config), 1)
        assert_equal_batches(batch, plain)
        (centre,) = collected(evaluate(MemorySource(self.pictures, prepared_size=40), 8, config))
        np.testing.assert_array_equal(centre["image"][0], decode.decode(self.pictures[0]))


class TestErrors:
    def test_fewer_pictures_than_a_batch(self):
        with pytest.raises(DataError, match="holds 3 pictures, fewer than one batch; received batch_size=4"):
            train(source_of(3), 4)

    def test_a_picture_that_broke_since_raises(self):
        source = MemorySource([encoded(textured(50, 50), "JPEG")] * 3 + [b"gone"])
        for batches in (train(source, 4), evaluate(source, 4)):
            with pytest.raises(tf.errors.InvalidArgumentError):
                collected(batches, 1)

    @pytest.mark.parametrize(
        "wrong",
        [{"shard": (0, 3)}, {"shard": (2, 2)}, {"crops": 5}, {"start_step": 1}],
        ids=["indivisible", "no_such_shard", "five_crops", "start_of_evaluation"],
    )
    def test_contradictions(self, wrong):
        with pytest.raises(ValueError, match="received"):
            evaluate(source_of(4), 4, **wrong)

    def test_ten_crops_are_for_evaluation(self):
        with pytest.raises(ValueError, match="`crops`"):
            train(source_of(4), 4, crops=10)
