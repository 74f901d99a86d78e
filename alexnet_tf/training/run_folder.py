"""Opening of a run folder for training: created if new, and locked against other trainings."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alexnet_tf import run_data, run_record
from alexnet_tf.recipe import Recipe
from alexnet_tf.run_data import Pictures
from alexnet_tf.run_record import METRICS_FILE, RECIPE_FILE, SKIPPED_FILE, Run
from alexnet_tf.training.monitor import BOARD_FOLDER
from alexnet_tf.training.placement import Placement
from pipelines import dataset, files, scan, sources
from pipelines.config import DataConfig
from pipelines.errors import DataError, UserError
from pipelines.sources.source import Source

LOCK_FILE = "training.lock"


@contextmanager
def opened(
    workdir: str | os.PathLike[str],
    recipe: Recipe,
    spec: str,
    placement: Placement,
    environment: Mapping[str, Any] | None = None,
    *,
    strict: bool = False,
) -> Iterator[Run]:
    """Opens or creates the folder of a run that is trained with these settings.

    The chief scans every picture once and writes a new folder; the other processes wait for it. A folder
    whose run has no checkpoint yet is begun anew where settings or data are others. While the block runs, no
    other training may open the folder.

    Args:
      workdir: the folder, which all processes see.
      recipe, spec: settings and data set of the run.
      placement: says whether this process is the chief.
      environment: further entries of a new run's environment.json.
      strict: whether a picture that cannot be read is an error.

    Raises:
      UserError: the folder belongs to a run with other settings or data, is being trained in, or is not seen
        by all processes.
      DataError: the pictures cannot be used.
    """
    workdir = Path(workdir)
    if not placement.is_chief:
        placement.wait_for_all()
        if not (workdir / RECIPE_FILE).exists():
            raise UserError(
                f"{workdir}: worker {placement.shard[0]} does not see what worker 0 has written there; "
                "--workdir must be one folder that all workers share"
            )
        yield _same(Run.open(workdir), recipe, spec)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with files.exclusive(workdir / LOCK_FILE, "a training"):
        files.remove_parts(workdir)
        files.remove_parts(workdir / "checkpoints")
        run = _open(workdir, recipe, spec)
        if strict and run:
            _refuse_skipped(workdir)
        run = run or _start(workdir, recipe, spec, environment, strict=strict)
        placement.wait_for_all()
        yield run


def _same(run: Run, recipe: Recipe, spec: str) -> Run:
    """The run with the settings to go on with, which may differ in its cadence and its epochs."""
    run.check_same(recipe, spec)
    return dataclasses.replace(run, recipe=recipe)


def _open(workdir: Path, recipe: Recipe, spec: str) -> Run | None:
    """The run to go on with; None where one is to begin."""
    if not (workdir / RECIPE_FILE).exists():
        return None
    run = Run.open(workdir)
    if not run.has_checkpoint:
        return _not_begun(run, recipe, spec)
    if not run_data.same_place(run.data.spec, spec) and not run.differences(recipe):
        run = _moved(run, spec)
    return _same(run, recipe, spec)


def _not_begun(run: Run, recipe: Recipe, spec: str) -> Run | None:
    """A run without a checkpoint, where settings and data are still its own; else None, with a line."""
    differences = run.differences(recipe)
    if run.recipe.epochs != recipe.epochs:
        differences.append(f"epochs={run.recipe.epochs:g} before, {recipe.epochs:g} now")
    if not run_data.same_place(run.data.spec, spec):
        differences.append(f"data={run.data.spec} before, {spec} now")
    if not differences:
        source = sources.open_source(run.data)
        changes = run_data.difference(run, source, spec)
        if not changes:
            return _same(run, recipe, spec)
        differences.append(changes)
    listed = "; ".join(differences[:4]).replace(" there, ", " before, ").replace(" here", " now")
    print(f"{run.workdir}: begun anew ({listed}), as it has no checkpoint yet", flush=True)
    return None


def _moved(run: Run, spec: str) -> Run:
    """The run with its data at another place, where they are the same; its record then names that place.

    Raises:
      UserError: they are others.
    """
    source = sources.open_source(run.recipe.data_config(spec))
    if difference := run_data.difference(run, source, spec):
        raise UserError(
            f"{run.workdir}: belongs to a run on other data (data={run.data.spec} there, {spec} here: "
            f"{difference}); choose another --workdir, or repeat that run's --data to go on with it"
        )
    run.record_place(spec)
    print(f"{run.workdir}: its data now lie at {spec}", flush=True)
    return dataclasses.replace(run, data=run.recipe.data_config(spec))


def _refuse_skipped(workdir: Path) -> None:
    """Raises DataError when the run has left out pictures that could not be read."""
    path = workdir / SKIPPED_FILE
    for skipped in scan.read_skipped(path) if path.exists() else ():
        raise DataError(f"{skipped.key}: {skipped.reason}; {path} lists it among those that the run left out")


def _start(
    workdir: Path, recipe: Recipe, spec: str, environment: Mapping[str, Any] | None, *, strict: bool
) -> Run:
    """Scans every picture once and writes the run folder."""
    config = recipe.data_config(spec)
    source = sources.open_source(config)
    print(source.description, flush=True)
    _check_batch(source, recipe)  # before the scan, which may take long, and again without broken pictures
    pictures = Pictures.of(source)
    found = _of_sibling(workdir, config, pictures) or scan.scan(source, config, strict=strict)
    _check_batch(source.without(skipped.key for skipped in found.skipped), recipe)
    _clear(workdir)
    if found.skipped:
        path = workdir / SKIPPED_FILE
        scan.write_skipped(path, found.skipped)
        first = found.skipped[0]
        print(
            f"left out {len(found.skipped)} broken pictures, such as {first.key} ({first.reason}); see {path}"
        )
    used = source.count("train") + source.count("val") - len(found.skipped)
    print(scan.summary(used, {**source.left_out, scan.BROKEN: len(found.skipped)}), flush=True)
    return Run.create(
        workdir, recipe, spec, source.class_names, found.stats, source.readable_names, environment, pictures
    )


def _check_batch(source: Source, recipe: Recipe) -> None:
    """Raises DataError when the training split is smaller than one batch."""
    dataset.steps_per_epoch(source, recipe.batch_size, partial=recipe.partial_batch)


def _clear(workdir: Path) -> None:
    """Removes what an attempt without a checkpoint has left, the file that says that it is whole first."""
    for name in (RECIPE_FILE, SKIPPED_FILE, METRICS_FILE):
        (workdir / name).unlink(missing_ok=True)
    shutil.rmtree(workdir / BOARD_FOLDER, ignore_errors=True)


def _of_sibling(workdir: Path, config: DataConfig, pictures: Pictures) -> scan.Scan | None:
    """The scan of the same pictures by another run of the same sweep; None where there is none.

    Raises:
      UserError: the pictures have changed since.
    """
    siblings = run_record.members(workdir.parent)
    for sibling in siblings if workdir in siblings else []:
        if sibling == workdir or not (sibling / RECIPE_FILE).exists():
            continue
        run, kept = Run.open(sibling), Pictures.load(sibling)
        if kept is None or dataclasses.replace(run.data, seed=config.seed, spec=config.spec) != config:
            continue
        changes = kept.changes(pictures, run_data.unit(config.kind))
        if not changes:
            skipped = sibling / SKIPPED_FILE
            return scan.Scan(run.stats, scan.read_skipped(skipped) if skipped.exists() else ())
        if run.has_checkpoint:
            raise UserError(
                f"{config.spec}: not the pictures with which {sibling} began ({changes}); the runs of a "
                "sweep share theirs: restore them, or choose another --workdir"
            )
    return None
