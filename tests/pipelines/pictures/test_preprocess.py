import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.config import DataConfig, PictureSettings
from pipelines.pictures import preprocess
from pipelines.pictures.statistics import ImageStats
from tests.support.pictures import coordinates, encoded, textured, ways
from tests.support.real_pictures import imagenet_samples


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
        for prepare in ways(
            lambda image_bytes: preprocess.prepare(image_bytes, PictureSettings(resize=50))
        ).values():
            np.testing.assert_array_equal(prepare(tf.constant(encoded(picture, "PNG"))), expected)

    @pytest.mark.parametrize("shape", [(90, 60), (24, 31), (48, 48)], ids=["shrink", "enlarge", "keep"])
    def test_same_numbers_eagerly_in_a_graph_and_in_a_saved_model(self, shape, tmp_path):
        image_bytes = tf.constant(encoded(textured(*shape), "JPEG", quality=92))
        called = ways(lambda image_bytes: preprocess.prepare(image_bytes, PictureSettings(resize=48)))
        expected = called["eager"](image_bytes).numpy()
        assert expected.std() > 20

        module = tf.Module()
        module.prepare = tf.function(
            lambda batch: tf.map_fn(
                lambda one: preprocess.prepare(one, PictureSettings(resize=48)),
                batch,
                fn_output_signature=tf.uint8,
            ),
            [tf.TensorSpec([None], tf.string)],
        )
        tf.saved_model.save(module, str(tmp_path))
        reloaded = tf.saved_model.load(str(tmp_path)).prepare(tf.stack([image_bytes] * 2))
        np.testing.assert_array_equal(reloaded, [expected, expected])
        np.testing.assert_array_equal(called["graph"](image_bytes), expected)
        np.testing.assert_array_equal(called["dataset"](image_bytes), expected)

    @pytest.mark.parametrize("content", ["noise", "texture", "extremes"])
    def test_the_square_of_the_rounded_picture_bit_for_bit(self, content):
        """Rounding and clipping everything and cutting afterwards, as was done at first, gives the same."""
        size, generator = 24, np.random.default_rng(5)
        lengths = [11, 16, 23, 24, 25, 29, 36, 48, 61, 95, 140]
        prepare = tf.function(
            lambda image: preprocess.resize_short_side(image, size, square=True),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
        )
        for height, width in itertools.product(lengths, lengths):
            picture = textured(height, width, height * width)
            if content != "texture":
                picture = generator.integers(0, 256, picture.shape, dtype=np.uint8)
            if content == "extremes":
                picture = np.where(picture > 127, 255, 0).astype(np.uint8)
            short, method = min(height, width), "area" if min(height, width) > size else "bicubic"
            shape = [(2 * side * size + short) // (2 * short) for side in (height, width)]
            values = tf.image.resize(picture, shape, method=method) + 0.5
            rounded = tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)
            expected = preprocess.centre_crop(picture if short == size else rounded, size)
            np.testing.assert_array_equal(prepare(picture), expected)
            whole = preprocess.resize_short_side(picture, size)
            np.testing.assert_array_equal(preprocess.centre_crop(whole, size), expected)

    def test_a_line_of_pixels_stays_small(self):
        line = np.zeros((1, 60_000, 3), np.uint8)
        line[:, 29_990:30_010] = 200
        prepared = preprocess.prepare(tf.constant(encoded(line, "PNG")), PictureSettings(resize=256)).numpy()
        assert prepared.shape == (256, 256, 3)
        assert prepared[128, 128, 0] == 200

    def test_cutting_a_long_picture_leaves_its_centre_as_it_was(self):
        picture = textured(6, 6 * 40)
        whole = preprocess.centre_crop(preprocess.resize_short_side(picture, 12), 12)
        prepared = preprocess.prepare(tf.constant(encoded(picture, "PNG")), PictureSettings(resize=12))
        np.testing.assert_array_equal(prepared, whole)


def bilinear(picture, size):
    """OpenCV's default: between the nearest four pixels, their centres at halves, whatever the scale."""
    found = picture.astype(np.float64)
    for axis in (0, 1):
        length = picture.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        first = np.minimum(places.astype(int), length - 1)
        share = np.expand_dims(places - first, tuple({0, 1, 2} - {axis}))
        found = (
            found.take(first, axis) * (1 - share)
            + found.take(np.minimum(first + 1, length - 1), axis) * share
        )
    return found


class TestSqueeze:
    @pytest.mark.parametrize("rule", ["warp", "squash"])
    @pytest.mark.parametrize("shape", [(90, 60), (24, 131), (48, 48)], ids=["shrink", "long", "keep"])
    def test_the_whole_picture_becomes_a_square(self, shape, rule):
        picture = textured(*shape)
        config = DataConfig(resize=48, crop=48, resize_rule=rule)
        prepared = preprocess.prepare(tf.constant(encoded(picture, "PNG")), config).numpy()
        assert np.abs(prepared - bilinear(picture, 48)).max() <= 0.51

    def test_a_warp_is_cropped_like_any_other(self):
        picture = tf.constant(encoded(textured(90, 60), "PNG"))
        config = DataConfig(resize=48, crop=40, resize_rule="warp_48")
        whole = preprocess.prepare(picture, config)
        np.testing.assert_array_equal(preprocess.evaluation_crop(picture, config), whole[4:44, 4:44])
        np.testing.assert_array_equal(preprocess.views(picture, config, 10)[4], whole[8:, 8:])


def test_photographs_agree_with_pillow_and_numpy():
    for image_bytes in imagenet_samples(4):
        picture = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"))
        height, width = picture.shape[:2]
        assert min(height, width) > 128
        shape = [round(128 * side / min(height, width)) for side in (height, width)]
        expected = resized_by(area_matrix, picture, shape)
        top, left = (shape[0] - 128) // 2, (shape[1] - 128) // 2
        prepared = preprocess.prepare(tf.constant(image_bytes), PictureSettings(resize=128)).numpy()
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

    def test_nine_crops_of_cifar(self):
        config = DataConfig(resize=32, crop=24)
        crops = preprocess.views(tf.constant(encoded(coordinates(32), "PNG")), config, 9).numpy()
        assert crops.shape == (9, 24, 24, 3)
        first_pixels = [tuple(crop[0, 0, :2]) for crop in crops]
        assert first_pixels == [(top, left) for top in (0, 4, 8) for left in (0, 4, 8)]
        centre = preprocess.evaluation_crop(tf.constant(encoded(coordinates(32), "PNG")), config)
        np.testing.assert_array_equal(crops[preprocess.CENTRES[9]], centre)

    @pytest.mark.parametrize("count", [9, 10])
    def test_each_view_has_the_mean_of_its_place(self, count):
        config = DataConfig(resize=32, crop=24, pixel_divisor=2.0)
        mean = coordinates(32).astype(np.float32)
        stats = ImageStats(np.ones(3), np.eye(3), mean, mean.mean(axis=(0, 1)), 1)
        views = preprocess.views(tf.constant(encoded(coordinates(32), "PNG")), config, count)
        pixels = preprocess.to_pixels(views[tf.newaxis], stats, config)
        assert pixels.shape == (1, count, 24, 24, 3)
        np.testing.assert_array_equal(pixels, np.zeros(pixels.shape))

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
