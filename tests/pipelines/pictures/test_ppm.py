import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.pictures import decode, ppm
from tests.support.pictures import textured


@pytest.mark.parametrize("side", [1, 9, 10, 100])
def test_every_reader_sees_the_same_pixels(side):
    picture = textured(side, side)
    image_bytes = ppm.encode(tf.constant(picture), side).numpy()
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(image_bytes))), picture)
    np.testing.assert_array_equal(decode.decode(image_bytes), picture)


def test_files_of_others_are_read_too():
    picture = textured(7, 1234)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PPM")
    np.testing.assert_array_equal(decode.decode(file.getvalue()), picture)


@pytest.mark.parametrize(("side", "size"), [(9, 9), (9, 6), (10, 7)])
def test_a_window_is_cut_out_exactly(side, size):
    picture = textured(side, side, seed=3)
    image_bytes = ppm.encode(tf.constant(picture), side)
    cut = tf.function(lambda top, left: ppm.decode_window(image_bytes, side, (top, left), size))
    for top in range(side - size + 1):
        for left in range(side - size + 1):
            np.testing.assert_array_equal(
                cut(tf.constant(top), tf.constant(left)), picture[top : top + size, left : left + size]
            )


def test_another_side_than_said_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="compatible"):
        ppm.encode(tf.zeros([4, 5, 3], tf.uint8), 5)


@pytest.mark.parametrize(
    "damaged",
    [b"P6\n", b"P6\n5 5\n255\n123", b"P6\nfive 5\n255\n" + bytes(75), b"P6\n# 5 5\n" + bytes(75)]
    + [b"P6\n0 0\n255\n", b"P6\n5 -1\n255\n" + bytes(75), b"P6\n5 5\n65535\n" + bytes(150)],
)
def test_a_damaged_file_is_an_error_of_decoding(damaged):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode.decode(damaged)
