import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from pictures import coordinates, encoded, textured, ways
from PIL import Image
from real_pictures import imagenet_samples

from pipelines import augment, image_stats, preprocess
from pipelines.config import DataConfig


def cubic_matrix(old, new):
    """Weights of Keys' cubic (a = -0.5), rows sum to 1: an independent statement of enlargement."""
    distance = np.abs(((np.arange(new) + 0.5) * old / new - 0.5)[:, None] - np.arange(old))
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


def area_matrix(old, new):
    """Share of each old pixel in the interval that a new pixel covers."""
    edges = np.arange(new + 1) * old / new
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


def resized_by(matrix, picture, shape):
    down, across = matrix(picture.shape[0], shape[0]), matrix(picture.shape[1], shape[1])
    return np.clip(
        np.einsum("ia,jb,abc->ijc", down, across, picture.astype(np.float64), optimize=True), 0, 255
    )


class TestResize:
    def test_halving_averages_four_pixels(self):
        picture = textured(64, 90)
        boxes = picture.reshape(32, 2, 45, 2, 3).astype(np.int32).sum(axis=(1, 3))
        np.testing.assert_array_equal(preprocess.resize_short_side(picture, 32), (boxes + 2) // 4)

    def test_shrinking_by_a_fraction_weighs_areas(self):
        picture = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
        expected = resized_by(area_matrix, picture, (16, 22))
        difference = np.abs(preprocess.resize_short_side(picture, 16).numpy() - expected)
        assert difference.max() <= 0.501  # rounding to whole grey levels alone

    def test_shrinking_agrees_with_pillow(self):
        picture = textured(300, 400)
        expected = np.array(Image.fromarray(picture).resize((200, 150), Image.Resampling.BOX), np.int32)
        assert np.abs(preprocess.resize_short_side(picture, 150).numpy() - expected).max() <= 1

    @pytest.mark.parametrize("shape", [(64, 64), (52, 68), (29, 38)])
    def test_enlarging_is_keys_cubic(self, shape):
        picture = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
        picture = picture[:, :13] if shape[0] == shape[1] else picture
        expected = resized_by(cubic_matrix, picture, shape)
        enlarged = preprocess.resize_short_side(picture, shape[0])
        assert enlarged.shape == (*shape, 3)
        # Rounding, and 0.2 because TensorFlow tabulates the cubic at 1024 places.
        assert np.abs(enlarged.numpy() - expected).max() <= 0.7

    def test_right_size_is_untouched(self):
        picture = np.random.default_rng(0).integers(0, 256, (32, 50, 3), dtype=np.uint8)
        np.testing.assert_array_equal(preprocess.resize_short_side(picture, 32), picture)

    @pytest.mark.parametrize(
        ("old", "new"),
        [((375, 500), (256, 341)), ((500, 375), (341, 256)), ((257, 258), (256, 257)), ((3, 1), (768, 256))]
        + [((32, 32), (256, 256)), ((333, 1000), (256, 769)), ((299, 449), (256, 384))],
    )
    def test_short_side_is_exact_and_long_side_rounded(self, old, new):
        picture = np.full((*old, 3), 77, np.uint8)
        resized = preprocess.resize_short_side(picture, 256)
        assert resized.shape == (*new, 3)
        assert np.all(resized == 77)


class TestPrepare:
    @pytest.mark.parametrize(
        ("height", "width", "size"), [(10, 10, 4), (11, 8, 5), (7, 9, 7), (256, 341, 256)]
    )
    def test_centre_crop_is_a_slice(self, height, width, size):
        picture = textured(height, width)
        top, left = (height - size) // 2, (width - size) // 2
        expected = picture[top : top + size, left : left + size]
        np.testing.assert_array_equal(preprocess.centre_crop(picture, size), expected)
        stacked = preprocess.centre_crop(np.stack([picture, picture[::-1]]), size)
        np.testing.assert_array_equal(stacked[0], expected)

    def test_square_in_the_middle_of_the_resized_picture(self):
        picture = textured(100, 164)
        halves = picture.reshape(50, 2, 82, 2, 3).astype(np.int32).sum(axis=(1, 3))
        expected = ((halves + 2) // 4)[:, 16:66]
        for prepare in ways(lambda image_bytes: preprocess.prepare(image_bytes, 50)).values():
            np.testing.assert_array_equal(prepare(tf.constant(encoded(picture, "PNG"))), expected)

    @pytest.mark.parametrize("shape", [(90, 60), (24, 31), (48, 48)], ids=["shrink", "enlarge", "keep"])
    def test_same_numbers_eagerly_in_a_graph_and_in_a_saved_model(self, shape, tmp_path):
        image_bytes = tf.constant(encoded(textured(*shape), "JPEG", quality=92))
        called = ways(lambda image_bytes: preprocess.prepare(image_bytes, 48))
        expected = called["eager"](image_bytes).numpy()
        assert expected.std() > 20

        module = tf.Module()
        module.prepare = tf.function(
            lambda batch: tf.map_fn(
                lambda one: preprocess.prepare(one, 48), batch, fn_output_signature=tf.uint8
            ),
            [tf.TensorSpec([None], tf.string)],
        )
        tf.saved_model.save(module, str(tmp_path))
        reloaded = tf.saved_model.load(str(tmp_path)).prepare(tf.stack([image_bytes] * 2))
        np.testing.assert_array_equal(reloaded, [expected, expected])
        np.testing.assert_array_equal(called["graph"](image_bytes), expected)
        np.testing.assert_array_equal(called["dataset"](image_bytes), expected)

    def test_a_line_of_pixels_stays_small(self):
        line = np.zeros((1, 60_000, 3), np.uint8)
        line[:, 29_990:30_010] = 200
        prepared = preprocess.prepare(tf.constant(encoded(line, "PNG")), 256).numpy()
        assert prepared.shape == (256, 256, 3)
        assert prepared[128, 128, 0] == 200

    def test_cutting_a_long_picture_leaves_its_centre_as_it_was(self):
        picture = textured(6, 6 * 40)
        whole = preprocess.centre_crop(preprocess.resize_short_side(picture, 12), 12)
        prepared = preprocess.prepare(tf.constant(encoded(picture, "PNG")), 12)
        np.testing.assert_array_equal(prepared, whole)


def test_photographs_agree_with_pillow_and_numpy():
    for image_bytes in imagenet_samples(4):
        picture = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"))
        height, width = picture.shape[:2]
        assert min(height, width) > 128
        shape = [round(128 * side / min(height, width)) for side in (height, width)]
        expected = resized_by(area_matrix, picture, shape)
        top, left = (shape[0] - 128) // 2, (shape[1] - 128) // 2
        prepared = preprocess.prepare(tf.constant(image_bytes), 128).numpy()
        difference = prepared - expected[top:, left:][:128, :128]
        # Half a level of rounding; one more where two builds of libjpeg differ.
        assert np.abs(difference).max() <= 1.5
        assert np.abs(difference).mean() < 0.3


class TestEvaluationCrops:
    def test_single_crop_is_the_centre(self):
        picture = coordinates(256)
        crop = preprocess.evaluation_crop(tf.constant(encoded(picture, "PNG")), DataConfig())
        np.testing.assert_array_equal(crop, picture[16:240, 16:240])

    def test_border_does_not_move_the_single_crop(self):
        picture = coordinates(32)
        image_bytes = tf.constant(encoded(picture, "PNG"))
        same = DataConfig(resize=32, crop=32, pad=4)
        np.testing.assert_array_equal(preprocess.evaluation_crop(image_bytes, same), picture)
        larger = DataConfig(resize=32, crop=36, pad=4)
        np.testing.assert_array_equal(
            preprocess.evaluation_crop(image_bytes, larger),
            np.pad(picture, ((2, 2), (2, 2), (0, 0)), mode="reflect"),
        )

    def test_ten_crops_of_2012(self):
        image_bytes = tf.constant(encoded(coordinates(256), "PNG"))
        crops = preprocess.ten_crops(image_bytes, DataConfig()).numpy()
        assert crops.shape == (10, 224, 224, 3)
        # convdata_jpeg.py: (0,0), (0,32), (16,16), (32,0), (32,32), then the mirrors in the same order.
        first_pixels = [tuple(crop[0, 0, :2]) for crop in crops]
        assert first_pixels[:5] == [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
        assert first_pixels[5:] == [(0, 223), (0, 255), (16, 239), (32, 223), (32, 255)]
        np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])
        assert tuple(crops[4, 223, 223, :2]) == (255, 255)

    def test_ten_crops_reach_into_the_border(self):
        picture = coordinates(32)
        config = DataConfig(resize=32, crop=32, pad=4)
        crops = preprocess.ten_crops(tf.constant(encoded(picture, "PNG")), config).numpy()
        padded = np.pad(picture, ((4, 4), (4, 4), (0, 0)), mode="reflect")
        np.testing.assert_array_equal(crops[0], padded[:32, :32])
        np.testing.assert_array_equal(crops[2], picture)
        np.testing.assert_array_equal(crops[9], padded[8:, 8:][:, ::-1])

    def test_eager_and_graph_agree(self):
        config = DataConfig(resize=40, crop=32)
        image_bytes = tf.constant(encoded(textured(61, 50), "JPEG"))
        for function in (preprocess.evaluation_crop, preprocess.ten_crops):
            called = ways(lambda image_bytes, function=function: function(image_bytes, config))
            expected = called["eager"](image_bytes)
            np.testing.assert_array_equal(called["graph"](image_bytes), expected)
            np.testing.assert_array_equal(called["dataset"](image_bytes), expected)

    @pytest.mark.parametrize("pad", [0, 1, 7])
    def test_reflection_is_numpys(self, pad):
        picture = textured(9, 8)
        expected = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        np.testing.assert_array_equal(preprocess.pad_reflected(tf.constant(picture), pad), expected)


class TestPixels:
    config = DataConfig(resize=4, crop=2)

    @pytest.fixture
    def stats(self):
        mean_image = np.arange(48, dtype=np.float32).reshape(4, 4, 3)
        return image_stats.ImageStats(
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
        stats = image_stats.ImageStats(
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
