"""Every number of a training run, as one frozen dataclass a recipe; no TensorFlow import.

Source marks as in `variants.py`: [P n] a section of the paper, [S file] the released 2012 source,
[C file] its successor, "ours" a choice that neither gives. (row n) is a row of the README's table of
disagreements between text and source.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_tf import void_settings
from alexnet_tf.network import variants
from pipelines.config import DataConfig
from pipelines.errors import UserError

if TYPE_CHECKING:
    pass


SCHEDULES = ("plateau", "logged", "cosine")
PRECISIONS = ("auto", "float32", "bfloat16")
CHOICES = {
    "initializer": variants.INITIALIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
}
# (fields, what holds for a legal value, how to say it); NaN and infinity satisfy none of them.
RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (
        ("batch_size", "learning_rate", "reference_batch_size", "epochs", "evaluate_every", "log_every")
        + ("keep_checkpoints", "plateau_patience", "accumulation_steps"),
        lambda x: 0 < x < math.inf,
        "be positive",
    ),
    (
        ("weight_decay", "bias_rate", "clip_norm", "warmup_steps", "plateau_drops", "checkpoint_every")
        + ("steps_per_call", "colour_std", "pad"),
        lambda x: 0 <= x < math.inf,
        "be 0 or more",
    ),
    (("momentum", "dropout_rate", "label_smoothing"), lambda x: 0 <= x < 1, "lie in [0, 1)"),
    (("freeze_conv1",), lambda x: 0 < x <= 1, "lie in (0, 1]"),
)


# Standard deviation of photographs' pixels about their mean, grey levels of 0..255.
PIXEL_STD = 60.0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A training run. Defaults are the paper's text; see `get` for the named recipes.

    Attributes:
      name: the recipe it started from.
      variant: network, a name in `variants.VARIANTS`.
      initializer: one of `variants.INITIALIZERS` (see `model.build`).
      dropout_rate: share of hidden units dropped [P 4.2].
      precision: `float32`, `bfloat16` (matrix work only; weights stay float32), or `auto`: bfloat16 where
        that is measured to be faster, else float32. A run's own recipe never says `auto`.
      xla: whether forward and backward pass are compiled as one program (the update always is).
      batch_size: pictures a step, over all devices [P 5].
      accumulation_steps: parts that go through the network one after another before the weights are
        updated once, so that a batch fits that does not fit whole; the update is the same.
      learning_rate: rate of the weights at `reference_batch_size` [P 5]; scaled linearly with the batch.
      reference_batch_size: the batch that `learning_rate` is meant for.
      bias_rate: the biases' rate as a multiple of the weights' (row 7).
      momentum, weight_decay: of the update rule [P 5].
      clip_norm: length beyond which a step's whole gradient is scaled down to it; 0 for never (2012).
      label_smoothing: share of each target spread over all classes (0 in 2012).
      epochs: passes over the training set; may be a fraction.
      schedule: `plateau` [P 5], `logged` (`schedule.LOGGED_2012`), or `cosine` to zero.
      freeze_conv1: share of the run after which conv1 is frozen, reached by a cosine of its own; 1 for
        never. With `schedule=cosine` only: `logged` freezes it at epoch 72 (row 7).
      warmup_steps: steps over which the rate rises from 0.
      plateau_patience: evaluations without a better validation error before the rate is divided by 10.
      plateau_drops: how often it is divided [P 5].
      seed: decides initial weights, dropout, the order of the pictures and their augmentation.
      data_seed: decides the held-out share and the built-in pictures; runs of an ensemble share it.
      evaluate_every: epochs between two evaluations.
      log_every: steps between two log lines.
      checkpoint_every: steps between two checkpoints besides those at evaluations; 0 for none.
      keep_checkpoints: how many of the newest are kept, besides the best.
      steps_per_call: steps taken without coming back to Python; 0 for as many as half a second holds.
    The remaining attributes are those of `pipelines.config.DataConfig`.
    """

    name: str = "paper"
    variant: str = "paper"
    initializer: str = "published"
    dropout_rate: float = 0.5
    precision: str = "float32"
    xla: bool = False
    batch_size: int = 128
    accumulation_steps: int = 1
    learning_rate: float = 0.01
    reference_batch_size: int = 128
    bias_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0005
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    epochs: float = 90.0
    schedule: str = "plateau"
    freeze_conv1: float = 1.0
    warmup_steps: int = 0
    plateau_patience: int = 5  # ours: "when the validation error rate stopped improving" [P 5]
    plateau_drops: int = 3
    seed: int = 0
    data_seed: int = 0
    val_fraction: float = 0.1
    resize: int = 256
    crop: int = 224
    pad: int = 0
    mirror: bool = True
    share_crops: int = 1
    edge_crops: bool = False
    colour_noise: str = "eigenvalue"
    colour_std: float = 0.1
    colour_statistics: str = "training_set"
    colour_rescale: bool = False
    colour_divisor: float = 1.0
    mean: str = "image"
    mean_follows_crop: bool = True
    pixel_divisor: float = 1.0
    shuffle: bool = True
    partial_batch: bool = False
    evaluate_every: float = 1.0
    log_every: int = 20
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    steps_per_call: int = 0

    def __post_init__(self) -> None:
        for field, legal in CHOICES.items():
            if getattr(self, field) not in legal:
                raise UserError(
                    f"`{field}` must be one of {', '.join(legal)}; received {getattr(self, field)!r}"
                )
        for fields, holds, range_ in RANGES:
            for field in fields:
                if not holds(getattr(self, field)):
                    raise UserError(f"`{field}` must {range_}; received {getattr(self, field)}")
        if self.batch_size % self.accumulation_steps:
            raise UserError(
                f"`batch_size` must be a multiple of `accumulation_steps`; "
                f"received {self.batch_size} and {self.accumulation_steps}"
            )
        side = variants.get(self.variant).input_size
        if self.crop != side:
            raise UserError(
                f"`crop` must be {side} for variant {self.variant} (--set crop={side}); received {self.crop}"
            )
        self.data_config("synthetic")  # raises on augmentation settings that contradict each other

    @property
    def pixel_std(self) -> float:
        """Typical standard deviation of the pixels that the network sees."""
        return PIXEL_STD / self.pixel_divisor

    @property
    def scaled_learning_rate(self) -> float:
        """The weights' rate at this batch size: twice the batch, twice the rate [C layer-params-*-2gpu]."""
        return self.learning_rate * self.batch_size / self.reference_batch_size

    def data_config(self, spec: str) -> DataConfig:
        """The input pipeline's part of the recipe, for the data set that `spec` names."""
        shared = {f.name for f in dataclasses.fields(DataConfig)} & {f.name for f in dataclasses.fields(self)}
        return DataConfig(spec=spec, **{name: getattr(self, name) for name in shared})

    def replace(self, settings: dict[str, str]) -> Recipe:
        """This recipe with some fields set from text, as `--set field=value` gives them.

        Raises:
          UserError: for a field that does not exist (the message lists those that do), a value that
            does not fit its type, or a setting that another one makes void.
        """
        kinds = typing.get_type_hints(Recipe)
        values: dict[str, Any] = {}
        for field, text in settings.items():
            if field not in kinds or field == "name":
                legal = ", ".join(sorted(set(kinds) - {"name"}))
                raise UserError(f"--set {field}: no such field; legal: {legal}")
            values[field] = _parse(field, text, kinds[field])
        changed = dataclasses.replace(self, **values)
        void_settings.check(self, changed, settings)
        return changed


def _parse(field: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"--set {field}: must be true or false; received {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"--set {field}: must be of type {kind.__name__}; received {text!r}") from None


PAPER = Recipe()

ORIGINAL = Recipe(
    name="original",
    variant="original",
    bias_rate=2.0,  # row 7
    schedule="logged",
    share_crops=32,  # row 10 [S convdata_jpeg.py]
    edge_crops=True,  # row 10
    mean_follows_crop=False,  # row 10
    colour_noise="deviation",  # row 9 [S convdata_jpeg.py]
    colour_statistics="published",  # row 9 [C make-data/input_meta]
    colour_rescale=True,  # row 9: by 1.1, until the noise ends
    shuffle=False,  # row 13: batch files cycle in a fixed order
    partial_batch=True,  # row 13
)

# Some ten thousand pictures, from scratch, on a CPU within an hour. All numbers ours: the published
# initial weights need tens of thousands of steps before they learn anything from so few pictures.
SMALL_DATA = Recipe(
    name="small_data",
    initializer="he",
    precision="auto",
    batch_size=64,
    learning_rate=0.02,
    reference_batch_size=64,
    dropout_rate=0.2,
    clip_norm=5.0,
    label_smoothing=0.1,
    epochs=5.3,
    schedule="cosine",
    freeze_conv1=0.4,
    warmup_steps=100,
    resize=224,
    pad=16,
    edge_crops=True,
    colour_noise="none",
    mean="channel",
    pixel_divisor=30.0,
    checkpoint_every=500,
)

# The built-in pictures, within a few minutes on two cores.
QUICKSTART = dataclasses.replace(
    SMALL_DATA,
    name="quickstart",
    # Half the batch and twice the updates: the same error after 1.25 epochs as after 2 with 64.
    batch_size=32,
    learning_rate=0.015,
    # So few steps keep most of the initial weights, and gradients show their noise: with 0.0005 no more of a
    # saliency map lies on the object than of an untrained network's. It costs a per cent of error.
    weight_decay=0.05,
    clip_norm=8.0,
    freeze_conv1=0.5,
    epochs=1.25,
    evaluate_every=0.625,
    warmup_steps=50,
    resize=256,
    pad=0,
    pixel_divisor=6.0,
    checkpoint_every=0,
)

# Does every part run? A few steps; the network learns nothing.
SMOKE = dataclasses.replace(
    QUICKSTART,
    name="smoke",
    precision="float32",  # to measure would take longer than the steps
    epochs=1.0,
    evaluate_every=1.0,
    batch_size=8,
    warmup_steps=2,
    log_every=1,
)

RECIPES = types.MappingProxyType({r.name: r for r in (PAPER, ORIGINAL, QUICKSTART, SMALL_DATA, SMOKE)})


def get(name: str) -> Recipe:
    """Returns the recipe called `name`; raises UserError listing the names that exist."""
    if name not in RECIPES:
        raise UserError(f"--recipe must be one of {', '.join(RECIPES)}; received {name!r}")
    return RECIPES[name]


def parse_settings(pairs: list[str]) -> dict[str, str]:
    """Splits `field=value` texts; raises UserError for one without a `=`."""
    settings = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set takes field=value; received {pair!r}")
        settings[field.strip()] = value.strip()
    return settings


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
            _worded(getattr(PAPER, field.name)),
            _worded(getattr(own, field.name)),
        )
        for field in dataclasses.fields(Recipe)
        if field.name not in skipped
    ]


def _worded(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


# How often a run reports and saves may change between its parts; what it computes may not.
CADENCE = {"log_every", "checkpoint_every", "keep_checkpoints", "steps_per_call"}
