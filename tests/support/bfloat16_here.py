"""Whether TensorFlow computes convolutions in bfloat16 here: with oneDNN held to AVX2 it refuses."""

import functools

import pytest
import tensorflow as tf

REASON = "TensorFlow cannot compute a convolution in bfloat16 here"


@functools.cache
def is_computed() -> bool:
    """Tries one convolution."""
    maps, kernel = tf.ones([1, 4, 4, 8], tf.bfloat16), tf.ones([3, 3, 8, 8], tf.bfloat16)
    try:
        tf.nn.conv2d(maps, kernel, 1, "SAME")
    except tf.errors.OpError:
        return False
    return True


def policy() -> str:
    """`mixed_bfloat16` where it can be had, else `float32`: for tests of what surrounds the numbers."""
    return "mixed_bfloat16" if is_computed() else "float32"


def needed() -> None:
    """Skips the test that calls it where bfloat16 is not computed."""
    if not is_computed():
        pytest.skip(REASON)
