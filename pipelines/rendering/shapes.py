"""The objects of the built-in data set: each class's outline and surface pattern.

A class is known by both: a polygon in unit coordinates (the object reaches about 1 from its centre)
and a pattern, a signed field over the object's own coordinates whose sign says which of the
object's two colours a pixel takes. Fields are measured in pixels from the nearest border of the
pattern, so that a border is drawn equally sharp at every size. Which colour is which is left to the
scene: no class has a colour of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating]  # float32 throughout, for speed
Points = NDArray[np.floating]
Outline = Callable[[np.random.Generator], Points]
Pattern = Callable[[Floats, Floats, float, np.random.Generator], Floats]

TURN = 2.0 * math.pi


class Shape(NamedTuple):
    """One class: its readable name, its outline and the pattern of its surface."""

    name: str
    outline: Outline
    pattern: Pattern


def _wave(x: Floats) -> Floats:
    """A triangle wave of period 1 in [-0.25, 0.25]: positive on one half of each period."""
    return np.abs(x - np.floor(x) - np.float32(0.5)) - np.float32(0.25)


def _cell(x: Floats) -> Floats:
    """Position inside a cell of width 1, -0.5 to 0.5 from its centre."""
    return x - np.floor(x) - np.float32(0.5)


def _phase(rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    first, second = rng.random(2, dtype=np.float32)
    return first, second


# Outlines: rng -> points [N, 2], in order around the object.


def _polar(radius: Points, angle: Points) -> Points:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _angles(count: int) -> Points:
    return np.arange(count) * (TURN / count)


def _disc(rng: np.random.Generator) -> Points:
    angle = _angles(64)
    return _polar(np.ones(64), angle)


def _parasol(rng: np.random.Generator) -> Points:
    angle = _angles(120)
    scallops = int(rng.integers(7, 11))
    return _polar(0.86 + 0.14 * np.abs(np.sin(angle * scallops / 2)), angle)


def _board(rng: np.random.Generator) -> Points:
    height = rng.uniform(0.65, 0.85)
    return np.array([[-0.85, -height], [0.85, -height], [0.85, height], [-0.85, height]])


def _beetle(rng: np.random.Generator) -> Points:
    angle = _angles(72)
    body = 0.82 + 0.2 * np.exp(-((np.minimum(angle, TURN - angle) / 0.28) ** 4))
    return _polar(body, angle) * (1.0, 0.85)


def _starfish(rng: np.random.Generator) -> Points:
    angle = _angles(90)
    return _polar(0.42 + 0.62 * np.abs(np.cos(2.5 * angle)) ** 1.4, angle)


def _fish(rng: np.random.Generator) -> Points:
    along = np.linspace(-0.55, 1.0, 24)
    body = 0.64 * np.sqrt(np.clip(1.0 - ((along - 0.18) / 0.84) ** 2, 0.0, None))
    back = np.stack([along, -body], axis=1)
    tail = np.array([[-1.0, 0.6], [-0.84, 0.0], [-1.0, -0.6]])
    return np.concatenate([back, back[::-1] * (1.0, -1.0), tail])


def _house(rng: np.random.Generator) -> Points:
    return np.array(
        [[-0.75, 0.8], [0.75, 0.8], [0.75, -0.1], [0.95, -0.1], [0.55, -0.46], [0.55, -0.85]]
        + [[0.3, -0.85], [0.3, -0.68], [0.0, -0.95], [-0.95, -0.1], [-0.75, -0.1]]
    )


def _heart(rng: np.random.Generator) -> Points:
    angle = _angles(72)
    across = 16.0 * np.sin(angle) ** 3
    down = -(13.0 * np.cos(angle) - 5.0 * np.cos(2 * angle) - 2.0 * np.cos(3 * angle) - np.cos(4 * angle))
    return np.stack([across, down - 2.5], axis=1) / 16.0


def _leaf(rng: np.random.Generator) -> Points:
    along = np.linspace(-0.8, 1.0, 37)
    inside = (along + 0.8) / 1.8
    width = rng.uniform(1.0, 1.2) * np.sqrt(inside) * (1.0 - inside) ** 0.8 + 0.04 * (np.arange(37) % 4 == 1)
    edge = np.stack([along, -width], axis=1)
    stalk = np.array([[-0.8, 0.04], [-1.05, 0.06], [-1.05, -0.06], [-0.8, -0.04]])
    return np.concatenate([edge, edge[::-1] * (1.0, -1.0), stalk])


def _arrow(rng: np.random.Generator) -> Points:
    neck, half = rng.uniform(-0.05, 0.2), rng.uniform(0.28, 0.4)
    return np.array(
        [[1.0, 0.0], [neck, 0.85], [neck, half], [-0.95, half], [-0.95, -half], [neck, -half], [neck, -0.85]]
    )


def _moon(rng: np.random.Generator) -> Points:
    outer = np.linspace(0.7, TURN - 0.7, 48)
    tip = math.sin(0.7)
    depth = rng.uniform(0.3, 0.5)
    inner = np.linspace(TURN / 4, 3 * TURN / 4, 24)
    bite = np.stack([math.cos(0.7) + (math.cos(0.7) + depth) * np.cos(inner), tip * np.sin(inner)], axis=1)
    return np.concatenate([_polar(np.ones(48), outer), bite[::-1]]) + (0.1, 0.0)


def _gear(rng: np.random.Generator) -> Points:
    teeth = int(rng.integers(9, 14))
    profile = np.array([0.8, 1.0, 1.0, 0.8])
    offsets = np.array([0.0, 0.12, 0.42, 0.54])
    angle = (np.arange(teeth)[:, None] + offsets).ravel() * (TURN / teeth)
    return _polar(np.tile(profile, teeth), angle)


# Patterns: coordinates in pixels from the object's centre, period in pixels -> signed field in pixels.


def _stripes(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    return _wave(u / period + _phase(rng)[0]) * period


def _rings(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    return _wave(np.hypot(u, v) / period + _phase(rng)[0]) * period


def _sectors(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    sectors = int(rng.integers(6, 10))
    arc = np.hypot(u, v) * np.float32(TURN / sectors)
    return _wave(np.arctan2(v, u) * np.float32(sectors / TURN)) * arc


def _checks(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    first, second = _phase(rng)
    side = 1.5 * period
    across, down = _wave(u / side + first), _wave(v / side + second)
    return np.sign(across * down) * np.minimum(np.abs(across), np.abs(down)) * side


def _staggered(u: Floats, v: Floats, width: float, height: float, phase: np.float32) -> tuple[Floats, Floats]:
    """Offsets in pixels from the centre of the cell, rows shifted by half a cell."""
    rows = v / height + phase
    row = np.floor(rows)
    across = u / width + phase + np.float32(0.5) * row
    return _cell(across) * width, (rows - row - np.float32(0.5)) * height


def _dots(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    across, down = _staggered(u, v, 1.4 * period, 1.2 * period, _phase(rng)[0])
    return 0.42 * period - np.hypot(across, down)


def _circlets(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    across, down = _staggered(u, v, 1.5 * period, 1.3 * period, _phase(rng)[0])
    return 0.13 * period - np.abs(np.hypot(across, down) - 0.46 * period)


def _scales(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    radius = 0.8 * period
    across, down = _staggered(v, u, 2 * radius, radius, _phase(rng)[0])
    distance = np.hypot(across, down + 0.5 * radius)
    return 0.12 * period - np.minimum(np.abs(distance - 0.9 * radius), np.abs(distance - 0.42 * radius))


def _bricks(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    width, height = 1.9 * period, 0.9 * period
    across, down = _staggered(u, v, width, height, _phase(rng)[0])
    return np.minimum(0.5 * width - np.abs(across), 0.5 * height - np.abs(down)) - 0.12 * period


def _zigzag(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    first, second = _phase(rng)
    bend = _wave(u / (1.7 * period) + first) * (2.4 * period)
    return _wave((v + bend) / period + second) * (0.7 * period)


def _veins(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    side = np.abs(v)
    veins = (_wave((u - 0.8 * side) / period + _phase(rng)[0]) - 0.1) * (0.8 * period)
    return np.maximum(veins, 0.13 * period - side)


def _blotches(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    height, width = u.shape
    rows, columns = max(3, round(height / (0.7 * period))), max(3, round(width / (0.7 * period)))
    coarse = Image.fromarray(rng.random((rows, columns), dtype=np.float32) - np.float32(0.5))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) * np.float32(1.2 * period)


def _pluses(u: Floats, v: Floats, period: float, rng: np.random.Generator) -> Floats:
    first, second = _phase(rng)
    across = np.abs(_cell(u / (1.3 * period) + first)) * (1.3 * period)
    down = np.abs(_cell(v / (1.3 * period) + second)) * (1.3 * period)
    long, short = 0.5 * period, 0.16 * period
    upright = np.minimum(short - across, long - down)
    return np.maximum(upright, np.minimum(long - across, short - down))


SHAPES = (
    Shape("striped arrow", _arrow, _stripes),
    Shape("target", _disc, _rings),
    Shape("parasol", _parasol, _sectors),
    Shape("chessboard", _board, _checks),
    Shape("ladybird", _beetle, _dots),
    Shape("starfish", _starfish, _circlets),
    Shape("fish", _fish, _scales),
    Shape("brick house", _house, _bricks),
    Shape("zigzag heart", _heart, _zigzag),
    Shape("leaf", _leaf, _veins),
    Shape("moon", _moon, _blotches),
    Shape("gear", _gear, _pluses),
)
