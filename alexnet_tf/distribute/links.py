"""The connections between the workers of one training, as coroutines; `peers` runs them.

Each pair of workers has two connections, one opened by either side. They carry one JSON object a line:
a handshake of two hello messages, then from the side that opened the connection a heartbeat every
`PULSE_SECONDS` and a message that it leaves. Whatever else connects is disconnected.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

from alexnet_tf.distribute.agreement import Exchange, Facts
from alexnet_tf.distribute.cluster import Cluster, split_address
from alexnet_tf.distribute.losses import CURE, PeerLost, PeerMistaken, describe
from pipelines.errors import UserError

PROTOCOL = "alexnet_tf workers 1"
MOST_NAMED = 3  # differing settings that one message names
PULSE_SECONDS = 2.0
SILENCE_SECONDS = 20.0  # a worker that sends nothing for so long is taken for dead
SUSPECT_SECONDS = 6.0  # or for so long, when a collective operation has failed here
HANDSHAKE_SECONDS = 5.0
RETRY_SECONDS = 0.3
FAREWELL_SECONDS = 3.0
LONGEST_LINE = 1 << 20  # bytes; a hello message names all workers


@dataclasses.dataclass(frozen=True)
class Hello:
    """The hello message: its sender and receiver, and the settings that must agree.

    Attributes:
      sender: index of the worker that sends it.
      receiver: index of the worker that it is meant for.
      workers: all workers' addresses.
      settings: what must be equal on all of them.
    """

    sender: int
    receiver: int
    workers: tuple[str, ...]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, cluster: Cluster, receiver: int, settings: Mapping[str, Any]) -> Hello:
        """This process' message to worker `receiver`; `settings` become what JSON makes of them."""
        return cls(cluster.index, receiver, cluster.workers, json.loads(json.dumps(dict(settings))))

    @classmethod
    def read(cls, message: object) -> Hello | None:
        """The hello message that a received JSON value holds; None where it holds none."""
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
        """The message as a JSON object, for `read`."""
        return {"protocol": PROTOCOL, **dataclasses.asdict(self)}

    def check(self, theirs: Hello) -> None:
        """Compares with the hello message of another worker.

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
    """Encodes a message as one line of JSON."""
    return json.dumps(message).encode() + b"\n"


async def receive(reader: asyncio.StreamReader, timeout: float | None) -> dict[str, Any] | None:
    """The next message; None at the end, after `timeout` seconds, and for anything that is no object."""
    try:
        message = json.loads(await asyncio.wait_for(reader.readuntil(b"\n"), timeout))
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        return None
    return message if isinstance(message, dict) else None


@dataclasses.dataclass
class Peer:
    """The connections to one other worker and its state."""

    index: int
    address: str
    outgoing: asyncio.StreamWriter | None = None
    incoming: asyncio.StreamWriter | None = None
    arrived: bool = False  # it has reached this worker and knows it
    last_heard: float = 0.0  # when its last message came, by the loop's clock
    left: str = ""  # "done", "interrupted", "failed"; empty while it is here
    trouble: str = "no connection"

    def __str__(self) -> str:
        return f"worker {self.index} ({self.address})"

    def abort(self) -> None:
        """Closes both connections at once, without sending what is buffered."""
        for writer in (self.outgoing, self.incoming):
            if writer is not None:
                writer.transport.abort()


class Links:
    """One worker's connections to all others.

    Args:
      cluster: all workers and which one this is.
      settings: JSON values that must be equal on all workers.
      listener: a listening socket of this worker's port; closed once all have met.
      on_loss: called with the error to raise when a worker goes while the others need it.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: Mapping[str, Any],
        listener: socket.socket,
        on_loss: Callable[[PeerLost], None],
    ) -> None:
        self._cluster, self._listener, self._on_loss = cluster, listener, on_loss
        self._settings = settings
        self._peers = {i: Peer(i, a) for i, a in enumerate(cluster.workers) if i != cluster.index}
        self._exchange = Exchange(self._peers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_left, self._leaving = asyncio.Event(), False

    async def gather(self, timeout: float) -> None:
        """Waits until every worker has been reached and has reached this one.

        Raises:
          PeerLost: after `timeout` seconds, or when a worker stops.
          UserError: when one runs with other settings.
        """
        self._met: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acceptor = asyncio.create_task(self._accept())
        self._start(self._pulse())
        for peer in self._peers.values():
            self._start(self._reach(peer))
        self._check_met()
        try:
            await asyncio.wait_for(self._met, timeout)
        except asyncio.TimeoutError:
            raise PeerLost(self._describe_missing(timeout)) from None
        except PeerLost:
            raise
        except UserError as error:
            await self._say_farewell({"left": "failed", "why": str(error), "mistake": True})
            raise
        finally:
            acceptor.cancel()
            await asyncio.gather(acceptor, return_exceptions=True)
            self._listener.close()

    def broadcast(self, message: Mapping[str, Any]) -> None:
        """Sends one message to every worker that is connected."""
        for peer in self._peers.values():
            if peer.outgoing is not None and not peer.outgoing.is_closing():
                peer.outgoing.write(line(message))

    async def _say_farewell(self, message: Mapping[str, Any]) -> None:
        """Tells why this worker stops to all that do not know it yet, also to those that are just coming."""
        end, told, self._leaving = _now() + FAREWELL_SECONDS, set(), True
        while _now() < end and not all(peer.left or peer.index in told for peer in self._peers.values()):
            for peer in self._peers.values():
                if peer.outgoing is not None and peer.index not in told:
                    told.add(peer.index)
                    peer.outgoing.write(line(message))
            await asyncio.sleep(RETRY_SECONDS / 3)

    async def exchange(self, about: str, facts: Facts) -> Mapping[int, Facts]:
        """Sends facts to all workers; returns all of theirs, with its own; PeerLost where one has gone."""
        self.broadcast({"about": about, "facts": facts})
        return {self._cluster.index: facts, **await self._exchange.others(about)}

    async def all_departed(self) -> None:
        """Waits until every worker has left or was lost."""
        await self._all_left.wait()

    def suspect(self) -> Peer | None:
        """A worker that was interrupted or is silent, the likely cause of a failure here; None if none is."""
        for peer in self._peers.values():
            silent = not peer.left and _now() - peer.last_heard > SUSPECT_SECONDS
            if silent or peer.left == "interrupted":
                return peer
        return None

    async def close(self) -> None:
        """Closes every connection and ends every coroutine."""
        for peer in self._peers.values():
            for writer in (peer.outgoing, peer.incoming):
                if writer is not None:
                    writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def _start(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _check_met(self) -> None:
        """Ends `gather` once each worker is connected both ways."""
        if not self._met.done() and all(p.outgoing and p.arrived for p in self._peers.values()):
            self._met.set_result(None)
            if not self._peers:
                self._all_left.set()

    def _describe_missing(self, timeout: float) -> str:
        missing = [peer for peer in self._peers.values() if not (peer.outgoing and peer.arrived)]
        reasons = [
            f"{peer}: {f'does not reach {self._cluster.address}' if peer.outgoing else peer.trouble}"
            for peer in missing
        ]
        return (
            f"{len(missing)} of {self._cluster.count - 1} other workers did not arrive within {timeout:g} s: "
            f"{'; '.join(reasons)}; start all workers, or wait longer with --peer-timeout SECONDS"
            + f" ({self._cluster.doubt})"
            * bool(self._cluster.doubt)
        )

    # Connections that others open.

    async def _accept(self) -> None:
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            except OSError:  # the caller has disconnected already, or there are no file descriptors left
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._start(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=LONGEST_LINE)
        peer = None
        try:
            hello = Hello.read(await receive(reader, HANDSHAKE_SECONDS))
            if hello is None:
                return  # a stranger
            ours = Hello.of(self._cluster, hello.sender, self._settings)
            misled = hello.receiver != self._cluster.index
            found = self._peers.get(hello.sender)
            if misled:
                writer.write(line(ours.message()))  # and the other complains
            if misled or found is None or found.incoming is not None:
                return  # the last is a second one of the same number, which will try again
            peer, peer.incoming = found, writer
            writer.write(line(ours.message()))
            self._check(ours, hello, peer)
            if await receive(reader, HANDSHAKE_SECONDS) is None:
                return  # it did not get the answer
            peer.arrived, peer.last_heard = True, _now()
            self._check_met()
            await self._listen(reader, peer)
        except UserError as error:
            self._fail(error)
        finally:
            writer.close()
            if peer is not None:
                self._gone(peer)

    async def _listen(self, reader: asyncio.StreamReader, peer: Peer) -> None:
        """Handles a worker's messages until it disconnects."""
        while True:
            message = await receive(reader, None)
            if message is None:
                return
            peer.last_heard = _now()
            peer.left = message.get("left", peer.left)
            self._exchange.receive(peer.index, message)
            if peer.left == "failed":
                why = message.get("why", "")
                why = why if message.get("passed_on") else f"{peer} has stopped: {why}"
                self._lose(peer, why, mistake=bool(message.get("mistake")))
            elif peer.left == "interrupted" and not self._met.done():
                self._lose(peer, f"{peer} was interrupted; {CURE}")
            self._depart()

    def _gone(self, peer: Peer) -> None:
        peer.incoming, peer.arrived = None, False
        if self._met.done() and not peer.left:
            self._lose(peer, f"{peer} has gone; {CURE}")

    def _lose(self, peer: Peer, message: str, *, mistake: bool = False) -> None:
        peer.left = peer.left or "failed"
        error = PeerMistaken(message) if mistake else PeerLost(message)
        if self._met.done():
            self._exchange.fail(error)
            self._on_loss(error)
        else:
            self._fail(error)
        self._depart()

    def _depart(self) -> None:
        if all(peer.left for peer in self._peers.values()):
            self._all_left.set()

    # Connections that this worker opens.

    async def _reach(self, peer: Peer) -> None:
        host, port = split_address(peer.address)
        while not self._met.done() or (self._leaving and not peer.left):
            try:
                opening = asyncio.open_connection(host, port, limit=LONGEST_LINE)
                reader, writer = await asyncio.wait_for(opening, HANDSHAKE_SECONDS)
            except (OSError, asyncio.TimeoutError) as error:
                peer.trouble = describe(error)
            else:
                try:
                    await self._shake_hands(peer, reader, writer)
                except UserError as error:
                    self._fail(error)
                finally:
                    peer.outgoing = None
                    writer.close()
            await asyncio.sleep(RETRY_SECONDS)

    async def _shake_hands(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Exchanges hello messages on a connection that this worker opened; returns when it ends."""
        ours = Hello.of(self._cluster, peer.index, self._settings)
        writer.write(line(ours.message()))
        answer = Hello.read(await receive(reader, HANDSHAKE_SECONDS))
        if answer is None:
            peer.trouble = "what answers there is no worker that waits for this one"
            return
        self._check(ours, answer, peer)
        if answer.sender != peer.index:
            raise UserError(
                f"the address of {peer} is answered by worker {answer.sender}; every worker needs an "
                "address and an index of its own"
            )
        writer.write(line({}))
        peer.outgoing, peer.trouble = writer, "was there and has left"
        self._check_met()
        while await receive(reader, None) is not None:  # the end of the connection; nothing else is sent here
            continue

    # Both.

    def _check(self, ours: Hello, theirs: Hello, peer: Peer) -> None:
        try:
            ours.check(theirs)
        except UserError:
            peer.left = "failed"  # it has read our settings, too
            raise

    async def _pulse(self) -> None:
        """Sends heartbeats, and notices workers that have fallen silent."""
        while True:
            slept = _now()
            await asyncio.sleep(PULSE_SECONDS)
            self.broadcast({})
            now = _now()
            for peer in self._peers.values():
                if now - slept > 2 * PULSE_SECONDS:
                    peer.last_heard = now  # it was this process that stood still
                elif peer.arrived and now - peer.last_heard > SILENCE_SECONDS:
                    if self._met.done() and not peer.left:
                        self._lose(peer, f"{peer} has been silent for {SILENCE_SECONDS:g} s; {CURE}")
                    peer.abort()

    def _fail(self, error: UserError) -> None:
        if not self._met.done():
            self._met.set_exception(error)


def _now() -> float:
    return asyncio.get_running_loop().time()
