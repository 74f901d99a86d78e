"""A source of pictures that are held in memory, and what its batches are compared by."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pipelines import dataset, epochs
from pipelines.config import DataConfig
from pipelines.pictures.file_types import JPEG, format_of
from tests.support.pictures import encoded, textured

SMALL = DataConfig(resize=40, crop=32, colour_statistics="published", seed=3)


class MemorySource:
    """Pictures held in memory; the order of an epoch is a permutation of its own."""

    class_names = ("even", "odd", "third")
    description = "memory"

    def __init__(self, pictures, prepared_size=None):
        self._pictures = pictures
        self.prepared_size = prepared_size
        self.prepared_form = JPEG if all(format_of(picture) == JPEG for picture in pictures) else None

    def count(self, split):
        return len(self._pictures)

    def dataset(self, split, *, epoch=None, start=0):
        order = tf.range(len(self._pictures), dtype=tf.int64)
        if epoch is not None:
            order = epochs.permutation(len(self._pictures), 9, epoch)
        order = order[start:]
        return tf.data.Dataset.from_tensor_slices(
            {
                "image_bytes": tf.gather(tf.constant(self._pictures), order),
                "label": order % 3,
                "key": tf.strings.as_string(order, width=3, fill="0"),
            }
        )


def source_of(count, **options):
    return MemorySource(
        [encoded(textured(50, 60, seed=number), "JPEG", quality=80) for number in range(count)], **options
    )


def collected(batches, steps=None):
    return list((batches if steps is None else batches.take(steps)).as_numpy_iterator())


def assert_equal_batches(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def train(source, batch_size, config=SMALL, **options):
    return dataset.build(source, config, "train", batch_size, training=True, **options)
