"""When two tensors count as equal."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from serving.client_base import BINARY

PNG = b"\x89PNG"
# A drawn picture may differ by rounding: mean difference of a pixel, in levels of 255.
PIXEL_TOLERANCE = 1.0


class Tolerance(NamedTuple):
    """Numbers are equal when |a - b| <= absolute + relative * |b|. Strings must be equal."""

    relative: float
    absolute: float


def difference(name: str, got: Any, expected: Any, tolerance: Tolerance) -> str:
    """How two tensors in nested lists differ; empty when they are equal."""
    one, other = np.array(got, object), np.array(expected, object)
    if one.shape != other.shape:
        return f"{name}: shape {list(one.shape)}, expected {list(other.shape)}"
    if not other.size:
        return ""
    if isinstance(other.flat[0], (str, bytes)):
        return next(filter(None, (_text(name, a, b) for a, b in zip(one.flat, other.flat, strict=True))), "")
    try:
        a, b = one.astype(np.float64), other.astype(np.float64)
    except (TypeError, ValueError):
        return f"{name}: {one.flat[0]!r}, expected {other.flat[0]!r}"
    if np.allclose(a, b, tolerance.relative, tolerance.absolute, equal_nan=True):
        return ""
    return f"{name}: largest difference {np.nanmax(np.abs(a - b)):.3g}"


def _text(name: str, got: Any, expected: Any) -> str:
    if got == expected:
        return ""
    if name.endswith(BINARY) and isinstance(got, bytes) and got.startswith(PNG) and expected.startswith(PNG):
        apart = _pixels_apart(got, expected)
        return "" if apart <= PIXEL_TOLERANCE else f"{name}: pixels differ by {apart:.3g} levels"
    return f"{name}: {json.dumps(got, default=repr)[:60]}, expected {json.dumps(expected, default=repr)[:60]}"


def _pixels_apart(got: bytes, expected: bytes) -> float:
    """Mean absolute difference in levels; 255 when the sizes differ."""
    one, other = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float64) for png in (got, expected)
    )
    return float(np.abs(one - other).mean()) if one.shape == other.shape else 255.0
