"""The run folder: everything that says what a run was, written before step one.

recipe.json        the resolved recipe and the data set
environment.json   versions, machine, command
class_ids.txt      identifiers of the classes, a line each: folders' names, ImageNet's synsets
labels.txt         what a person calls them, in the same order
image_stats.npz    mean image and colour components of the training set
skipped.csv        broken pictures that were left out, with the reason
metrics.csv        a row an evaluation
checkpoints/       step-NNNNNNNN.npz (the newest) and best.npz
tensorboard/       where TensorBoard is installed
features/          the last hidden layer's activations for every picture, once `visualize` needs them
placement.png      with --devices towers: what crosses between the devices; placement.json has the numbers
training.lock      held by the training that is under way
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf.errors import UserError
from alexnet_tf.recipe import Recipe
from pipelines.config import DataConfig
from pipelines.files import replacing
from pipelines.image_stats import ImageStats

if TYPE_CHECKING:
    from pipelines.sources import Source

RECIPE_FILE, ENVIRONMENT_FILE = "recipe.json", "environment.json"
CLASSES_FILE, LABELS_FILE = "class_ids.txt", "labels.txt"
STATS_FILE, SKIPPED_FILE, METRICS_FILE = "image_stats.npz", "skipped.csv", "metrics.csv"
# How often a run reports and saves may change between its parts; what it computes may not.
CADENCE = {"log_every", "checkpoint_every", "keep_checkpoints", "steps_per_call"}
PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets", "alexnet-tf")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run's folder.

    Attributes:
      workdir: the folder.
      recipe: the resolved recipe.
      data: the input pipeline's configuration, with the data set's spec.
      class_names: identifiers of the classes; a label is an index into them.
      readable_names: what a person calls them; the same where the data says nothing else.
    """

    workdir: Path
    recipe: Recipe
    data: DataConfig
    class_names: tuple[str, ...]
    readable_names: tuple[str, ...]

    @property
    def stats(self) -> ImageStats:
        """Statistics of the training set."""
        return ImageStats.load(self.workdir / STATS_FILE)

    @property
    def metrics_path(self) -> Path:
        return self.workdir / METRICS_FILE

    @property
    def checkpoint_dir(self) -> Path:
        return self.workdir / "checkpoints"

    @property
    def environment(self) -> dict[str, Any]:
        return _read_json(self.workdir / ENVIRONMENT_FILE)

    def open_source(self, spec: str | None = None) -> Source:
        """The pictures of the run's own data set without the broken ones, or those of another `spec`."""
        from pipelines import scan, sources

        if spec is not None and spec != self.data.spec:
            return sources.open_source(self.recipe.data_config(spec))
        source, skipped = sources.open_source(self.data), self.workdir / SKIPPED_FILE
        return source.without(s.key for s in scan.read_skipped(skipped)) if skipped.exists() else source

    @classmethod
    def open(cls, workdir: str | os.PathLike[str]) -> Run:
        """Opens a run folder.

        Raises:
          UserError: it is no run folder, or one of its files is damaged.
        """
        workdir = Path(workdir)
        path = workdir / RECIPE_FILE
        if not path.is_file():
            members = sorted(str(found.parent) for found in workdir.glob(f"seed-*/{RECIPE_FILE}"))
            if members:
                listed = ", ".join([*members[:5], *(["..."] if len(members) > 5 else [])])
                raise UserError(f"{workdir}: holds runs of several seeds; give one of them: {listed}")
            exported = any(found for form in ("", "*/") for found in workdir.glob(f"{form}saved_model.pb"))
            reason = (
                f"an export, without {RECIPE_FILE}" if exported else f"not a run folder (no {RECIPE_FILE})"
            )
            raise UserError(f"{workdir}: {reason}; give the --workdir of a training run")
        record = _read_json(path)
        try:
            recipe = Recipe(**record["recipe"])
            if recipe.precision == "auto":
                raise ValueError("`precision` must be what the run computes in; received auto")
            names, readable = (_read_lines(workdir / name) for name in (CLASSES_FILE, LABELS_FILE))
            if len(names) != len(readable):
                raise ValueError(f"{CLASSES_FILE} and {LABELS_FILE} differ in length")
            return cls(workdir, recipe, recipe.data_config(record["data"]), names, readable)
        except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
            raise UserError(f"{path}: damaged, or not written by this version ({error})") from None

    @classmethod
    def create(
        cls,
        workdir: str | os.PathLike[str],
        recipe: Recipe,
        spec: str,
        class_names: Sequence[str],
        stats: ImageStats,
        readable_names: Sequence[str] | None = None,
        environment: Mapping[str, Any] | None = None,
    ) -> Run:
        """Writes a new run folder; `recipe.json` comes last, so that a folder that has one is whole.

        Args:
          workdir: the folder.
          recipe: the resolved recipe: its precision is no longer `auto`.
          spec, class_names, readable_names, stats: the data set.
          environment: entries of environment.json beside those of `describe_environment`.
        """
        if recipe.precision == "auto":
            raise ValueError("`recipe.precision` must be settled (precision.settle); received auto")
        names, readable = tuple(class_names), tuple(readable_names or class_names)
        run = cls(Path(workdir), recipe, recipe.data_config(spec), names, readable)
        run.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        stats.save(run.workdir / STATS_FILE)
        for file, lines in ((CLASSES_FILE, names), (LABELS_FILE, readable)):
            write_text(run.workdir / file, "".join(f"{line}\n" for line in lines))
        described = {**describe_environment(), **(environment or {})}
        write_text(run.workdir / ENVIRONMENT_FILE, json.dumps(described, indent=2) + "\n")
        record = {"recipe": dataclasses.asdict(recipe), "data": spec}
        write_text(run.workdir / RECIPE_FILE, json.dumps(record, indent=2) + "\n")
        return run

    def check_same(self, recipe: Recipe, spec: str) -> None:
        """Raises UserError when a run of this folder is asked to go on with other settings."""
        ours, theirs = dataclasses.asdict(self.recipe), dataclasses.asdict(recipe)
        differences = [
            f"{k}={ours[k]} there, {theirs[k]} here"
            for k in ours
            if k not in CADENCE and ours[k] != theirs[k]
        ]
        if self.data.spec != spec:
            differences.insert(0, f"data={self.data.spec} there, {spec} here")
        if differences:
            raise UserError(
                f"{self.workdir}: belongs to a run with other settings ({'; '.join(differences[:4])}); "
                "choose another --workdir, or repeat that run's settings to go on with it"
            )

    def append_metrics(self, row: dict[str, float]) -> None:
        """Adds a row to metrics.csv; rows of steps that are run again after a resume are replaced."""
        rows = [r for r in self.read_metrics() if r["step"] < row["step"]]
        lines = [",".join(row), *(",".join(_number(r.get(k)) for k in row) for r in [*rows, row])]
        write_text(self.metrics_path, "\n".join(lines) + "\n")

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, oldest first; empty before the first evaluation.

        Raises:
          UserError: the file is damaged.
        """
        if not self.metrics_path.exists():
            return []
        try:
            with open(self.metrics_path, newline="", encoding="utf-8") as file:
                rows = [
                    {k: float(v) if v else math.nan for k, v in row.items()} for row in csv.DictReader(file)
                ]
        except (ValueError, TypeError, csv.Error) as error:
            raise UserError(f"{self.metrics_path}: damaged ({error}); mend or remove it") from None
        if any("step" not in row for row in rows):
            raise UserError(f"{self.metrics_path}: damaged (no column `step`); mend or remove it")
        return rows


def describe_environment() -> dict[str, Any]:
    """Versions, machine and command of this process."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": " ".join(["python", "-m", "alexnet_tf.train", *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": versions,
    }


def write_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _read_lines(path: Path) -> tuple[str, ...]:
    # Not `splitlines`, which ends a line at characters that names may hold.
    return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _number(value: float | None) -> str:
    return (
        "" if value is None or value != value else f"{value:.6g}" if isinstance(value, float) else str(value)
    )
