"""Fonts for names that the figures' own font cannot write: Chinese, Japanese, Korean, emoji and others.

Fonts are looked at only where such a character occurs; an installed one that has it is added to the text's
families. What no font here has is a box in the figure, and said once.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from pipelines import progress
from pipelines.command import printable

# Of these words in a font's name the first are tried first: plain shapes, many characters.
PREFERRED = ("noto sans cjk", "source han sans", "noto sans", "sans", "gothic", "symbola")
NO_LETTERS = ("Last Resort", "Color Emoji")  # boxes for everything; bitmaps that matplotlib cannot draw
INVISIBLE = ("Cc", "Cf", "Mn", "Zs", "Zl", "Zp")  # categories; joiners and variants of emoji among them
SHOWN = 5  # characters that a warning lists
# First words of characters' names, and what has them.
PACKAGES = {
    ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "FULLWIDTH", "IDEOGRAPHIC"): "Noto Sans CJK (fonts-noto-cjk)",
    (): "Noto Sans and Symbola (fonts-noto-core, fonts-symbola)",
}

_told: set[str] = set()


def adapt(figure: Figure) -> None:
    """Gives the texts of a figure fonts that have their characters, just before it is written.

    Bytes of file names that are no characters are escaped.
    """
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    for text in texts:
        if not text.get_text().isascii():
            text.set_text(printable(text.get_text()))
    lacking = {text: characters for text in texts if (characters := _lacking(text))}
    if not lacking:
        return
    with progress.phase("looking for fonts"):
        families, missing = _fallbacks(frozenset().union(*lacking.values()))
    for text in lacking:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    _tell(missing)


def _lacking(text: Text) -> frozenset[str]:
    """Visible characters that none of a text's fonts has."""
    words = text.get_text()
    if words.isascii():
        return frozenset()
    return frozenset(words) - _covered(text.get_fontname()) - _invisible(words)


def _invisible(words: str) -> set[str]:
    return {one for one in words if unicodedata.category(one) in INVISIBLE}


@functools.cache
def _covered(family: str) -> frozenset[str]:
    return _characters(font_manager.findfont(family))


@functools.lru_cache(maxsize=64)
def _characters(path: str) -> frozenset[str]:
    """The characters of a font; none of one that cannot be drawn with."""
    try:
        font = FT2Font(path)
        codes = font.get_charmap()
        font.set_size(10.0, 100.0)
        font.load_char(next(iter(codes)))
    except (RuntimeError, OSError, ValueError, StopIteration):
        return frozenset()
    return frozenset(map(chr, codes))


@functools.lru_cache(maxsize=256)
def _fallbacks(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that have the characters between them, as few as a walk over all finds, and what none has."""
    missing, families = characters, []
    for family, path in _candidates():
        if found := missing & _characters(path):
            families.append(family)
            missing -= found
        if not missing:
            break
    return tuple(families), missing


def _candidates() -> Iterator[tuple[str, str]]:
    """Family and file of every upright font of this machine, one file a family, those preferred first."""
    _add_new_fonts()
    plain = [font for font in font_manager.fontManager.ttflist if font.style == "normal"]

    def rank(font: font_manager.FontEntry) -> tuple[int, int, str]:
        name = font.name.lower()
        place = next((number for number, words in enumerate(PREFERRED) if words in name), len(PREFERRED))
        return place, abs(_weight(font) - 400), name

    seen = set()
    for font in sorted(plain, key=rank):
        if font.name not in seen and not any(words in font.name for words in NO_LETTERS):
            seen.add(font.name)
            yield font.name, font.fname


def _weight(font: font_manager.FontEntry) -> int:
    weight = font.weight
    return weight if isinstance(weight, int) else font_manager.weight_dict.get(weight, 400)


def _add_new_fonts() -> None:
    """Adds what was installed since matplotlib wrote its list of fonts."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in set(font_manager.findSystemFonts()) - known:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                font_manager.fontManager.addfont(path)
        except (RuntimeError, OSError, ValueError):  # no font that matplotlib reads
            continue


def _tell(missing: Iterable[str]) -> None:
    """Says once which characters are boxes, and which fonts would help."""
    new = sorted(set(missing) - _told)
    if not new:
        return
    _told.update(new)
    more = ", ..." if len(new) > SHOWN else ""
    cures = dict.fromkeys(_package(one) for one in new)
    print(
        f"warning: figures show boxes for {', '.join(new[:SHOWN])}{more}, which no font of this machine has; "
        f"install {' and '.join(cures)}",
        file=sys.stderr,
    )


def _package(character: str) -> str:
    first = unicodedata.name(character, "").split(" ")[0]
    return next(package for words, package in PACKAGES.items() if first in words or not words)
