"""Pictures and ways of calling that several tests share."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image


def textured(height, width, seed=0):
    """A smooth picture with structure at several scales, uint8 [height, width, 3]."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encoded(picture, kind, **options):
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def coordinates(side):
    """Red is the row, green the column, blue which half: a position can be read off every pixel."""
    rows, columns = np.mgrid[:side, :side]
    return np.stack([rows % 256, columns % 256, rows // 256 * 2 + columns // 256], axis=-1).astype(np.uint8)


def ways(function):
    """The function called eagerly, as a graph and inside tf.data."""
    specification = tf.TensorSpec([], tf.string)

    def in_dataset(image_bytes):
        (result,) = tf.data.Dataset.from_tensors(image_bytes).map(function)
        return result

    return {"eager": function, "graph": tf.function(function, [specification]), "dataset": in_dataset}
