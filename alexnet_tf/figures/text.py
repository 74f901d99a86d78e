"""Words and numbers as the figures and reports write them; free of matplotlib and TensorFlow."""

from __future__ import annotations

import math
import unicodedata

ELLIPSIS, DASH, MINUS = "…", "–", "\N{MINUS SIGN}"
# How maps or kernels are scaled to black and white: the choices of `--scaling` and a figure's words for each.
SCALINGS = {"joint": "all scaled together", "filter": "each scaled alone"}


def percent(share: float | None, digits: int = 1, space: str = " ") -> str:
    """A share of 0..1 in per cent, such as `4.5 %`; a dash for None and NaN."""
    if share is None or not math.isfinite(share):
        return DASH
    return f"{100 * share:.{digits}f}{space}%"


def percent_in_cell(share: float) -> str:
    """A share in per cent without the sign, one decimal below ten: short enough for a cell of a matrix."""
    value = 100.0 * share
    return f"{value:.0f}" if value >= 9.95 or value == round(value) else f"{value:.1f}"


def shorten(name: str, length: int) -> str:
    """A name cut to `length` characters, its beginning kept, so that it does not squeeze a figure."""
    return name if len(name) <= length else name[: length - 1].rstrip(" ,_") + ELLIPSIS


def shorten_key(key: str, length: int) -> str:
    """A picture's key cut to `length` characters, its end kept, which tells pictures apart.

    Bytes of a file's name that are no text are shown by their numbers.
    """
    key = key.encode("utf-8", "backslashreplace").decode()
    return key if len(key) <= length else ELLIPSIS + key[1 - length :]


def columns(words: str) -> int:
    """How many columns of a terminal some words take: two for each wide character, none for accents."""
    return sum(map(_columns, words))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):  # they join the character before
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def fit(words: str, width: int) -> str:
    """Words that take just `width` columns of a terminal: filled up with blanks, or cut and `...` added."""
    if columns(words) > width:
        kept, room = "", width - 3
        for character in words:
            room -= _columns(character)
            if room < 0:
                break
            kept += character
        words = f"{kept}..."
    return words + " " * (width - columns(words))


def number_range(low: float, high: float, digits: int = 2) -> str:
    """Two numbers in so many significant digits, such as `from −0.31 to 0.4`."""
    return minus(f"from {low:.{digits}g} to {high:.{digits}g}")


def minus(words: str) -> str:
    """Words whose hyphens are minus signs."""
    return words.replace("-", MINUS)
