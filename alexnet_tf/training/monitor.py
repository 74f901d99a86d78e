"""Progress of a run while it trains: a bar on a terminal, plain lines elsewhere, and TensorBoard."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from alexnet_tf.figures.kernels import tile, unit_kernels
from pipelines import progress
from pipelines.progress import clock_text

BOARD_FOLDER = "tensorboard"  # in the run folder
WIDE_TERMINAL = 100  # columns
# Seconds after which a log gets a line; fewer than `progress.SILENCE`, after which it gets one without the
# step's figures.
LINES_APART = 6.0


class TrainingProgress:
    """Shows images/s, loss, top-1 error, rate and time left.

    A log gets a line after the first two steps, every so many from there, and whenever none was printed
    for some seconds.

    Args:
      total: steps of the whole run.
      done: steps that are behind already.
      every: steps between two lines where there is no terminal.
      left: gives the seconds that are left; None before that is known.
      shown: False for a process that leaves it to another.
      clock: seconds.
    """

    def __init__(
        self,
        total: int,
        done: int,
        every: int,
        *,
        left: Callable[[int], float | None] = lambda step: None,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.first, self.every, self.shown = total, done, every, shown
        self.console = Console(stderr=False, highlight=False)
        self._left, self._clock, self._printed_at = left, clock, clock()
        # The figures matter more than the bar: a terminal of 80 columns has room for them alone.
        bar = [BarColumn(bar_width=None)] if self.console.width >= WIDE_TERMINAL else []
        self.bar = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            *bar,
            TextColumn("{task.fields[text]}"),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
            expand=True,
        )
        self.task = self.bar.add_task("train", total=total, completed=done, text="", left="")
        self._phases = contextlib.ExitStack()

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        if self.on_terminal:
            self._phases.enter_context(progress.REPORTER.to_bar(self._show_phase))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._phases.close()
        self.bar.stop()

    def step(self, step: int, images_per_second: float, loss: float, top1_error: float, rate: float) -> None:
        """Shows the state after `step` steps."""
        text = f"{images_per_second:.0f} images/s  loss {loss:.3f}  top-1 error {top1_error:.1%}"
        text = f"{text}  rate {rate:.2g}"
        seconds = self._left(step)
        left = "" if seconds is None else clock_text(seconds)
        self.bar.update(self.task, completed=step, text=text, left=left)
        if not self.console.is_terminal and self._line_due(step):
            self.say(f"step {step}/{self.total}  {text}" + (f"  {left} left" if left else ""))

    @property
    def on_terminal(self) -> bool:
        """Whether progress is shown as a bar."""
        return not self.bar.disable

    def say(self, line: str) -> None:
        """Prints a line, above the bar where there is one."""
        if not self.shown:
            return
        self._printed_at = self._clock()
        progress.spoke()
        if self.console.is_terminal:
            self.bar.console.print(line, markup=False)
        else:
            print(line, flush=True)

    def _line_due(self, step: int) -> bool:
        opening = step - self.first <= 2  # the first shows that it runs, the second how long it will
        silent = self._clock() - self._printed_at >= LINES_APART
        return opening or silent or step % self.every == 0 or step == self.total

    def _show_phase(self, text: str) -> None:
        self.bar.update(self.task, text=text)


class Board:
    """Writes scalars and the conv1 kernels under `workdir/tensorboard`.

    Args:
      workdir: the run folder.
      active: False for a process that writes nothing.
    """

    def __init__(self, workdir: Path, *, active: bool = True) -> None:
        writes = active and importlib.util.find_spec("tensorboard") is not None
        self.writer = tf.summary.create_file_writer(str(workdir / BOARD_FOLDER)) if writes else None

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one point of each curve."""
        if self.writer is None:
            return
        with self.writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def conv1(self, step: int, kernels: np.ndarray) -> None:
        """Writes conv1's kernels, [k, k, 3, filters], as one picture."""
        if self.writer is None:
            return
        with self.writer.as_default(step):
            tf.summary.image("conv1", tile(unit_kernels(kernels), magnification=4)[None])
