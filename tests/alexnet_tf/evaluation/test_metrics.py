"""Errors against NumPy, each example counted once, ten crops and ensembles against the plain average."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.evaluation import metrics
from tests.support import small_runs

SIDE, CLASSES = 14, 7


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def in_top_k(scores: np.ndarray, label: int, k: int) -> bool:
    """By sorting (score, class order) pairs one by one."""
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return label in ranked[:k]


def to_pixels(images: tf.Tensor) -> tf.Tensor:
    return (tf.cast(images, tf.float32) - 100.0) / 60.0


def examples(count: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(count)
    images = generator.integers(0, 256, (count, *shape, SIDE, SIDE, 3), np.uint8)
    return images, generator.integers(0, CLASSES, count).astype(np.int32)


def batches(images: np.ndarray, labels: np.ndarray, size: int) -> list[metrics.Batch]:
    """As pipelines.dataset gives them: the last one filled up."""
    found = []
    for start in range(0, len(labels), size):
        real = len(labels[start : start + size])
        filling = [(0, size - real)]
        image = np.pad(images[start : start + size], filling + [(0, 0)] * (images.ndim - 1))
        found.append(
            {
                "image": tf.constant(image),
                "label": tf.constant(np.pad(labels[start : start + size], filling)),
                "mask": tf.constant(np.arange(size) < real, tf.float32),
                "key": tf.constant([f"{start + i}" if i < real else "" for i in range(size)]),
            }
        )
    return found


@pytest.fixture(scope="module")
def network():
    return small_runs.network(CLASSES, side=SIDE)


@pytest.mark.parametrize("k", [1, 2, 5, 8, 9])
def test_top_k_agrees_with_sorting(k):
    generator = np.random.default_rng(k)
    scores = generator.integers(0, 4, (300, 8)).astype(np.float32)  # four values: most rows have ties
    labels = generator.integers(0, 8, 300).astype(np.int32)
    wanted = [float(in_top_k(*row, k)) for row in zip(scores, labels, strict=True)]
    assert metrics.top_k_correct(tf.constant(scores), tf.constant(labels), k).numpy().tolist() == wanted
    in_graph = tf.function(metrics.top_k_correct)(tf.constant(scores), tf.constant(labels), k)
    assert in_graph.numpy().tolist() == wanted


def test_top_k_agrees_with_the_classes_that_are_shown():
    scores = np.random.default_rng(0).integers(0, 3, (200, 9)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 9, 200)
    shown = tf.math.top_k(scores, 5).indices.numpy()
    right = metrics.top_k_correct(tf.constant(scores), tf.constant(labels), 5).numpy()
    assert right.tolist() == (shown == labels[:, None]).any(axis=1).astype(float).tolist()


def test_equal_scores_are_right_by_chance_only():
    labels = tf.range(10)
    assert metrics.top_k_correct(tf.zeros([10, 10]), labels, 1).numpy().sum() == 1
    assert metrics.top_k_correct(tf.zeros([10, 10]), labels, 5).numpy().sum() == 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_wrong(bad):
    scores = np.eye(3, dtype=np.float32)[[0, 0]] * 5
    scores[1, 2] = bad
    assert metrics.top_k_correct(tf.constant(scores), tf.constant([0, 0]), 3).numpy().tolist() == [1, 0]


@pytest.mark.parametrize("size", [1, 3, 5, 23, 32])
def test_every_example_counts_once(network, size):
    images, labels = examples(23)
    probabilities = softmax(network(to_pixels(images)).numpy().astype(np.float64))
    found = metrics.evaluate_network(network, batches(images, labels, size), to_pixels)
    assert found.count == 23
    assert found.loss == pytest.approx(-np.log(probabilities[np.arange(23), labels]).mean(), rel=1e-5)
    for k, error in ((1, found.top1_error), (5, found.top5_error)):
        wrong = sum(not in_top_k(*row, k) for row in zip(probabilities, labels, strict=True))
        assert error == pytest.approx(wrong / 23)
    assert 0 < found.top5_error < found.top1_error < 1


def test_predictions_leave_the_filling_out(network):
    images, labels = examples(7)
    parts = list(metrics.Evaluator(network, to_pixels).predict(batches(images, labels, 4)))
    assert [key for part in parts for key in part.keys] == [b"%d" % i for i in range(7)]
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), labels)
    found = np.exp(np.concatenate([part.log_probabilities for part in parts]))
    np.testing.assert_allclose(found, softmax(network(to_pixels(images)).numpy()), rtol=1e-5)


@pytest.mark.parametrize(("crops", "centre"), [(9, 4), (10, 2)])
def test_crops_are_averaged_as_probabilities(network, crops, centre):
    images, labels = examples(5, crops)
    each = [softmax(network(to_pixels(images[:, crop])).numpy().astype(np.float64)) for crop in range(crops)]
    average = sum(each) / crops
    evaluator = metrics.Evaluator(network, to_pixels, crops=crops)
    (both,) = evaluator.predict_by_crops(batches(images, labels, 5))
    np.testing.assert_allclose(np.exp(both[1].log_probabilities), each[centre], rtol=1e-5)
    found = np.concatenate(
        [np.exp(p.log_probabilities) for p in evaluator.predict(batches(images, labels, 2))]
    )
    np.testing.assert_allclose(found, average, rtol=1e-5)
    result = evaluator.evaluate(batches(images, labels, 2))
    assert result.count == 5
    assert result.loss == pytest.approx(-np.log(average[np.arange(5), labels]).mean(), rel=1e-5)
    # The average of the logits would be another answer.
    of_logits = softmax(np.mean(np.log(each), axis=0))
    assert np.abs(of_logits - average).max() > 1e-3


def test_ensembles_average_probabilities():
    one, two = (np.array([row], np.float32) for row in ([0.9, 0.1], [0.2, 0.8]))
    parts = [metrics.Predictions([b"a"], np.array([0]), np.log(p)) for p in (one, two)]
    found = metrics.average_predictions(parts)
    np.testing.assert_allclose(np.exp(found.log_probabilities), [[0.55, 0.45]], rtol=1e-6)
    assert found.keys == [b"a"]
    assert metrics.average_predictions(parts[:1]).log_probabilities.tolist() == np.log(one).tolist()


def test_ensembles_of_different_examples_are_refused():
    parts = [metrics.Predictions([key], np.array([0]), np.zeros((1, 2), np.float32)) for key in (b"a", b"b")]
    with pytest.raises(ValueError, match="same examples"):
        metrics.average_predictions(parts)


def test_a_vanishing_probability_has_a_finite_loss(network):
    images, _ = examples(2)
    sure = metrics.evaluate_network(
        FixedAnswers(np.array([[0.0] + [-900.0] * 6] * 2)),
        batches(images, np.array([0, 3], np.int32), 2),
        to_pixels,
    )
    assert sure.loss == pytest.approx(450.0)
    assert sure.top1_error == 0.5


def test_not_a_number_shows_in_the_loss_and_counts_as_wrong():
    logits = np.array([[3.0, 0, 0, 0, 0, 0, 0], [math.nan] * 7])
    images, _ = examples(2)
    found = metrics.evaluate_network(
        FixedAnswers(logits), batches(images, np.array([0, 0], np.int32), 2), to_pixels
    )
    assert math.isnan(found.loss)
    assert (found.top1_error, found.top5_error) == (0.5, 0.5)


def test_filling_that_is_not_a_number_does_not_enter():
    logits = np.array([[3.0, 0, 0, 0, 0, 0, 0], [math.nan] * 7])
    images, _ = examples(1)
    found = metrics.evaluate_network(
        FixedAnswers(logits), batches(images, np.array([0], np.int32), 2), to_pixels
    )
    assert (found.count, found.top1_error) == (1, 0.0)
    assert found.loss == pytest.approx(math.log(math.e**3 + 6) - 3, rel=1e-5)


def test_top5_says_nothing_with_five_classes():
    images, labels = examples(4)
    five, six = (
        metrics.evaluate_network(small_runs.network(c, side=SIDE), batches(images, labels % 5, 4), to_pixels)
        for c in (5, 6)
    )
    assert five.top5_error is None
    assert six.top5_error is not None


def test_no_example_is_an_error(network):
    with pytest.raises(ValueError, match="no example"):
        metrics.evaluate_network(network, [], to_pixels)


def test_crops_must_be_one_or_ten(network):
    with pytest.raises(ValueError, match="received 5"):
        metrics.Evaluator(network, to_pixels, crops=5)


class FixedAnswers:
    """A network that answers the same logits whatever it sees."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = tf.constant(logits, tf.float32)
        self.output_shape = (None, logits.shape[1])

    def __call__(self, pixels, training):
        return self.logits[: tf.shape(pixels)[0]]
