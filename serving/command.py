"""What the commands of this package share: one-line errors, `--json`, exit statuses. No heavy import.

A copy in part of `pipelines.command`, because this package imports no other: its only contract with them is
the SavedModel. tests/house/test_commands_agree.py holds the two to the same behaviour.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping

from serving.errors import ServingError

EXIT_USER_ERROR = 2
# Of TF_CPP_MIN_LOG_LEVEL: everything, and warnings.
_LEVELS_OF_NOTICES = ("0", "1")
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, which not every system names


class UserError(ValueError):
    """A setting that cannot be used; its text is a message for the user."""


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`, which makes the last line of stdout one JSON object with the command's figures."""
    parser.add_argument(
        "--json", action="store_true", help="print the figures as one JSON object, last line of stdout"
    )


def run(body: Callable[[], Mapping[str, object]], *, as_json: bool = False) -> int:
    """Runs a command's body and turns what a user can cause into one line on stderr.

    Args:
      body: does the work and returns the command's figures.
      as_json: prints the figures as the last line of stdout.

    Returns:
      The exit status: 0, 2 for a user's error and for a server's error, 130 after Ctrl-C, 141 when nobody
      reads the output any more.
    """
    try:
        return _run(body, as_json)
    except BrokenPipeError:
        drop_unread()
        return EXIT_BROKEN_PIPE


def _run(body: Callable[[], Mapping[str, object]], as_json: bool) -> int:
    """As `run`, but raises BrokenPipeError when stdout or stderr has no reader any more."""
    try:
        figures = body()
        if as_json:
            print(json.dumps(figures, default=float))
        sys.stdout.flush()
    except (UserError, ServingError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(describe_os_error(error))
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


@atexit.register  # --help and a usage error end the program before `run`
def drop_unread() -> None:
    """Discards buffered output that has no reader or no room; Python would complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        except (AttributeError, ValueError):  # there is none, or it is closed
            pass


def quiet_tensorflow() -> None:
    """Imports TensorFlow without its start-up notices, unless the user asked for them.

    They come before its own log level is read, so that only the file descriptor can hold them back; they
    are shown after all when the import fails. TF_CPP_MIN_LOG_LEVEL=0 or 1 asks for them.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors of connections reach the caller anyway
    if "tensorflow" in sys.modules:
        return
    asked = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in _LEVELS_OF_NOTICES
    with contextlib.nullcontext() if asked else _native_stderr_held():
        importlib.import_module("tensorflow").config.list_physical_devices()  # the search has notices too


@contextlib.contextmanager
def _native_stderr_held() -> Iterator[None]:
    """Holds back what is written to file descriptor 2; shows it when the block raises."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except BaseException:
            notices.seek(0)
            os.write(stderr, notices.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def print_error(message: str) -> None:
    """Prints an error in one line on stderr, whatever characters it holds."""
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text that stdout's encoding can print: file names and labels may hold bytes that are no characters."""
    encoding = sys.stdout.encoding or "utf-8"
    whole = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return whole.encode(encoding, "backslashreplace").decode(encoding)


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


def _fail(message: str) -> int:
    print_error(message)
    return EXIT_USER_ERROR
