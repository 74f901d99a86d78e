"""Evaluation of one run, or of several averaged, on a validation split, with its report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tensorflow as tf

from alexnet_tf.checkpoint import load_network
from alexnet_tf.evaluation import metrics, validation
from alexnet_tf.evaluation.accumulator import Accumulator
from alexnet_tf.evaluation.report import Report
from alexnet_tf.run_record import Run
from pipelines import dataset, progress
from pipelines.config import DataConfig
from pipelines.errors import UserError
from pipelines.pictures import preprocess
from pipelines.sources import records
from pipelines.sources.source import Source


def evaluate(
    runs: list[Run],
    spec: str | None,
    outs: Mapping[int, Path],
    *,
    batch_size: int = 64,
    checkpoint: str = "best",
    split: str | None = None,
    strict: bool = False,
) -> dict[int, dict[str, Any]]:
    """Evaluates one run, or the average of several, and writes the reports.

    Every run sees the same pictures, prepared as in its own training; probabilities are averaged
    arithmetically, over crops and over runs (section 4.1, section 6). The centre crop is one of the ten:
    both figures come from one pass.

    Args:
      runs: one or more, of the same classes.
      spec: the data set; None for the first run's own.
      outs: the reports' folders by the number of crops, 1 or 10 or both.
      batch_size: crops that go through a network at once.
      checkpoint: `best` or `newest`.
      split: what is measured, a split or `all`; None takes the runs' validation pictures, and of other data
        what `measured.default_split` says.
      strict: whether a picture that cannot be read is an error.

    Returns:
      What each summary.json holds, by the number of crops.

    Raises:
      UserError, DataError: what a user can cure.
    """
    validation.check_runs(runs, spec)
    config = dataclasses.replace(runs[0].data, spec=spec or runs[0].data.spec)
    began = time.monotonic()
    try:
        pictures = validation.open_pictures(runs, config, split, strict=strict)
        source = pictures.source
        with ExitStack() as stack:
            counts = {crops: _ProtocolResults(out, len(runs), source, stack) for crops, out in outs.items()}
            steps = _run_over(runs, source, config, counts, batch_size, checkpoint)
            common = {
                "workdirs": [str(run.workdir) for run in runs],
                "data": config.spec,
                **_described(pictures),
                "checkpoint": checkpoint,
                "steps": steps,
                "runs": len(runs),
                "seconds": round(time.monotonic() - began, 1),
            }
            summaries = {}
            with progress.phase("writing the report"):
                for crops, own in counts.items():
                    summaries[crops] = {**common, "crops": crops, **own.figures(runs, steps)}
                    own.report.finish(summaries[crops], own.totals, source, config)
    except tf.errors.OpError as error:
        raise UserError(records.describe(error, config)) from None
    return summaries


def _described(pictures: validation.MeasuredPictures) -> dict[str, Any]:
    """The part of summary.json that says which pictures were measured."""
    return {
        "description": pictures.source.description,
        "classes": len(pictures.source.class_names),
        "split": pictures.split,
        "own_validation": pictures.own_validation,
        "left_out": pictures.left_out,
    }


class _ProtocolResults:
    """The totals and the report of one protocol, that is of one number of crops.

    Args:
      out: folder of the report.
      runs: how many are averaged.
      source: the pictures.
      stack: closes the report.
    """

    def __init__(self, out: Path, runs: int, source: Source, stack: ExitStack) -> None:
        self.out, self.totals = out, Accumulator(source.class_names)
        # Each run alone is counted beside the average, in the same pass.
        self.alone = [Accumulator(source.class_names, keep=0) for _ in range(runs)] if runs > 1 else []
        out.mkdir(parents=True, exist_ok=True)
        self.report = stack.enter_context(Report(out, source.class_names))

    def add(self, runs: list[Run], parts: list[metrics.Predictions]) -> int:
        """Adds a batch of each run's predictions; returns how many pictures it holds."""
        for run, member, part in zip(runs, self.alone, parts, strict=False):
            _add_alone(run, member, part)
        predictions = self.totals.add(metrics.average_predictions(parts))
        self.report.add(predictions)
        return len(predictions)

    def figures(self, runs: list[Run], steps: list[int]) -> dict[str, Any]:
        """This protocol's part of summary.json."""
        members = [member.evaluation for member in self.alone or [self.totals]]
        return {
            **_figures(self.totals.evaluation),
            **_members(runs, steps, members),
            "out": str(self.out),
        }


def _figures(result: metrics.Evaluation) -> dict[str, Any]:
    """An evaluation with the numbers of wrong predictions beside their shares."""
    wrong = {
        f"top{k}_wrong": None if error is None else round(error * result.count)
        for k, error in ((1, result.top1_error), (5, result.top5_error))
    }
    return {**dataclasses.asdict(result), **wrong}


def _members(runs: list[Run], steps: list[int], results: list[metrics.Evaluation]) -> dict[str, Any]:
    """The errors of each run alone, and their mean, as the tables of section 6 give them."""
    rows = [
        {"workdir": str(run.workdir), "step": step, **_figures(result)}
        for run, step, result in zip(runs, steps, results, strict=True)
    ]
    mean = {
        name: None if rows[0][name] is None else sum(row[name] for row in rows) / len(rows)
        for name in ("loss", "top1_error", "top5_error")
    }
    return {"members": rows, "members_mean": mean}


def _run_over(
    runs: list[Run],
    source: Source,
    config: DataConfig,
    counts: Mapping[int, _ProtocolResults],
    batch_size: int,
    checkpoint: str,
) -> list[int]:
    """Runs all networks over the batches side by side, so that no score has to be kept.

    Returns:
      The step that each run's weights are of.
    """
    networks: list[tuple[metrics.Evaluator, DataConfig]] = []
    steps, crops = [], max(counts)
    for run in runs:
        # The picture's preparation is the run's own; which pictures, and in which order, is common.
        own = dataclasses.replace(
            run.data,
            spec=config.spec,
            data_seed=config.data_seed,
            val_fraction=config.val_fraction,
            seed=config.seed,  # decides nothing here
        )

        def to_pixels(images: Any, stats: Any = run.stats, own: DataConfig = own) -> Any:
            return preprocess.to_pixels(images, stats, own)

        trained = load_network(run, checkpoint)
        networks.append((metrics.Evaluator(trained.network, to_pixels, crops=crops), own))
        steps.append(trained.step)
    # Runs that prepare pictures alike share them: members of a sweep do.
    streams = {
        own: dataset.build(source, own, "val", max(1, batch_size // crops), training=False, crops=crops)
        for own in dict.fromkeys(own for _, own in networks)
    }
    with progress.phase("evaluating", source.count("val")) as evaluated:
        for batches in zip(*streams.values(), strict=True):
            prepared = dict(zip(streams, batches, strict=True))
            parts = [next(evaluator.predict_by_crops([prepared[own]])) for evaluator, own in networks]
            for number, of_number in counts.items():
                seen = of_number.add(runs, [part[number] for part in parts])
            evaluated.reached(evaluated.done + seen)
    return steps


def _add_alone(run: Run, totals: Accumulator, predictions: metrics.Predictions) -> None:
    """Counts a batch of one run among several; an error says which."""
    try:
        totals.add(predictions)
    except UserError as error:
        raise UserError(f"{run.workdir}: {error}") from None
