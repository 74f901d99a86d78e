"""Sends pictures to a server in concurrent batches and isolates those that it refuses."""

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
# Suffixes of pictures in a folder; a file that is named itself is sent whatever its suffix.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
SALIENCY, OVERLAY = "saliency", "overlay_bytes"
SUFFIX = ".png"


class PictureFile(NamedTuple):
    """A picture's name and encoded bytes, or why they could not be read."""

    name: str
    content: bytes
    error: str = ""


def expand_paths(words: Sequence[str]) -> list[str]:
    """File names; a folder is replaced by the pictures in it at any depth, sorted.

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


def read_pictures(names: Sequence[str]) -> Iterator[PictureFile]:
    """Reads files one by one; one that cannot be read carries the reason."""
    for name in names:
        try:
            content = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        except OSError as error:
            yield PictureFile(name, b"", error.strerror or str(error))
        else:
            yield PictureFile(name, content, "" if content else "the file is empty")


class SendOptions(NamedTuple):
    """How pictures are sent.

    Attributes:
      signature_name: which signature; its only input takes encoded pictures.
      batch_size: pictures in one request.
      concurrency: requests in progress at the same time.
      deadline: second of time.monotonic() at which everything must be finished.
    """

    signature_name: str = ""
    batch_size: int = 16
    concurrency: int = 2
    deadline: float = float("inf")


class PictureResult(NamedTuple):
    """One picture's row of each output, or why there is none."""

    name: str
    outputs: dict[str, Any]
    error: str = ""


def predict_pictures(
    client: Client, pictures: Iterable[PictureFile], options: SendOptions
) -> Iterator[PictureResult]:
    """Yields the result of each picture, in the pictures' order.

    Pictures are read as their requests are sent. A batch that is refused because of a picture is sent again
    in halves, so that only this picture has no answer.

    Raises:
      ServingError: for errors of every request: unknown model, unreachable server, deadline exceeded.
      UserError: when the signature takes no pictures.
    """
    executor = ThreadPoolExecutor(options.concurrency, thread_name_prefix="pictures")
    waiting: deque[Future[list[PictureResult]]] = deque()
    try:
        for batch in _batches(pictures, options.batch_size):
            waiting.append(executor.submit(_answer, client, batch, options))
            if len(waiting) > options.concurrency:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BaseException:
        client.close()  # ends the requests in progress, for which the executor would wait
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _batches(pictures: Iterable[PictureFile], size: int) -> Iterator[list[PictureFile]]:
    batch: list[PictureFile] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _answer(client: Client, batch: list[PictureFile], options: SendOptions) -> list[PictureResult]:
    """The result of each picture of a batch."""
    found: list[PictureResult] = []
    run_in_halves(
        [picture for picture in batch if not picture.error],
        lambda pictures: found.extend(_send(client, pictures, options)),
        lambda picture, error: found.append(PictureResult(picture.name, {}, error.message)),
    )
    answers = iter(found)
    return [PictureResult(p.name, {}, p.error) if p.error else next(answers) for p in batch]


def _send(client: Client, batch: Sequence[PictureFile], options: SendOptions) -> list[PictureResult]:
    """Sends one request.

    Raises:
      ServingError: of the server, INVALID_ARGUMENT for a picture that it cannot read.
      UserError: when the signature takes no pictures.
    """
    left = options.deadline - time.monotonic()
    if left <= 0:
        raise ServingError(Code.DEADLINE_EXCEEDED, "not all pictures were answered in time")
    try:
        answer = client.predict(
            [picture.content for picture in batch],
            signature_name=options.signature_name,
            timeout=min(left, client.settings.timeout),
        )
    except ServingError as error:
        if error.code is Code.INVALID_ARGUMENT:
            check_takes_pictures(client, options.signature_name)
        raise
    for name, column in answer.outputs.items():
        if not isinstance(column, list) or len(column) != len(batch):
            raise ServingError(Code.INTERNAL, f"output {name!r} does not hold a row for each picture")
    return [
        PictureResult(picture.name, {name: column[row] for name, column in answer.outputs.items()})
        for row, picture in enumerate(batch)
    ]


def check_takes_pictures(client: Client, signature_name: str) -> None:
    """Raises a clear error when the model's metadata shows that the signature takes no pictures.

    Raises:
      UserError: when there is no such signature, or its input is no string.
    """
    try:
        metadata = client.metadata()
    except ServingError:
        return  # not every server gives metadata; its error about the pictures stands
    name = signature_name or DEFAULT_SIGNATURE
    fitting = signatures_for_pictures(metadata)
    if name in fitting:
        return
    others = f"those that may: {', '.join(fitting)}" if fitting else "and the model has none that does"
    if name not in metadata.signatures:
        raise UserError(f"model {metadata.model!r} has no signature {name!r}; {others}")
    raise UserError(f"signature {name!r} of model {metadata.model!r} takes no encoded pictures; {others}")


def signatures_for_pictures(metadata: Metadata) -> list[str]:
    """Names of the signatures whose only input holds strings."""
    return [
        name
        for name, signature in metadata.signatures.items()
        if [tensor.dtype for tensor in signature.inputs.values()] == ["DT_STRING"]
    ]


def write_overlays(
    client: Client, pictures: Sequence[PictureFile], path: Path, options: SendOptions
) -> Iterator[tuple[PictureResult, str]]:
    """Requests the saliency overlay of each picture and writes it to a file.

    Args:
      path: a file for a single picture when it ends in .png; else a folder, which is created.
      options: how pictures are sent; its signature is not used.

    Yields:
      Each picture's result and the file that was written; empty when there was no answer.

    Raises:
      UserError: when the signature has no overlay output, or one file is named for several pictures.
      OSError: when it cannot be written.
    """
    one_file = path.suffix.lower() == SUFFIX
    if one_file and len(pictures) != 1:
        raise UserError(f"{path}: one file cannot hold {len(pictures)} overlays; name a folder")
    (path.parent if one_file else path).mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for answered in predict_pictures(client, pictures, options._replace(signature_name=SALIENCY)):
        if answered.error:
            yield answered, ""
            continue
        content = answered.outputs.get(OVERLAY)
        if not isinstance(content, bytes):
            raise UserError(f"signature {SALIENCY!r} has no output {OVERLAY!r}")
        target = path if one_file else path / overlay_name(answered.name, taken)
        target.write_bytes(content)
        yield answered, str(target)


def overlay_name(picture: str, taken: set[str]) -> str:
    """`STEM-overlay.png`, with a number when another picture of this run already has that name."""
    stem = "stdin" if picture == STDIN else Path(picture).stem
    name, number = f"{stem}-overlay{SUFFIX}", 2
    while name in taken:
        name, number = f"{stem}-overlay-{number}{SUFFIX}", number + 1
    taken.add(name)
    return name
