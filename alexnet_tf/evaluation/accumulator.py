"""Errors, confusion matrix and worst mistakes of a split, accumulated batch by batch without the scores."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from alexnet_tf.evaluation import metrics
from alexnet_tf.evaluation.metrics import TOP, Evaluation, Predictions
from pipelines.errors import UserError
from pipelines.sources.source import decode_key


class Prediction(NamedTuple):
    """The best classes of one picture as indices, with their probabilities, best first."""

    key: str
    label: int
    classes: list[int]
    scores: list[float]


class Misclassification(NamedTuple):
    """A picture taken for another class, and the probability that the network gave to that class."""

    probability: float
    position: int  # in the fixed order of the split
    key: str
    label: int
    predicted: int


class ClassResult(NamedTuple):
    """One class of the validation split; errors are shares of its examples, None where it has none."""

    name: str
    examples: int
    top1_error: float | None
    top5_error: float | None
    confused_with: str
    confused_count: int


class Accumulator:
    """Sums over the predictions of a split, from which its errors, confusions and worst mistakes follow.

    Args:
      class_names: a label is an index into them.
      keep: how many of the worst mistakes are remembered.

    Attributes:
      confusion: int32 [classes, classes], examples of class [row] taken for class [column].
    """

    def __init__(self, class_names: Sequence[str], keep: int = 24) -> None:
        self.class_names, self._keep = tuple(class_names), keep
        classes = len(self.class_names)
        self.confusion = np.zeros((classes, classes), np.int32)
        self._top5_right = np.zeros(classes, np.int64)
        self._loss, self._count = 0.0, 0
        self._worst: list[tuple[float, int, Misclassification]] = []

    def add(self, predictions: Predictions) -> list[Prediction]:
        """Adds a batch and returns its predictions.

        Raises:
          UserError: a score is not a number.
        """
        keys = [decode_key(key) for key in predictions.keys]
        labels, scores = predictions.labels, predictions.log_probabilities
        bad = ~np.isfinite(scores).all(axis=1)
        if bad.any():
            raise UserError(
                f"{keys[int(bad.argmax())]}: the network's scores are not finite, so training has diverged; "
                "choose another --checkpoint"
            )
        best, classes = (part.numpy() for part in tf.math.top_k(scores, min(TOP, len(self.class_names))))
        probabilities = np.exp(best)
        np.add.at(self.confusion, (labels, classes[:, 0]), 1)
        np.add.at(self._top5_right, labels, metrics.top_k_correct(scores, labels, TOP).numpy() > 0)
        self._loss += float(metrics.cross_entropy(scores, labels).numpy().sum(dtype=np.float64))
        for row in np.flatnonzero(classes[:, 0] != labels):
            self._remember(
                Misclassification(
                    float(probabilities[row, 0]),
                    self._count + int(row),
                    keys[row],
                    int(labels[row]),
                    int(classes[row, 0]),
                )
            )
        self._count += len(keys)
        return [
            Prediction(*row)
            for row in zip(keys, labels.tolist(), classes.tolist(), probabilities.tolist(), strict=True)
        ]

    @property
    def evaluation(self) -> Evaluation:
        """The split's errors.

        Raises:
          ValueError: nothing was counted.
        """
        if not self._count:
            raise ValueError("no example was counted")
        return Evaluation(
            count=self._count,
            loss=self._loss / self._count,
            top1_error=(self._count - int(np.trace(self.confusion))) / self._count,
            top5_error=(self._count - int(self._top5_right.sum())) / self._count if self._has_top5 else None,
        )

    @property
    def worst(self) -> list[Misclassification]:
        """The most confident mistakes, the surest first; of equals the earlier."""
        return [mistake for _, _, mistake in sorted(self._worst, reverse=True)]

    def classes(self) -> list[ClassResult]:
        """One row a class, in the order of the labels."""
        counts = self.confusion.sum(axis=1, dtype=np.int64)
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        rows = []
        for label, (name, count) in enumerate(zip(self.class_names, counts.tolist(), strict=True)):
            other = int(wrong[label].argmax())
            confused = int(wrong[label, other])
            top1 = (count - int(self.confusion[label, label])) / count if count else None
            top5 = (count - int(self._top5_right[label])) / count if count and self._has_top5 else None
            rows.append(
                ClassResult(name, count, top1, top5, self.class_names[other] if confused else "", confused)
            )
        return rows

    @property
    def _has_top5(self) -> bool:
        return len(self.class_names) > TOP

    def _remember(self, mistake: Misclassification) -> None:
        entry = (mistake.probability, -mistake.position, mistake)
        if len(self._worst) < self._keep:
            heapq.heappush(self._worst, entry)
        elif self._keep:
            heapq.heappushpop(self._worst, entry)
