"""What the commands of this package share: one-line errors, `--json`, exit codes. No heavy import."""

from __future__ import annotations

import argparse
import atexit
import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping

from serving.errors import ServingError

EXIT_USER_ERROR = 2
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
      The exit status: 0, 2 for a user's error and for a server's refusal, 130 after Ctrl-C, 141 when
      nobody reads what it prints any more.
    """
    try:
        figures = body()
        if as_json:
            print(json.dumps(figures, default=float))
        sys.stdout.flush()
    except (UserError, ServingError) as error:
        return _fail(str(error))
    except BrokenPipeError:  # whoever read this has seen enough, as `head` does
        drop_unread()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


@atexit.register  # --help and a usage error end the program before `run`
def drop_unread() -> None:
    """Sends what stdout and stderr still hold nowhere if nobody reads it; Python's end would complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        except (AttributeError, ValueError):  # there is none, or it is closed
            pass


def quiet_tensorflow() -> None:
    """Imports TensorFlow without its start-up notices, unless the user asked for them.

    They come before its own log level is read, so that only the file descriptor can hold them back; they
    are shown after all when the import fails.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors of connections reach the caller anyway
    if "tensorflow" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            importlib.import_module("tensorflow").config.list_physical_devices()  # the search has notices too
        except BaseException:
            notices.seek(0)
            os.write(stderr, notices.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def print_error(message: str) -> None:
    """One line on stderr, whatever the text holds."""
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text as stdout can take it: file names and labels may hold bytes that are no characters."""
    encoding = sys.stdout.encoding or "utf-8"
    whole = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return whole.encode(encoding, "backslashreplace").decode(encoding)


def _fail(message: str) -> int:
    print_error(message)
    return EXIT_USER_ERROR
