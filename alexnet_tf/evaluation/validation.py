"""The pictures that runs are evaluated on: the same for all runs, and none that trained one of them."""

from __future__ import annotations

import sys
from typing import NamedTuple

from alexnet_tf import run_data
from alexnet_tf.run_record import SKIPPED_FILE, Run
from pipelines import scan, sources
from pipelines.config import DataConfig
from pipelines.errors import DataError, UserError
from pipelines.sources import measured
from pipelines.sources.source import SPLITS, Source


class MeasuredPictures(NamedTuple):
    """The pictures that runs are evaluated on.

    Attributes:
      source: the data set; its `val` holds them, without those that cannot be read.
      split: what they are: a split, or `all`.
      own_validation: whether they are what the first run was validated on in training.
      left_out: how many of them could not be read.
    """

    source: Source
    split: str
    own_validation: bool
    left_out: int


def check_runs(runs: list[Run], spec: str | None) -> None:
    """Raises UserError for runs that cannot be averaged: other classes, or data sets of their own."""
    first = runs[0]
    for run in runs[1:]:
        if run.class_names != first.class_names:
            raise UserError(
                f"{run.workdir}: only runs of the same classes can be averaged, and this one's are not those "
                f"of {first.workdir} ({run_data.class_difference(first.class_names, run.class_names)})"
            )
        if spec is None and not run_data.same_place(run.data.spec, first.data.spec):
            raise UserError(
                f"{run.workdir}: trained on {run.data.spec}, {first.workdir} on {first.data.spec}; "
                "say with --data on which to evaluate"
            )


def open_pictures(
    runs: list[Run], config: DataConfig, split: str | None = None, *, strict: bool = False
) -> MeasuredPictures:
    """Opens the pictures that every run is evaluated on, without those that cannot be read.

    Args:
      runs: of the same classes.
      config: the data set.
      split: what is measured, a split or `all`; None takes the runs' validation pictures, and of other data
        what `measured.default_split` says.
      strict: whether a picture that cannot be read is an error.

    Raises:
      UserError: the classes are not the runs', or one run's validation pictures trained another.
      DataError: the data set cannot be used, or has no such split.
    """
    try:
        whole = sources.open_source(config)
    except DataError as error:
        known = any(run_data.same_place(run.data.spec, config.spec) for run in runs)
        raise (run_data.explain_missing(error, config) if known else error) from None
    run_data.check_classes(runs[0], whole, config.spec)
    own = [run for run in runs if run_data.is_own(run, whole, config.spec)]
    split = split or ("val" if own else measured.default_split(whole))
    if split == "val":
        _check_held_out(runs, whole, config)
        for run in own:
            run_data.check(run, whole, config.spec)
    chosen = measured.measured(whole, split)
    lists = [path for run in own if (path := run.workdir / SKIPPED_FILE).exists()]
    skipped = {entry.key for path in lists for entry in scan.read_skipped(path)}
    if strict or not _looked_at(own, whole, split, config):
        skipped |= _unreadable(chosen, config, skipped, strict=strict)
    source = chosen.without(skipped)
    left_out = chosen.count("val") - source.count("val")
    own_validation = runs[0] in own and split == "val" and run_data.same_pictures(runs[0], whole, "val")
    return MeasuredPictures(source, split, own_validation, left_out)


def _looked_at(own: list[Run], whole: Source, split: str, config: DataConfig) -> bool:
    """Whether every picture of a split has been decoded: by a run's scan, or when records were made."""
    if config.kind in ("records", "synthetic"):
        return True
    parts = whole.splits if split == measured.ALL else (split,)
    return any(
        all(part in SPLITS and run_data.same_pictures(run, whole, part) for part in parts) for run in own
    )


def _unreadable(source: Source, config: DataConfig, known: set[str], *, strict: bool) -> set[str]:
    """The keys of the pictures of `val` that cannot be read; those that are not `known` are told."""
    broken, per_class = scan.look_through(source, "val", config, total=source.count("val"), strict=strict)
    scan.check_enough(source.class_names, "val", per_class, broken)
    for picture in broken:
        if picture.key not in known:
            print(f"warning: left out {picture}", file=sys.stderr)
    return {picture.key for picture in broken}


def _check_held_out(runs: list[Run], source: Source, config: DataConfig) -> None:
    """Raises UserError if a run was trained on pictures of the split because it held out others."""

    def keys(of: Source) -> set[bytes]:
        return set(of.dataset("val").map(lambda example: example["key"]).as_numpy_iterator())

    first = runs[0]
    for run in runs[1:]:
        ours, theirs = ((r.data.data_seed, r.data.val_fraction) for r in (first, run))
        # Records keep the split they were written with, built-in pictures are nobody's twice.
        if run.data.spec != config.spec or ours == theirs or config.kind in ("records", "synthetic"):
            continue
        trained_on = len(keys(source) - keys(sources.open_source(run.data)))
        if trained_on:
            raise UserError(
                f"{run.workdir}: was trained on {trained_on} of the {source.count('val')} pictures that "
                f"{first.workdir} held out, since `data_seed` or `val_fraction` differ; train both with the "
                "same, or evaluate with --data on pictures that neither has seen"
            )
