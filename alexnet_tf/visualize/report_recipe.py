"""What the fields of a recipe mean, in a line each, and where a run departs from the paper. No TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from alexnet_tf import recipe
from alexnet_tf.recipe import Recipe
from alexnet_tf.run_record import CADENCE

# In the order of `Recipe`; sections are the paper's.
MEANINGS = {
    "variant": "network",
    "initializer": "initial weights: the paper's fixed deviations (section 5), or He et al. (2015)",
    "dropout_rate": "share of hidden units dropped in training (section 4.2)",
    "precision": "of matrix products; weights are float32",
    "xla": "forward and backward pass compiled as one program",
    "batch_size": "pictures a step (section 5)",
    "accumulation_steps": "parts of a batch that follow one another before an update",
    "learning_rate": "rate of the weights at the reference batch (section 5)",
    "reference_batch_size": "batch that the learning rate is meant for",
    "bias_rate": "biases' rate as a multiple of the weights'",
    "momentum": "of the update rule (section 5)",
    "weight_decay": "of the update rule (section 5)",
    "clip_norm": "longest gradient; 0 clips none",
    "label_smoothing": "share of each target spread over all classes",
    "epochs": "passes over the training set (section 5)",
    "schedule": "how the learning rate falls (section 5: by ten whenever validation stalls)",
    "freeze_conv1": "share of the run after which conv1 stays as it is",
    "warmup_steps": "steps over which the rate rises from 0",
    "plateau_patience": "evaluations without progress before the rate falls",
    "plateau_drops": "how often the rate falls (section 5)",
    "seed": "of weights, dropout, order and augmentation",
    "data_seed": "of the held-out share and the built-in pictures",
    "val_fraction": "share held out where the data have no validation split",
    "resize": "short side of every picture, pixels (section 2)",
    "crop": "side of what the network sees, pixels (section 4.1)",
    "pad": "reflected border before the crop, pixels",
    "mirror": "half of the training crops are flipped (section 4.1)",
    "share_crops": "training pictures that share one crop",
    "edge_crops": "random crops reach the lower and the right edge, too",
    "colour_noise": "noise along the colours' principal components (section 4.1)",
    "colour_std": "strength of the colour noise (section 4.1)",
    "colour_statistics": "where the colours' components come from",
    "colour_rescale": "noisy pixels are divided by 1 + the strength of the noise",
    "colour_divisor": "divides all pixels in training",
    "mean": "subtracted mean: a picture (section 2), or one value a channel",
    "mean_follows_crop": "the mean picture is cropped and mirrored with the picture",
    "pixel_divisor": "divides the mean-subtracted pixels",
    "shuffle": "new order every epoch",
    "partial_batch": "an epoch's last pictures make a smaller batch",
    "evaluate_every": "epochs between two evaluations",
}


class Departure(NamedTuple):
    """A field whose value is not the paper's."""

    field: str
    meaning: str
    paper: str
    here: str


def departures(own: Recipe) -> list[Departure]:
    """The fields in which a recipe differs from `paper`; how often it reports and saves is left out."""
    return [
        Departure(name, meaning, paper, here) for name, meaning, paper, here in settings(own) if paper != here
    ]


def settings(own: Recipe) -> list[Departure]:
    """Every field but those, the paper's value beside the recipe's."""
    skipped = {"name", *CADENCE}
    return [
        Departure(
            field.name,
            MEANINGS[field.name],
            _worded(getattr(recipe.PAPER, field.name)),
            _worded(getattr(own, field.name)),
        )
        for field in dataclasses.fields(Recipe)
        if field.name not in skipped
    ]


def _worded(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
