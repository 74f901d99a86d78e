"""The named recipes: every number of a training run, as one frozen dataclass; no TensorFlow import.

What the fields mean stands in `recipe_fields`. [S file] is the source released of 2012, [C file] its
successor, "ours" a choice that neither gives. (row n) is a row of docs/conventions.md, where text and
source disagree.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, NamedTuple

from alexnet_tf import void_settings
from alexnet_tf.network import variants
from alexnet_tf.recipe_fields import RecipeFields, ReportingSettings, TrainingSettings
from pipelines import fields
from pipelines.config import DataConfig, PictureSettings, split_rule
from pipelines.errors import UserError

# Standard deviation of photographs' pixels about their mean, grey levels of 0..255.
PIXEL_STD = 60.0


@dataclasses.dataclass(frozen=True)
class Recipe(RecipeFields):
    """A training run; see `get` for the named recipes and `fields_table` for what the fields mean.

    Raises:
      UserError, DataError: a value is not legal, or contradicts another.
    """

    def __post_init__(self) -> None:
        for own in (TrainingSettings, ReportingSettings):
            fields.check(self, UserError, own)
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
        data = self.data_config("synthetic")  # checks the fields of the input pipeline
        object.__setattr__(self, "resize_rule", data.resize_rule)  # without a size, which `resize` has

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
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(PictureSettings)}
        return DataConfig(spec=spec, **shared)

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
        size = split_rule(values.get("resize_rule", ""))[1]
        if size is not None:
            values.setdefault("resize", size)
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
    exif_orientation=False,  # [C make-data]: OpenCV read it from 2015 on
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


# How often a run reports and saves may change between its parts; what it computes may not.
CADENCE = {field.name for field in dataclasses.fields(Recipe) if field.metadata.get("cadence")}
# Of the fields that a report lists, in the order of `Recipe`; sections are the paper's.
MEANINGS = {
    field.name: field.metadata["meaning"]
    for field in dataclasses.fields(Recipe)
    if field.name not in {"name", *CADENCE}
}


def fields_help() -> str:
    """A line for each field that `--set` takes: the paper's value, the meaning, and what is legal."""
    lines = [(f"{field.name}={field.default}", field) for field in _settable()]
    width = max(len(start) for start, _ in lines)
    return "\n".join(f"  {start:<{width}}  {field.meaning} [{field.legal}]" for start, field in lines)


def fields_table() -> str:
    """The fields that `--set` takes as a table in Markdown: field, meaning, the paper's value, range."""
    rows = [
        f"| `{field.name}` | {'; '.join(filter(None, (field.meaning, field.more)))} "
        f"| {field.default} | {field.legal} |\n"
        for field in _settable()
    ]
    return "".join(["| field | meaning | paper | range |\n", "| --- | --- | --- | --- |\n", *rows])


def _settable() -> list[fields.Description]:
    return [field for field in fields.describe(Recipe) if field.name != "name"]


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
    """The same for every field, with the paper's value beside the recipe's own."""
    return [
        Departure(name, meaning, _worded(getattr(PAPER, name)), _worded(getattr(own, name)))
        for name, meaning in MEANINGS.items()
    ]


def _worded(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return fields.worded(value)
