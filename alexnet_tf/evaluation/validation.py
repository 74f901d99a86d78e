"""The pictures that runs are evaluated on: the same for all runs, and none that trained one of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alexnet_tf.run_record import SKIPPED_FILE, Run
from pipelines import scan, sources
from pipelines.config import DataConfig
from pipelines.errors import UserError
from pipelines.sources.source import Source


def check_runs(runs: list[Run], spec: str | None) -> None:
    """Raises UserError for runs that cannot be averaged: other classes, or data sets of their own."""
    first = runs[0]
    for run in runs[1:]:
        if run.class_names != first.class_names:
            raise UserError(
                f"{run.workdir}: only runs of the same classes can be averaged, and this one's are not those "
                f"of {first.workdir} ({_difference(run.class_names, first.class_names)})"
            )
        if spec is None and run.data.spec != first.data.spec:
            raise UserError(
                f"{run.workdir}: trained on {run.data.spec}, {first.workdir} on {first.data.spec}; "
                "say with --data on which to evaluate"
            )


def open_pictures(runs: list[Run], config: DataConfig) -> tuple[Source, int]:
    """Opens the pictures that every run is evaluated on, without those that cannot be read.

    Returns:
      The source, and how many pictures of its validation split were left out.

    Raises:
      UserError: the classes are not the runs', or one run's validation pictures trained another.
      DataError: the data set cannot be used.
    """
    whole = sources.open_source(config)
    if whole.class_names != runs[0].class_names:
        raise UserError(
            f"{config.spec}: its classes are not those of {runs[0].workdir} "
            f"({_difference(whole.class_names, runs[0].class_names)})"
        )
    _check_held_out(runs, whole, config)
    own = [run for run in runs if run.data.spec == config.spec]
    if own:
        lists = [run.workdir / SKIPPED_FILE for run in own]
        skipped = {entry.key for path in lists if path.exists() for entry in scan.read_skipped(path)}
    elif config.kind in ("folder", "tfds", "imagenet"):
        # Nobody has looked at these pictures yet.
        broken, per_class = scan.look_through(whole, "val", config, total=whole.count("val"))
        scan.check_enough(whole.class_names, "val", per_class, broken)
        skipped = {picture.key for picture in broken}
        for picture in broken:
            print(f"warning: left out {picture}", file=sys.stderr)
    else:
        skipped = set()
    source = whole.without(skipped)
    return source, whole.count("val") - source.count("val")


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


def _difference(received: Sequence[str], expected: Sequence[str]) -> str:
    """The first difference between two lists of class names, in words."""
    if len(received) != len(expected):
        return f"{len(received)} classes, {len(expected)} expected"
    index = next(i for i, pair in enumerate(zip(received, expected, strict=True)) if pair[0] != pair[1])
    return f"class {index} is {received[index]!r}, {expected[index]!r} expected"
