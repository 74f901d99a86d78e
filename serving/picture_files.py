"""Pictures as the command line names them: files, folders, standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from serving.command import UserError

STDIN = "-"
# What is looked for in a folder; a file that is named is sent whatever it is called.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


class Picture(NamedTuple):
    """A picture's name, and its bytes as the file holds them; or why they could not be read."""

    name: str
    content: bytes
    error: str = ""


def expand(words: Sequence[str]) -> list[str]:
    """Names of files: those given, and for a folder the pictures in it at any depth, sorted.

    Raises:
      UserError: when a folder holds none, or standard input is named twice.
    """
    if list(words).count(STDIN) > 1:
        raise UserError("standard input can be read only once: name `-` once")
    found: list[str] = []
    for word in words:
        path = Path(word)
        if word == STDIN or not path.is_dir():
            found.append(word)
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not inside:
            raise UserError(f"{word}: a folder without pictures ({', '.join(SUFFIXES)})")
        found += map(str, inside)
    return found


def read(names: Sequence[str]) -> Iterator[Picture]:
    """Reads files one after the other; one that cannot be read carries the reason."""
    for name in names:
        try:
            content = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        except OSError as error:
            yield Picture(name, b"", error.strerror or str(error))
        else:
            yield Picture(name, content, "" if content else "the file is empty")
