"""Training batches made by data services: TensorFlow processes on this or other machines that decode.

Our stream is a pure function of (config.seed, step), and stays so: the numbered batches are dealt out to
the services in turn before the pictures are decoded, and their results are taken back in the same turn.
Each service is a process of one dispatcher and one worker (`python -m pipelines.data_service`). It reads
the encoded bytes of all batches, which is cheap, and decodes its share of them, which is not. Several
workers behind one dispatcher would each send the whole share: every batch carries its step, and one that
comes out of turn is an error.

Services read the data themselves, under the same absolute paths as the process that trains. Pictures that
are resized may differ in a last bit where the processors are of another kind.
"""

from __future__ import annotations

import functools
import queue
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.command import EXIT_TRY_AGAIN
from pipelines.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

PATIENCE = 60.0  # seconds without an answer until a service counts as gone
STALL = 600.0  # seconds without a batch, although every service can be reached
CONNECT_SECONDS = 2.0
GLANCE = 1.0  # seconds between two looks at services that keep us waiting
BATCHES_AHEAD = 4  # fetched from each service before they are asked for
COMMAND = "python -m pipelines.data_service"
_ADDRESS = re.compile(r"(?:grpc://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_DISORDER = re.compile(r"assertion failed: \[(data service .*?)\]", re.DOTALL)


class ServiceLost(DataError):
    """A data service is missing or has gone; nothing is wrong with this process' settings."""

    exit_status = EXIT_TRY_AGAIN


def parse_addresses(text: str) -> tuple[str, ...]:
    """Splits `HOST:PORT[,HOST:PORT...]`, each with or without `grpc://` in front.

    Returns:
      The addresses as `HOST:PORT`.

    Raises:
      DataError: one of them is malformed, or given twice.
    """
    addresses = []
    for part in text.split(","):
        match = _ADDRESS.fullmatch(part.strip())
        if match is None or not 1 <= int(match[2]) <= 65535:
            raise DataError(
                "--data-service takes HOST:PORT[,HOST:PORT...], ports from 1 to 65535; "
                f"received {part.strip()!r}"
            )
        addresses.append(f"{match[1]}:{int(match[2])}")
    twice = next((address for address in addresses if addresses.count(address) > 1), None)
    if twice:
        raise DataError(f"--data-service: {twice} is given twice; every service needs an address of its own")
    return tuple(addresses)


def in_turn(
    share: Callable[[int, int], tf.data.Dataset], services: Sequence[str], start_step: int
) -> tf.data.Dataset:
    """One stream of batches, made by several services in turn.

    Args:
      share: gives share `index` of `count`: the endless dataset of every count-th (step, batch) from
        number `index` on. It is built here and runs in a service.
      services: addresses as `parse_addresses` gives them.
      start_step: the step of the first batch.

    Returns:
      The batches in the order of their steps. A batch out of turn raises tf.errors.InvalidArgumentError.

    Raises:
      ServiceLost: a service does not answer within PATIENCE seconds.
    """
    import tensorflow as tf

    wait_for(services)
    caller = _Caller()
    streams = []
    for index, address in enumerate(services):
        hand_over = tf.data.experimental.service.distribute(
            tf.data.experimental.service.ShardingPolicy.OFF,
            f"grpc://{address}",
            max_outstanding_requests=BATCHES_AHEAD,
            compression=None,  # pixels hardly shrink: it costs more than it saves
        )
        built = share(index, len(services))  # here: to draw the built-in pictures takes its time
        streams.append(caller.call(functools.partial(hand_over, built), _registration_watch(address)))
    turns = tf.data.Dataset.range(len(services)).repeat()
    numbered = tf.data.Dataset.choose_from_datasets(streams, turns)
    names = tf.constant(list(services))

    @tf.autograph.experimental.do_not_convert
    def in_order(due: tf.Tensor, element: tuple[tf.Tensor, dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        step, batch = element
        sender = tf.gather(names, (due - start_step) % len(services))
        message = tf.strings.join(
            [
                "data service ",
                sender,
                " sent step ",
                tf.strings.as_string(step),
                " where step ",
                tf.strings.as_string(due),
                f" was due; every address must be one service of one worker, as `{COMMAND}` starts it",
            ]
        )
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(step, due), [message])]):
            return tf.nest.map_structure(tf.identity, batch)

    steps = tf.data.Dataset.counter(start_step)
    batches = tf.data.Dataset.zip(steps, numbered).map(in_order)
    return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def wait_for(services: Sequence[str], patience: float | None = None) -> None:
    """Waits until every service can be reached.

    Args:
      services: addresses as `parse_addresses` gives them.
      patience: seconds; PATIENCE when None.

    Raises:
      ServiceLost: one could not be reached in this time.
    """
    patience = PATIENCE if patience is None else patience
    began = time.monotonic()
    for address in services:
        while not _reachable(address):
            if time.monotonic() - began > patience:
                raise ServiceLost(
                    f"data service {address}: does not answer (tried for {patience:.0f} s); start it with "
                    f"`{COMMAND} --port {address.rpartition(':')[2]}` or correct --data-service"
                )
            time.sleep(min(GLANCE, patience / 4))


class Watch:
    """Calls that wait for data services, with an error where TensorFlow would retry for an hour.

    Args:
      services: their addresses.
      patience: seconds until a service that cannot be reached is given up; PATIENCE when None.
      stall: seconds until a call is given up although services can be reached; STALL when None.
    """

    def __init__(
        self, services: Sequence[str], patience: float | None = None, stall: float | None = None
    ) -> None:
        self._services = tuple(services)
        self._patience = PATIENCE if patience is None else patience
        self._stall = STALL if stall is None else stall
        self._caller = _Caller()

    def call(self, function: Callable[[], Any]) -> Any:
        """Calls `function` in a thread of its own and returns its result.

        Raises:
          ServiceLost: a service has gone or was started anew; then no other call is possible.
          DataError: one sends batches out of turn; the same.
          tf.errors.OpError: a picture cannot be read, and whatever else `function` raises.
        """
        import tensorflow as tf

        self._answered = dict.fromkeys(self._services, time.monotonic())
        try:
            return self._caller.call(function, self._look)
        except tf.errors.OpError as error:
            explained = _explain(error, self._services)
            if explained is None:
                raise
            raise explained from None

    def _look(self, waited: float) -> None:
        """Raises ServiceLost once a service has not answered for too long."""
        for address in self._services:
            if _reachable(address):
                self._answered[address] = time.monotonic()
            elif time.monotonic() - self._answered[address] > self._patience:
                raise ServiceLost(
                    f"data service {address}: has not answered for {self._patience:.0f} s; "
                    "start it again, then run the same command again"
                )
        if waited > self._stall:
            raise DataError(
                f"data services {', '.join(self._services)}: no batch for {self._stall:.0f} s, although they "
                f"can be reached; look at their output, and whether this machine reaches them under the name "
                f"that `{COMMAND} --host` was given"
            )


def _registration_watch(address: str) -> Callable[[float], None]:
    """Watches the handing over of a dataset: something other than a data service may listen there."""

    def look(waited: float) -> None:
        if waited > PATIENCE:
            raise DataError(
                f"data service {address}: accepts connections but takes no dataset within "
                f"{PATIENCE:.0f} s; is it a `{COMMAND}`?"
            )

    return look


class _Caller:
    """A daemon thread for calls that may never return, so that the process can end all the same."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=_work, args=(self._calls, self._results), daemon=True).start()
        # Ends the thread, and with it what the last call held, when nobody asks any more.
        weakref.finalize(self, self._calls.put, None)

    def call(self, function: Callable[[], Any], waiting: Callable[[float], None]) -> Any:
        """Calls `function` in the thread, and `waiting` every GLANCE seconds with the time that it has taken.

        Raises:
          What `function` raises, or `waiting`: after that no other call is possible.
        """
        began = time.monotonic()
        self._calls.put(function)
        while True:
            try:
                result, error = self._results.get(timeout=GLANCE)
                break
            except queue.Empty:
                waiting(time.monotonic() - began)
        if error is not None:
            raise error
        return result


def _work(
    calls: queue.SimpleQueue[Callable[[], Any] | None],
    results: queue.SimpleQueue[tuple[Any, BaseException | None]],
) -> None:
    while (function := calls.get()) is not None:
        try:
            results.put((function(), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            results.put((None, error))
        del function


def _reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _explain(error: tf.errors.OpError, services: Sequence[str]) -> DataError | None:
    """An error of the services in one line; None for one of the data."""
    message = str(error.message)
    disorder = _DISORDER.search(message)
    if disorder:
        return DataError(disorder[1])
    if "Unknown iteration client id" in message:
        return ServiceLost(
            f"data services {', '.join(services)}: one of them was started anew, or has not heard of this "
            "process for minutes; run the same command again"
        )
    return None
