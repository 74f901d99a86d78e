"""Memory that is kept for good, and memory that goes back."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from serving.lifecycle.versions import VersionHistory
from serving.monitoring import memory as process_memory
from serving.specs import ServableId, State, VersionStatus

ROOT = Path(__file__).resolve().parents[3]


class Circle:
    """Holds itself, as a TensorFlow graph and its operations do."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def by_hand():
    """No collection but those that are asked for."""
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def test_giving_back_frees_circles(by_hand):
    gone = weakref.ref(Circle())
    assert gone() is not None
    process_memory.release_memory()
    assert gone() is None


def test_where_the_c_library_cannot_trim(monkeypatch):
    monkeypatch.setattr(process_memory, "_c_function", lambda name: None)
    gone = weakref.ref(Circle())
    process_memory.release_memory()
    assert gone() is None


def test_freezing_leaves_what_is_there_out_of_collections(by_hand):
    before, garbage = Circle(), weakref.ref(Circle())
    process_memory.freeze()
    # Garbage went first; what lived then is looked at no more, what comes later is.
    assert garbage() is None
    old, new = weakref.ref(before), weakref.ref(Circle())
    del before
    process_memory.release_memory()
    assert old() is not None
    assert new() is None


def ended(version):
    return VersionStatus(version, State.END)


def test_history_forgets_the_oldest_version_of_a_model():
    history = VersionHistory(versions=2)
    for version in (1, 2, 1, 3):
        history.remember("m", ended(version))
    assert sorted(history.of("m")) == [ended(1), ended(3)]
    history.forget(ServableId("m", 3))
    history.forget(ServableId("m", 9))
    assert history.of("m") == [ended(1)]


def test_history_forgets_the_model_longest_untouched():
    history = VersionHistory(models=2)
    for name in ("a", "b", "a", "c"):
        history.remember(name, ended(1))
    assert [history.of(name) for name in "abc"] == [[ended(1)], [], [ended(1)]]


KEEPS = """
import ctypes, os, sys
from serving.monitoring import memory as process_memory
if sys.argv[1] == "keep":
    process_memory.keep_freed_memory()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
before = resident()
block = libc.malloc(ctypes.c_size_t(200_000_000))
ctypes.memset(block, 1, 200_000_000)
libc.free(ctypes.c_void_p(block))
freed = resident()
process_memory.release_memory()
print(freed - before, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("keep", [True, False])
def test_freed_blocks_are_kept_until_they_are_given_back(keep):
    words = [sys.executable, "-c", KEEPS, "keep" if keep else "no"]
    printed = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT, timeout=60).stdout
    freed, given_back = map(int, printed.split())
    assert (freed > 150_000_000) == keep
    assert given_back < 50_000_000
