"""What the commands of this package share: one-line errors, `--json`, exit statuses. No heavy import.

A copy in part of `pipelines.command`, because this package imports no other: its only contract with them is
the SavedModel. tests/house/test_commands_agree.py holds the two to the same behaviour.
"""

from __future__ import annotations

import argparse
import atexit
import codecs
import contextlib
import errno
import importlib
import io
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping

from serving.errors import ServingError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, which not every system names
# Of TF_CPP_MIN_LOG_LEVEL.
_EVERYTHING, _WARNINGS = "0", "1"
_WARNING = re.compile(rb"[WEF]\d{4} ")  # how such a line begins
_ESCAPES = "shown_by_escapes"


class UserError(ValueError):
    """A setting that cannot be used; its text is a message for the user."""


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`, which makes the last line of stdout one JSON object with the command's figures."""
    parser.add_argument(
        "--json", action="store_true", help="print the figures as one JSON object, last line of stdout"
    )


def path(text: str) -> str:
    """The type of an option that takes a file or folder: `~` is expanded, as no shell does after `=`."""
    return os.path.expanduser(text)


def run(body: Callable[[], Mapping[str, object]], *, as_json: bool = False) -> int:
    """Runs a command's body and turns what a user can cause into one line on stderr.

    Args:
      body: does the work and returns the command's figures.
      as_json: prints the figures as the last line of stdout.

    Returns:
      The exit status: 0, 2 for a user's error and for a server's error, 130 after Ctrl-C, 141 when nobody
      reads the output any more.
    """
    escape_unprintable()
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
    are shown after all when the import fails. TF_CPP_MIN_LOG_LEVEL=0 asks for all of them, 1 for warnings
    and errors.
    """
    settle_environment()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors of connections reach the caller anyway
    if "tensorflow" in sys.modules:
        return
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with contextlib.nullcontext() if level == _EVERYTHING else _native_stderr_held(level == _WARNINGS):
        importlib.import_module("tensorflow").config.list_physical_devices()  # the search has notices too


def settle_environment() -> None:
    """Sets what Keras and matplotlib, which TensorFlow imports, read when they are imported.

    A notebook's MPLBACKEND, which its `!command` inherits, need not exist here, and the settings of the
    user's own Keras programs are no business of a server.
    """
    os.environ["MPLBACKEND"] = "Agg"
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
        os.environ["KERAS_HOME"] = os.devnull  # no folder: nothing is read from it or written to it


@contextlib.contextmanager
def _native_stderr_held(warnings: bool) -> Iterator[None]:
    """Holds back what is written to file descriptor 2; shows it when the block raises.

    Args:
      warnings: whether TensorFlow's lines of warnings and errors are shown in any case.
    """
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
        else:
            notices.seek(0)
            os.write(stderr, b"".join(line for line in notices if warnings and _WARNING.match(line)))
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def print_error(message: str) -> None:
    """Prints an error in one line on stderr, whatever characters it holds."""
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


def escape_unprintable() -> None:
    """Has stdout and stderr show by escapes what their encodings lack, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != _ESCAPES:
            with contextlib.suppress(OSError, ValueError):  # it has no reader, or is closed
                stream.reconfigure(errors=_escapes())


def printable(text: str) -> str:
    """Text that stdout's encoding can print: file names and labels may hold bytes that are no characters."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, _escapes()).decode(encoding)


def _escapes() -> str:
    """The name of an error handler of `str.encode` for characters that an encoding lacks."""
    codecs.register_error(_ESCAPES, _escape)
    return _ESCAPES


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Escapes like `\xff` for the bytes of a file's name, and like `\u4e2d` for other characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = [
        f"\\x{ord(one) - 0xDC00:02x}"
        if "\udc80" <= one <= "\udcff"
        else one.encode("ascii", "backslashreplace").decode()
        for one in error.object[error.start : error.end]
    ]
    return "".join(shown), error.end


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
