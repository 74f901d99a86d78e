"""Perceptual hashes of pictures: a short one to find copies by, and a long one to be sure by.

The short one is the DCT hash known as pHash (Zauner, "Implementation and Benchmarking of Perceptual Image
Hash Functions", 2010): 64 bits that say which of the 8 x 8 lowest frequencies lie above their median. The
long one is a difference hash: 256 bits that say where the picture becomes brighter from left to right.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIDE = 32  # of the gray pictures that are hashed
BITS, LONG_BITS = 64, 256
WORDS = LONG_BITS // 64
# Grey levels of standard deviation below which a picture shows nothing that a hash could tell.
FLAT = 3.0

_FREQUENCIES = 8
_ROWS = 16


class Hashes(NamedTuple):
    """Hashes of n pictures: `short` uint64 [n] and `long` uint64 [n, WORDS]."""

    short: np.ndarray
    long: np.ndarray

    def take(self, which: np.ndarray) -> Hashes:
        """Those that a mask or an index array chooses."""
        return Hashes(self.short[which], self.long[which])


def hashes(gray: np.ndarray) -> Hashes:
    """The hashes of gray pictures, float32 [n, SIDE, SIDE]."""
    gray = np.asarray(gray, np.float32)
    waves = _cosines()
    spectrum = (waves @ gray @ waves.T).reshape(len(gray), BITS)
    # The first is the mean brightness, of which nobody asks.
    middle = np.median(spectrum[:, 1:], axis=1, keepdims=True)
    cells = _areas(_ROWS) @ gray @ _areas(_ROWS + 1).T
    return Hashes(_packed(spectrum > middle)[:, 0], _packed(cells[:, :, 1:] > cells[:, :, :-1]))


def mirrored(gray: np.ndarray) -> np.ndarray:
    """The pictures flipped left to right."""
    return gray[:, :, ::-1]


def is_flat(gray: np.ndarray) -> np.ndarray:
    """Which pictures are of nearly one colour; bool [n]."""
    return np.asarray(gray.reshape(len(gray), -1).std(axis=1) < FLAT)


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """In how many bits hashes differ, int64 [n]; uint64 [n] or [n, words] each."""
    bits = np.bitwise_count(one ^ other)
    return np.asarray(bits.sum(axis=1, dtype=np.int64) if bits.ndim > 1 else bits.astype(np.int64))


def _packed(bits: np.ndarray) -> np.ndarray:
    """Bool [n, ...] as uint64 [n, bits / 64]."""
    return np.packbits(bits.reshape(len(bits), -1), axis=1).view(np.uint64)


def _cosines() -> np.ndarray:
    """The lowest frequencies of the orthonormal DCT-II, float32 [_FREQUENCIES, SIDE]."""
    places, waves = np.arange(SIDE) + 0.5, np.arange(_FREQUENCIES)[:, np.newaxis]
    cosines = np.sqrt(2.0 / SIDE) * np.cos(np.pi / SIDE * waves * places)
    cosines[0] /= np.sqrt(2.0)
    return cosines.astype(np.float32)


def _areas(cells: int) -> np.ndarray:
    """Float32 [cells, SIDE]: the share of each pixel in the mean of each of so many equal parts."""
    edges = np.arange(cells + 1) * SIDE / cells
    low = np.maximum(edges[:-1, np.newaxis], np.arange(SIDE))
    high = np.minimum(edges[1:, np.newaxis], np.arange(SIDE) + 1)
    return (np.maximum(high - low, 0.0) * cells / SIDE).astype(np.float32)
