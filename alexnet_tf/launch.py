"""`python -m alexnet_tf.launch`: trains with several worker processes on this machine.

What stands after `--` is the command line of `python -m alexnet_tf.train`. The chief's lines are shown as
they are, those of worker 1 after `[1] `, and so on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

from alexnet_tf.distribute.local_workers import KILL_SECONDS, TERM_SECONDS, Workers, first_failure
from pipelines import command
from pipelines.command import EXIT_INTERRUPTED, EXIT_USER_ERROR
from pipelines.errors import UserError

PROGRAM = "alexnet_tf.train"
DEVICES = "multi-worker"


class WorkerFailed(UserError):
    """A worker ended with `exit_status`; its own output says why."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and trains; returns the first failing worker's exit status, or 0."""
    words = sys.argv[1:] if argv is None else argv
    own, arguments = words, None
    if "--" in words:
        own, arguments = words[: words.index("--")], words[words.index("--") + 1 :]
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_tf.launch",
        usage="%(prog)s --workers N [--restarts K] [--json] -- TRAINING OPTIONS",
        description=__doc__,
    )
    parser.add_argument("--workers", type=int, required=True, metavar="N", help="how many processes")
    parser.add_argument(
        "--restarts",
        type=int,
        default=0,
        metavar="K",
        help="start all again up to K times when one dies; not after a wrong setting (default %(default)s)",
    )
    command.add_json_flag(parser)
    args = parser.parse_args(own)
    if arguments is None:
        parser.error("the options of alexnet_tf.train belong after --")
    return command.run(
        lambda: launch(args.workers, arguments, restarts=args.restarts, as_json=args.json),
        as_json=args.json,
        tensorflow=False,
        outlives_reader=True,  # as the training that it runs
    )


def launch(
    workers: int,
    arguments: Sequence[str],
    *,
    restarts: int = 0,
    as_json: bool = False,
    program: str = PROGRAM,
    grace: tuple[float, float] = (TERM_SECONDS, KILL_SECONDS),
) -> dict[str, Any]:
    """Runs the training with `workers` processes on this machine.

    Args:
      workers: how many processes.
      arguments: command line of `program`; `--devices multi-worker` is added.
      restarts: how often all are started again after one has died.
      as_json: asks the workers for their figures and returns the chief's.
      program: the module that every worker runs.
      grace: seconds from a failure until the other workers get SIGTERM, and from there until SIGKILL.

    Returns:
      The chief's figures, `workers`, and `restarts` as far as they were needed.

    Raises:
      UserError: for settings that do not fit.
      WorkerFailed: when a worker failed and may not be started again.
      KeyboardInterrupt: when the workers were asked to stop.
    """
    arguments = _checked(workers, restarts, arguments)
    if as_json and "--json" not in arguments:
        arguments.append("--json")
    used = 0
    while True:
        output = _Output(as_json)
        failed, interrupted = _run_once(Workers(workers, program, arguments, output.show, grace))
        if failed is None:
            return {**output.figures, "workers": workers, "restarts": used}
        index, status = failed
        if interrupted or status == EXIT_INTERRUPTED:
            raise KeyboardInterrupt("all workers have stopped")
        what = f"worker {index} {_describe(status)}"
        if status == EXIT_USER_ERROR or used == restarts:
            after = f" after {used} restarts" if used else ""
            raise WorkerFailed(f"{what}{after}; see above", status)
        used += 1
        print(f"{what}; starting all again ({used} of {restarts})", file=sys.stderr, flush=True)


def _checked(workers: int, restarts: int, arguments: Sequence[str]) -> list[str]:
    """The workers' command line, checked.

    Raises:
      UserError: a number out of range, or another `--devices`.
    """
    if workers < 1:
        raise UserError(f"--workers must be 1 or more; received {workers}")
    if restarts < 0:
        raise UserError(f"--restarts must be 0 or more; received {restarts}")
    found = None
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name.startswith("--de") and "--devices".startswith(name):  # argparse takes a part of it, too
            found = value if equals else after
            if found != DEVICES:
                raise UserError(f"several workers need --devices {DEVICES}, or none; received {found!r}")
    return [*arguments] if found else [*arguments, "--devices", DEVICES]


def _run_once(workers: Workers) -> tuple[tuple[int, int] | None, bool]:
    """Runs all workers once: the first that failed with its exit status, and whether a signal came."""
    with workers:
        old = {n: signal.signal(n, workers.pass_on) for n in command.stop_signals()}
        try:
            return first_failure(workers.wait()), bool(workers.interrupted)
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _describe(status: int) -> str:
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(status - 128).name}"
    return f"ended with status {status}"


class _Output:
    """Prints the workers' lines as one stream, and keeps the chief's figures under `--json`."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.figures: dict[str, Any] = {}

    def show(self, index: int, is_error: bool, line: str) -> None:
        if self._as_json and not is_error and line.startswith("{"):
            try:
                figures = json.loads(line)
            except ValueError:
                pass
            else:
                self.figures = figures if index == 0 else self.figures
                return
        print(f"[{index}] {line}" if index else line, file=sys.stderr if is_error else sys.stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main())
