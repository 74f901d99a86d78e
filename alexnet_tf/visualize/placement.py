"""Method `placement`: the two towers on two devices, and the tensors sent between them in a training step.

The figures are read from the graphs of one step that runs (`distribute.tower_trace`), not from the layout.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf.figures.crossings import write

if TYPE_CHECKING:
    import keras

    from alexnet_tf.distribute.tower_trace import Trace
    from alexnet_tf.run_record import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the run's recipe says what a step is."""


def draw(run: Run, out: Path) -> dict[str, Any]:
    """Takes one step of a run's recipe on two devices and writes placement.png and placement.json.

    The network has its initial weights and the pictures are grey: only sizes and places matter.

    Raises:
      UserError: there are not two devices, or the variant has no two towers.
    """
    return write(out, *_one_step(run), run.recipe)


def _one_step(run: Run) -> tuple[keras.Model, Trace]:
    """The run's network on two devices, and the trace of its first step."""
    import tensorflow as tf

    from alexnet_tf.distribute import tower_trace
    from alexnet_tf.training import placement
    from alexnet_tf.training import step as train_step
    from alexnet_tf.training.schedule import Rates

    place = placement.place("towers")
    recipe = dataclasses.replace(run.recipe, xla=False, accumulation_steps=1)
    network, optimizer = place.build(recipe, len(run.class_names))
    step = train_step.build(network, optimizer, recipe, run.data, run.stats, place.strategy)
    count, side = recipe.batch_size, run.data.crop
    batch = {
        "image": tf.fill([count, side, side, 3], tf.constant(128, tf.uint8)),
        "label": tf.zeros([count], tf.int32),
        "mask": tf.ones([count]),
        "colour_shift": tf.zeros([count, 3]),
        "window": tf.zeros([count, 3], tf.int32),
    }
    batches = iter(place.distribute(lambda _: tf.data.Dataset.from_tensors(batch)))
    rates = Rates(recipe.learning_rate, recipe.learning_rate, recipe.learning_rate, 1.0)
    return network, tower_trace.trace(lambda: step(batches, [rates], False, [0.0]))
