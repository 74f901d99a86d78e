"""Contenders that take turns, each in processes of its own, so that a slow spell of the machine hits all."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

from pipelines import command
from pipelines.errors import DataError

WARM_UP_STEPS = 2  # the first compiles
Step = Callable[[], None]
Maker = Callable[[], Step]  # called in a process of its own, to which it must be possible to send it


def check_counts(parser: argparse.ArgumentParser, arguments: argparse.Namespace, *names: str) -> None:
    """Ends the program with a usage error if one of some options is less than 1; None is left alone."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be 1 or more; received {value}")


class Cost(NamedTuple):
    """Seconds a step: by the clock, and of all processors together."""

    wall: float
    processor: float


def take(
    contenders: Mapping[str, Sequence[Maker]], *, rounds: int, steps: int, warm_up: int = WARM_UP_STEPS
) -> dict[str, list[Cost]]:
    """Lets every contender take `steps` steps once a round.

    Args:
      contenders: by name, what makes the step of each of its processes; several step together.
      rounds, steps: turns of each contender, and steps in a turn.
      warm_up: steps before the first turn, which do not count.

    Raises:
      DataError: a process ended before its step.
    """
    context = multiprocessing.get_context("spawn")
    turns: dict[str, list[Cost]] = {name: [] for name in contenders}
    teams: list[tuple[str, list[Connection]]] = []
    running = []
    try:
        for name, makers in contenders.items():
            team = []
            for maker in makers:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, maker), daemon=True)
                process.start()
                theirs.close()
                running.append((process, ours))
                team.append(ours)
            teams.append((name, team))
            _ask(name, team, warm_up)  # one at a time: two that compile would disturb each other
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for name, team in teams:
                turns[name].append(_ask(name, team, steps))
    finally:
        for _, connection in running:
            connection.close()
        for process, _ in running:
            process.join(timeout=10)
            process.kill()
    return turns


def median(turns: Sequence[Cost]) -> Cost:
    """The middle of some turns, clock and processors each for itself."""
    return Cost(*map(statistics.median, zip(*turns, strict=True)))


def _ask(name: str, team: Sequence[Connection], steps: int) -> Cost:
    """Lets a contender's processes take `steps`; returns the mean cost of one."""
    try:
        for connection in team:
            connection.send(steps)
        costs = [Cost(*connection.recv()) for connection in team]
    except (EOFError, ConnectionError):
        raise DataError(f"{name}: its process ended before its step; the reason stands above") from None
    return Cost(max(cost.wall for cost in costs), sum(cost.processor for cost in costs))


def _serve(connection: Connection, maker: Maker) -> None:
    """A contender's process: takes as many steps as it is told, until its connection closes."""
    command.quiet_tensorflow()
    step = maker()
    while True:
        try:
            steps = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        connection.send(((time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps))
