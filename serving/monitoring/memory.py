"""Who takes memory from the system, what is kept for good, and giving the rest back once a model is gone."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
from collections.abc import Callable

# glibc's malloc.h: parameters of mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 2**30


def use_system_allocator() -> None:
    """Has TensorFlow take memory from the C library; of effect only before TensorFlow is imported.

    oneDNN's own allocator never gives back what an unloaded version held.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")


def keep_at_hand() -> None:
    """Has glibc keep up to a gigabyte that was freed, in one heap, until `give_back`; no effect elsewhere.

    By default it hands the system every large block as it is freed and takes it anew for the next request,
    page by page: on two cores that took a tenth of a batching server's time, and half of it with
    --mixed_precision, which makes a copy of the weights for every batch.
    """
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def freeze() -> None:
    """Leaves what is in memory now out of all later collections; for a server, once it is put together.

    TensorFlow's modules alone are 325,000 objects: looking through them takes 0.15 s, in which no request is
    answered, at every unloading and every now and then besides. Without them it takes milliseconds.
    """
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Frees what only circles of references hold, then what the C library keeps for later.

    Without the second step a process stays as large as the largest set of models it ever held at once.
    """
    gc.collect()
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


@functools.cache
def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the C library (ctypes lets other threads run meanwhile); None where it has none."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function
