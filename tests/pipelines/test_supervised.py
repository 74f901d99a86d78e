"""Pairs for `keras.Model.fit`: the same pictures as the dict's, as pixels, without filling."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import dataset
from pipelines.pictures import preprocess
from pipelines.pictures.statistics import StatsAccumulator
from tests.support.memory_source import SMALL, collected, source_of, train


@pytest.fixture(scope="module")
def stats():
    accumulator = StatsAccumulator()
    pictures = [preprocess.prepare(one["image_bytes"], SMALL) for one in source_of(5).dataset("val")]
    accumulator.update(np.stack(pictures))
    return accumulator.result()


def evaluate(count, batch_size, stats, **options):
    return dataset.build(
        source_of(count), SMALL, "val", batch_size, training=False, stats=stats, as_supervised=True, **options
    )


def test_every_validation_picture_once_and_no_filling(stats):
    batches = collected(evaluate(11, 4, stats))
    assert [len(labels) for _, labels in batches] == [4, 4, 3]
    labels = np.concatenate([labels for _, labels in batches])
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, np.arange(11) % 3)
    (whole,) = collected(dataset.build(source_of(11), SMALL, "val", 11, training=False))
    wanted = preprocess.to_pixels(whole["image"], stats, SMALL).numpy()
    np.testing.assert_allclose(np.concatenate([pixels for pixels, _ in batches]), wanted, atol=1e-4)


@pytest.mark.parametrize("shards", [1, 2])
def test_shards_of_pairs_have_every_picture(stats, shards):
    parts = [collected(evaluate(9, 4, stats, shard=(number, shards))) for number in range(shards)]
    assert all(len(labels) for part in parts for _, labels in part)
    found = np.concatenate([labels for part in parts for _, labels in part])
    assert sorted(found) == sorted(np.arange(9) % 3)


def test_training_pixels_are_those_of_the_dict_with_noise_and_moving_mean(stats):
    source = source_of(10)
    plain = collected(train(source, 4, stats=stats), 3)
    pairs = collected(train(source, 4, stats=stats, as_supervised=True), 3)
    for batch, (pixels, labels) in zip(plain, pairs, strict=True):
        wanted = preprocess.to_pixels(
            batch["image"],
            stats,
            SMALL,
            training=True,
            colour_shift=tf.constant(batch["colour_shift"]),
            windows=tf.constant(batch["window"]),
        )
        np.testing.assert_allclose(pixels, wanted, atol=1e-4)
        np.testing.assert_array_equal(labels, batch["label"])
    assert train(source, 4, stats=stats, as_supervised=True).element_spec[0].shape == (4, 32, 32, 3)


def test_a_partial_batch_of_training_is_smaller(stats):
    config = dataclasses.replace(SMALL, partial_batch=True)
    pairs = collected(train(source_of(10), 4, config, stats=stats, as_supervised=True), 6)
    assert [len(labels) for _, labels in pairs] == [4, 4, 2] * 2


def test_keras_fits_and_evaluates(stats):
    network = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(1e-4), loss, metrics=["accuracy"])
    source = source_of(10)
    steps = dataset.steps_per_epoch(source, 4)
    training = train(source, 4, stats=stats, as_supervised=True)
    validation = evaluate(10, 4, stats)
    told = network.fit(
        training, steps_per_epoch=steps, validation_data=validation, epochs=2, verbose=0, shuffle=False
    )
    assert np.isfinite(told.history["val_loss"]).all()
    measured = network.evaluate(validation, verbose=0, return_dict=True)
    pixels = np.concatenate([pixels for pixels, _ in collected(validation)])
    right = network.predict(pixels, verbose=0).argmax(axis=1) == np.arange(10) % 3
    assert measured["accuracy"] == pytest.approx(right.mean())  # filling would count as wrong or right


def test_contradictions_are_refused(stats):
    with pytest.raises(ValueError, match="received None, crops=1"):
        evaluate(4, 2, None)
    with pytest.raises(ValueError, match="crops=10"):
        evaluate(4, 2, stats, crops=10)
