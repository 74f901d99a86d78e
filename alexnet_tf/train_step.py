"""One update of the network, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf import metrics
from alexnet_tf.recipe import Recipe
from pipelines import preprocess
from pipelines.config import DataConfig
from pipelines.image_stats import ImageStats

Batch = dict[str, tf.Tensor]
Sums = dict[str, tf.Tensor]  # scalars: loss, top1 and top5 summed over examples, and their count
TrainStep = Callable[[Batch, tf.Tensor, bool], Sums]
DTYPE_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Multinomial log-loss of each example, [N]; `smoothing` spreads that share over all classes."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if not smoothing:
        return loss
    uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
    return (1.0 - smoothing) * loss + smoothing * uniform


def build(
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    recipe: Recipe,
    data: DataConfig,
    stats: ImageStats,
    strategy: tf.distribute.Strategy,
) -> TrainStep:
    """Compiles the step: uint8 crops in, subtraction of the mean, forward, backward, update.

    Args:
      network, optimizer: made under `strategy`, the optimizer built on the network's variables.
      recipe, data, stats: loss, and how crops become pixels.
      strategy: replicas share the global batch; losses are means over the whole of it.

    Returns:
      A function of (a batch of `pipelines.dataset`, the share of colour noise that is left, whether
      conv1 is frozen) that changes the network and returns sums over the global batch. A frozen conv1
      is left out of the backward pass, which saves a fifth of the step.
    """
    every = network.trainable_variables
    without_conv1 = [v for v in every if "conv1" not in v.path]

    def replica_step(batch: Batch, colour: tf.Tensor, conv1_frozen: bool) -> Sums:
        pixels = preprocess.to_pixels(
            batch["image"], stats, data, training=True, colour_shift=batch["colour_shift"] * colour
        )
        mask = batch["mask"]
        with tf.GradientTape() as tape:
            logits = network(pixels, training=True)
            losses = cross_entropy(logits, batch["label"], recipe.label_smoothing) * mask
            loss = tf.reduce_sum(losses) / recipe.batch_size
        variables = without_conv1 if conv1_frozen else every
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {
            "loss": tf.reduce_sum(losses),
            "top1": tf.reduce_sum(metrics.top_k_correct(logits, batch["label"], 1) * mask),
            "top5": tf.reduce_sum(metrics.top_k_correct(logits, batch["label"], 5) * mask),
            "count": tf.reduce_sum(mask),
        }

    @tf.function(reduce_retracing=True)
    def step(batch: Batch, colour: tf.Tensor, conv1_frozen: bool = False) -> Sums:
        sums: dict[str, Any] = strategy.run(replica_step, args=(batch, colour, conv1_frozen))
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in sums.items()
        }

    return step
