"""The training step: some updates of the network in one call, and their losses and errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import model
from alexnet_tf.evaluation import metrics
from alexnet_tf.recipe import Recipe
from alexnet_tf.training.schedule import Rates
from pipelines.config import DataConfig
from pipelines.pictures import preprocess
from pipelines.pictures.statistics import ImageStats

Batch = dict[str, tf.Tensor]
MOST_STEPS = 64  # in one call


class Sums(NamedTuple):
    """Loss, hits and examples of one step, summed over the global batch."""

    loss: float
    top1: float  # examples whose label had the highest score
    top5: float
    examples: float


class StepResult(NamedTuple):
    """The result of a call: sums for each of its steps, and the processes' votes added up."""

    sums: list[Sums]
    votes: list[float]


# (batches, the rates of each step, whether the first layer is frozen, this process' votes)
TrainSteps = Callable[[Any, Sequence[Rates], bool, Sequence[float]], StepResult]


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
) -> TrainSteps:
    """Compiles the step: uint8 crops in, subtraction of the mean, forward, backward, update.

    Args:
      network, optimizer: made under `strategy`, the optimizer built on the network's variables.
      recipe, data, stats: loss, accumulation, and how crops become pixels.
      strategy: replicas share the global batch; losses are means over the whole of it.

    Returns:
      A function of (an iterator over batches of `pipelines.dataset`, 1 to MOST_STEPS steps' rates,
      whether the first layer is frozen, some numbers of this process) that takes so many steps without
      coming back to Python, and returns sums over the global batches and over the processes' numbers. A
      frozen first layer is left out of the backward pass, which saves a fifth of the step.
    """
    pass_over = _Pass(network, recipe, data, stats)
    every = network.trainable_variables
    first_layer = {id(variable) for variable in model.first_layer_variables(network)}
    without_conv1 = [variable for variable in every if id(variable) not in first_layer]

    @tf.autograph.experimental.do_not_convert
    def replica_step(batch: Batch, colour: tf.Tensor, conv1_frozen: bool) -> tf.Tensor:
        variables = without_conv1 if conv1_frozen else every
        gradients, sums = pass_over.gradients(batch, colour, variables)
        optimizer.apply(gradients, variables)
        return sums

    def total(value: tf.Tensor) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

    @tf.function(reduce_retracing=True)
    def compiled(
        batches: Any, rates: tf.Tensor, count: tf.Tensor, votes: tf.Tensor, conv1_frozen: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        sums = tf.TensorArray(tf.float32, count, element_shape=[len(Sums._fields)])
        for number in tf.range(count):
            optimizer.set_rates(rates[number, 0], rates[number, 1], rates[number, 2])
            per_replica = strategy.run(replica_step, args=(next(batches), rates[number, 3], conv1_frozen))
            sums = sums.write(number, total(per_replica))
        return sums.stack(), total(strategy.run(tf.identity, args=(votes,)))

    def steps(batches: Any, rates: Sequence[Rates], conv1_frozen: bool, votes: Sequence[float]) -> StepResult:
        rows = np.zeros((MOST_STEPS, len(Rates._fields)), np.float32)  # of one shape: nothing is traced again
        rows[: len(rates)] = rates
        sums, voted = compiled(
            batches, tf.constant(rows), tf.constant(len(rates)), tf.constant(votes, tf.float32), conv1_frozen
        )
        return StepResult([Sums(*row) for row in sums.numpy().tolist()], voted.numpy().tolist())

    return steps


class _Pass:
    """Forward and backward through the network for one replica's share of the batch."""

    def __init__(self, network: keras.Model, recipe: Recipe, data: DataConfig, stats: ImageStats) -> None:
        self.network, self.recipe, self.data, self.stats = network, recipe, data, stats

    def gradients(
        self, batch: Batch, colour: tf.Tensor, variables: list[Any]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients of the loss averaged over the global batch, and this share's `Sums` as float32 [4].

        With `accumulation_steps` parts the activations of one part are held at a time.
        """
        parts = self.recipe.accumulation_steps
        if parts == 1:
            return self._of_part(batch, colour, variables)
        split = {name: tf.reshape(t, [parts, -1, *t.shape[1:]]) for name, t in batch.items()}
        gradients: list[tf.Tensor] = []
        sums = tf.zeros([len(Sums._fields)])
        # Not a loop of TensorFlow's: what it carries from turn to turn lies on one device, wherever the
        # variables are. So each part waits for the gradients of the one before, and its memory.
        for number in range(parts):
            with tf.control_dependencies(gradients):
                part = {name: tf.identity(t[number]) for name, t in split.items()}
            more, of_part = self._of_part(part, colour, variables)
            for index, variable in enumerate(variables if gradients else []):
                with tf.device(variable.value.device):
                    more[index] += gradients[index]
            gradients, sums = more, sums + of_part
        return gradients, sums

    def _of_part(
        self, batch: Batch, colour: tf.Tensor, variables: list[Any]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        if not self.recipe.xla:
            return self._op_by_op(batch, colour, variables)

        def whole(batch: Batch, colour: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
            return self._op_by_op(batch, colour, variables)

        # A program a caller: it holds on to the replica that it was traced for.
        compiled: tuple[list[tf.Tensor], tf.Tensor] = tf.function(whole, jit_compile=True)(batch, colour)
        return compiled

    def _op_by_op(
        self, batch: Batch, colour: tf.Tensor, variables: list[Any]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        pixels = preprocess.to_pixels(
            batch["image"],
            self.stats,
            self.data,
            training=True,
            colour_shift=batch["colour_shift"],
            colour_share=colour,
            windows=batch.get("window"),
        )
        mask, labels = batch["mask"], batch["label"]
        # Of a partial batch the mean is over its own pictures, on whichever replica and in whichever part.
        weight = batch.get("weight", mask)
        with tf.GradientTape() as tape:
            logits = self.network(pixels, training=True)
            losses = cross_entropy(logits, labels, self.recipe.label_smoothing)
            loss = tf.reduce_sum(losses * weight) / self.recipe.batch_size
        sums = Sums(
            loss=tf.reduce_sum(losses * mask),
            top1=tf.reduce_sum(metrics.top_k_correct(logits, labels, 1) * mask),
            top5=tf.reduce_sum(metrics.top_k_correct(logits, labels, 5) * mask),
            examples=tf.reduce_sum(mask),
        )
        return tape.gradient(loss, variables), tf.stack(sums)
