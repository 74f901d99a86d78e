"""The fields of a recipe: what each means, its default and its legal values; no TensorFlow import.

Source marks as in `network.variants`: sections are the paper's, "the source" is the one released of 2012,
"ours" a choice that neither gives. (row n) is a row of docs/conventions.md, where text
and source disagree.
"""

from __future__ import annotations

import dataclasses

from alexnet_tf.network import variants
from pipelines import fields
from pipelines.config import PictureSettings
from pipelines.fields import OneOf, setting

SCHEDULES = ("plateau", "logged", "cosine")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The network and how it is trained; each field says in its metadata what it means."""

    name: str = setting("paper", "the named recipe that this one started from")
    variant: str = setting("paper", "network", OneOf(variants.VARIANTS))
    initializer: str = setting(
        "published",
        "initial weights: the paper's fixed deviations (section 5), or He et al. (2015)",
        OneOf(variants.INITIALIZERS),
    )
    dropout_rate: float = setting(
        0.5, "share of hidden units dropped in training (section 4.2)", fields.BELOW_ONE
    )
    precision: str = setting(
        "float32",
        "of matrix products; weights are float32",
        OneOf(PRECISIONS),
        more="`auto` is bfloat16 where that is measured to be faster, else float32; recipe.json says which",
    )
    xla: bool = setting(
        False,
        "forward and backward pass compiled as one program",
        more="the update always is",
    )
    batch_size: int = setting(128, "pictures a step (section 5)", fields.POSITIVE, more="over all devices")
    accumulation_steps: int = setting(
        1,
        "parts of a batch that follow one another before an update",
        fields.POSITIVE,
        more="for a batch that does not fit into memory whole; the update is the same",
    )
    learning_rate: float = setting(
        0.01,
        "rate of the weights at the reference batch (section 5)",
        fields.POSITIVE,
        more="scaled linearly with the batch",
    )
    reference_batch_size: int = setting(128, "batch that the learning rate is meant for", fields.POSITIVE)
    bias_rate: float = setting(
        1.0,
        "biases' rate as a multiple of the weights'",
        fields.NOT_NEGATIVE,
        more="2 in the source (row 7)",
    )
    momentum: float = setting(0.9, "of the update rule (section 5)", fields.BELOW_ONE)
    weight_decay: float = setting(0.0005, "of the update rule (section 5)", fields.NOT_NEGATIVE)
    clip_norm: float = setting(
        0.0,
        "longest gradient; 0 clips none",
        fields.NOT_NEGATIVE,
        more="a step's whole gradient is scaled down to that length; 0 in 2012",
    )
    label_smoothing: float = setting(
        0.0, "share of each target spread over all classes", fields.BELOW_ONE, more="0 in 2012"
    )
    epochs: float = setting(
        90.0, "passes over the training set (section 5)", fields.POSITIVE, more="may be a fraction"
    )
    schedule: str = setting(
        "plateau",
        "how the learning rate falls (section 5: by ten whenever validation stalls)",
        OneOf(SCHEDULES),
        more="`logged` is the source's diary (row 7), `cosine` falls to zero",
    )
    freeze_conv1: float = setting(
        1.0,
        "share of the run after which conv1 stays as it is",
        fields.UP_TO_ONE,
        more="reached by a cosine of its own, 1 for never; with schedule=cosine only: `logged` freezes conv1 "
        "at epoch 72 (row 7)",
    )
    warmup_steps: int = setting(0, "steps over which the rate rises from 0", fields.NOT_NEGATIVE)
    plateau_patience: int = setting(
        5,
        "evaluations without progress before the rate falls",
        fields.POSITIVE,
        more='ours: "when the validation error rate stopped improving" (section 5)',
    )
    plateau_drops: int = setting(3, "how often the rate falls (section 5)", fields.NOT_NEGATIVE)


@dataclasses.dataclass(frozen=True)
class ReportingSettings:
    """How often a run is measured, reports and saves; each field says in its metadata what it means.

    Fields marked `cadence` may change between two parts of a run: what it computes stays the same.
    """

    evaluate_every: float = setting(1.0, "epochs between two evaluations", fields.POSITIVE)
    log_every: int = setting(20, "steps between two log lines", fields.POSITIVE, cadence=True)
    checkpoint_every: int = setting(
        1000,
        "steps between two checkpoints besides those at evaluations; 0 for none",
        fields.NOT_NEGATIVE,
        cadence=True,
    )
    keep_checkpoints: int = setting(
        2, "how many of the newest checkpoints are kept, besides the best", fields.POSITIVE, cadence=True
    )
    steps_per_call: int = setting(
        0,
        "steps taken without coming back to Python; 0 for as many as half a second holds",
        fields.NOT_NEGATIVE,
        cadence=True,
    )


# The fields of the last base come first.
@dataclasses.dataclass(frozen=True)
class RecipeFields(ReportingSettings, PictureSettings, TrainingSettings):
    """All fields of a recipe, in the order of recipe.json. Defaults are the paper's text."""
