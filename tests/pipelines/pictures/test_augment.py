import numpy as np
import pytest
import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.pictures import augment, decode
from pipelines.pictures.statistics import ColourComponents, published
from tests.support.pictures import coordinates, encoded, textured

SMALL = DataConfig(resize=40, crop=32)


def seeds(count):
    return [tf.constant([7, number], tf.int64) for number in range(count)]


def both_ways(function):
    """The function called eagerly, in a graph and in a dataset, on a seed."""
    specification = tf.TensorSpec([2], tf.int64)

    def in_dataset(seed):
        (result,) = tf.data.Dataset.from_tensors(seed).map(function)
        return result

    return [function, tf.function(function, [specification]), in_dataset]


def window_of(crop):
    """(top, left, mirrored) of a crop of `coordinates`."""
    mirrored = crop[0, 0, 1] > crop[0, -1, 1]
    return int(crop[0, 0, 0]), int(crop[0, -1 if mirrored else 0, 1]), bool(mirrored)


def windows(config, count, seed=(7, 1)):
    """`count` windows of scalars."""
    drawn = augment.draw_windows(config, tf.constant(seed, tf.int64), count)
    return [augment.Window(*(part[number] for part in drawn)) for number in range(count)]


class TestWindows:
    @pytest.mark.parametrize(("edge_crops", "places"), [(False, 32), (True, 33)])
    def test_all_windows_of_text_and_source_are_equally_likely(self, edge_crops, places):
        """2,048 of them in the text, 2,178 in the source."""
        count, config = 60_000, DataConfig(edge_crops=edge_crops)
        drawn = augment.draw_windows(config, tf.constant([3, 0]), count)
        for part, values in zip(drawn, (places, places, 2), strict=True):
            counts = np.bincount(part.numpy(), minlength=values)
            assert len(counts) == values
            expected = count / values
            assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
        assert np.abs(np.corrcoef(np.stack(drawn)) - np.eye(3)).max() < 0.02

    def test_eager_graph_and_dataset_agree(self):
        ways = both_ways(lambda seed: augment.draw_windows(SMALL, seed, 9))
        for seed in seeds(5):
            eager, *others = (way(seed) for way in ways)
            for other in others:
                for left, right in zip(eager, other, strict=True):
                    np.testing.assert_array_equal(left, right)

    def test_a_picture_no_larger_than_the_crop_has_one_window(self):
        for edge_crops in (False, True):
            config = DataConfig(resize=32, crop=32, edge_crops=edge_crops)
            drawn = augment.draw_windows(config, seeds(1)[0], 20)
            assert not drawn.top.numpy().any()
            assert not drawn.left.numpy().any()

    def test_without_mirror_nothing_is_mirrored(self):
        config = DataConfig(resize=40, crop=32, mirror=False)
        assert not augment.draw_windows(config, seeds(1)[0], 50).mirrored.numpy().any()


class TestCropAndMirror:
    def test_a_crop_is_a_slice_perhaps_mirrored(self):
        picture = coordinates(40)
        drawn = windows(SMALL, 20)
        assert {bool(window.mirrored) for window in drawn} == {False, True}
        for window in drawn:
            crop = augment.crop_mirror(tf.constant(picture), SMALL, window).numpy()
            top, left, mirrored = window_of(crop)
            assert (top, left, mirrored) == tuple(int(part) for part in window)
            expected = picture[top : top + 32, left : left + 32]
            np.testing.assert_array_equal(crop, expected[:, ::-1] if mirrored else expected)

    def test_eager_graph_and_dataset_agree(self):
        picture = tf.constant(textured(40, 40))
        for config in (SMALL, DataConfig(resize=40, crop=40, pad=5)):

            def cropped(seed, config=config):
                drawn = augment.draw_windows(config, seed, 1)
                return augment.crop_mirror(picture, config, augment.Window(*(part[0] for part in drawn)))

            ways = both_ways(cropped)
            for seed in seeds(6):
                eager, *others = (way(seed).numpy() for way in ways)
                for other in others:
                    np.testing.assert_array_equal(eager, other)

    def test_border_is_reflected_and_reached(self):
        config = DataConfig(resize=12, crop=12, pad=3, mirror=False, edge_crops=True)
        picture = textured(12, 12)
        padded = np.pad(picture, ((3, 3), (3, 3), (0, 0)), mode="reflect")
        seen = set()
        for window in windows(config, 600):
            top, left = int(window.top), int(window.left)
            crop = augment.crop_mirror(tf.constant(picture), config, window)
            np.testing.assert_array_equal(crop, padded[top : top + 12, left : left + 12])
            seen.add((top, left))
        assert len(seen) == 49


class TestDecodeToCrop:
    @pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
    def test_equals_decoding_whole_then_slicing(self, subsampling):
        image_bytes = tf.constant(encoded(textured(40, 40), "JPEG", quality=90, subsampling=subsampling))
        whole = decode.decode(image_bytes)
        in_graph = tf.function(
            lambda *window: augment.decode_crop_mirror(image_bytes, SMALL, augment.Window(*window))
        )
        for window in windows(SMALL, 12):
            expected = augment.crop_mirror(whole, SMALL, window)
            np.testing.assert_array_equal(augment.decode_crop_mirror(image_bytes, SMALL, window), expected)
            np.testing.assert_array_equal(in_graph(*window), expected)

    @pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
    def test_every_window_equals_a_slice(self, subsampling):
        image_bytes = tf.constant(encoded(textured(40, 40), "JPEG", quality=75, subsampling=subsampling))
        whole = decode.decode(image_bytes).numpy()
        for top in range(9):
            for left in range(9):
                window = decode.decode_jpeg_window(image_bytes, 40, (tf.constant(top), tf.constant(left)), 32)
                np.testing.assert_array_equal(window, whole[top : top + 32, left : left + 32])

    def test_a_border_is_refused(self):
        config = DataConfig(resize=32, crop=32, pad=4)
        with pytest.raises(ValueError, match="`pad` must be 0"):
            augment.decode_crop_mirror(tf.constant(b""), config, windows(config, 1)[0])


class TestColour:
    seed = seeds(1)[0]

    @pytest.mark.parametrize(
        ("colour_noise", "deviations"),
        [("eigenvalue", [5.546, 0.4794, 0.11475]), ("deviation", [12.178, 3.7094, 1.9721])],
    )
    def test_strength_along_each_published_component(self, colour_noise, deviations):
        config = DataConfig(colour_noise=colour_noise, colour_statistics="published")
        shifts = augment.colour_shifts(config, None, self.seed, 40_000)
        along = shifts.numpy() @ published(colour_noise).eigenvectors
        # The standard error of a standard deviation over 40,000 draws is 0.35 per cent.
        np.testing.assert_allclose(along.std(axis=0), deviations, rtol=0.015)
        np.testing.assert_allclose(along.mean(axis=0) / deviations, 0, atol=0.02)
        np.testing.assert_allclose(np.corrcoef(along.T), np.eye(3), atol=0.025)

    def test_both_formulas_by_hand(self):
        vectors = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
        stats = ColourComponents(np.array([2601.0, 1024.0, 400.0], np.float32), vectors)
        first, second, third = tf.random.stateless_normal([5, 3], self.seed, stddev=0.1).numpy().T
        shifts = augment.colour_shifts(DataConfig(colour_noise="deviation"), stats, self.seed, 5)
        np.testing.assert_allclose(shifts, np.stack([32 * second, 51 * first, 20 * third], 1), rtol=1e-5)
        shifts = augment.colour_shifts(DataConfig(colour_noise="eigenvalue"), stats, self.seed, 5)
        # 2601 / 255^2 is 0.04 on 0..1 data, hence 10.2 grey levels.
        expected = np.stack([1024 / 255 * second, 10.2 * first, 400 / 255 * third], axis=1)
        np.testing.assert_allclose(shifts, expected, rtol=1e-5)

    def test_eager_graph_and_dataset_agree(self):
        config = DataConfig(colour_statistics="published")
        ways = both_ways(lambda seed: augment.colour_shifts(config, None, seed, 4))
        for seed in seeds(5):
            eager, *others = (way(seed).numpy() for way in ways)
            assert np.abs(eager).min() > 0
            for other in others:
                np.testing.assert_array_equal(eager, other)

    def test_measured_components_are_used_unless_published_ones_are_asked_for(self):
        stats = ColourComponents(np.array([100, 50, 25], np.float32), np.eye(3, dtype=np.float32))
        released = DataConfig(colour_statistics="published")
        measured = augment.colour_shifts(DataConfig(), stats, self.seed, 2)
        published_shifts = augment.colour_shifts(released, stats, self.seed, 2)
        np.testing.assert_array_equal(published_shifts, augment.colour_shifts(released, None, self.seed, 2))
        assert np.abs(measured - published_shifts).max() > 1e-3
        with pytest.raises(ValueError, match="`stats` is needed"):
            augment.colour_shifts(DataConfig(), None, self.seed, 2)

    def test_none_is_zero(self):
        shifts = augment.colour_shifts(DataConfig(colour_noise="none"), None, self.seed, 2)
        np.testing.assert_array_equal(shifts, np.zeros((2, 3)))
