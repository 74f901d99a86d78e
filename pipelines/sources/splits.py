"""Which side of a split a picture is on, and which pictures a split holds, by hashes of their keys."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

import numpy as np

_BITS = 64


def held_out(keys: Iterable[bytes], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Chooses the validation share of a training set.

    A picture's side is decided by a hash of its key and the seed alone: pictures that are added or removed
    later move no other, and a larger share contains a smaller one. Each class gives up about its share.

    Classes too small for that are the exception: one of two pictures or more gives up at least one, the one
    with the lowest hash, and keeps at least one.

    Args:
      keys: of the pictures, n of them; names that differ in their Unicode form alone count as one name.
      labels: int64 [n].
      fraction: share held out, between 0 and 1.
      seed: decides which pictures.

    Returns:
      bool [n], True for validation.
    """
    hashes = _hashes(keys, b"held out %d" % seed)
    chosen = hashes < np.uint64(min(int(fraction * 2**_BITS), 2**_BITS - 1))
    order = np.lexsort((hashes, labels))
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1) if len(labels) else [])
    for members in np.split(order, starts[1:]):
        if len(members) > 1:
            chosen[members[0]], chosen[members[-1]] = True, False
        else:
            chosen[members] = False
    return chosen


def fingerprints(keys: Iterable[bytes]) -> np.ndarray:
    """What tells one set of pictures from another: a hash of each key, uint64 [n], ascending."""
    return np.sort(_hashes(keys, b"fingerprint"))


def _hashes(keys: Iterable[bytes], purpose: bytes) -> np.ndarray:
    """64 bits of a hash of each key, uint64 [n]."""
    start = hashlib.blake2b(digest_size=_BITS // 8, key=purpose)

    def digest(key: bytes) -> bytes:
        own = start.copy()
        own.update(_normal_form(key))
        return own.digest()

    return np.frombuffer(b"".join(map(digest, keys)), ">u8").astype(np.uint64)


def _normal_form(key: bytes) -> bytes:
    """A key whose letters are composed: file systems keep ü as one character or as two."""
    if key.isascii():
        return key
    text = key.decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")
