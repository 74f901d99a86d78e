import dataclasses
import os

import numpy as np
import pytest

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.pictures.statistics import ImageStats, StatsAccumulator, principal_components, published


def pictures(count, side=6, seed=0):
    """Correlated colours, so that the components are distinct: uint8 [count, side, side, 3]."""
    generator = np.random.default_rng(seed)
    mixing = np.array([[40, 20, 3], [42, -5, -9], [38, -18, 5]], np.float64)
    values = generator.standard_normal((count, side, side, 3)) @ mixing.T + [125, 118, 104]
    return np.clip(values, 0, 255).astype(np.uint8)


def gathered(*batches):
    accumulator = StatsAccumulator()
    for batch in batches:
        accumulator.update(batch)
    return accumulator.result()


def assert_same(stats, other, rtol):
    np.testing.assert_array_equal(stats.mean_image, other.mean_image)
    np.testing.assert_array_equal(stats.channel_mean, other.channel_mean)
    np.testing.assert_allclose(stats.eigenvalues, other.eigenvalues, rtol=rtol)
    np.testing.assert_allclose(stats.eigenvectors, other.eigenvectors, atol=10 * rtol)
    assert stats.count == other.count


class TestAccumulator:
    def test_mean_image_is_exact(self):
        images = pictures(31)
        stats = gathered(images[:7], images[7:8], images[8:])
        exact = images.astype(np.int64).sum(axis=0) / 31
        np.testing.assert_array_equal(stats.mean_image, exact.astype(np.float32))
        np.testing.assert_allclose(stats.channel_mean, images.mean(axis=(0, 1, 2)), rtol=1e-7)
        assert stats.count == 31

    def test_white_pictures_by_the_hundred_do_not_overflow(self):
        white = np.full((600, 2, 2, 3), 255, np.uint8)
        stats = gathered(white, white)
        np.testing.assert_array_equal(stats.mean_image, np.full((2, 2, 3), 255, np.float32))
        np.testing.assert_allclose(stats.eigenvalues, 0, atol=1e-2)

    @pytest.mark.parametrize("side", [1, 5, 8])
    def test_components_are_those_of_the_covariance_of_all_pixels(self, side):
        images = pictures(40, side)
        stats = gathered(images[:13], images[13:])
        covariance = np.cov(images.reshape(-1, 3).T.astype(np.float64), bias=True)
        np.testing.assert_allclose(stats.eigenvalues, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-4)
        rebuilt = stats.eigenvectors @ np.diag(stats.eigenvalues) @ stats.eigenvectors.T
        np.testing.assert_allclose(rebuilt, covariance, atol=1e-4 * covariance.max())

    @pytest.mark.parametrize("side", [1, 6, 64, 227])
    def test_sums_are_those_of_whole_numbers(self, side):
        images = np.random.default_rng(side).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
        images[:2] = 0  # the largest products
        accumulator = StatsAccumulator()
        accumulator.update(images)
        sums, centred = accumulator.sums(), images.reshape(-1, 3).astype(np.int64) - 128
        assert sums["count"] == 5
        np.testing.assert_array_equal(sums["sum"], images.sum(axis=0, dtype=np.int64))
        np.testing.assert_array_equal(sums["products"], centred.T @ centred)

    def test_neither_parts_nor_their_order_matter_to_the_last_bit(self):
        images = pictures(300, side=64)
        parts = [images[:20], images[20:21], images[21:290], images[290:]]
        merged = StatsAccumulator()
        for part in reversed(parts):
            single = StatsAccumulator()
            single.update(part)
            sums = single.sums()
            merged.merge(StatsAccumulator.of_sums(sums | {"sum": sums["sum"].astype(np.uint32)}))
        for field in dataclasses.fields(ImageStats):
            same = (getattr(stats, field.name) for stats in (merged.result(), gathered(images)))
            np.testing.assert_array_equal(*same)

    def test_sums_of_nothing(self):
        restored = StatsAccumulator.of_sums(StatsAccumulator().sums())
        restored.update(pictures(3))
        assert_same(restored.result(), gathered(pictures(3)), rtol=0)

    def test_merging_with_an_empty_one(self):
        images = pictures(5)
        empty = StatsAccumulator()
        empty.merge(StatsAccumulator())
        full = StatsAccumulator()
        full.update(images)
        full.merge(empty)
        empty.merge(full)
        assert_same(full.result(), gathered(images), rtol=0)
        assert_same(empty.result(), gathered(images), rtol=0)

    def test_nothing_seen_is_an_error(self):
        accumulator = StatsAccumulator()
        accumulator.update(np.zeros((0, 4, 4, 3), np.uint8))
        with pytest.raises(DataError, match="no picture"):
            accumulator.result()

    @pytest.mark.parametrize(
        "images",
        [np.zeros((1, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 4), np.uint8)],
    )
    def test_other_arrays_are_refused(self, images):
        with pytest.raises(ValueError, match="uint8"):
            StatsAccumulator().update(images)

    def test_one_size_only(self):
        accumulator, other = StatsAccumulator(), StatsAccumulator()
        accumulator.update(pictures(2, side=4))
        other.update(pictures(2, side=5))
        with pytest.raises(ValueError, match="measure"):
            accumulator.update(pictures(2, side=5))
        with pytest.raises(ValueError, match="one size"):
            accumulator.merge(other)


class TestComponents:
    def test_largest_first_and_largest_entry_positive(self):
        vectors = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
        covariance = vectors @ np.diag([2.0, 50.0, 9.0]) @ vectors.T
        components = principal_components(covariance)
        np.testing.assert_allclose(components.eigenvalues, [50, 9, 2], rtol=1e-6)
        for column, old in enumerate([1, 2, 0]):
            expected = vectors[:, old] * np.sign(vectors[np.abs(vectors[:, old]).argmax(), old])
            np.testing.assert_allclose(components.eigenvectors[:, column], expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("colour_noise", "deviations"),
        [("deviation", [121.780, 37.094, 19.721]), ("eigenvalue", np.sqrt([0.2175, 0.0188, 0.0045]) * 255)],
    )
    def test_published_components(self, colour_noise, deviations):
        components = published(colour_noise)
        np.testing.assert_allclose(np.sqrt(components.eigenvalues), deviations, rtol=1e-6)
        # Printed with four or five digits, the vectors are orthonormal to as many: a digit mistyped shows.
        product = components.eigenvectors.T @ components.eigenvectors
        np.testing.assert_allclose(product, np.eye(3), atol=2e-4)

    def test_both_published_tables_point_the_same_way(self):
        ours, theirs = published("deviation").eigenvectors, published("eigenvalue").eigenvectors
        cosines = np.abs(np.sum(ours * theirs, axis=0))
        np.testing.assert_allclose(cosines, 1, atol=2e-3)


class TestFile:
    def test_round_trip(self, tmp_path):
        stats = gathered(pictures(9))
        stats.save(tmp_path / "stats.npz")
        loaded = ImageStats.load(tmp_path / "stats.npz")
        for field in dataclasses.fields(ImageStats):
            np.testing.assert_array_equal(getattr(loaded, field.name), getattr(stats, field.name))
        assert isinstance(loaded.count, int)
        assert os.listdir(tmp_path) == ["stats.npz"]

    def test_a_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "stats.npz"
        old = gathered(pictures(3))
        old.save(path)

        def full_disk(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full_disk)
        with pytest.raises(OSError, match="No space"):
            gathered(pictures(4)).save(path)
        assert ImageStats.load(path).count == 3
        assert os.listdir(tmp_path) == ["stats.npz"]

    def test_missing_cut_and_foreign_files_are_named(self, tmp_path):
        path = tmp_path / "stats.npz"
        with pytest.raises(DataError, match=r"stats\.npz: no such file"):
            ImageStats.load(path)
        gathered(pictures(3)).save(path)
        whole = path.read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], b"text" * 50):
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=r"stats\.npz: not a complete file"):
                ImageStats.load(path)
        np.savez(path, other=np.zeros(3))
        with pytest.raises(DataError, match=r"stats\.npz: not a complete file"):
            ImageStats.load(path)


class TestMeanCrop:
    stats = gathered(pictures(3, side=8))

    def test_centre_of_the_mean_image(self):
        crop = self.stats.mean_crop(DataConfig(resize=8, crop=4))
        np.testing.assert_array_equal(crop, self.stats.mean_image[2:6, 2:6])

    def test_whole_mean_image_where_only_the_border_is_cropped(self):
        crop = self.stats.mean_crop(DataConfig(resize=8, crop=8, pad=3))
        np.testing.assert_array_equal(crop, self.stats.mean_image)

    def test_reflected_outwards_where_the_crop_is_larger(self):
        crop = self.stats.mean_crop(DataConfig(resize=8, crop=10, pad=2))
        expected = np.pad(self.stats.mean_image, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        np.testing.assert_array_equal(crop, expected)

    def test_one_value_a_channel(self):
        crop = self.stats.mean_crop(DataConfig(resize=8, crop=4, mean="channel"))
        assert crop.shape == (1, 1, 3)
        np.testing.assert_allclose(crop[0, 0], self.stats.mean_image.mean(axis=(0, 1)), rtol=1e-6)

    def test_another_size_is_an_error(self):
        with pytest.raises(DataError, match="8x8 but `resize` is 16"):
            self.stats.mean_crop(DataConfig(resize=16, crop=8))
