"""What two workers of one training tell each other before they train together. No TensorFlow import."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from collections.abc import Mapping
from typing import Any

from alexnet_tf.cluster import Cluster
from pipelines.errors import UserError

PROTOCOL = "alexnet_tf workers 1"
MOST_NAMED = 3  # differing settings that one message names


@dataclasses.dataclass(frozen=True)
class Greeting:
    """Who speaks to whom, and with which settings.

    Attributes:
      sender: index of the worker that speaks.
      receiver: index of the worker that it believes to speak to.
      workers: all workers' addresses.
      settings: what must be equal on all of them.
    """

    sender: int
    receiver: int
    workers: tuple[str, ...]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, cluster: Cluster, receiver: int, settings: Mapping[str, Any]) -> Greeting:
        """What this process says to worker `receiver`; `settings` as JSON gives them back."""
        return cls(cluster.index, receiver, cluster.workers, json.loads(json.dumps(dict(settings))))

    @classmethod
    def read(cls, message: Any) -> Greeting | None:
        """The greeting that a received JSON value holds; None where it holds none."""
        if not isinstance(message, dict) or message.get("protocol") != PROTOCOL:
            return None
        sender, receiver = message.get("sender"), message.get("receiver")
        workers, settings = message.get("workers"), message.get("settings")
        if not (isinstance(sender, int) and isinstance(receiver, int)):
            return None
        if not (isinstance(workers, list) and isinstance(settings, dict)):
            return None
        return cls(sender, receiver, tuple(workers), settings)

    def message(self) -> dict[str, Any]:
        """As a JSON object, for `read`."""
        return {"protocol": PROTOCOL, **dataclasses.asdict(self)}

    def check(self, theirs: Greeting) -> None:
        """Compares with the greeting of another worker.

        Raises:
          UserError: when it was started with other workers or other settings; names the first ones.
        """
        ours, others = dict(self.settings), dict(theirs.settings)
        if self.workers != theirs.workers:  # then the rest says little
            ours, others = {"workers": list(self.workers)}, {"workers": list(theirs.workers)}
        names = sorted(name for name in {*ours, *others} if ours.get(name) != others.get(name))
        if not names:
            return
        where = ""
        if 0 <= theirs.sender < len(self.workers):
            where = f" at {self.workers[theirs.sender]}"
        differing = [f"{name} is {others.get(name)!r} there and {ours.get(name)!r} here" for name in names]
        more = f", and {len(names) - MOST_NAMED} more differ" if len(names) > MOST_NAMED else ""
        raise UserError(
            f"worker {theirs.sender}{where} runs with other settings: {', '.join(differing[:MOST_NAMED])}"
            f"{more}; start all workers with the same command, code and data"
        )


def line(message: Mapping[str, Any]) -> bytes:
    """A message as it is sent: one line of JSON."""
    return json.dumps(message).encode() + b"\n"


async def receive(reader: asyncio.StreamReader, timeout: float | None) -> dict[str, Any] | None:
    """The next message; None at the end, after `timeout` seconds, and for anything that is no object."""
    try:
        message = json.loads(await asyncio.wait_for(reader.readuntil(b"\n"), timeout))
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        return None
    return message if isinstance(message, dict) else None


def describe(error: BaseException) -> str:
    """Why a worker could not be reached."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, socket.gaierror):
        return "its name is not known here"
    return "no answer" if isinstance(error, asyncio.TimeoutError) else str(error)
