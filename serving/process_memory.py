"""What is kept for good, and giving the rest back to the system once a model is gone."""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable


def freeze() -> None:
    """Leaves what is in memory now out of all later collections; for a server, once it is put together.

    TensorFlow's modules alone are 325,000 objects: looking through them takes 0.15 s, in which no request is
    answered, at every unloading and every now and then besides. Without them it takes milliseconds.
    """
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Frees what only circles of references hold, then what the C library keeps for later.

    Without the second step a process stays as large as the largest set of models it ever held at once: glibc
    keeps freed blocks of up to 32 MiB in its arenas.
    """
    gc.collect()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The C library's function (ctypes lets other threads run meanwhile); None where there is none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
