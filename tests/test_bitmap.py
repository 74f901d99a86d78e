import io

import numpy as np
import pytest
import tensorflow as tf
from pictures import textured
from PIL import Image

from pipelines import bitmap
from pipelines.decode import decode


@pytest.mark.parametrize("side", [5, 6, 7, 8])
def test_every_reader_sees_the_same_pixels(side):
    picture = textured(side, side)
    image_bytes = bitmap.encode(tf.constant(picture), side).numpy()
    assert len(image_bytes) == 54 + side * -(-3 * side // 4) * 4
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(image_bytes))), picture)
    np.testing.assert_array_equal(decode(image_bytes), picture)


@pytest.mark.parametrize(("side", "size"), [(9, 9), (9, 6), (10, 7)])
def test_a_window_is_cut_out_exactly(side, size):
    picture = textured(side, side, seed=3)
    image_bytes = bitmap.encode(tf.constant(picture), side)
    cut = tf.function(lambda top, left: bitmap.decode_window(image_bytes, side, (top, left), size))
    for top in range(side - size + 1):
        for left in range(side - size + 1):
            np.testing.assert_array_equal(
                cut(tf.constant(top), tf.constant(left)), picture[top : top + size, left : left + size]
            )


def test_another_side_than_said_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="compatible"):
        bitmap.encode(tf.zeros([4, 5, 3], tf.uint8), 5)
