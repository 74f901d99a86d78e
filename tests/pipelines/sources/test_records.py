"""Prepared records as a source: what they hold, in which order, and what damage is called."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from pipelines import dataset, scan
from pipelines.config import DataConfig, PictureSettings
from pipelines.errors import DataError
from pipelines.pictures import preprocess
from pipelines.pictures.decode import decode
from pipelines.sources import open_source, records
from tests.support.small_records import SIDE, hurt, keys, stored, write

LUMA = [0.299, 0.587, 0.114]

SETTINGS = PictureSettings(resize=SIDE)


class TestContent:
    def test_the_same_examples_in_the_same_order(self, pictures_config, records_folder):
        source, prepared = open_source(pictures_config), stored(records_folder)
        assert prepared.class_names == source.class_names
        assert prepared.prepared_size == SIDE
        for split in ("train", "val"):
            assert prepared.count(split) == source.count(split)
            pairs = zip(source.dataset(split), prepared.dataset(split), strict=True)
            for original, record in pairs:
                assert record["key"] == original["key"]
                assert record["label"] == original["label"]
                expected = preprocess.prepare(original["image_bytes"], SETTINGS).numpy() @ LUMA
                received = decode(record["image_bytes"]).numpy() @ LUMA
                # Brightness only: at 16 pixels these pictures are all colour edges, of which JPEG keeps half.
                assert np.abs(received - expected).mean() < 2

    def test_uncompressed_pictures_lose_nothing_and_are_cropped_as_they_are(self, pictures_config, tmp_path):
        write(pictures_config, tmp_path / "ppm", encoding="ppm")
        source, prepared = open_source(pictures_config), stored(tmp_path / "ppm")
        assert prepared.description.endswith("records (ppm) of 16x16 pixels from folder:data")
        for original, record in zip(source.dataset("train"), prepared.dataset("train"), strict=True):
            assert (record["key"], record["label"]) == (original["key"], original["label"])
            np.testing.assert_array_equal(
                decode(record["image_bytes"]),
                preprocess.prepare(original["image_bytes"], SETTINGS),
            )
        config = DataConfig("synthetic", resize=SIDE, crop=11, colour_noise="none", shuffle=False)
        ordered = (
            open_source(dataclasses.replace(pictures_config, shuffle=False)),
            stored(tmp_path / "ppm", shuffle=False),
        )
        streams = [dataset.build(s, config, "train", 6, training=True).take(7) for s in ordered]
        for ours, theirs in zip(*streams, strict=True):
            np.testing.assert_array_equal(ours["image"], theirs["image"])

    def test_folders_written_before_there_was_a_choice_hold_jpegs(self, records_folder):
        path = records_folder / "records.json"
        index = json.loads(path.read_text())
        assert index.pop("encoding") == "jpeg"
        path.write_text(json.dumps(index))
        assert records.Index.load(records_folder).settings.encoding == "jpeg"

    def test_statistics_are_those_of_the_pictures_before_they_were_encoded(
        self, pictures_config, records_folder
    ):
        prepared, source = stored(records_folder), open_source(pictures_config)
        images = np.stack(
            [preprocess.prepare(e["image_bytes"], SETTINGS).numpy() for e in source.dataset("train")]
        )
        stats = prepared.stored_stats()
        assert stats.count == len(images) == 37
        np.testing.assert_allclose(stats.mean_image, images.mean(axis=0, dtype=np.float64), rtol=1e-6)
        found = scan.scan(prepared, DataConfig(f"records:{records_folder}", resize=SIDE, crop=SIDE))
        assert found.skipped == ()
        np.testing.assert_array_equal(found.stats.mean_image, stats.mean_image)

    def test_statistics_of_another_size_are_measured(self, records_folder):
        config = DataConfig(f"records:{records_folder}", resize=8, crop=8)
        assert scan.scan(open_source(config), config).stats.mean_image.shape == (8, 8, 3)

    def test_the_index_counts_and_names_no_absolute_path(self, pictures_config, records_folder):
        index = json.loads((records_folder / "records.json").read_text())
        assert [shard["count"] for shard in index["shards"]] == [8, 8, 8, 8, 5, 3]
        assert index["source"] == "folder:data"
        assert (index["size"], index["seed"], index["pictures"]) == (SIDE, 0, {"train": 37, "val": 3})
        assert str(records_folder.parent) not in (records_folder / "records.json").read_text()


class TestOrder:
    def test_an_epoch_is_a_function_of_seed_and_number(self, records_folder):
        first = keys(stored(records_folder), "train", epoch=0)
        tf.random.set_seed(11)
        assert keys(stored(records_folder), "train", epoch=0) == first
        assert keys(stored(records_folder), "train", epoch=1) != first
        assert keys(stored(records_folder, seed=1), "train", epoch=0) != first
        assert sorted(first) == sorted(keys(stored(records_folder), "train"))
        assert len(set(first)) == 37

    @pytest.mark.parametrize("start", [0, 5, 8, 19, 37])
    @pytest.mark.parametrize("epoch", [None, 2])
    def test_start_leaves_out_the_front(self, records_folder, epoch, start):
        source = stored(records_folder)
        assert keys(source, "train", epoch=epoch, start=start) == keys(source, "train", epoch=epoch)[start:]

    def test_without_shuffling_every_epoch_has_the_fixed_order(self, records_folder):
        source = stored(records_folder, shuffle=False)
        assert keys(source, "train", epoch=3) == keys(source, "train")

    def test_pictures_can_be_left_out(self, records_folder):
        source = stored(records_folder)
        dropped = keys(source, "train")[:2]
        rest = source.without(dropped)
        assert rest.count("train") == 35
        assert set(keys(rest, "train", epoch=0)).isdisjoint(dropped)
        assert rest.stored_stats().count == 37


class TestDamage:
    @pytest.mark.parametrize(("damage", "word"), [("missing", "missing"), ("shorter", "damaged")])
    def test_opening_names_the_shard_and_the_cure(self, records_folder, damage, word):
        hurt(records_folder / "train-00002-of-00005.tfrecord", damage)
        with pytest.raises(
            DataError, match=rf"train-00002-of-00005\.tfrecord: .*{word}.*pipelines.prepare"
        ) as caught:
            stored(records_folder)
        assert "\n" not in str(caught.value)

    def test_reading_an_altered_record_can_be_described(self, records_folder):
        hurt(records_folder / "train-00002-of-00005.tfrecord", "altered")
        source = stored(records_folder)
        with pytest.raises(tf.errors.DataLossError) as caught:
            keys(source, "train", epoch=0)
        line = records.describe(caught.value, DataConfig(f"records:{records_folder}"))
        assert "train-00002-of-00005.tfrecord: damaged" in line
        assert "pipelines.prepare" in line
        assert "\n" not in line

    def test_other_errors_are_described_in_one_line(self, pictures_config):
        source = open_source(pictures_config)
        (source._root / keys(source, "train")[0]).unlink()
        with pytest.raises(tf.errors.NotFoundError) as caught:
            keys(source, "train")
        line = records.describe(caught.value, pictures_config)
        assert "No such file" in line
        assert "\n" not in line

    def test_verify_finds_what_opening_does_not(self, records_folder):
        index = records.Index.load(records_folder)
        assert records.verify(records_folder, index) == {}
        hurt(records_folder / "val-00000-of-00001.tfrecord", "altered")
        assert list(records.verify(records_folder, index)) == ["val-00000-of-00001.tfrecord"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "damaged"),
            ("[]", "damaged"),
            ('{"format": 99}', "format 99, but this version reads 1"),
            ('{"format": 1, "shards": []}', "damaged"),
        ],
    )
    def test_an_index_that_cannot_be_read(self, records_folder, text, message):
        (records_folder / "records.json").write_text(text)
        with pytest.raises(DataError, match=message):
            stored(records_folder)

    def test_folders_that_are_none(self, tmp_path):
        with pytest.raises(DataError, match="no such folder; make it with"):
            stored(tmp_path / "none")
        with pytest.raises(DataError, match=r"records\.json is missing"):
            stored(tmp_path)


def test_more_workers_than_shards_have_a_share_each(records_folder):
    source = stored(records_folder)
    workers = 12
    assert workers > len(list(records_folder.glob("train-*.tfrecord")))
    config = DataConfig("synthetic", resize=SIDE, crop=SIDE, colour_noise="none")
    whole = dataset.build(source, config, "train", workers, training=True).take(2)
    parts = [
        dataset.build(source, config, "train", workers, training=True, shard=(index, workers)).take(2)
        for index in range(workers)
    ]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert list(batch["key"].numpy()) == [key for share in shares for key in share["key"].numpy()]
