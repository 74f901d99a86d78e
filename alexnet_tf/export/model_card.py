"""The model card of an export: what the network is, its errors, its signatures and how to call them."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_tf import __version__
from alexnet_tf.evaluation.folders import describe_crops
from alexnet_tf.evaluation.report import describe_data, is_own_validation
from alexnet_tf.network import variants
from pipelines.pictures import formats

if TYPE_CHECKING:
    from alexnet_tf.run_record import Run

VALIDATION = "validation"
# Class names that the page lists; all are in labels.txt.
LISTED_CLASSES = 20

_CARD = string.Template(
    """\
# AlexNet, `$variant` network, $classes classes

After Krizhevsky, Sutskever and Hinton, *ImageNet Classification with Deep Convolutional Neural
Networks* (2012), exported by alexnet-tf $release. $parameters parameters, float32.

## Data and training

- Data: `$data`, $pictures training pictures.
- Classes: $names; `labels.txt` has them all, a line each, in the order of the outputs, and
  `class_ids.txt` what the training data calls them.
- Recipe `$recipe`: $training; weights after step $step.

## Convention

$convention

## Errors

Of these weights, those after step $step.

$errors

## Use and limits

- Meant for research, for teaching and as a base for transfer: it is a network of 2012.
- It answers with one of its $classes classes whatever the picture shows, and its scores are not
  calibrated: 0.9 does not mean right nine times out of ten.
- It sees the centre of the picture only. $orientation
- It errs as its data err: look at them before its answers touch people.

## Signatures

| name | in | out | what for |
| --- | --- | --- | --- |
$signatures

Pictures are the bytes of JPEG, PNG, GIF (the first frame), BMP, WebP (stills) or PPM files of at most
$max_pixels pixels. A request without a picture, or with one that cannot be decoded, fails as a whole with
INVALID_ARGUMENT (HTTP 400), which says what the file is.

## Asking it

Serve the folder that holds this version's folder, here `export`, with TF Serving or `serving.server`:

```sh
docker run -p 8501:8501 -e MODEL_NAME=$model -v "$$PWD/export:/models/$model" tensorflow/serving
python -m serving.server --model_name=$model --model_base_path="$$PWD/export" --rest_api_port=8501
```

The five best classes, the same from ten crops, and the Classify call:

```sh
MODEL=http://localhost:8501/v1/models/$model
BYTES=$$(base64 < picture.jpg | tr -d '\\n')
echo '{"instances": [{"b64": "'$$BYTES'"}]}' | curl -d @- "$${MODEL}:predict"
echo '{"signature_name": "ten_crop", "instances": [{"b64": "'$$BYTES'"}]}' | curl -d @- "$${MODEL}:predict"
echo '{"signature_name": "classify", "examples": [{"image_bytes": {"b64": "'$$BYTES'"}}]}' \\
    | curl -d @- "$${MODEL}:classify"
```
"""
)


class Measured(NamedTuple):
    """Errors of one evaluation, as fractions; None where they do not apply.

    `pictures` says in words which they are of.
    """

    pictures: str
    how: str
    top1_error: float | None
    top5_error: float | None
    number: int | None


def text(run: Run, forms: Mapping[str, Any], *, parameters: int, step: int, model_name: str) -> str:
    """Writes the card as Markdown.

    Args:
      run: the run folder that is exported.
      forms: signatures by name, each with `takes`, `gives` and `purpose`.
      parameters: how many weights the network has.
      step: how many updates they have seen; errors of other weights of the run are left out.
      model_name: the name under which the examples ask for it.
    """
    recipe, place = run.recipe, Path(run.data.location).name
    names = list(run.readable_names[:LISTED_CLASSES])
    if len(run.class_names) > len(names):
        names.append(f"and {len(run.class_names) - len(names)} more")
    return _CARD.substitute(
        variant=recipe.variant,
        classes=len(run.class_names),
        release=__version__,
        parameters=f"{parameters:,}",
        data=f"{run.data.kind}:{place}" if place else run.data.kind,
        pictures=f"{run.stats.count:,}",
        names=", ".join(names),
        recipe=recipe.name,
        training=_training(run),
        step=f"{step:,}",
        convention="\n".join(_convention(run)),
        orientation=_orientation(run),
        errors="\n".join(_errors(measured(run, step))),
        signatures="\n".join(
            f"| `{name}` | {form.takes} | {form.gives} | {form.purpose} |" for name, form in forms.items()
        ),
        model=model_name,
        max_pixels=f"{formats.MAX_PIXELS:,}",
    )


def measured(run: Run, step: int) -> list[Measured]:
    """A run's errors at a step: from its own evaluation, then from the reports of `evaluate`."""
    found = []
    for row in run.read_metrics():
        if row["step"] == step and math.isfinite(row["val_top1_error"]):
            how = f"centre crop, during training, at epoch {row['epoch']:.4g}"
            found.append(Measured(VALIDATION, how, row["val_top1_error"], row["val_top5_error"], None))
    for path in sorted(run.workdir.glob("evaluation*/summary.json")):
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            how = describe_crops(summary) + " averaged" * (summary["crops"] > 1)
            if summary.get("runs", 1) > 1:
                how += f", {summary['runs']} runs averaged"
            count = round(summary["count"])
            if step != summary["steps"][0]:  # a report lies with the first of several runs
                continue  # of weights that were saved before or after
            own = is_own_validation(run, summary)
            pictures = VALIDATION if own else _of_other_data(summary)
            found.append(Measured(pictures, how, summary["top1_error"], summary["top5_error"], count))
        except (OSError, ValueError, LookupError, TypeError):
            continue  # half a report says nothing; the card is not worth failing an export
    return sorted(found, key=lambda one: one.pictures != VALIDATION)


def _of_other_data(summary: Mapping[str, Any]) -> str:
    """Which pictures a summary is of; folders by their last name only, as all of the card."""
    kind, colon, place = str(summary["data"]).partition(":")
    name = f"{kind}{colon}{Path(place).name}"
    return describe_data({**summary, "data": f"`{name}`"})


def _errors(rows: list[Measured]) -> list[str]:
    if not rows:
        return ["Not measured: there is no evaluation of these weights."]
    lines = ["| pictures | how | top-1 error | top-5 error | number |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        errors = f"{_percent(row.top1_error)} | {_percent(row.top5_error)}"
        lines.append(f"| {row.pictures} | {row.how} | {errors} | {row.number or ''} |")
    return lines


def _percent(share: float | None) -> str:
    return "" if share is None or not math.isfinite(share) else f"{share:.2%}"


def _training(run: Run) -> str:
    recipe = run.recipe
    return (
        f"{run.length}, batches of {recipe.batch_size}, {recipe.schedule} learning rate from "
        f"{recipe.scaled_learning_rate:g}, momentum {recipe.momentum:g}, weight decay "
        f"{recipe.weight_decay:g}, dropout {recipe.dropout_rate:g}, {recipe.precision}, seed {recipe.seed}"
    )


def _orientation(run: Run) -> str:
    if run.data.exif_orientation:
        return "Photographs that note in EXIF which side is up are turned upright in the graph."
    return "A rotation noted in EXIF is not applied: turn photographs upright before you send them."


def _convention(run: Run) -> list[str]:
    """The conventions that whoever imports the network must know: pixels and response normalisation."""
    data, arch = run.data, variants.get(run.recipe.variant)
    norm, spatial = arch.channel_norm, arch.spatial_norm
    mean = "picture" if data.mean == "image" else "colour"
    scale = "" if data.pixel_divisor == 1 else f", divided by {data.pixel_divisor:g}"
    square = f"short side scaled to {data.resize}"
    if data.squeezes:
        square = f"the whole picture squeezed to {data.resize} × {data.resize} (bilinear)"
    lines = [
        f"- Pixels: RGB from 0 to 255, {square}, centre crop of {data.crop}, the "
        f"training set's mean {mean} subtracted{scale}; all inside the graph, but for the signature `pixels`."
    ]
    if norm is None:
        lines.append("- No response normalisation.")
    else:
        towers = len(arch.towers) * arch.groups > 1
        reach = "" if not towers else " across the towers" if norm.across_towers else " within each tower"
        lines.append(
            f"- Response normalisation over {norm.size} channels{reach}: "
            f"x / ({norm.k:g} + {norm.alpha:g} × sum of squares)^{norm.beta:g}."
        )
    if spatial is not None:
        lines.append(
            f"- After the second one, within each map over {spatial.size} × {spatial.size} places: "
            f"x / (1 + {spatial.alpha:g} × sum of squares)^{spatial.beta:g}."
        )
    return lines
