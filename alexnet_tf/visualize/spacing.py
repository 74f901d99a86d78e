"""Evenly spaced places of an order, for figures that show a few of many pictures or units."""

from __future__ import annotations

import numpy as np


def evenly_spaced(total: int, most: int) -> np.ndarray:
    """At most `most` of the places 0..total-1, the first and the last among them: int64, ascending."""
    return np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(np.int64))
