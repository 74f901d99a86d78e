"""What the workers of one training must agree on, their code and their data; no TensorFlow import.

Code and settings are compared as the workers meet. The data are compared once each worker has opened its
own: each of them reads its share of a batch by its own list of pictures.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alexnet_tf
import pipelines
from pipelines.errors import UserError

if TYPE_CHECKING:
    from pipelines.sources.source import Source

PACKAGES = ("tensorflow", "keras", "numpy")
MOST_BYTES = 1 << 18  # of the classes' names in a message; more are compared by their digest alone
MOST_NAMED = 3  # differences that one message names
DIGITS = 12  # of a digest

Facts = Mapping[str, Any]


class Disagreement(UserError):
    """The workers differ in what must be the same."""


def of_code() -> dict[str, str]:
    """The versions of what computes: ours with a digest of its files, Python's and those of the packages."""
    digest = hashlib.sha256()
    for ours in (alexnet_tf, pipelines):
        for root in map(Path, ours.__path__):
            for path in sorted(root.rglob("*.py")):
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    versions = {"alexnet_tf": f"{alexnet_tf.__version__} ({digest.hexdigest()[:DIGITS]})"}
    versions["python"] = ".".join(platform.python_version_tuple()[:2])
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def of_data(source: Source) -> dict[str, Any]:
    """What tells a data set from others: counts, names of the classes, and digests of the pictures' keys."""
    facts: dict[str, Any] = {"classes": len(source.class_names)}
    names = list(source.class_names)
    text = json.dumps(names).encode()
    facts["class names"] = names if len(text) <= MOST_BYTES else _digest(text)
    for split in ("train", "val"):
        facts[f"{split} pictures"] = source.count(split)
    for split in ("train", "val"):
        # Byte by byte in one order, whatever the processor's is.
        facts[f"names of the {split} pictures"] = _digest(source.fingerprints(split).astype("<u8").tobytes())
    return facts


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def check(what: str, facts: Mapping[int, Facts], workers: tuple[str, ...]) -> None:
    """Compares all workers' facts with those of worker 0; all of them come to the same verdict.

    Args:
      what: what the facts describe, for the message.
      facts: of each worker, by its index.
      workers: their addresses.

    Raises:
      Disagreement: names the first worker that differs, and in what.
    """
    for index in sorted(facts):
        differences = list(_differences(facts[0], facts[index]))
        if differences:
            more = f", and {len(differences) - MOST_NAMED} more" if len(differences) > MOST_NAMED else ""
            raise Disagreement(
                f"worker {index} ({workers[index]}) has other {what} than worker 0: "
                f"{', '.join(differences[:MOST_NAMED])}{more}; give all workers the same {what}"
            )


def _differences(first: Facts, other: Facts) -> Iterable[str]:
    for name in first:
        one, two = first[name], other.get(name)
        if one == two:
            continue
        if isinstance(one, list) and isinstance(two, list):
            pairs = enumerate(zip(one, two, strict=False))
            differing = next(((number, pair) for number, pair in pairs if pair[0] != pair[1]), None)
            if differing:
                number, (here, there) = differing
                yield f"class {number} is {there!r}, not {here!r}"
        elif isinstance(one, int):
            yield f"{two} {name}, not {one}"
        else:
            yield f"{name} differ"


class Exchange:
    """The facts that the workers have sent each other, by what they describe; one of one process.

    Args:
      others: indices of the other workers.
    """

    def __init__(self, others: Iterable[int]) -> None:
        self._others = frozenset(others)
        self._received: dict[str, dict[int, Facts]] = {}
        self._waiting: tuple[str, asyncio.Future[None]] | None = None
        self._error: UserError | None = None

    def receive(self, sender: int, message: Mapping[str, Any]) -> None:
        """Takes the facts that a message holds, if any."""
        if isinstance(message.get("about"), str) and isinstance(message.get("facts"), dict):
            self._received.setdefault(message["about"], {})[sender] = message["facts"]
            self._look()

    def fail(self, error: UserError) -> None:
        """Ends the wait for the others' facts, which may begin later: not all of them will come."""
        self._error = self._error or error
        self._look()

    async def others(self, about: str) -> Mapping[int, Facts]:
        """The facts of all other workers, once they have come.

        Raises:
          UserError: as `fail` was given it.
        """
        self._waiting = (about, asyncio.get_running_loop().create_future())
        self._look()
        try:
            await self._waiting[1]
        finally:
            self._waiting = None
        return self._received.pop(about, {})

    def _look(self) -> None:
        if self._waiting is not None:
            about, future = self._waiting
            if future.done():
                return
            if self._others <= self._received.get(about, {}).keys():
                future.set_result(None)
            elif self._error is not None:
                future.set_exception(self._error)
