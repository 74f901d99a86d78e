"""Opening of a run folder for training: created if new, and locked against other trainings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alexnet_tf import run_record
from alexnet_tf.recipe import Recipe
from alexnet_tf.run_record import RECIPE_FILE, SKIPPED_FILE, Run
from alexnet_tf.training.placement import Placement
from pipelines import files, scan, sources
from pipelines.config import DataConfig
from pipelines.errors import DataError, UserError

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

    The chief scans every picture once and writes a new folder; the other processes wait for it. While
    the block runs, no other training may open the folder.

    Args:
      workdir: the folder, which all processes see.
      recipe, spec: settings and data set of the run.
      placement: says whether this process is the chief.
      environment: further entries of a new run's environment.json.
      strict: whether a picture that cannot be read is an error.

    Raises:
      UserError: the folder belongs to a run with other settings, is being trained in, or is not seen by
        all processes.
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
        yield _open(workdir, recipe, spec)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with files.exclusive(workdir / LOCK_FILE, "a training"):
        files.remove_parts(workdir)
        files.remove_parts(workdir / "checkpoints")
        new = not (workdir / RECIPE_FILE).exists()
        if strict and not new:
            _refuse_skipped(workdir)
        run = _start(workdir, recipe, spec, environment, strict) if new else _open(workdir, recipe, spec)
        placement.wait_for_all()
        yield run


def _open(workdir: Path, recipe: Recipe, spec: str) -> Run:
    run = Run.open(workdir)
    run.check_same(recipe, spec)
    return dataclasses.replace(run, recipe=recipe)  # its cadence may be another


def _refuse_skipped(workdir: Path) -> None:
    """Raises DataError when the run has left out pictures that could not be read."""
    path = workdir / SKIPPED_FILE
    for skipped in scan.read_skipped(path) if path.exists() else ():
        raise DataError(f"{skipped.key}: {skipped.reason}; {path} lists it among those that the run left out")


def _start(
    workdir: Path, recipe: Recipe, spec: str, environment: Mapping[str, Any] | None, strict: bool
) -> Run:
    """Scans every picture once and writes the run folder."""
    config = recipe.data_config(spec)
    source = sources.open_source(config)
    print(source.description, flush=True)
    found = _of_sibling(workdir, config) or scan.scan(source, config, strict=strict)
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
        workdir, recipe, spec, source.class_names, found.stats, source.readable_names, environment
    )


def _of_sibling(workdir: Path, config: DataConfig) -> scan.Scan | None:
    """The scan of the same pictures by another run of the same sweep; None where there is none."""
    siblings = run_record.members(workdir.parent)
    for sibling in siblings if workdir in siblings else []:
        if (sibling / RECIPE_FILE).exists():
            run = Run.open(sibling)
            if dataclasses.replace(run.data, seed=config.seed) == config:
                skipped = sibling / SKIPPED_FILE
                return scan.Scan(run.stats, scan.read_skipped(skipped) if skipped.exists() else ())
    return None
