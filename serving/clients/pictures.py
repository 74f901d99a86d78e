"""Asks a server about pictures: batches, several at a time, and who is to blame when one is refused."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from serving.batching.halving import run_in_halves
from serving.clients.client import Client, Metadata
from serving.command import UserError
from serving.errors import Code, ServingError
from serving.specs import DEFAULT_SIGNATURE

STDIN = "-"
# What is looked for in a folder; a file that is named is sent whatever it is called.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
SALIENCY, OVERLAY = "saliency", "overlay_bytes"
SUFFIX = ".png"


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


class Asking(NamedTuple):
    """How pictures are sent.

    Attributes:
      signature_name: which signature; its only input takes encoded pictures.
      batch_size: pictures in one request.
      concurrency: requests under way at the same time.
      deadline: second of time.monotonic() when all must be over.
    """

    signature_name: str = ""
    batch_size: int = 16
    concurrency: int = 2
    deadline: float = float("inf")


class Answered(NamedTuple):
    """A picture's outputs: one row of each; or why there are none."""

    name: str
    outputs: dict[str, Any]
    error: str = ""


def ask(client: Client, pictures: Iterable[Picture], asking: Asking) -> Iterator[Answered]:
    """The server's answers, in the pictures' order, as they come.

    Not more pictures are read than are under way. A batch that is refused because of a picture is sent
    again in halves, so that only this picture goes without an answer.

    Raises:
      ServingError: what concerns every request: no such model, no server, time is up.
      UserError: when the signature takes no pictures.
    """
    executor = ThreadPoolExecutor(asking.concurrency, thread_name_prefix="pictures")
    waiting: deque[Future[list[Answered]]] = deque()
    try:
        for batch in _batches(pictures, asking.batch_size):
            waiting.append(executor.submit(_answer, client, batch, asking))
            if len(waiting) > asking.concurrency:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BaseException:
        client.close()  # or the requests under way would hold up the end
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    batch: list[Picture] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _answer(client: Client, batch: list[Picture], asking: Asking) -> list[Answered]:
    """Each picture of a batch with its row of the answer."""
    found: list[Answered] = []
    run_in_halves(
        [picture for picture in batch if not picture.error],
        lambda pictures: found.extend(_send(client, pictures, asking)),
        lambda picture, error: found.append(Answered(picture.name, {}, error.message)),
    )
    answers = iter(found)
    return [Answered(p.name, {}, p.error) if p.error else next(answers) for p in batch]


def _send(client: Client, batch: Sequence[Picture], asking: Asking) -> list[Answered]:
    """One request.

    Raises:
      ServingError: of the server, INVALID_ARGUMENT for a picture that it cannot read.
      UserError: when the signature takes no pictures.
    """
    left = asking.deadline - time.monotonic()
    if left <= 0:
        raise ServingError(Code.DEADLINE_EXCEEDED, "not all pictures were answered in time")
    try:
        answer = client.predict(
            [picture.content for picture in batch],
            signature_name=asking.signature_name,
            timeout=min(left, client.settings.timeout),
        )
    except ServingError as error:
        if error.code is Code.INVALID_ARGUMENT:
            check_takes_pictures(client, asking.signature_name)
        raise
    for name, column in answer.outputs.items():
        if not isinstance(column, list) or len(column) != len(batch):
            raise ServingError(Code.INTERNAL, f"output {name!r} does not hold a row for each picture")
    return [
        Answered(picture.name, {name: column[row] for name, column in answer.outputs.items()})
        for row, picture in enumerate(batch)
    ]


def check_takes_pictures(client: Client, signature_name: str) -> None:
    """Says plainly that the signature is the mistake, where the model's metadata shows it.

    Raises:
      UserError: when there is no such signature, or its input is no string.
    """
    try:
        metadata = client.metadata()
    except ServingError:
        return  # not every server tells; its own words about the pictures must do
    name = signature_name or DEFAULT_SIGNATURE
    fitting = signatures_for_pictures(metadata)
    if name in fitting:
        return
    others = f"those that may: {', '.join(fitting)}" if fitting else "and the model has none that does"
    if name not in metadata.signatures:
        raise UserError(f"model {metadata.model!r} has no signature {name!r}; {others}")
    raise UserError(f"signature {name!r} of model {metadata.model!r} takes no encoded pictures; {others}")


def signatures_for_pictures(metadata: Metadata) -> list[str]:
    """The signatures whose only input is a vector of strings."""
    return [
        name
        for name, signature in metadata.signatures.items()
        if [tensor.dtype for tensor in signature.inputs.values()] == ["DT_STRING"]
    ]


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
