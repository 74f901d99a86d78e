"""Selectivity of kernels for colour, orientation and frequency, and tests of a difference between towers.

By hand: the indices are in no library, and SciPy's permutation test doubles the smaller tail where this one
counts both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# Orders of the kernels that a permutation test draws.
PERMUTATIONS = 9999
# Shares of a kernel's power below this are no pattern.
ROUNDING = 1e-12
# What the colour index of random weights is on average.
RANDOM_COLOUR = 2 / 3


class Indices(NamedTuple):
    """Selectivity indices, one value a kernel, each float32 [n]; all 0 for a kernel of zeros.

    Attributes:
      colour: share of the energy off the grey axis, 0..1.
      orientation: one minus the circular variance of the power spectrum, 0..1.
      frequency: mean spatial frequency, in cycles a pixel.
    """

    colour: np.ndarray
    orientation: np.ndarray
    frequency: np.ndarray

    def take(self, kernels: slice) -> Indices:
        """Those of some of the kernels."""
        return Indices(*(values[kernels] for values in self))


def indices(kernels: np.ndarray) -> Indices:
    """How selective kernels are for colour and orientation, and which frequency they prefer.

    Args:
      kernels: float [h, w, 3, n], in red, green and blue.
    """
    weights = np.asarray(kernels, np.float64)
    energy = np.square(weights).sum(axis=(0, 1, 2))
    grey = np.square(weights.sum(axis=2) / np.sqrt(3.0)).sum(axis=(0, 1))
    # The plain transform of the kernel's own size: its mean falls on frequency zero alone.
    power = np.square(np.abs(np.fft.fft2(weights, axes=(0, 1)))).sum(axis=2)
    across, down = np.meshgrid(np.fft.fftfreq(weights.shape[1]), np.fft.fftfreq(weights.shape[0]))
    radius, turned = np.hypot(across, down), np.exp(2j * np.arctan2(down, across))
    changing, all_power = power * (radius > 0)[..., None], power.sum(axis=(0, 1))
    changes = changing.sum(axis=(0, 1))
    # The transform of a plain field leaves a rounding error at other frequencies, oriented by chance.
    changes = np.where(changes > ROUNDING * all_power, changes, 0.0)
    return Indices(
        _share(np.maximum(energy - grey, 0.0), energy),
        _share(np.abs(np.einsum("hw,hwn->n", turned, changing)), changes),
        _share(np.einsum("hw,hwn->n", radius, power), all_power),
    )


def summarise(found: Indices, labels: tuple[str, ...]) -> dict[str, Any]:
    """Medians of each tower and, of two, whether they differ.

    Args:
      found: of all kernels, the towers' equal shares one after the other.
      labels: names of the towers; one label for a network without.

    Returns:
      `towers`: a tower's name -> its medians; and of two towers `difference`: an index -> the second's
      median minus the first's; `ahead`, the probability that a kernel of the second has a larger value
      than one of the first (0.5: no difference; Vargha and Delaney 2000); and `p`, of a permutation test.
    """
    towers = split(found, labels)
    summary: dict[str, Any] = {
        "kernels": len(found.colour),
        "towers": {
            label or "all": {name: float(np.median(values)) for name, values in own._asdict().items()}
            for label, own in towers.items()
        },
    }
    if len(towers) == 2:
        first, second = towers.values()
        summary["difference"] = {
            name: {
                "medians": float(np.median(b) - np.median(a)),
                "ahead": superiority(a, b),
                "p": permutation_test(a, b),
            }
            for name, a, b in zip(Indices._fields, first, second, strict=True)
        }
    return summary


def split(found: Indices, labels: tuple[str, ...]) -> dict[str, Indices]:
    """A tower's name -> the values of its kernels, equal shares in order."""
    share = len(found.colour) // len(labels)
    return {label: found.take(slice(i * share, (i + 1) * share)) for i, label in enumerate(labels)}


def superiority(first: np.ndarray, second: np.ndarray) -> float:
    """The probability that a value of `second` is larger than one of `first`; ties count half."""
    signs = np.sign(np.asarray(second)[:, None] - np.asarray(first)[None])
    return float((signs.mean() + 1) / 2)


def permutation_test(
    first: np.ndarray, second: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """Two-sided p-value of a permutation test for a difference of means.

    The kernels as they are count as one deal, so that the smallest value is 1 / (permutations + 1)
    (Phipson and Smyth 2010).
    """
    both = np.concatenate([first, second]).astype(np.float64)
    observed = abs(np.mean(second, dtype=np.float64) - np.mean(first, dtype=np.float64))
    generator = np.random.default_rng(seed)
    dealt = generator.permuted(np.tile(both, (permutations, 1)), axis=1)
    apart = np.abs(dealt[:, len(first) :].mean(axis=1) - dealt[:, : len(first)].mean(axis=1))
    # Sums of the same values in another order differ in their last digits.
    return float((1 + np.count_nonzero(apart >= observed * (1 - 1e-9))) / (1 + permutations))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The ratio as float32, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0).astype(np.float32)
