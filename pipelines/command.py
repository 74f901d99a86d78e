"""Behaviour that every command shares: one-line errors, `--json`, exit statuses. No TensorFlow import."""

from __future__ import annotations

import argparse
import atexit
import codecs
import contextlib
import errno
import io
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from pipelines import last_words, progress
from pipelines.errors import DataError, UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, which not every system names
# Of TF_CPP_MIN_LOG_LEVEL.
_EVERYTHING, _WARNINGS = "0", "1"
_WARNING = re.compile(rb"[WEF]\d{4} ")  # how such a line begins
_ESCAPES = "shown_by_escapes"


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`, which makes the last line of stdout one JSON object with the command's figures."""
    parser.add_argument(
        "--json", action="store_true", help="print the figures as one JSON object, last line of stdout"
    )


def add_strict_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--strict`, which makes the first picture that cannot be read an error."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="the first picture that cannot be read is an error, not left out",
    )


def path(text: str) -> str:
    """The type of an option that takes a file or folder: `~` is expanded, as no shell does after `=`."""
    return os.path.expanduser(text)


def settle_environment() -> None:
    """Sets what Keras and matplotlib read when they are imported to what the commands need.

    TensorFlow imports both. A notebook's MPLBACKEND, which its `!command` inherits, need not exist here; the
    commands draw into files. Loop, pipelines and export are TensorFlow's, whatever backend, number type or
    layout of pictures the user's programs take from KERAS_BACKEND or keras.json, which is not read then.
    """
    os.environ["MPLBACKEND"] = "Agg"
    if "keras" in sys.modules:  # a program of the user's calls a command: too late
        return
    backend = os.environ.get("KERAS_BACKEND", "")
    if backend not in ("", "tensorflow"):
        print(f"KERAS_BACKEND={backend} is not followed: this command needs tensorflow", file=sys.stderr)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = os.devnull  # no folder: nothing is read from it or written to it


def escape_unprintable() -> None:
    """Has stdout and stderr show by escapes what their encodings lack, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != _ESCAPES:
            with contextlib.suppress(OSError, ValueError):  # it has no reader, or is closed
                stream.reconfigure(errors=_escapes())


def printable(text: str, encoding: str = "utf-8") -> str:
    """Text that `encoding` has: names of files may hold bytes that are no characters."""
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


def quiet_tensorflow(*, errors: bool = True, told: bool = False) -> None:
    """Imports TensorFlow without its start-up notices, unless the user asked for them.

    They come before its own log level is read, so that only the file descriptor can hold them back; they
    are shown after all when the import fails. What it and the libraries in it write to stderr later is
    shown when the process crashes (see `last_words`). TF_CPP_MIN_LOG_LEVEL=0 asks for all of it, 1 for
    warnings and errors.

    Args:
      errors: whether TensorFlow's own lines about errors are among what is shown.
      told: whether a log, too, says at once that this goes on, which takes a slow disk long.
    """
    settle_environment()
    if "tensorflow" in sys.modules:
        return
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if errors else "3")
    held = contextlib.nullcontext() if level == _EVERYTHING else _native_stderr_held(level == _WARNINGS)
    at_once = told or sys.stderr.isatty()
    with held, progress.phase("loading TensorFlow", at_once=at_once):
        import tensorflow as tf

        tf.config.list_physical_devices()  # the search for GPUs has its notices too
    if level not in (_EVERYTHING, _WARNINGS):
        _keep_last_words()


@contextlib.contextmanager
def _native_stderr_held(warnings: bool) -> Iterator[None]:
    """Holds back what is written to file descriptor 2, and shows it only when the block raises.

    Args:
      warnings: whether TensorFlow's lines of warnings and errors are shown in any case.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices, _copy_of(stderr) as shown:
        os.dup2(notices.fileno(), 2)
        try:
            with progress.REPORTER.to(shown):
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


@contextlib.contextmanager
def _copy_of(descriptor: int) -> Iterator[TextIO]:
    """A second stream to a file descriptor's target; closing it is no error when its reader has left."""
    stream = open(os.dup(descriptor), "w", encoding="utf-8", errors=_escapes())  # noqa: SIM115 - closed below
    try:
        yield stream
    finally:
        # What nobody has read is written again, and refused again; the descriptor is closed all the same.
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def run(
    body: Callable[[], dict[str, Any]],
    *,
    as_json: bool = False,
    tensorflow: bool = True,
    outlives_reader: bool = False,
) -> int:
    """Runs a command's body and turns what a user can cause into one line on stderr.

    A UserError, a DataError and an OSError are such; their texts are messages for the user.

    Args:
      body: does the work and returns the command's figures.
      as_json: prints the figures as the last line of stdout.
      tensorflow: whether the body uses TensorFlow, which is then imported quietly first.
      outlives_reader: goes on when nobody reads what is printed any more, and ends as it otherwise would;
        for a body whose work is worth more than its printing.

    Returns:
      The exit status: 0, 2 for a user's error (or its attribute `exit_status`), 130 after Ctrl-C, 141 when
      nobody reads what it prints any more, as after `| head`.
    """
    escape_unprintable()
    try:
        settle_environment()
        with _read_or_not() if outlives_reader else contextlib.nullcontext():
            return _run(body, as_json, tensorflow, outlives_reader)
    except BrokenPipeError:
        drop_unread()
        return EXIT_BROKEN_PIPE


def _run(
    body: Callable[[], dict[str, Any]],
    as_json: bool,
    tensorflow: bool,
    outlives_reader: bool,
) -> int:
    """As `run`, but raises BrokenPipeError when the reader of stdout leaves and is not outlived."""
    try:
        with progress.shown():
            if tensorflow:
                quiet_tensorflow()
            figures = body()
        if as_json:
            print(json.dumps(figures, default=float))
        sys.stdout.flush()
    except (UserError, DataError) as error:
        return _fail(str(error), getattr(error, "exit_status", EXIT_USER_ERROR))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not outlives_reader:
            raise  # the reader's; of one that is outlived it can only be a connection's
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
            _drop(stream)
        except (AttributeError, ValueError):  # there is none, or it is closed
            pass


def _drop(stream: TextIO) -> None:
    """Redirects a stream, with what it still holds, to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class _Unread:
    """A stream that accepts output whether or not somebody reads it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._reader_may_leave():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._reader_may_leave():
            self.stream.flush()

    @contextlib.contextmanager
    def _reader_may_leave(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            _drop(self.stream)


@contextlib.contextmanager
def _read_or_not() -> Iterator[None]:
    """While the block runs, it is no error when the reader of stdout or stderr leaves."""
    sys.stdout, sys.stderr = (cast("TextIO", _Unread(stream)) for stream in (sys.stdout, sys.stderr))
    try:
        yield
    finally:  # what stands there then: `last_words` puts another stderr in its place
        for name in ("stdout", "stderr"):
            if isinstance(stream := getattr(sys, name), _Unread):
                setattr(sys, name, stream.stream)


def _keep_last_words() -> None:
    """Calls `last_words.keep` with Python's own stderr in place, also where an `_Unread` wraps it."""
    wrapped = sys.stderr if isinstance(sys.stderr, _Unread) else None
    if wrapped is not None:
        sys.stderr = wrapped.stream
    last_words.keep()
    if wrapped is not None:
        sys.stderr = cast("TextIO", _Unread(sys.stderr))


def describe_os_error(error: OSError) -> str:
    """One line that describes an operating system error, with a cure for the usual ones."""
    where = f"{error.filename}: " if error.filename else ""
    cure = {
        errno.ENOSPC: " (free some space or choose another folder, then run the same command again)",
        errno.EDQUOT: " (the quota is used up: free some space, then run the same command again)",
        errno.EROFS: " (choose a folder that can be written)",
        errno.EACCES: " (choose a folder that you may write, or change its permissions)",
    }.get(error.errno or 0, "")
    return f"{where}{error.strerror or error}{cure}"


def _fail(message: str, status: int = EXIT_USER_ERROR) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return status
