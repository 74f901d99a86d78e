"""Worker processes on this machine: started together, shown in one terminal, ended together.

No TensorFlow import. Each worker runs in a session of its own, so that Ctrl-C reaches it once, through the
launcher; on Linux the kernel sends it SIGTERM when the launcher is gone, however that came.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType

from alexnet_tf.distribute.cluster import Cluster
from alexnet_tf.distribute.losses import EXIT_PEER_LOST
from pipelines.command import EXIT_INTERRUPTED
from pipelines.errors import UserError

POLL_SECONDS = 0.1
DRAIN_SECONDS = 2.0  # for the last lines of a worker that has ended
TERM_SECONDS = 10.0  # from a worker's failure until the others are asked to leave
KILL_SECONDS = 60.0  # and from then until they are killed
GPU_FOLDER = Path("/proc/driver/nvidia/gpus")
PR_SET_PDEATHSIG = 1  # linux/prctl.h
START = (
    "import sys; from alexnet_tf.distribute import local_workers; "
    "local_workers.run_worker(int(sys.argv[1]), sys.argv[2])"
)


class Workers:
    """The worker processes of one start; a context manager that leaves none behind.

    Args:
      count: how many.
      program: the module that each runs.
      arguments: its command line.
      show: called with a worker's index, whether it came from stderr, and each line without its end.
      grace: seconds from a failure until SIGTERM, and from there until SIGKILL.
    """

    def __init__(
        self,
        count: int,
        program: str,
        arguments: Sequence[str],
        show: Callable[[int, bool, str], None],
        grace: tuple[float, float] = (TERM_SECONDS, KILL_SECONDS),
    ) -> None:
        self._count, self._program, self._arguments = count, program, list(arguments)
        self._show, self._grace = show, grace
        self._processes: list[subprocess.Popen[bytes]] = []
        self._selector = selectors.DefaultSelector()
        self._reserved: list[socket.socket] = []
        self._ended: dict[int, float] = {}  # when each worker ended, in the order in which they did
        self.interrupted: list[int] = []  # signals that were passed on

    def __enter__(self) -> Workers:
        shares = gpu_shares(self._count, os.environ)
        self._reserved = [_free_port() for _ in range(self._count)]
        addresses = tuple(f"127.0.0.1:{held.getsockname()[1]}" for held in self._reserved)
        if sys.platform != "linux":  # elsewhere a port cannot be kept for another process
            self._release()
        cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        threads = str(max(1, cpus // self._count))
        try:
            for index in range(self._count):
                environment = {
                    "PYTHONUNBUFFERED": "1",
                    "TF_NUM_INTRAOP_THREADS": threads,
                    **os.environ,
                    "TF_CONFIG": Cluster(addresses, index).tf_config(),
                    **shares[index],
                }
                self._processes.append(self._start(index, environment))
        except BaseException:
            self._end_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_all()

    def wait(self) -> list[tuple[int, int]]:
        """Shows what the workers print until all have ended; ends the others after a failure.

        Returns:
          Index and exit status (as a shell has it) of each, in the order in which they ended.
        """
        asked = killed = False
        while len(self._ended) < self._count:
            self._relay(POLL_SECONDS)
            failed_at = self._note_ended()
            waited = time.monotonic() - failed_at if failed_at is not None else 0.0
            if waited > self._grace[0] and not asked:
                asked = True
                self.send(signal.SIGTERM)
            if waited > sum(self._grace) and not killed:
                killed = True
                self.send(signal.SIGKILL)
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._selector.get_map() and time.monotonic() < deadline:
            self._relay(POLL_SECONDS)
        codes = [(index, self._processes[index].returncode) for index in self._ended]
        return [(index, code if code >= 0 else 128 - code) for index, code in codes]

    def send(self, number: int) -> None:
        """Sends a signal to every worker that still runs; SIGKILL to what they have started, too."""
        for process in self._processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """A signal handler: workers get the first two signals as they come, and are killed at the third."""
        self.interrupted.append(number)
        self.send(number if len(self.interrupted) < 3 else signal.SIGKILL)

    def _start(self, index: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(os.getpid()), self._program, *self._arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for stream, is_error in ((process.stdout, False), (process.stderr, True)):
            if stream is not None:
                self._selector.register(stream, selectors.EVENT_READ, [index, is_error, b""])
        return process

    def _relay(self, seconds: float) -> None:
        """Shows the complete lines that arrive within `seconds`."""
        if not self._selector.get_map():
            time.sleep(seconds)
        for key, _ in self._selector.select(seconds):
            new = os.read(key.fd, 1 << 16)
            index, is_error, kept = key.data
            *lines, kept = (kept + new).split(b"\n")
            if not new:
                self._selector.unregister(key.fileobj)
                lines += [kept] if kept else []
            key.data[2] = kept
            for line in lines:
                self._show(index, is_error, line.decode(errors="replace"))

    def _note_ended(self) -> float | None:
        """Notes which workers have ended; returns when the first failed, None if none did.

        After an interrupt no end is a failure: workers may take their time then.
        """
        for index, process in enumerate(self._processes):
            if index not in self._ended and process.poll() is not None:
                self._ended[index] = time.monotonic()
        if self.interrupted:
            return None
        fine = (0, EXIT_INTERRUPTED)
        ended = self._ended.items()
        return min((t for index, t in ended if self._processes[index].returncode not in fine), default=None)

    def _end_all(self) -> None:
        self.send(signal.SIGKILL)
        for process in self._processes:
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._selector.close()
        self._release()

    def _release(self) -> None:
        for held in self._reserved:
            held.close()
        self._reserved = []


def first_failure(ended: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The first worker that failed by itself, not by the loss of another, with its exit status.

    Args:
      ended: index and exit status of each worker, in the order in which they ended.
    """
    failed = [(index, status) for index, status in ended if status]
    by_itself = [(index, status) for index, status in failed if status != EXIT_PEER_LOST]
    return next(iter(by_itself + failed), None)


def gpu_shares(count: int, environ: Mapping[str, str]) -> list[dict[str, str]]:
    """Assigns this machine's GPUs to workers: environment variables for each, none where there is no GPU.

    Raises:
      UserError: when there are GPUs, but fewer than workers.
    """
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        found = len(list(GPU_FOLDER.iterdir())) if GPU_FOLDER.is_dir() else 0
        names = [str(number) for number in range(found)]
    else:
        names = [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    if not names:
        return [{} for _ in range(count)]
    if len(names) < count:
        raise UserError(
            f"--workers {count} needs as many GPUs; found {len(names)}; choose fewer workers, or none of the "
            "GPUs by CUDA_VISIBLE_DEVICES=-1"
        )
    each = len(names) // count
    return [{"CUDA_VISIBLE_DEVICES": ",".join(names[i * each : (i + 1) * each])} for i in range(count)]


def run_worker(launcher: int, program: str) -> None:
    """Runs `program` as `python -m` would, in a process that ends when process `launcher` does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != launcher:
            sys.exit("error: the launcher has gone")
    del sys.argv[1:3]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def _free_port() -> socket.socket:
    """A socket that reserves a free loopback port, on which a worker may listen nevertheless."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
