"""What the network eats of a crop: the mean at the right place, colour noise and divisors."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.pictures import augment, preprocess, statistics
from tests.support.pictures import encoded, textured


class TestPixels:
    config = DataConfig(resize=4, crop=2)

    @pytest.fixture
    def stats(self):
        mean_image = np.arange(48, dtype=np.float32).reshape(4, 4, 3)
        return statistics.ImageStats(
            eigenvalues=np.ones(3, np.float32),
            eigenvectors=np.eye(3, dtype=np.float32),
            mean_image=mean_image,
            channel_mean=mean_image.mean(axis=(0, 1)),
            count=1,
        )

    def test_the_centre_of_the_mean_image_is_subtracted(self, stats):
        images = np.full((2, 2, 2, 3), 100, np.uint8)
        pixels = preprocess.to_pixels(images, stats, self.config)
        assert pixels.dtype == tf.float32
        np.testing.assert_array_equal(pixels[1, 0, 0], [85, 84, 83])  # the mean at (1, 1) is 15, 16, 17
        np.testing.assert_array_equal(pixels[1, 1, 0], [73, 72, 71])  # at (2, 1) it is 27, 28, 29

    def test_channel_mean(self, stats):
        config = DataConfig(resize=4, crop=2, mean="channel")
        pixels = preprocess.to_pixels(np.zeros((1, 2, 2, 3), np.uint8), stats, config)
        np.testing.assert_array_equal(pixels, np.broadcast_to([-22.5, -23.5, -24.5], (1, 2, 2, 3)))

    def test_colour_and_divisors(self, stats):
        config = DataConfig(resize=4, crop=2, mean="channel", pixel_divisor=2.0, colour_divisor=1.1)
        images = np.full((2, 2, 2, 3), 122, np.uint8)
        shift = tf.constant([[0.0, 0.0, 0.0], [11.0, -11.0, 22.0]])
        trained = preprocess.to_pixels(images, stats, config, training=True, colour_shift=shift)
        np.testing.assert_allclose(trained[1, 0, 1], [110.5 / 2.2, 87.5 / 2.2, 119.5 / 2.2], rtol=1e-6)
        np.testing.assert_allclose(trained[0, 0, 1], [99.5 / 2.2, 98.5 / 2.2, 97.5 / 2.2], rtol=1e-6)
        evaluated = preprocess.to_pixels(images, stats, config)
        np.testing.assert_allclose(evaluated[0, 0, 1], [99.5 / 2, 98.5 / 2, 97.5 / 2], rtol=1e-6)

    def test_a_graph_gives_the_same_numbers_to_the_bit(self, stats):
        """A pixel rounded otherwise may decide which of two equal maps is a maximum, and so a gradient."""
        config = DataConfig(resize=4, crop=2, mean="channel", pixel_divisor=6.0)
        images = np.random.default_rng(0).integers(0, 256, (200, 2, 2, 3), dtype=np.uint8)
        graph = tf.function(lambda x: preprocess.to_pixels(x, stats, config))
        np.testing.assert_array_equal(graph(images), preprocess.to_pixels(images, stats, config))

    @pytest.mark.parametrize(("share", "expected"), [(1.0, 100.0), (0.5, 110 / 1.05), (0.0, 110.0)])
    def test_pixels_are_scaled_down_as_long_as_there_is_noise(self, stats, share, expected):
        """convdata_jpeg.py divides by 1 + coefficient inside the condition that the noise has one."""
        black = dataclasses.replace(stats, mean_image=np.zeros((4, 4, 3), np.float32))
        config = DataConfig(resize=4, crop=2, mean_follows_crop=False, colour_rescale=True)
        images, shift = np.full((1, 2, 2, 3), 110, np.uint8), tf.constant([[11.0, 0.0, -22.0]])
        for given in (share, tf.constant(share)):
            pixels = preprocess.to_pixels(
                images, black, config, training=True, colour_shift=shift, colour_share=given
            )
            noise = np.array([11.0, 0.0, -22.0]) * share / (1 + 0.1 * share)
            np.testing.assert_allclose(pixels[0, 1, 0], expected + noise, rtol=1e-6)
        assert preprocess.to_pixels(images, black, config)[0, 0, 0, 0] == 110
        without = dataclasses.replace(config, colour_noise="none")
        assert preprocess.to_pixels(images, black, without, training=True)[0, 0, 0, 0] == 110

    def test_ten_crops_share_the_centre_of_the_mean_where_it_stays(self, stats):
        config = dataclasses.replace(self.config, mean_follows_crop=False)
        images = np.random.default_rng(0).integers(0, 256, (3, 10, 2, 2, 3), dtype=np.uint8)
        pixels = preprocess.to_pixels(images, stats, config)
        np.testing.assert_array_equal(
            pixels[2, 7], images[2, 7].astype(np.float32) - stats.mean_image[1:3, 1:3]
        )

    @pytest.mark.parametrize("pad", [0, 1])
    def test_ten_crops_have_each_its_own_mean_where_it_follows(self, stats, pad):
        """Of a picture that is the mean image itself nothing is left: section 2 subtracts before the crop."""
        config = dataclasses.replace(self.config, pad=pad)
        crops = preprocess.ten_crops(encoded(stats.mean_image.astype(np.uint8), "PNG"), config)
        pixels = preprocess.to_pixels(tf.stack([crops, crops + 3]), stats, config)
        assert pixels.shape == (2, 10, 2, 2, 3)
        np.testing.assert_array_equal(pixels[0], np.zeros((10, 2, 2, 3)))
        np.testing.assert_array_equal(pixels[1], np.full((10, 2, 2, 3), 3))
        centre = preprocess.to_pixels(crops[2:3], stats, config)  # a batch of one crop, not of ten
        np.testing.assert_array_equal(centre[0], np.zeros((2, 2, 3)))

    @pytest.mark.parametrize("pad", [0, 2])
    def test_the_mean_is_cropped_and_mirrored_with_its_picture(self, pad):
        side, crop = 6, 3
        mean = textured(side, side)
        stats = statistics.ImageStats(
            np.ones(3, "f"), np.eye(3, dtype="f"), mean.astype("f"), mean.mean(axis=(0, 1)).astype("f"), 1
        )
        config = DataConfig(resize=side, crop=crop, pad=pad, edge_crops=True)
        places = range(config.crop_places)
        every = [(top, left, mirrored) for top in places for left in places for mirrored in (0, 1)]
        crops = [
            augment.crop_mirror(tf.constant(mean), config, augment.Window(top, left, tf.constant(bool(m))))
            for top, left, m in every
        ]
        subtracted = tf.function(
            lambda images, windows: preprocess.to_pixels(
                images, stats, config, training=True, windows=windows
            )
        )
        pixels = subtracted(tf.stack(crops), tf.constant(every))
        np.testing.assert_array_equal(pixels, np.zeros((len(every), crop, crop, 3)))
        with pytest.raises(ValueError, match="`windows` are needed"):
            preprocess.to_pixels(tf.stack(crops), stats, config, training=True)
