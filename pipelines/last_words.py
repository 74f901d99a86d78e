"""Output of C libraries to stderr, held back and shown only if the process crashes. No TensorFlow import.

libjpeg and others print lines about single pictures straight to file descriptor 2, among the bars and the
one-line errors of a command; no log level reaches them. Yet the last thing a crashing library says must be
seen. So the descriptor leads to a small process of its own, which outlives a crash; Python's stderr keeps
the terminal. This file is that process's program too.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import os
import subprocess
import sys

KEPT_LINES, KEPT_BYTES = 200, 1 << 16
# What libjpeg says of pictures that are broken; no crash is explained by it.
OF_PICTURES = (
    b"Corrupt JPEG data",
    b"Premature end of JPEG",
    b"Improper call to JPEG library",
    b"Unsupported marker type",
    b"Inconsistent progression sequence",
    b"Invalid SOS parameters",
    b"Warning: unknown JFIF",
    b"Unknown Adobe color transform",
    b"Not a JPEG file",
    b"Bogus ",
    b"Application transferred too",
)
# A line that no library writes: the program ends without showing anything.
_FAREWELL = b"\0last_words: all went well\0"
_END_SECONDS = 5.0


def keep() -> None:
    """Redirects file descriptor 2 to a helper process; Python's stderr goes on to where it led.

    Does nothing where stderr is not that descriptor (a notebook), or where this is process 1, with which
    a container ends at once.
    """
    stderr = sys.__stderr__
    if stderr is None or sys.stderr is not stderr or os.getpid() == 1:
        return
    try:
        if stderr.fileno() != 2:
            return
    except (OSError, ValueError):
        return
    read_end, write_end = os.pipe()
    # A session of its own: Ctrl-C at the terminal is not meant for it.
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", os.path.abspath(__file__)],
        stdin=read_end,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(read_end)
    stderr.flush()
    # As Python opens it, but for the number of the descriptor.
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc]  # noqa: SIM115
        os.dup(2), "w", buffering=1, encoding=stderr.encoding, errors=stderr.errors, closefd=False
    )
    os.dup2(write_end, 2)
    os.close(write_end)
    atexit.register(_end, keeper)


def _end(keeper: subprocess.Popen[bytes]) -> None:
    """Ends without showing the held output, unless an exception that nobody caught ends the interpreter."""
    if getattr(sys, "last_value", None) is not None:
        return
    with contextlib.suppress(OSError):
        os.write(2, b"\n" + _FAREWELL + b"\n")
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)  # threads of libraries may still be at work
    with contextlib.suppress(subprocess.TimeoutExpired):
        keeper.wait(_END_SECONDS)


def _main() -> None:
    """Keeps the last lines of stdin, and prints them if it ends without the closing mark."""
    lines: collections.deque[bytes] = collections.deque(maxlen=KEPT_LINES)
    rest = b""
    while new := os.read(0, 1 << 16):
        *whole, rest = (rest + new).split(b"\n")
        if _FAREWELL in whole:
            return
        lines.extend(line for line in whole if not line.startswith(OF_PICTURES))
        rest = rest[-KEPT_BYTES:]
    if rest and not rest.startswith(OF_PICTURES):
        lines.append(rest)
    with contextlib.suppress(OSError):
        os.write(2, b"".join(line + b"\n" for line in lines))


if __name__ == "__main__":
    _main()
