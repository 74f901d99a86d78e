"""The network that a figure is about: a run's, or its initial weights where it has none yet."""

from __future__ import annotations

import sys

import keras

from alexnet_tf import checkpoint, model
from alexnet_tf.run_record import Run


def load(run: Run) -> tuple[keras.Model, str]:
    """Returns the run's best network in float32, and a warning for the figure, empty where all is well."""
    saved = checkpoint.Checkpoints(run.checkpoint_dir)
    if (run.checkpoint_dir / checkpoint.BEST).exists() or saved.newest():
        return checkpoint.load_network(run).network, ""
    warning = "untrained: the run has no checkpoint yet, these are its initial weights"
    print(f"warning: {run.workdir}: {warning}", file=sys.stderr)
    return initial(run, run.recipe.seed), warning


def initial(run: Run, seed: int) -> keras.Model:
    """The run's network before its training, with the initial weights of a seed."""
    recipe = run.recipe
    return model.build(
        recipe.variant,
        len(run.class_names),
        initializer=recipe.initializer,
        pixel_std=recipe.pixel_std,
        dropout_rate=recipe.dropout_rate,
        seed=seed,
    )
