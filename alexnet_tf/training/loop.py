"""The training loop: steps, evaluations, the run's record, checkpoints, and stopping on a signal."""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf import model
from alexnet_tf.checkpoint import Checkpoints
from alexnet_tf.distribute import tower_trace
from alexnet_tf.evaluation import metrics
from alexnet_tf.figures import crossings
from alexnet_tf.run_record import Run
from alexnet_tf.training import diagnosis, pace, precision, schedule
from alexnet_tf.training import step as train_step
from alexnet_tf.training.checkpoint_writer import CheckpointWriter
from alexnet_tf.training.monitor import Board, TrainingProgress
from alexnet_tf.training.placement import Placement, Shard
from alexnet_tf.training.schedule import Rates
from alexnet_tf.training.state import TrainState
from alexnet_tf.training.step import StepResult
from pipelines import dataset, progress, service_client
from pipelines.errors import UserError
from pipelines.pictures import preprocess
from pipelines.sources.source import Source

SECONDS_A_CALL = 0.5  # into the graph, where the recipe leaves it open: Ctrl-C waits for the end of a call


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collects Ctrl-C, SIGTERM and SIGHUP, which a terminal that is closed sends.

    The first lets the step finish, a second SIGINT stops at once. Under `nohup` SIGHUP stays ignored.
    """
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    try:
        old = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: its caller has its own way to stop it
        old = {}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class Interrupted(KeyboardInterrupt):
    """Raised after a request to stop, once the run is saved."""


def train(run: Run, source: Source, placement: Placement, *, service: Sequence[str] = ()) -> dict[str, Any]:
    """Trains a run to its end, from its newest checkpoint where it has one.

    Args:
      run: the run folder, already written.
      source: the run's pictures, without the broken ones.
      placement: where to compute; of several processes, each calls this, and the chief writes.
      service: addresses of input servers (`pipelines.data_service`), where others decode.

    Returns:
      The run's figures: steps, seconds, images_per_second, and the last evaluation's.

    Raises:
      UserError: a non-finite loss, or a checkpoint that does not fit.
      Interrupted: after Ctrl-C, SIGTERM or SIGHUP; the run is saved and goes on when it is started again.
    """
    return _Trainer(run, source, placement, service).train()


class _Trainer:
    """The state and the parts of one run while it trains."""

    def __init__(self, run: Run, source: Source, placement: Placement, service: Sequence[str]) -> None:
        self.run, self.source, self.placement, self.service = run, source, placement, service
        self.recipe, self.stats = run.recipe, run.stats
        batch_size, partial = self.recipe.batch_size, self.recipe.partial_batch
        self.steps_per_epoch = dataset.steps_per_epoch(source, batch_size, partial=partial)
        with progress.phase("building the network"):
            network, optimizer = placement.build(self.recipe, len(run.class_names))
        self.state = TrainState(network, optimizer, schedule.Schedule(self.recipe, self.steps_per_epoch))
        self.checkpoints = Checkpoints(run.checkpoint_dir, self.recipe.keep_checkpoints)
        self.total = self.state.schedule.total_steps
        self.dead_units = diagnosis.DeadUnits(network)
        self.evaluator = metrics.Evaluator(
            network,
            lambda image: preprocess.to_pixels(image, self.stats, run.data),
            strategy=placement.strategy,
        )
        self.warned_of_long_run = False
        self.stuck = diagnosis.StuckLoss(len(run.class_names), self.recipe)
        self.watched = service_client.Watch(service).call if service else _call_directly
        # Seconds a step, as this process measured it and as all of them agreed on.
        self.pace = self.agreed_pace = SECONDS_A_CALL
        self.time = pace.Pace(self.total, self.state.schedule.evaluation_interval)
        self._restore()

    def train(self) -> dict[str, Any]:
        if self.state.step >= self.total:
            print(
                f"{self.run.workdir}: this run is finished ({self.state.step} steps); with --set epochs=N, "
                f"more than {self.recipe.epochs:g}, it goes on",
                flush=True,
            )
            return self._figures()
        self.steps = train_step.build(
            self.state.network,
            self.state.optimizer,
            self.recipe,
            self.run.data,
            self.stats,
            self.placement.strategy,
        )
        with (
            stop_requests() as stop,
            CheckpointWriter(self.checkpoints, self.placement.unbroken) as self.writer,
            Board(self.run.workdir, active=self.placement.is_chief) as self.board,
            self._progress() as self.progress,
        ):
            self._loop(stop)
        return self._figures()

    def _loop(self, stop: list[int]) -> None:
        if self.total <= self.recipe.warmup_steps:
            self.progress.say(f"warning: {diagnosis.explain_short_run(self.total, self.recipe)}")
        with progress.phase("opening the training pictures"):
            batches = iter(self.placement.distribute(self._training_batches))
        while self.state.step < self.total:
            # A process alone need not wait for the next vote.
            stopped = self._call(batches, bool(stop)) or (self.placement.cluster is None and bool(stop))
            if self.state.schedule.evaluation_due(self.state.step):
                self._save(best=self._evaluate())
            elif stopped or self._checkpoint_due(self.state.step):
                self._save()
            if stopped and self.state.step < self.total:
                with progress.phase("writing the checkpoint"):
                    self.writer.wait()
                done = "saved" if self.placement.is_chief else "stopped"
                raise Interrupted(
                    f"{done} at step {self.state.step} of {self.total}; the same command goes on from there"
                )

    def _call(self, batches: Any, stop: bool) -> bool:
        """Takes some steps; returns whether any process received a request to stop.

        Every process must do the same, or they wait for each other for ever: requests to stop and the
        pace, by which the number of steps is chosen, are voted on.
        """
        rates = self._rates_of_call()
        votes = (float(stop), self.pace)
        first = self.state.step == self.state.first_step
        what = f"step {self.state.step + len(rates)} of {self.total}" + ", which compiles the network" * first
        with progress.phase(what, at_once=first and self.progress.on_terminal):
            started = time.perf_counter()
            result = self.watched(
                lambda: self._traced(lambda: self.steps(batches, rates, rates[0].conv1 == 0.0, votes))
            )
        # With the wait for the batches, without evaluations.
        seconds = (time.perf_counter() - started) / len(rates)
        stops, self.agreed_pace = (vote / self.placement.replicas for vote in result.votes)
        if self.state.step > self.state.first_step:  # the first call compiles: its pace says nothing
            self.pace = seconds
        self.time.stepped(seconds)
        for sums, rate in zip(result.sums, rates, strict=True):
            self.state.advance(sums, seconds)
            if not math.isfinite(sums.loss / sums.examples):
                raise self._explain_non_finite(sums.loss / sums.examples)
            self._report(sums.loss / sums.examples, rate.weights)
        self._warn_of_long_run()
        return stops > 0

    def _warn_of_long_run(self) -> None:
        """Warns once, as soon as the pace is known, of a run that will take long, with what would help."""
        if self.warned_of_long_run or not self.time.known:
            return
        self.warned_of_long_run = True
        left = self.time.left(self.state.step)
        if left is None or left < pace.LONG or not self.placement.is_chief:
            return
        # Where the recipe left it open this was measured already, on all workers.
        asked = None
        with contextlib.suppress(UserError):  # a run goes on without its environment.json
            asked = self.run.environment.get("precision", {}).get("asked")
        found = pace.cures(
            self.recipe,
            self.run.data.kind,
            gpus=len(tf.config.list_logical_devices("GPU")),
            replicas=self.placement.replicas,
            speeds=None if asked == "auto" and self.recipe.precision == "float32" else precision.measure(),
        )
        steps = self.total - self.state.step
        self.progress.say(pace.explain(left, self.time.seconds_a_step, steps, found))

    def _traced(self, call: Callable[[], StepResult]) -> StepResult:
        """Runs a call; for the first one on two towers' devices draws what crosses between them."""
        if self.placement.tower_devices is None or self.state.step > self.state.first_step:
            return call()
        results: list[StepResult] = []
        trace = tower_trace.trace(lambda: results.append(call()))
        crossings.write(self.run.workdir, self.state.network, trace, self.recipe)
        return results[0]

    def _rates_of_call(self) -> list[Rates]:
        """The rates of the next call's steps: up to the next evaluation, checkpoint or other program."""
        wanted = self.recipe.steps_per_call or int(SECONDS_A_CALL / max(self.agreed_pace, 1e-6))
        rates = [self.state.schedule.rates(self.state.step)]
        for step in range(self.state.step + 1, self.state.step + min(wanted, train_step.MOST_STEPS)):
            following = self.state.schedule.rates(step)
            another_program = (following.conv1 == 0.0) != (rates[0].conv1 == 0.0)
            if another_program or self.state.schedule.evaluation_due(step) or self._checkpoint_due(step):
                break
            rates.append(following)
        return rates

    def _report(self, loss: float, rate: float) -> None:
        step, last = self.state.step, self.state.last
        self.progress.step(step, last["speed"], last["loss"], last["error"], rate)
        if step % self.recipe.log_every == 0:
            self.board.scalars(step, {"train/loss": loss, "train/learning_rate": rate})
        advice = self.stuck.add(step, loss)
        if advice:
            self.progress.say(f"warning: {advice}")

    def _checkpoint_due(self, step: int) -> bool:
        return bool(self.recipe.checkpoint_every) and step % self.recipe.checkpoint_every == 0

    def _evaluate(self) -> bool:
        """Measures the validation split and writes its row; returns whether it is the best so far."""
        state = self.state
        started = time.perf_counter()
        with progress.phase("opening the validation pictures"):
            batches = self._validation
        count, each = self.source.count("val"), self.recipe.batch_size
        result = self.evaluator.evaluate(progress.counted("validating", batches, count, each=each))
        row = {
            "step": state.step,
            "epoch": state.step / self.steps_per_epoch,
            "seconds": state.seconds,
            "images_per_second": state.last["speed"],
            "learning_rate": state.schedule.rates(state.step - 1).weights,
            **state.take_means(),
            "val_loss": result.loss,
            "val_top1_error": result.top1_error,
            "val_top5_error": math.nan if result.top5_error is None else result.top5_error,
        }
        if self.placement.is_chief:
            self._record(row, result.count)
        self.time.evaluated(time.perf_counter() - started)
        if state.schedule.evaluated(result.top1_error):
            self.progress.say(
                f"the validation error has stopped improving: rate divided by 10 ({state.schedule.drops})"
            )
        best = result.top1_error < state.best_error
        state.best_error = min(state.best_error, result.top1_error)
        return best

    def _record(self, row: dict[str, float], count: int) -> None:
        """Adds what only the chief measures, and writes and shows the row of an evaluation."""
        dead = self.dead_units.measure(preprocess.to_pixels(self._first_images, self.stats, self.run.data))
        row = {**row, **dead}
        self.run.append_metrics(row)
        self.board.scalars(
            self.state.step, {k: v for k, v in row.items() if k not in ("step", "epoch") and math.isfinite(v)}
        )
        self.board.conv1(self.state.step, model.conv1_kernels(self.state.network))
        worst = max(dead, key=lambda name: dead[name])
        self.progress.say(
            f"epoch {row['epoch']:.2f}: validation top-1 error {row['val_top1_error']:.2%}, "
            f"loss {row['val_loss']:.4f} ({count} pictures); "
            f"dead units: {dead[worst]:.0%} of {worst.removeprefix('dead_')}"
        )

    def _training_batches(self, shard: Shard) -> tf.data.Dataset:
        return dataset.build(
            self.source,
            self.run.data,
            "train",
            self.recipe.batch_size,
            training=True,
            stats=self.stats,
            start_step=self.state.step,
            shard=shard,
            service=self.service,
        )

    # Building these traces every function of the stream: half a second, at each evaluation.
    @functools.cached_property
    def _validation(self) -> Any:
        """The validation split as the devices share it, to be gone through as often as wanted."""
        return self.placement.distribute(self._validation_batches)

    @functools.cached_property
    def _first_images(self) -> tf.Tensor:
        """The validation split's first batch, uint8, on which dead units are measured."""
        return next(iter(self._validation_batches((0, 1))))["image"]

    def _validation_batches(self, shard: Shard) -> tf.data.Dataset:
        return dataset.build(
            self.source, self.run.data, "val", self.recipe.batch_size, training=False, shard=shard
        )

    def _save(self, *, best: bool = False) -> None:
        if self.placement.is_chief:
            with progress.phase("writing the checkpoint before"):
                self.writer.wait()  # the memory of the copy before is used again
            self.writer.save(self.state.step, *self.state.capture(), best=best)

    def _restore(self) -> None:
        with progress.phase("reading the checkpoint"):
            found = self.checkpoints.load_newest()
            if found is not None:
                self.state.restore(*found, str(self.run.checkpoint_dir))
        if self.total < self.state.step:
            raise UserError(
                f"{self.run.workdir}: epochs={self.recipe.epochs:g} is {self.total} steps, and the run has "
                f"taken {self.state.step}; give at least epochs={self._least_epochs():g} to go on with it"
            )
        if self.placement.is_chief:
            changed = self.run.record_epochs(self.recipe.epochs, self.state.step)
            if found is not None and self.state.step < self.total:
                length = f", now epochs={self.recipe.epochs:g}" * changed
                print(f"going on from step {self.state.step} of {self.total}{length}", flush=True)
            self.run.drop_metrics_after(self.state.step)
        self.placement.check_same("the step of the newest checkpoint", self.state.step)

    def _least_epochs(self) -> float:
        """The fewest epochs, in hundredths, that hold the steps that were taken."""
        return math.ceil(100 * self.state.step / self.steps_per_epoch) / 100

    def _explain_non_finite(self, loss: float) -> Exception:
        with contextlib.suppress(OSError):  # of the two errors this one matters
            self.writer.wait()
        saved_at = self.writer.saved_at if self.writer.saved_at is not None else self.state.first_step
        where = (
            f"in another --workdir, as the last checkpoint, of step {saved_at}, belongs to these settings"
            if saved_at
            else "no checkpoint yet: the same --workdir may be begun anew"
        )
        return diagnosis.explain_non_finite(self.state.step, loss, self.state.network, self.recipe, where)

    def _progress(self) -> TrainingProgress:
        shown = self.placement.is_chief
        return TrainingProgress(
            self.total, self.state.step, self.recipe.log_every, left=self.time.left, shown=shown
        )

    def _figures(self) -> dict[str, Any]:
        rows = self.run.read_metrics()
        kept = ("val_top1_error", "val_top5_error", "val_loss", "train_loss", "train_top1_error")
        final = {name: rows[-1][name] for name in kept if rows and np.isfinite(rows[-1][name])}
        seconds = self.state.seconds
        batch_size, partial = self.recipe.batch_size, self.recipe.partial_batch
        pictures = dataset.pictures_until(self.state.step, self.source, batch_size, partial=partial)
        return {
            "workdir": str(self.run.workdir),
            "steps": self.state.step,
            "seconds": round(seconds, 1),
            "images_per_second": round(pictures / max(seconds, 1e-9), 1),
            "best_val_top1_error": self.state.best_error,
            **final,
        }


def _call_directly(call: Callable[[], StepResult]) -> StepResult:
    return call()
