"""Progress of long work on stderr: what is going on, how far it is, and the time left.

Code that may take long stands in `with phase("drawing", total) as drawing: drawing.reached(12)`; nothing is
shown unless a command has called `shown()`. A terminal then has one line that overwrites itself (`clear()`
removes it before something else is printed), and a log gets a line whenever nothing was printed for SILENCE
seconds. rich draws the terminal's line; what to say, and when, is decided here for both. No TensorFlow
import: the import itself is a phase.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

SILENCE = 8.0  # seconds; with BEAT and a busy machine nobody waits longer than ten
BEAT = 0.5  # seconds between two looks at the clock
BRIEF = 0.3  # a phase that is over sooner never shows on a terminal
REDRAWN = 0.2  # seconds between two states of a terminal's line

Item = TypeVar("Item")


class Phase:
    """A piece of work that is under way.

    Args:
      what: in words that a clock or a count may follow, such as "looking at the pictures".
      total: how much there is of it, where that is known.
      done: how much of it was behind when the phase began; no time is counted for that.
      at_once: whether it is told as it begins, and not only when it lasts.
      clock: seconds.
    """

    def __init__(
        self, what: str, total: int | None, done: int, at_once: bool, clock: Callable[[], float]
    ) -> None:
        self.what, self.total, self.done, self.at_once = what, total, done, at_once
        self._clock, self.began = clock, clock()
        # Where the pace is counted from: the first part may compile something.
        self._start = done
        self._paced: tuple[int, float] | None = None
        self.moved: Callable[[], None] = lambda: None

    def reached(self, done: int, total: int | None = None) -> None:
        """Records how much is done, and a new total where it has changed."""
        self.done = done
        if self._paced is None and done > self._start:
            self._paced = done, self._clock()
        self.total = self.total if total is None else total
        self.moved()

    def text(self, now: float) -> str:
        """One line: `what: 1,200 of 6,000, 0:14 left`; without a total `what, 0:14`."""
        if self.total is None:
            took = now - self.began
            return f"{self.what}, {clock_text(took)}" if took >= 1.0 else self.what
        line = f"{self.what}: {self.done:,} of {self.total:,}"
        first, since = self._paced or (self.done, now)
        if self.done == first or now - since < 1.0:
            return line
        return f"{line}, {clock_text((now - since) / (self.done - first) * (self.total - self.done))} left"


class Reporter:
    """Prints the state of the innermost phase that is under way.

    Args:
      clock: seconds.
      stream: where to; None for what `sys.stderr` is then.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, stream: TextIO | None = None) -> None:
        self._clock, self._stream = clock, stream
        self._lock = threading.RLock()
        self._phases: list[Phase] = []
        self._commands, self._muted = 0, False
        self._spoke = self._drawn = clock()
        self._on_screen = False
        self._console: Console | None = None
        # Where a terminal has a bar of its own, it is given the texts.
        self._bar: Callable[[str], None] | None = None

    @contextlib.contextmanager
    def phase(
        self, what: str, total: int | None = None, *, done: int = 0, at_once: bool = False
    ) -> Iterator[Phase]:
        """A context for work that may take long; see `Phase`."""
        entered = Phase(what, total, done, at_once, self._clock)
        entered.moved = self.beat
        with self._lock:
            self._phases.append(entered)
        if at_once:
            self.beat(now=True)
        try:
            yield entered
        finally:
            with self._lock:
                self._phases.remove(entered)
                self.clear()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While the block runs, progress is printed; a thread does so too, for work that reports nothing."""
        with self._lock:
            self._commands += 1
            self._spoke, self._muted = self._clock(), False
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,), name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with self._lock:
                self.clear()
                self._commands -= 1

    def mute(self) -> None:
        """Prints nothing until the command ends: another process does."""
        self._muted = True

    @contextlib.contextmanager
    def to(self, stream: TextIO) -> Iterator[None]:
        """While the block runs, progress is printed to `stream`."""
        old, self._stream = self._stream, stream
        try:
            yield
        finally:
            self.clear()
            self._stream = old

    @contextlib.contextmanager
    def to_bar(self, show: Callable[[str], None]) -> Iterator[None]:
        """While the block runs, a terminal's progress is handed to `show`, which has a bar of its own."""
        old, self._bar = self._bar, show
        try:
            yield
        finally:
            self._bar = old

    def spoke(self) -> None:
        """Records that something else was printed just now, so that a log needs no line."""
        self._spoke = self._clock()

    def beat(self, *, now: bool = False) -> None:
        """Prints the innermost phase if its time has come, or if `now`."""
        with self._lock:
            if not self._phases or not self._commands or self._muted:
                return
            phase, time_ = self._phases[-1], self._clock()
            lasted = time_ - phase.began
            if self._bar is not None:
                # Beside a bar's own figures only what makes them stand still matters.
                if now or phase.at_once or lasted >= (SILENCE if phase.total is None else BRIEF):
                    self._bar(phase.text(time_))
            elif self._is_terminal():
                if now or (lasted >= BRIEF and time_ - self._drawn >= REDRAWN):
                    self._drawn = time_
                    self._draw(phase.text(time_))
            elif now or time_ - self._spoke >= SILENCE:
                self._spoke = time_
                self._write_line(phase.text(time_))

    def clear(self) -> None:
        """Removes the line from the terminal, so that another may be printed there."""
        with self._lock, self._unread():
            if self._on_screen and self._console is not None:
                self._on_screen = False
                _erase(self._console)

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT):
            self.beat()

    def _is_terminal(self) -> bool:
        with contextlib.suppress(ValueError, OSError, AttributeError):
            return (self._stream or sys.stderr).isatty()
        return False

    def _draw(self, text: str) -> None:
        """Shows one line in the place of the last, cut to the terminal's width."""
        from rich.console import Console  # a tenth of a second, which a command without a terminal saves
        from rich.text import Text

        with self._unread():
            stream = self._stream or sys.stderr
            if self._console is None or self._console.file is not stream:
                self._console = Console(file=stream, force_terminal=True, highlight=False)
            _erase(self._console)
            self._on_screen = True
            # One column stays free: a terminal moves on to the next line when its last one is written to.
            width = self._console.width - 1
            self._console.print(Text(text), end="", no_wrap=True, overflow="ellipsis", width=width)

    def _write_line(self, text: str) -> None:
        with self._unread():
            stream = self._stream or sys.stderr
            stream.write(text + "\n")
            stream.flush()

    @contextlib.contextmanager
    def _unread(self) -> Iterator[None]:
        """Around writing: work goes on when nobody reads its progress."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            yield


def _erase(console: Console) -> None:
    from rich.control import Control
    from rich.segment import ControlType

    console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))


def clock_text(seconds: float) -> str:
    """A duration as on a clock, such as `0:14` or `1:02:03`."""
    whole = max(0, int(seconds))
    minutes = f"{whole // 60 % 60}:{whole % 60:02d}"
    return minutes if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


REPORTER = Reporter()  # of this process
phase, shown, mute, clear, spoke = (
    REPORTER.phase,
    REPORTER.shown,
    REPORTER.mute,
    REPORTER.clear,
    REPORTER.spoke,
)


def counted(what: str, items: Iterable[Item], total: int, *, each: int = 1) -> Iterator[Item]:
    """Yields the items and reports how many have been taken; each counts as `each` of `total`."""
    with phase(what, total) as counting:
        for number, item in enumerate(items):
            counting.reached(min(total, number * each))
            yield item
