"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

WIDE_TERMINAL = 100  # columns


class TrainingProgress:
    """Shows images/s, loss, top-1 error, rate and time left.

    Args:
      total: steps of the whole run.
      done: steps that are behind already.
      every: steps between two lines where there is no terminal.
      shown: False for a process that leaves it to another.
    """

    def __init__(self, total: int, done: int, every: int, *, shown: bool = True) -> None:
        self.total, self.every, self.shown = total, every, shown
        self.console = Console(stderr=False, highlight=False)
        self.started, self.first = time.perf_counter(), done
        # The figures matter more than the bar: a terminal of 80 columns has room for them alone.
        bar = [BarColumn(bar_width=None)] if self.console.width >= WIDE_TERMINAL else []
        self.bar = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            *bar,
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
            expand=True,
        )
        self.task = self.bar.add_task("train", total=total, completed=done, text="")

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, step: int, images_per_second: float, loss: float, top1_error: float, rate: float) -> None:
        """Shows the state after `step` steps."""
        text = f"{images_per_second:.0f} images/s  loss {loss:.3f}  top-1 error {top1_error:.1%}"
        text = f"{text}  rate {rate:.2g}"
        self.bar.update(self.task, completed=step, text=text)
        if not self.console.is_terminal and (step % self.every == 0 or step == self.total):
            self.say(f"step {step}/{self.total}  {text}  {self._left(step)} left")

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        if not self.shown:
            return
        if self.console.is_terminal:
            self.bar.console.print(line, markup=False)
        else:
            print(line, flush=True)

    def _left(self, step: int) -> str:
        seconds = (time.perf_counter() - self.started) / max(1, step - self.first) * (self.total - step)
        return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d}:{int(seconds) % 60:02d}"


def scan_progress(seen: int, total: int) -> None:
    """Shows how far the first pass over the pictures is, on a terminal only."""
    show_count("looking at the pictures", seen, total)


def show_count(what: str, done: int, total: int) -> None:
    """Shows how far some work is on a line that overwrites itself, on a terminal only."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{what}: {done}/{total}", end=end, file=sys.stderr, flush=True)
