"""Rendezvous of the workers of one training, and detection of lost ones; no TensorFlow import.

They meet on the ports that TensorFlow's servers use afterwards: the listening sockets are closed then, the
connections stay, and a worker's death is known at once on all others.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import faulthandler
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from alexnet_tf.distribute import agreement
from alexnet_tf.distribute.agreement import Disagreement, Facts
from alexnet_tf.distribute.cluster import Cluster, split_address
from alexnet_tf.distribute.links import Links
from alexnet_tf.distribute.losses import CURE, PeerLost, is_mistake
from pipelines.errors import DataError, UserError

USER_ERRORS = (UserError, DataError)
BLAME_SECONDS = 3.0  # how long a failure here waits for the news that another worker was lost first


def rendezvous(
    cluster: Cluster, settings: Mapping[str, Any], timeout: float = 60.0, grace: float = 15.0
) -> Peers:
    """Connects to all other workers; returns when each has reached this one and was reached by it.

    Args:
      cluster: all workers and which one this is.
      settings: JSON values that must be equal on all workers.
      timeout: seconds to wait for the others.
      grace: seconds from the loss of a worker until this process is ended, if its main thread is still
        inside the `with` block then: it may hang in an operation that waits for the other for ever.

    Returns:
      The connections; use them as a context manager around the training.

    Raises:
      PeerLost: when a worker does not arrive.
      UserError: when the port is taken, or a worker runs with other settings.
    """
    return Peers(cluster, settings, timeout, grace)


class Peers:
    """The other workers of a cluster, watched in a background thread; see `rendezvous`.

    Leaving the `with` block without an exception waits until all workers have come to the same point, so
    that none misses another's server. With an exception it tells the others why, and does not wait.
    """

    def __init__(self, cluster: Cluster, settings: Mapping[str, Any], timeout: float, grace: float) -> None:
        self._cluster, self._grace = cluster, grace
        self._lost: concurrent.futures.Future[PeerLost] = concurrent.futures.Future()
        self._leaving, self._held = False, False
        self._links = Links(cluster, settings, _listen(cluster.address), self._lose)
        self._end = asyncio.Event()
        self._loop: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        met: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(timeout, met)), name="peers", daemon=True
        )
        self._thread.start()
        try:
            met.result()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Peers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tells the others that this worker leaves, and how.

        Raises:
          PeerLost: when one of them went too early; then also in place of the exception that came of it.
            KeyboardInterrupt stays what it is, and a user's mistake where no loss is known yet.
        """
        self._leaving = True
        try:
            if error is None:
                self._in_thread(lambda: self._links.broadcast({"left": "done"}))
                self._wait_for_departures()
            elif not isinstance(error, Exception):
                self._in_thread(lambda: self._links.broadcast({"left": "interrupted"}))
            else:
                lost = self._find_loss(0.0 if isinstance(error, USER_ERRORS) else BLAME_SECONDS)
                if isinstance(error, Disagreement):
                    lost = None  # which every worker finds for itself
                cause = lost or error
                # A mistake in the settings is not cured by starting again, anything else may be.
                why = str(cause)
                if not isinstance(cause, USER_ERRORS):
                    why = f"{type(error).__name__}: {error}; {CURE}"
                passed_on = isinstance(cause, (PeerLost, Disagreement))  # it names the worker itself
                left = {"left": "failed", "why": why, "passed_on": passed_on, "mistake": is_mistake(cause)}
                self._in_thread(lambda: self._links.broadcast(left))
                if lost is not None:
                    raise lost from error
        finally:
            self._close()

    def compare(self, what: str, facts: Facts) -> None:
        """Waits until every worker has called this, and makes sure that their facts are the same.

        Args:
          what: what the facts describe, such as `data`.
          facts: JSON values.

        Raises:
          Disagreement: they differ.
          PeerLost: another worker has gone.
        """
        exchange = self._links.exchange(what, json.loads(json.dumps(dict(facts))))
        found = asyncio.run_coroutine_threadsafe(exchange, self._loop.result()).result()
        agreement.check(what, found, self._cluster.workers)

    @contextlib.contextmanager
    def unbroken(self) -> Iterator[None]:
        """A context that the loss of a worker must not cut short, such as the writing of a checkpoint."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    @contextlib.contextmanager
    def starting(self, seconds: float = 60.0) -> Iterator[None]:
        """A time limit for the making of TensorFlow's strategy, which waits for dead workers for ever.

        It keeps the interpreter's lock while it waits, so that no thread of Python's could notice; after
        `seconds` the process is ended with status 1 and a traceback.
        """
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _in_thread(self, body: Callable[[], Any]) -> Any:
        """Runs a function in the watching thread and returns its result."""

        async def call() -> Any:
            return body()

        return asyncio.run_coroutine_threadsafe(call(), self._loop.result()).result()

    def _wait_for_departures(self) -> None:
        asyncio.run_coroutine_threadsafe(self._links.all_departed(), self._loop.result()).result()
        if self._lost.done():
            raise self._lost.result()

    def _find_loss(self, seconds: float) -> PeerLost | None:
        """The loss of a worker that explains a failure here, if one is known or becomes known in time."""
        with contextlib.suppress(concurrent.futures.TimeoutError):
            return self._lost.result(seconds)
        if not seconds:
            return None
        suspect = self._in_thread(self._links.suspect)
        if suspect is None:
            return None
        return PeerLost(f"{suspect} {'was interrupted' if suspect.left else 'does not answer'}; {CURE}")

    def _close(self) -> None:
        self._loop.result().call_soon_threadsafe(self._end.set)
        self._thread.join()

    # In the watching thread.

    async def _run(self, timeout: float, met: concurrent.futures.Future[None]) -> None:
        self._loop.set_result(asyncio.get_running_loop())
        gathering = asyncio.create_task(self._links.gather(timeout))
        gathering.add_done_callback(lambda done: _pass_on(done, met))
        await self._end.wait()
        gathering.cancel()
        await asyncio.gather(gathering, return_exceptions=True)
        await self._links.close()

    def _lose(self, error: PeerLost) -> None:
        if not self._lost.done():
            self._lost.set_result(error)
            asyncio.get_running_loop().call_later(self._grace, self._end_process)

    def _end_process(self) -> None:
        """Ends the process if its main thread has not noticed the loss: it hangs in compiled code."""
        if self._held:
            asyncio.get_running_loop().call_later(1.0, self._end_process)
        elif not self._leaving:
            with contextlib.suppress(OSError, ValueError):
                print(f"error: {self._lost.result()}", file=sys.stderr, flush=True)
            os._exit(self._lost.result().exit_status)


def _pass_on(done: asyncio.Task[None], to: concurrent.futures.Future[None]) -> None:
    if done.cancelled():
        to.cancel()
    elif done.exception() is not None:
        to.set_exception(done.exception())
    else:
        to.set_result(None)


def _listen(address: str) -> socket.socket:
    """A listening socket of the worker's own address; on loopback alone where the address is that."""
    host, port = split_address(address)
    version = socket.AF_INET6 if ":" in host else socket.AF_INET
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    try:
        if loopback:
            listener = socket.create_server((host, port), family=version)
        elif socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            listener = socket.create_server(("", port))
    except OSError as error:
        cure = (
            "another process has the port, perhaps a worker that was left over: end it or choose another"
            if error.errno == errno.EADDRINUSE
            else "choose an address of this machine"
        )
        raise UserError(f"cannot listen on {address} ({error.strerror}); {cure}") from None
    listener.setblocking(False)
    return listener
