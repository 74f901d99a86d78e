"""What every command shares: one-line errors, `--json`, exit codes. No TensorFlow import."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from pipelines import last_words, progress
from pipelines.config import DataError

EXIT_USER_ERROR = 2
# Of TF_CPP_MIN_LOG_LEVEL: everything, and warnings.
_LEVELS_OF_NOTICES = ("0", "1")
EXIT_INTERRUPTED = 128 + signal.SIGINT


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`, which makes the last line of stdout one JSON object with the command's figures."""
    parser.add_argument(
        "--json", action="store_true", help="print the figures as one JSON object, last line of stdout"
    )


def quiet_tensorflow(*, errors: bool = True, told: bool = False) -> None:
    """Imports TensorFlow without its start-up notices, unless the user asked for them.

    They come before its own log level is read, so that only the file descriptor can hold them back; they
    are shown after all when the import fails. What it and the libraries in it write to stderr later is
    shown when the process crashes (see `last_words`). TF_CPP_MIN_LOG_LEVEL=0 or 1 asks for all of it.

    Args:
      errors: whether TensorFlow's own lines about errors are among what is shown.
      told: whether a log, too, says at once that this goes on, which takes a slow disk long.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "tensorflow" in sys.modules:
        return
    asked = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if errors else "3") in _LEVELS_OF_NOTICES
    held = contextlib.nullcontext() if asked else _native_stderr_held()
    at_once = told or sys.stderr.isatty()
    with held, progress.phase("loading TensorFlow", at_once=at_once):
        import tensorflow as tf

        tf.config.list_physical_devices()  # the search for GPUs has its notices too
    if not asked:
        last_words.keep()


@contextlib.contextmanager
def _native_stderr_held() -> Iterator[None]:
    """Keeps what is written to file descriptor 2; shows it when the block raises."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices, open(os.dup(stderr), "w", encoding="utf-8") as shown:
        os.dup2(notices.fileno(), 2)
        try:
            with progress.REPORTER.to(shown):
                yield
        except BaseException:
            notices.seek(0)
            os.write(stderr, notices.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def run(
    body: Callable[[], dict[str, Any]],
    *,
    as_json: bool = False,
    user_errors: tuple[type[Exception], ...] = (DataError,),
    tensorflow: bool = True,
) -> int:
    """Runs a command's body and turns what a user can cause into one line on stderr.

    Args:
      body: does the work and returns the command's figures.
      as_json: prints the figures as the last line of stdout.
      user_errors: exceptions whose text is a message for the user.
      tensorflow: whether the body uses TensorFlow, which is then imported quietly first.

    Returns:
      The exit status: 0, 2 for a user's error (or its attribute `exit_status`), 130 after Ctrl-C.
    """
    try:
        with progress.shown():
            if tensorflow:
                quiet_tensorflow()
            figures = body()
    except user_errors as error:
        return _fail(str(error), getattr(error, "exit_status", EXIT_USER_ERROR))
    except OSError as error:
        return _fail(describe_os_error(error))
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    if as_json:
        print(json.dumps(figures, default=float), flush=True)
    return 0


def describe_os_error(error: OSError) -> str:
    """One line for an operating system error, with the cure where there is a plain one."""
    where = f"{error.filename}: " if error.filename else ""
    cure = {
        errno.ENOSPC: " (free some space or choose another folder, then run the same command again)",
        errno.EDQUOT: " (the quota is used up: free some space, then run the same command again)",
        errno.EROFS: " (choose a folder that can be written)",
        errno.EACCES: " (choose a folder that you may write, or change its permissions)",
    }.get(error.errno or 0, "")
    return f"{where}{error.strerror or error}{cure}"


def _fail(message: str, status: int = EXIT_USER_ERROR) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status
