"""Memory: TensorFlow's allocator, what glibc keeps, and returning memory once a model is unloaded."""

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
    """Makes TensorFlow allocate memory from the C library; effective only before TensorFlow is imported.

    oneDNN's own allocator never returns the memory of an unloaded version.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")


def keep_freed_memory() -> None:
    """Makes glibc keep up to a gigabyte of freed memory until `release_memory`; no effect elsewhere.

    By default it returns every large block to the system at once and takes it again for the next request,
    page by page: on two cores that took a tenth of a batching server's time, and half of it with
    --mixed_precision, which makes a copy of the weights for every batch.
    """
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def freeze() -> None:
    """Excludes all current objects from later garbage collections; called once the server is assembled.

    TensorFlow's modules alone have 325,000 objects: a collection that visits them takes 0.15 s, in which no
    request is answered, at every unload and at times in between. Without them it takes milliseconds.
    """
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Frees unreachable reference cycles, then the freed memory that the C library keeps.

    Without the second step a process stays as large as the largest set of models it ever held at once.
    """
    gc.collect()
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


@functools.cache
def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the C library, called without the interpreter's lock; None where there is none."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function
