"""The peer: the exported signature called inside a process, with nothing in between."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines import command
from pipelines.errors import DataError


@contextmanager
def in_process(version: Path, pictures: Sequence[bytes]) -> Iterator[Callable[..., Any]]:
    """A process that has loaded a version with `tf.saved_model.load`.

    Yields:
      A function (batch, seconds) -> pictures a second; with `times=True` the seconds of each call.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, str(version), list(pictures)), daemon=True)
    process.start()
    theirs.close()

    def run(batch: int, seconds: float, *, times: bool = False) -> Any:
        try:
            ours.send((batch, seconds))
            taken = ours.recv()
        except (EOFError, ConnectionError):
            raise DataError("the in-process peer ended; the reason stands above") from None
        return taken if times else batch * len(taken) / sum(taken)

    try:
        yield run
    finally:
        ours.close()
        process.join(timeout=10)
        process.kill()


def _serve(connection: Connection, version: str, pictures: list[bytes]) -> None:
    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)  # the parent's; TensorFlow's first notices ignore it
    command.quiet_tensorflow()
    import tensorflow as tf

    signature = tf.saved_model.load(version).signatures["serving_default"]
    at = 0
    while True:
        try:
            batch, seconds = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        taken: list[float] = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends or not taken:
            chosen = [pictures[(at + index) % len(pictures)] for index in range(batch)]
            at += batch
            began = time.perf_counter()
            answer = signature(image_bytes=tf.constant(chosen))
            for array in answer.values():
                array.numpy()
            taken.append(time.perf_counter() - began)
        connection.send(taken)
