"""Writing records: what is stored of a picture, and that a preparation can be interrupted."""

import dataclasses
import errno
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, JpegImagePlugin

from pipelines import progress, record_pictures, scan
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.pictures import orientation, preprocess
from pipelines.pictures.decode import decode
from pipelines.pictures.statistics import ImageStats, StatsAccumulator
from pipelines.sources import open_source, records
from tests.support.pictures import encoded, textured
from tests.support.small_records import SIDE, content, hurt, keys, stored, write

SETTINGS = DataConfig(resize=SIDE, crop=SIDE)


def stored_as(image_bytes, config=SETTINGS):
    """What is stored of a file, and its pixels before that."""
    made = record_pictures.preparer(config, "jpeg")(tf.constant([image_bytes]))
    return made["image_bytes"][0].numpy(), made["pixels"][0].numpy()


class TestStoredPicture:
    def test_a_picture_of_the_right_form_is_kept_byte_for_byte(self):
        ready = encoded(textured(SIDE, SIDE), "JPEG", quality=60)
        kept, pixels = stored_as(ready)
        assert kept == ready
        np.testing.assert_array_equal(pixels, decode(ready))

    @pytest.mark.parametrize(
        "other",
        [
            encoded(textured(SIDE, SIDE + 1), "JPEG"),
            encoded(textured(SIDE, SIDE), "PNG"),
            encoded(textured(SIDE, SIDE)[..., 0], "JPEG"),
        ],
    )
    def test_any_other_is_encoded_anew_as_rgb(self, other):
        result, _ = stored_as(other)
        assert result != other
        assert tf.io.extract_jpeg_shape(result).numpy().tolist() == [SIDE, SIDE, 3]

    def test_a_truncated_picture_of_the_right_form_is_not_kept(self):
        ready = encoded(textured(SIDE, SIDE), "JPEG")
        with pytest.raises(tf.errors.InvalidArgumentError):
            stored_as(ready[:-200])

    @pytest.mark.parametrize("shape", [(SIDE, SIDE), (SIDE, 2 * SIDE)])
    @pytest.mark.parametrize("upright", [True, False])
    def test_what_notes_a_turn_is_stored_without_the_note(self, shape, upright):
        noted, grey = Image.Exif(), np.repeat(textured(*shape)[..., :1], 3, axis=2)
        noted[0x0112] = 6
        bare, taken = encoded(grey, "JPEG", quality=95), encoded(grey, "JPEG", quality=95, exif=noted)
        config = dataclasses.replace(SETTINGS, exif_orientation=upright)
        stored_bytes, pixels = stored_as(taken, config)
        assert orientation.of(stored_bytes) == orientation.UPRIGHT
        expected = preprocess.prepare(tf.constant(bare), config).numpy().astype(int)
        expected = np.rot90(expected, -1) if upright else expected
        np.testing.assert_array_equal(pixels, expected)
        difference = np.abs(decode(stored_bytes).numpy().astype(int) - expected)
        assert difference.mean() < 3 < np.abs(np.rot90(expected, 2) - expected).mean() / 4

    def test_chroma_has_half_the_resolution(self):
        result, _ = stored_as(encoded(textured(20, 30), "JPEG", subsampling=0))
        assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(result))) == 2

    def test_jpegs_among_others_become_what_they_become_alone(self):
        jpegs = [encoded(textured(20, 24 + number, number), "JPEG") for number in range(3)]
        mixed = [jpegs[0], encoded(textured(30, 20), "PNG"), *jpegs[1:], encoded(textured(9, 20), "GIF")]
        made = record_pictures.preparer(SETTINGS, "jpeg")(tf.constant(mixed))
        images, pixels = made["image_bytes"], made["pixels"]
        for number, file in enumerate(mixed):
            alone, of_alone = stored_as(file)
            assert images[number].numpy() == alone
            np.testing.assert_array_equal(pixels[number], of_alone)
            np.testing.assert_array_equal(pixels[number], preprocess.prepare(tf.constant(file), SETTINGS))


class TestResume:
    def test_the_bytes_do_not_depend_on_interruptions(
        self, pictures_config, records_folder, tmp_path, monkeypatch, told
    ):
        reached = progress.Phase.reached

        def stop(self, done, total=None):
            reached(self, done, total)
            if done > 16:
                raise KeyboardInterrupt

        other = tmp_path / "other"
        with monkeypatch.context() as patched:
            patched.setattr(progress.Phase, "reached", stop)
            with pytest.raises(KeyboardInterrupt):
                write(pictures_config, other)
        assert sorted({done for what, done, total in told if total == 40}) == list(range(1, 18))
        with pytest.raises(DataError, match="preparation was interrupted; run"):
            stored(other)
        (other / "train-00004-of-00005.tfrecord.1.part").write_bytes(b"half")
        written = write(pictures_config, other)
        assert (written.shards_kept, written.shards_written, written.looked_at) == (2, 4, 24)
        assert content(other) == content(records_folder)

    def test_a_finished_folder_is_left_alone(self, pictures_config, records_folder):
        before = {path: path.stat().st_mtime_ns for path in records_folder.iterdir()}
        written = write(pictures_config, records_folder)
        assert dataclasses.asdict(written) == {
            "pictures": 40,
            "skipped": 0,
            "shards_written": 0,
            "shards_kept": 6,
            "looked_at": 0,
        }
        assert {path: path.stat().st_mtime_ns for path in records_folder.iterdir()} == before

    @pytest.mark.parametrize("damage", ["missing", "shorter", "altered"])
    def test_damaged_shards_are_made_again(self, pictures_config, records_folder, damage):
        whole = content(records_folder)
        for name in ("train-00001-of-00005.tfrecord", "val-00000-of-00001.tfrecord"):
            hurt(records_folder / name, damage)
        assert write(pictures_config, records_folder).shards_written == 2
        assert content(records_folder) == whole

    def test_lost_statistics_are_added_up_again(self, pictures_config, records_folder):
        whole = content(records_folder)
        (records_folder / "image_stats.npz").unlink()
        assert write(pictures_config, records_folder).looked_at == 0
        assert content(records_folder) == whole

    @pytest.mark.parametrize("change", [{"resize": 12, "crop": 12}, {"data_seed": 1}, {"val_fraction": 0.2}])
    def test_other_settings_are_refused(self, pictures_config, records_folder, change):
        before = content(records_folder)
        with pytest.raises(
            DataError, match=r"holds records of other data or settings \(`\w+` is .*; received"
        ):
            write(dataclasses.replace(pictures_config, **change), records_folder)
        assert content(records_folder) == before

    def test_a_folder_of_something_else_is_refused(self, pictures_config, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "holiday.jpg").write_bytes(b"")
        with pytest.raises(DataError, match="not empty and holds no prepared records"):
            write(pictures_config, tmp_path / "photos")

    def test_a_full_disk_is_an_os_error_and_leaves_whole_shards(
        self, pictures_config, records_folder, tmp_path, monkeypatch
    ):
        class FullAfter(tf.io.TFRecordWriter):
            written = 0

            def write(self, record):
                FullAfter.written += 1
                if FullAfter.written > 20:
                    raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")
                super().write(record)

        other = tmp_path / "other"
        with monkeypatch.context() as patch:
            patch.setattr(tf.io, "TFRecordWriter", FullAfter)
            with pytest.raises(OSError, match="No space left") as caught:
                write(pictures_config, other)
        assert caught.value.errno == errno.ENOSPC
        assert sorted(path.name for path in other.iterdir()) == [
            "records.json",
            "train-00000-of-00005.sums.npz",
            "train-00000-of-00005.tfrecord",
            "train-00001-of-00005.sums.npz",
            "train-00001-of-00005.tfrecord",
        ]
        write(pictures_config, other)
        assert content(other) == content(records_folder)


def assert_same(stats, other):
    for field in dataclasses.fields(ImageStats):
        np.testing.assert_array_equal(getattr(stats, field.name), getattr(other, field.name))


class TestStatistics:
    @pytest.mark.parametrize("encoding", ["jpeg", "ppm"])
    def test_they_are_those_of_a_training_from_the_source(self, pictures_config, tmp_path, encoding):
        write(pictures_config, tmp_path / "records", encoding=encoding)
        measured = scan.scan(open_source(pictures_config), pictures_config).stats
        assert_same(stored(tmp_path / "records").stored_stats(), measured)

    def test_of_pictures_that_lose_nothing_they_are_those_of_the_records(self, class_folder, tmp_path):
        root = class_folder({"cat": 6, "dog": 6})
        for number, path in enumerate(sorted(root.rglob("*.jpg"))):
            path.write_bytes(encoded(textured(SIDE, SIDE, number), "JPEG", quality=40))
        config = DataConfig(f"folder:{root}", resize=SIDE, crop=SIDE)
        write(config, tmp_path / "records")
        accumulator = StatsAccumulator()
        for record in stored(tmp_path / "records").dataset("train"):
            accumulator.update(decode(record["image_bytes"]).numpy()[np.newaxis])
        assert_same(stored(tmp_path / "records").stored_stats(), accumulator.result())

    @pytest.mark.parametrize("damage", ["missing", "shorter", "altered", "another's"])
    def test_a_shard_without_its_sums_is_made_again(self, pictures_config, records_folder, damage):
        whole = content(records_folder)
        (records_folder / "image_stats.npz").unlink()
        path = records_folder / "train-00001-of-00005.sums.npz"
        if damage == "another's":
            path.write_bytes(whole["train-00002-of-00005.sums.npz"])
        else:
            hurt(path, damage)
        assert write(pictures_config, records_folder).shards_written == 1
        assert content(records_folder) == whole


class TestFoldersOfOlderReleases:
    """They have no sums beside their shards."""

    @pytest.fixture
    def older(self, records_folder):
        for path in records_folder.glob("*.sums.npz"):
            path.unlink()
        return records_folder

    def test_a_whole_one_is_left_alone(self, pictures_config, older):
        before = content(older)
        assert write(pictures_config, older).shards_written == 0
        assert content(older) == before

    @pytest.mark.parametrize("state", ["interrupted", "damaged"])
    def test_where_something_is_missing_its_training_shards_are_made_anew(
        self, pictures_config, older, tmp_path, state
    ):
        if state == "damaged":
            hurt(older / "val-00000-of-00001.tfrecord", "altered")
        else:
            index = records.Index.load(older)
            records.Index(index.settings, index.shards[1:], complete=False).save(older)
            (older / "image_stats.npz").unlink()
        assert write(pictures_config, older).shards_written == (6 if state == "damaged" else 5)
        write(pictures_config, tmp_path / "new")
        assert content(older) == content(tmp_path / "new")


class TestBrokenPictures:
    def test_they_are_left_out_and_listed(self, pictures_config, tmp_path):
        source = open_source(pictures_config)
        fixed = keys(source, "train")
        for position in (0, 3, 8, 9, 10, 11, 12, 13, 14, 15):  # two of the first shard, the whole second
            (source._root / fixed[position]).write_bytes(b"")
        folder = tmp_path / "records"
        written = write(pictures_config, folder)
        assert (written.pictures, written.skipped) == (30, 10)
        assert keys(stored(folder), "train") == [fixed[p] for p in (1, 2, 4, 5, 6, 7, *range(16, 37))]
        skipped = scan.read_skipped(folder / "skipped.csv")
        assert skipped == tuple(scan.Skipped(fixed[p], "empty file") for p in (0, 3, *range(8, 16)))
        assert len(set(keys(stored(folder), "train", epoch=0))) == 27

    def test_a_class_of_broken_pictures_is_an_error(self, pictures_config, tmp_path):
        for path in open_source(pictures_config)._root.glob("cat/*.jpg"):
            path.write_bytes(b"?")
        with pytest.raises(DataError, match="no picture of the class cat can be read"):
            write(pictures_config, tmp_path / "records")
