"""Top-1 and top-5 error, exact over padded batches; one crop or the average of ten (section 4.1).

The training loop and `evaluate` measure with the same code. Nothing here keeps pictures: a batch is
reduced to a handful of numbers, or to its log-probabilities, before the next one is fetched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from alexnet_tf.network import backend
from pipelines.pictures import preprocess

if TYPE_CHECKING:
    import keras

TOP = 5
Batch = dict[str, tf.Tensor]
ToPixels = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Loss and errors of a network on a set of examples, each counted once.

    Attributes:
      count: examples.
      loss: mean cross-entropy in nats, of the averaged probabilities where there are ten crops.
      top1_error: share of examples whose label has not the highest score.
      top5_error: share whose label is not among the five highest; None for five classes or fewer,
        where it would be zero whatever the network does.
    """

    count: int
    loss: float
    top1_error: float
    top5_error: float | None


class Predictions(NamedTuple):
    """The log-probabilities of a batch's examples, without those that only fill it up.

    Attributes:
      keys: their names in the data set, as bytes.
      labels: int32 [n].
      log_probabilities: float32 [n, classes], natural logarithms.
    """

    keys: list[bytes]
    labels: np.ndarray
    log_probabilities: np.ndarray


def top_k_correct(scores: tf.Tensor, labels: tf.Tensor, k: int) -> tf.Tensor:
    """Whether each label is among the k highest scores of its row.

    Equal scores rank in class order, as in `tf.math.top_k`: what counts as right is what `predict`
    would show, and a network whose outputs are all equal is right by chance, not always. (bfloat16
    logits are often equal.) A row with a score that is not finite counts as wrong.

    Args:
      scores: logits, log-probabilities or probabilities, float [N, classes].
      labels: integers [N] in 0..classes-1.
      k: how many places count; with k >= classes every finite row is right.

    Returns:
      float32 [N], 1 where right, else 0.
    """
    labels = tf.cast(labels, tf.int32)[:, tf.newaxis]
    own = tf.gather(scores, labels, axis=1, batch_dims=1)  # [N, 1]
    before = tf.range(tf.shape(scores)[1])[tf.newaxis] < labels  # [N, classes]
    ahead = (scores > own) | ((scores == own) & before)
    rank = tf.reduce_sum(tf.cast(ahead, tf.int32), axis=1)
    finite = tf.reduce_all(tf.math.is_finite(scores), axis=1)
    return tf.cast((rank < k) & finite, tf.float32)


def cross_entropy(log_probabilities: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Minus the log-probability of each label: float32 [N], nats."""
    return -tf.gather(log_probabilities, tf.cast(labels, tf.int32), axis=1, batch_dims=1)


def average_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Averages several networks' probabilities of the same examples arithmetically.

    Raises:
      ValueError: the parts hold different examples, or the same in another order.
    """
    if any(part.keys != parts[0].keys for part in parts):
        raise ValueError("the predictions to average are not of the same examples in the same order")
    with np.errstate(invalid="ignore"):  # what is not finite stays so, for the caller to find
        total = np.logaddexp.reduce([part.log_probabilities for part in parts])
    return parts[0]._replace(log_probabilities=total - np.float32(math.log(len(parts))))


def masked_sum(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sum of `values` [N] where `mask` [N] is 1; what filling gives, NaN included, does not enter."""
    return tf.reduce_sum(tf.where(mask > 0, values, tf.zeros_like(values)))


class Evaluator:
    """A network with compiled functions that evaluate it, for any number of passes.

    Args:
      network: pixels float32 [N, side, side, 3] -> logits float32 [N, classes].
      to_pixels: images as in a batch -> pixels of the same shape; `preprocess.to_pixels` with the statistics
        and settings that the network was trained with.
      crops: 1, or 9 or 10 for batches whose `image` is [N, crops, side, side, 3]: they go through the
        network as so many pictures, and their probabilities are averaged [S src/layer.cu,
        LogregCostLayer: errors and loss are those of the average].
      strategy: whose replicas `evaluate` shares batches among; the current one by default.
    """

    def __init__(
        self,
        network: keras.Model,
        to_pixels: ToPixels,
        *,
        crops: int = 1,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        backend.require_tensorflow("evaluation")
        if crops not in preprocess.CENTRES:
            raise ValueError(f"`crops` must be 1, 9 or 10; received {crops}")
        self._network, self._to_pixels, self._crops = network, to_pixels, crops
        self._classes = int(network.output_shape[-1])
        self._compiled_predict = tf.function(self._by_crops, autograph=False, reduce_retracing=True)
        self._strategy = strategy or tf.distribute.get_strategy()
        self._compiled_sums = tf.function(self._total_sums, autograph=False, reduce_retracing=True)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Loss and errors over batches of `pipelines.dataset.build(training=False)`.

        Args:
          batches: as the strategy distributes them, where it has several replicas.

        Raises:
          ValueError: there was no example.
        """
        totals = np.zeros(4)
        for batch in batches:
            totals += self._compiled_sums(batch["image"], batch["label"], batch["mask"]).numpy()
        count, loss, top1, top5 = totals
        if not count:
            raise ValueError("`batches` hold no example")
        return Evaluation(
            count=round(count),
            loss=float(loss / count),
            top1_error=float((count - top1) / count),
            top5_error=float((count - top5) / count) if self._classes > TOP else None,
        )

    def predict(self, batches: Iterable[Batch]) -> Iterator[Predictions]:
        """Yields each batch's keys, labels and log-probabilities, in the order of the data set."""
        for by_crops in self.predict_by_crops(batches):
            yield by_crops[self._crops]

    def predict_by_crops(self, batches: Iterable[Batch]) -> Iterator[dict[int, Predictions]]:
        """As `predict`, by the number of crops: with ten crops also the centre crop alone, under 1."""
        for batch in batches:
            real = batch["mask"].numpy() > 0
            keys, labels = [bytes(key) for key in batch["key"].numpy()[real]], batch["label"].numpy()[real]
            found = self._compiled_predict(batch["image"])
            yield {crops: Predictions(keys, labels, own.numpy()[real]) for crops, own in found.items()}

    def log_probabilities(self, images: tf.Tensor) -> np.ndarray:
        """Float32 [N, classes] for images as in a batch, filling included."""
        return self._compiled_predict(images)[self._crops].numpy()

    def _log_probabilities(self, images: tf.Tensor) -> tf.Tensor:
        return self._by_crops(images)[self._crops]

    def _by_crops(self, images: tf.Tensor) -> dict[int, tf.Tensor]:
        """Float32 [N, classes] each; logarithms, so that a probability of 1e-50 still has a loss."""
        pixels = self._to_pixels(images)  # before ten crops lose their order: each has its own mean
        pixels = tf.reshape(pixels, [-1, *images.shape[-3:]])
        logits: Any = self._network(pixels, training=False)
        each = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        if self._crops == 1:
            return {1: each}
        each = tf.reshape(each, [-1, self._crops, self._classes])
        averaged = tf.reduce_logsumexp(each, axis=1) - math.log(self._crops)
        return {1: each[:, preprocess.CENTRES[self._crops]], self._crops: averaged}

    def _total_sums(self, images: Any, labels: Any, mask: Any) -> tf.Tensor:
        """`_sums` over all replicas."""
        per_replica = self._strategy.run(self._sums, args=(images, labels, mask))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    def _sums(self, images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Float32 [4]: examples, summed cross-entropy, top-1 and top-5 right answers."""
        scores = self._log_probabilities(images)
        parts = (
            tf.ones_like(mask),
            cross_entropy(scores, labels),
            top_k_correct(scores, labels, 1),
            top_k_correct(scores, labels, TOP),
        )
        return tf.stack([masked_sum(part, mask) for part in parts])


def evaluate_network(
    network: keras.Model, batches: Iterable[Batch], to_pixels: ToPixels, *, crops: int = 1
) -> Evaluation:
    """Loss and errors of a network, for a single pass; see `Evaluator`, which compiles once for many."""
    return Evaluator(network, to_pixels, crops=crops).evaluate(batches)
