"""The one training loop: steps, evaluations, the record, checkpoints, and stopping in good order."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf import checkpoint, diagnosis, metrics, model, placement, schedule, train_step
from alexnet_tf.board import Board
from alexnet_tf.optimizer import PaperMomentum
from alexnet_tf.progress import TrainingProgress
from alexnet_tf.run_record import Run
from pipelines import dataset, preprocess
from pipelines.sources import Source

SMOOTHING = 0.95  # of the loss, error and speed on the progress line


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after the run was saved."""


def train(run: Run, source: Source, *, devices: str = "one") -> dict[str, Any]:
    """Trains a run to its end, from its newest checkpoint where it has one.

    Args:
      run: the run folder, already written.
      source: the run's pictures, without the broken ones.
      devices: see `placement.strategy`.

    Returns:
      The run's figures: steps, seconds, images_per_second, and the last evaluation's.

    Raises:
      UserError: a non-finite loss, or a checkpoint that does not fit.
      Interrupted: after Ctrl-C or SIGTERM; the run is saved and goes on when it is started again.
    """
    return _Trainer(run, source, devices).train()


class _Trainer:
    """The state of one run while it trains."""

    def __init__(self, run: Run, source: Source, devices: str) -> None:
        self.run, self.source, self.recipe = run, source, run.recipe
        self.stats = run.stats
        self.strategy = placement.strategy(devices)
        self.steps_per_epoch = dataset.steps_per_epoch(source, self.recipe.batch_size)
        self.schedule = schedule.Schedule(self.recipe, self.steps_per_epoch)
        self.checkpoints = checkpoint.Checkpoints(run.checkpoint_dir, self.recipe.keep_checkpoints)
        with self.strategy.scope():
            self.network = model.build(
                self.recipe.variant,
                len(run.class_names),
                dtype_policy=train_step.DTYPE_POLICIES[self.recipe.precision],
                initializer=self.recipe.initializer,
                pixel_std=self.recipe.pixel_std,
                dropout_rate=self.recipe.dropout_rate,
                seed=self.recipe.seed,
                fused=True,
            )
            self.optimizer = PaperMomentum(
                self.recipe.scaled_learning_rate,
                self.recipe.momentum,
                self.recipe.weight_decay,
                fused=True,
                global_clipnorm=self.recipe.clip_norm or None,
            )
            self.optimizer.build(self.network.trainable_variables)
        self.dead_units = diagnosis.DeadUnits(self.network)
        self.evaluator = metrics.Evaluator(
            self.network, lambda image: preprocess.to_pixels(image, self.stats, run.data)
        )
        self.stuck = diagnosis.StuckLoss(len(run.class_names), self.recipe)
        self.step, self.seconds, self.best_error = 0, 0.0, math.inf
        self.sums = dict.fromkeys(("loss", "top1", "top5", "count"), 0.0)
        self.last: dict[str, float] = {}
        self.saved_at: int | None = None
        self._restore()

    def train(self) -> dict[str, Any]:
        total = self.schedule.total_steps
        if self.step >= total:
            print(f"{self.run.workdir}: this run is finished ({self.step} steps)", flush=True)
            return self._figures()
        self.update = train_step.build(
            self.network, self.optimizer, self.recipe, self.run.data, self.stats, self.strategy
        )
        with (
            _stop_requests() as stop,
            Board(self.run.workdir) as board,
            TrainingProgress(total, self.step, self.recipe.log_every) as progress,
        ):
            self.board, self.progress = board, progress
            if total <= self.recipe.warmup_steps:
                progress.say(f"warning: {diagnosis.explain_short_run(total, self.recipe)}")
            batches = self._batches()
            while self.step < total:
                self._one_step(batches)
                if self._evaluation_due():
                    self._evaluate()
                    self._save()
                elif self.recipe.checkpoint_every and self.step % self.recipe.checkpoint_every == 0:
                    self._save()
                if stop:
                    self._save()
                    raise Interrupted(
                        f"saved at step {self.step} of {total}; the same command goes on from there"
                    )
        return self._figures()

    def _batches(self) -> Iterator[Any]:
        batches = dataset.build(
            self.source,
            self.run.data,
            "train",
            self.recipe.batch_size,
            training=True,
            stats=self.stats,
            start_step=self.step,
        )
        if self.strategy.num_replicas_in_sync > 1:
            batches = self.strategy.experimental_distribute_dataset(batches)
        return iter(batches)

    def _one_step(self, batches: Iterator[Any]) -> None:
        started = time.perf_counter()
        rates = self.schedule.rates(self.step)
        self.optimizer.set_rates(rates.weights, rates.biases, rates.conv1)
        results = self.update(next(batches), tf.constant(rates.colour), rates.conv1 == 0.0)
        sums = {name: float(value) for name, value in results.items()}
        elapsed = time.perf_counter() - started  # with the wait for the batch, without evaluations
        self.seconds += elapsed
        self.step += 1
        loss = sums["loss"] / sums["count"]
        if not math.isfinite(loss):
            where = (
                "no checkpoint yet"
                if self.saved_at is None
                else f"the last checkpoint is of step {self.saved_at}"
            )
            raise diagnosis.explain_non_finite(self.step, loss, self.network, self.recipe, where)
        for name, value in sums.items():
            self.sums[name] += value
        self._report(loss, 1.0 - sums["top1"] / sums["count"], sums["count"] / elapsed, rates.weights)

    def _report(self, loss: float, top1_error: float, speed: float, rate: float) -> None:
        new = {"loss": loss, "error": top1_error, "speed": speed}
        # The first step compiles: its speed says nothing.
        keep = SMOOTHING if self.last and self.step - self.first_step > 2 else 0.0
        self.last = {k: keep * self.last.get(k, v) + (1.0 - keep) * v for k, v in new.items()}
        self.progress.step(self.step, self.last["speed"], self.last["loss"], self.last["error"], rate)
        if self.step % self.recipe.log_every == 0:
            self.board.scalars(self.step, {"train/loss": loss, "train/learning_rate": rate})
        advice = self.stuck.add(self.step, loss)
        if advice:
            self.progress.say(f"warning: {advice}")

    def _evaluation_due(self) -> bool:
        interval = self.recipe.evaluate_every * self.steps_per_epoch  # not always a whole number of steps
        crossed = self.step // interval > (self.step - 1) // interval
        return crossed or self.step == self.schedule.total_steps

    def _evaluate(self) -> None:
        """Measures the validation split, writes the row, and tells the schedule."""
        result = self.evaluator.evaluate(self._validation_batches())
        pixels = preprocess.to_pixels(
            next(iter(self._validation_batches()))["image"], self.stats, self.run.data
        )
        dead = self.dead_units.measure(pixels)
        count = max(1.0, self.sums["count"])
        row = {
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "seconds": self.seconds,
            "images_per_second": self.last["speed"],
            "learning_rate": self.schedule.rates(self.step - 1).weights,
            "train_loss": self.sums["loss"] / count,
            "train_top1_error": 1.0 - self.sums["top1"] / count,
            "train_top5_error": 1.0 - self.sums["top5"] / count,
            "val_loss": result.loss,
            "val_top1_error": result.top1_error,
            "val_top5_error": math.nan if result.top5_error is None else result.top5_error,
            **dead,
        }
        self.run.append_metrics(row)
        self.board.scalars(
            self.step, {k: v for k, v in row.items() if k not in ("step", "epoch") and math.isfinite(v)}
        )
        self.board.conv1(self.step, model.conv1_kernels(self.network))
        self.sums = dict.fromkeys(self.sums, 0.0)
        worst = max(dead, key=lambda name: dead[name])
        self.progress.say(
            f"epoch {row['epoch']:.2f}: validation top-1 error {result.top1_error:.2%}, "
            f"loss {result.loss:.4f} ({result.count} pictures); "
            f"dead units: {dead[worst]:.0%} of {worst.removeprefix('dead_')}"
        )
        if result.top1_error < self.best_error:
            self.best_error = result.top1_error
            self.checkpoints.save_best(self.network, {"step": self.step, "val_top1_error": result.top1_error})
        if self.schedule.evaluated(result.top1_error):
            self.progress.say(
                f"the validation error has stopped improving: rate divided by 10 ({self.schedule.drops})"
            )

    def _validation_batches(self) -> tf.data.Dataset:
        return dataset.build(self.source, self.run.data, "val", self.recipe.batch_size, training=False)

    def _save(self) -> None:
        state = {
            "schedule": self.schedule.state(),
            "seconds": self.seconds,
            "best_error": self.best_error,
            "sums": self.sums,
            "last": self.last,
        }
        self.checkpoints.save(self.step, checkpoint.training_arrays(self.network, self.optimizer), state)
        self.saved_at = self.step

    def _restore(self) -> None:
        found = self.checkpoints.load_newest()
        if found is not None:
            arrays, state = found
            checkpoint.restore_training(self.network, self.optimizer, arrays, str(self.run.checkpoint_dir))
            self.schedule.restore(state["schedule"])
            self.step = self.saved_at = int(state["step"])
            self.seconds, self.best_error = float(state["seconds"]), float(state["best_error"])
            self.sums, self.last = dict(state["sums"]), dict(state["last"])
            print(f"going on from step {self.step} of {self.schedule.total_steps}", flush=True)
        self.first_step = self.step

    def _figures(self) -> dict[str, Any]:
        rows = self.run.read_metrics()
        kept = ("val_top1_error", "val_top5_error", "val_loss", "train_loss", "train_top1_error")
        final = {name: rows[-1][name] for name in kept if rows and np.isfinite(rows[-1][name])}
        return {
            "workdir": str(self.run.workdir),
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "images_per_second": round(self.step * self.recipe.batch_size / max(self.seconds, 1e-9), 1),
            "best_val_top1_error": self.best_error,
            **final,
        }


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM: the first lets the step finish, a second SIGINT stops at once."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs it there has its own way to stop it
        old = {}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
