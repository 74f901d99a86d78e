"""Clusters whose workers are threads of one process."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from alexnet_tf.distribute import peers
from alexnet_tf.distribute.cluster import Cluster


def clusters(count, host="127.0.0.1"):
    """One cluster of `count` workers on free ports, as each of them sees it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket(family)) for _ in range(count)]
        for one in sockets:
            one.bind((host, 0))
        shown = f"[{host}]" if ":" in host else host
        workers = tuple(f"{shown}:{one.getsockname()[1]}" for one in sockets)
    return [Cluster(workers, index) for index in range(count)]


def together(parts, body=lambda index, others: None, settings=None, timeout=60.0):
    """Runs `body` inside the rendezvous of each worker; returns what each ended with."""

    def work(cluster):
        try:
            own = settings[cluster.index] if settings else {"seed": 0}
            with peers.rendezvous(cluster, own, timeout=timeout) as others:
                return body(cluster.index, others)
        except BaseException as error:  # noqa: BLE001 - it is what the test looks at
            return error

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, parts))


def watching_threads():
    """The threads that a rendezvous has left behind."""
    return [thread for thread in threading.enumerate() if thread.name == "peers"]
