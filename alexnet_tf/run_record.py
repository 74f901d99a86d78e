"""The run folder: what a run is and what it measured, in files written before the first step and after.

recipe.json        the resolved recipe and the data set, and how they were changed later
environment.json   versions, machine, command
class_ids.txt      identifiers of the classes, a line each: folders' names, ImageNet's synsets
labels.txt         what a person calls them, in the same order
pictures.npz       which pictures train and which validate, by fingerprints (`run_data`)
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

import dataclasses
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_tf import metrics_file, run_data, void_settings
from alexnet_tf.recipe import CADENCE, Recipe
from pipelines.config import DataConfig
from pipelines.errors import DataError, UserError
from pipelines.files import write_text
from pipelines.pictures.statistics import ImageStats

if TYPE_CHECKING:
    from pipelines.sources.source import Source


RECIPE_FILE, ENVIRONMENT_FILE = "recipe.json", "environment.json"
CLASSES_FILE, LABELS_FILE = "class_ids.txt", "labels.txt"
STATS_FILE, SKIPPED_FILE, METRICS_FILE = "image_stats.npz", "skipped.csv", "metrics.csv"
# What runs did whose recipe.json is older than these fields.
OLD_RUN_DEFAULTS = {
    "exif_orientation": False,
    "edge_crops": True,
    "colour_rescale": False,
    "mean_follows_crop": False,
    "partial_batch": False,
}
PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets", "alexnet-tf")
MOST_SEEDS = 1000  # more than is ever trained: a larger lone number was meant as a seed, not as a count
_MEMBER = re.compile(r"seed-(0|[1-9]\d*)")


class Extension(NamedTuple):
    """A change of a run's length: until `step` it was to end after `epochs`."""

    step: int
    epochs: float


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run's folder.

    Attributes:
      workdir: the folder.
      recipe: the resolved recipe.
      data: the input pipeline's configuration, with the data set's spec.
      class_names: identifiers of the classes; a label is an index into them.
      readable_names: what a person calls them; the same where the data says nothing else.
      extended: how long it was to be before, oldest first.
    """

    workdir: Path
    recipe: Recipe
    data: DataConfig
    class_names: tuple[str, ...]
    readable_names: tuple[str, ...]
    extended: tuple[Extension, ...] = ()

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

    @property
    def length(self) -> str:
        """How long it trains, in words: `10 epochs (5 until step 1200)` where that was changed."""
        before = "".join(f" ({change.epochs:g} until step {change.step})" for change in self.extended)
        return f"{self.recipe.epochs:g} epochs{before}"

    @property
    def has_checkpoint(self) -> bool:
        """Whether it has a checkpoint, whole or damaged; without one the folder may be begun anew."""
        return any(self.checkpoint_dir.glob("*.npz"))

    def open_source(self, spec: str | None = None, *, training: bool = False) -> Source:
        """The pictures of the run's own data set without the broken ones, or those of another `spec`.

        Args:
          spec: of other data, or where the run's own now lie; None for the place that its record names.
          training: whether the run is about to be trained further, for which no picture may have changed.

        Raises:
          UserError: the data hold other classes, or not the pictures that the run began with (`run_data`).
          DataError: they cannot be used.
        """
        from pipelines import scan, sources

        config = self.data if spec is None else self.recipe.data_config(spec)
        try:
            source = sources.open_source(config)
        except DataError as error:
            raise run_data.explain_missing(error, config) from None
        run_data.check_classes(self, source, config.spec)
        if not run_data.is_own(self, source, config.spec):
            return source
        run_data.check(self, source, config.spec, training=training)
        skipped = self.workdir / SKIPPED_FILE
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
            recipe = Recipe(**{**OLD_RUN_DEFAULTS, **record["recipe"]})
            if recipe.precision == "auto":
                raise ValueError("`precision` must be what the run computes in; received auto")
            names, readable = (_read_lines(workdir / name) for name in (CLASSES_FILE, LABELS_FILE))
            if len(names) != len(readable):
                raise ValueError(f"{CLASSES_FILE} and {LABELS_FILE} differ in length")
            extended = tuple(Extension(**change) for change in record.get("extended", ()))
            return cls(workdir, recipe, recipe.data_config(record["data"]), names, readable, extended)
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
        pictures: run_data.Pictures | None = None,
    ) -> Run:
        """Writes a new run folder; `recipe.json` comes last, so that a folder that has one is whole.

        Args:
          workdir: the folder.
          recipe: the resolved recipe: its precision is no longer `auto`.
          spec, class_names, readable_names, stats: the data set.
          environment: entries of environment.json beside those of `describe_environment`.
          pictures: of both splits, by which it is noticed when the data change.
        """
        if recipe.precision == "auto":
            raise ValueError("`recipe.precision` must be settled (precision.settle); received auto")
        names, readable = tuple(class_names), tuple(readable_names or class_names)
        run = cls(Path(workdir), recipe, recipe.data_config(spec), names, readable)
        run.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        stats.save(run.workdir / STATS_FILE)
        if pictures is not None:
            pictures.save(run.workdir)
        for file, lines in ((CLASSES_FILE, names), (LABELS_FILE, readable)):
            write_text(run.workdir / file, "".join(f"{line}\n" for line in lines))
        described = {**describe_environment(), **(environment or {})}
        write_text(run.workdir / ENVIRONMENT_FILE, json.dumps(described, indent=2) + "\n")
        run._write_record({"recipe": dataclasses.asdict(recipe), "data": spec})
        return run

    def differences(self, recipe: Recipe) -> list[str]:
        """Where a recipe differs from this run's, but for what may change between its parts."""
        ours, theirs = dataclasses.asdict(self.recipe), dataclasses.asdict(recipe)
        free = {*CADENCE, "epochs"} | (void_settings.fields(self.recipe) & void_settings.fields(recipe))
        return [
            f"{k}={ours[k]} there, {theirs[k]} here" for k in ours if k not in free and ours[k] != theirs[k]
        ]

    def check_same(self, recipe: Recipe, spec: str) -> None:
        """Raises UserError when the settings to go on with differ from those of this run."""
        differences = self.differences(recipe)
        if not run_data.same_place(self.data.spec, spec):
            differences.insert(0, f"data={self.data.spec} there, {spec} here")
        if differences:
            raise UserError(
                f"{self.workdir}: belongs to a run with other settings ({'; '.join(differences[:4])}); "
                "choose another --workdir, or repeat that run's settings to go on with it"
            )

    def record_epochs(self, epochs: float, step: int) -> bool:
        """Notes in recipe.json that from `step` on the run ends after `epochs`; whether that is a change."""
        record = _read_json(self.workdir / RECIPE_FILE)
        before = record["recipe"]["epochs"]
        if before == epochs:
            return False
        record["recipe"]["epochs"] = epochs
        record.setdefault("extended", []).append(Extension(step, before)._asdict())
        self._write_record(record)
        return True

    def record_place(self, spec: str) -> None:
        """Notes in recipe.json where the run's data now lie."""
        self._write_record({**_read_json(self.workdir / RECIPE_FILE), "data": spec})

    def _write_record(self, record: Mapping[str, Any]) -> None:
        write_text(self.workdir / RECIPE_FILE, json.dumps(record, indent=2) + "\n")

    def append_metrics(self, row: dict[str, float]) -> None:
        """Adds a row to metrics.csv, in the place of those of its step and later ones."""
        metrics_file.append(self.metrics_path, row)

    def drop_metrics_after(self, step: int) -> None:
        """Removes the rows of steps that a resume from `step` runs again."""
        metrics_file.drop_after(self.metrics_path, step)

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, oldest first; empty before the first evaluation.

        Raises:
          UserError: the file is damaged.
        """
        return metrics_file.read(self.metrics_path)


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


def _read_lines(path: Path) -> tuple[str, ...]:
    # Not `splitlines`, which ends a line at characters that names may hold.
    return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    return record


def parse_seeds(text: str, first: int = 0) -> tuple[int, ...]:
    """Reads `--seeds`: how many, as in `5`, or which, as in `3,7,11`.

    Args:
      text: one whole number, or several by commas.
      first: the first seed where `text` says how many.

    Returns:
      The seeds in the order given.

    Raises:
      UserError: anything else, a negative seed, or one that is given twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise UserError(
            f"--seeds takes how many (5) or which (3,7,11), whole numbers from 0 on; received {text!r}"
        )
    numbers = tuple(int(word) for word in words)
    if len(numbers) == 1:
        if not 1 <= numbers[0] <= MOST_SEEDS:
            raise UserError(f"--seeds: how many must lie between 1 and {MOST_SEEDS}; received {text!r}")
        if first < 0:
            raise UserError(f"--seeds: counts from `seed` on, which must be 0 or more; received {first}")
        return tuple(range(first, first + numbers[0]))
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise UserError(f"--seeds: every run needs a seed of its own; received {twice} twice")
    return numbers


def folder(workdir: str | os.PathLike[str], seed: int) -> Path:
    """The run folder of one seed."""
    return Path(workdir) / f"seed-{seed}"


def prepare(workdir: str | os.PathLike[str], seeds: Iterable[int]) -> list[Path]:
    """Makes the members' folders, all before the first is trained, so that missing members show.

    Returns:
      The folders in the order of `seeds`.

    Raises:
      UserError: `workdir` is the folder of a single run.
    """
    if (Path(workdir) / RECIPE_FILE).exists():
        raise UserError(
            f"{workdir}: holds a single run; choose another --workdir for --seeds, or leave out --seeds"
        )
    folders = [folder(workdir, seed) for seed in seeds]
    for path in folders:
        path.mkdir(parents=True, exist_ok=True)
    return folders


def members(workdir: str | os.PathLike[str]) -> list[Path]:
    """The folders `seed-N` in the order of their numbers; none where `workdir` is a single run or no sweep.

    Members that have not begun are among them: an average must not leave them out unnoticed.
    """
    workdir = Path(workdir)
    if not workdir.is_dir() or (workdir / RECIPE_FILE).exists():
        return []
    found = [(int(match[1]), path) for path in workdir.iterdir() if (match := _MEMBER.fullmatch(path.name))]
    return [path for _, path in sorted(found) if path.is_dir()]


def expand(workdirs: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Run folders as they are, and the members of sweeps in their place.

    Raises:
      UserError: a member has not begun, or a run comes twice and would count double.
    """
    expanded: list[Path] = []
    for workdir in workdirs:
        found = members(workdir)
        waiting = [path.name for path in found if not (path / RECIPE_FILE).exists()]
        if waiting:
            raise UserError(
                f"{workdir}: not begun: {', '.join(waiting[:5])}; train with the same --seeds to go on, "
                "or name the run folders to average"
            )
        expanded += found or [Path(workdir)]
    places = [path.resolve() for path in expanded]
    for path, place in zip(expanded, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{path}: given twice; a run counts once in an average")
    return expanded
