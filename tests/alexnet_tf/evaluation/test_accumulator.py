"""Counting mistakes batch by batch, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_tf.evaluation.accumulator import Accumulator
from alexnet_tf.evaluation.metrics import Predictions

CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")


def predicted(rows: list[tuple[int, int, float]], classes: int) -> Predictions:
    """One example for each (label, predicted class, its probability), the rest shared out evenly."""
    scores = np.array([[(1 - p) / (classes - 1)] * classes for _, _, p in rows])
    scores[np.arange(len(rows)), [said for _, said, _ in rows]] = [p for _, _, p in rows]
    keys = [f"{i}".encode() for i in range(len(rows))]
    return Predictions(
        keys, np.array([label for label, _, _ in rows], np.int32), np.log(scores).astype(np.float32)
    )


def test_an_accumulator_remembers_the_surest_mistakes():
    totals = Accumulator(CLASSES, keep=3)
    totals.add(predicted([(0, 1, 0.6), (1, 1, 0.99), (2, 3, 0.9), (3, 4, 0.3)], 7))
    totals.add(predicted([(5, 6, 0.9), (6, 0, 0.5), (4, 4, 0.8)], 7))
    assert [(m.position, m.label, m.predicted) for m in totals.worst] == [(2, 2, 3), (4, 5, 6), (0, 0, 1)]
    assert [m.probability for m in totals.worst] == pytest.approx([0.9, 0.9, 0.6])
    assert totals.evaluation.top1_error == pytest.approx(5 / 7)


def test_a_class_without_examples_has_no_error():
    totals = Accumulator(CLASSES)
    totals.add(predicted([(0, 1, 0.6), (0, 1, 0.6), (0, 0, 0.9), (0, 2, 0.4)], 7))
    first, second, *_ = totals.classes()
    assert (first.examples, first.top1_error) == (4, 0.75)
    assert (first.confused_with, first.confused_count) == ("bee", 2)
    assert (second.examples, second.top1_error, second.top5_error, second.confused_with) == (
        0,
        None,
        None,
        "",
    )
