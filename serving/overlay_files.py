"""Writes the pictures that a model's saliency signature draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.client_base import Client
from serving.command import UserError
from serving.picture_files import STDIN, Picture
from serving.picture_requests import Answered, Asking, ask

SALIENCY, OVERLAY = "saliency", "overlay_bytes"
SUFFIX = ".png"


def write(
    client: Client, pictures: Sequence[Picture], path: Path, asking: Asking
) -> Iterator[tuple[Answered, str]]:
    """Asks for the overlay of each picture and writes it.

    Args:
      path: a file for a single picture when it ends in .png; else a folder, which is made.
      asking: how pictures are sent; its signature is not used.

    Yields:
      The answer, and the file that was written; empty when there was no answer.

    Raises:
      UserError: when the signature draws no overlay, or one file is to hold several.
      OSError: when it cannot be written.
    """
    one_file = path.suffix.lower() == SUFFIX
    if one_file and len(pictures) != 1:
        raise UserError(f"{path}: one file cannot hold {len(pictures)} overlays; name a folder")
    (path.parent if one_file else path).mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for answered in ask(client, pictures, asking._replace(signature_name=SALIENCY)):
        if answered.error:
            yield answered, ""
            continue
        content = answered.outputs.get(OVERLAY)
        if not isinstance(content, bytes):
            raise UserError(f"signature {SALIENCY!r} has no output {OVERLAY!r}")
        target = path if one_file else path / free_name(answered.name, taken)
        target.write_bytes(content)
        yield answered, str(target)


def free_name(picture: str, taken: set[str]) -> str:
    """`STEM-overlay.png`, with a number when another picture of this run has it already."""
    stem = "stdin" if picture == STDIN else Path(picture).stem
    name, number = f"{stem}-overlay{SUFFIX}", 2
    while name in taken:
        name, number = f"{stem}-overlay-{number}{SUFFIX}", number + 1
    taken.add(name)
    return name
