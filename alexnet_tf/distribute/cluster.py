"""The cluster that a process belongs to, read from `TF_CONFIG` or SLURM's variables; no TensorFlow import."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from pipelines.errors import UserError

DEFAULT_PORT = 8888
PORT_VARIABLE = "ALEXNET_TF_PORT"
STEP_VARIABLES = ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS")  # which srun sets, sbatch does not
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
LONGEST_SHOWN = 200  # characters of a received value that a message repeats
MOST_HOSTS = 10_000  # more than this from one host list is a typing error


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of one training, the same on each of them, and which one this process is.

    Attributes:
      workers: `host:port` of every worker, in the order of their indices; IPv6 as `[::1]:2222`.
      index: this process.
      doubt: what makes it likely that the others will never come; empty where nothing does.
    """

    workers: tuple[str, ...]
    index: int
    doubt: str = dataclasses.field(default="", compare=False)

    @property
    def count(self) -> int:
        """The number of processes that train together."""
        return len(self.workers)

    @property
    def is_chief(self) -> bool:
        """Whether this process is worker 0, which writes what only one may write."""
        return self.index == 0

    @property
    def address(self) -> str:
        """This process's own `host:port`."""
        return self.workers[self.index]

    def tf_config(self) -> str:
        """The cluster as the JSON text that TensorFlow reads from `TF_CONFIG`."""
        return json.dumps(
            {"cluster": {"worker": list(self.workers)}, "task": {"type": "worker", "index": self.index}}
        )


def from_environment(environ: Mapping[str, str] = os.environ, port: int | None = None) -> Cluster:
    """Finds the cluster that this process was started in.

    `TF_CONFIG` comes first; a `chief` in it is worker 0 and the others follow. Else SLURM's variables:
    tasks of one node listen on consecutive ports.

    Args:
      environ: the variables.
      port: under SLURM, the port of each node's first task; None reads `ALEXNET_TF_PORT`, else 8888.

    Raises:
      UserError: for a malformed variable, and where neither says anything.
    """
    text = environ.get("TF_CONFIG", "")
    if text.strip():
        return _from_tf_config(text)
    if "SLURM_PROCID" in environ:
        return _from_slurm(environ, _base_port(environ) if port is None else port)
    hint = "this SLURM job has no tasks yet: srun" if "SLURM_JOB_ID" in environ else "srun"
    raise UserError(
        "training on several workers needs to know them; start them by "
        f"`python -m alexnet_tf.launch --workers N -- ...`, set TF_CONFIG for each, or use {hint} python -m "
        "alexnet_tf.train ...; received neither TF_CONFIG nor SLURM_PROCID"
    )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[IPv6]:port`.

    Raises:
      ValueError: when it is neither; says what is wrong.
    """
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ValueError("has no port")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise ValueError("has a port that is not 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("has no IPv6 address between its brackets") from None
    elif not HOST.fullmatch(host):
        raise ValueError("is no host:port (IPv6 as [::1]:2222)")
    return host, int(port)


def _from_tf_config(text: str) -> Cluster:
    def refuse(what: str) -> UserError:
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
        return UserError(
            f"TF_CONFIG {what}; it must look like "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}; '
            f"received {shown}"
        )

    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse(f"is not JSON ({error})") from None
    cluster = settings.get("cluster") if isinstance(settings, dict) else None
    if not isinstance(cluster, dict) or not cluster:
        raise refuse("names no `cluster`")
    for job, addresses in cluster.items():
        if job not in ("chief", "worker"):
            raise refuse(f"names a job `{job}`; only `worker` and `chief` train here")
        if not (isinstance(addresses, list) and addresses and all(isinstance(a, str) for a in addresses)):
            raise refuse(f"gives `{job}` no list of addresses")
    chiefs = cluster.get("chief", [])
    if len(chiefs) > 1:
        raise refuse(f"names {len(chiefs)} chiefs; there is one at most")
    workers = [*chiefs, *cluster.get("worker", [])]
    _check_addresses(workers, refuse)

    task = settings.get("task")
    if not isinstance(task, dict):
        raise refuse("names no `task`")
    kind, index = task.get("type"), _whole_number(task.get("index"))
    if kind not in ("chief", "worker"):
        raise refuse(f"gives the task's `type` as {kind!r}; it must be worker or chief")
    count = len(cluster.get(kind, []))
    if index is None or index >= count:
        raise refuse(f"gives the task's `index` as {task.get('index')!r}; there are {count} of `{kind}`")
    return Cluster(tuple(workers), index + (len(chiefs) if kind == "worker" else 0))


def _check_addresses(workers: list[str], refuse: Any) -> None:
    seen: set[tuple[str, int]] = set()
    for address in workers:
        try:
            place = split_address(address)
        except ValueError as error:
            raise refuse(f"has the address {address!r}, which {error}") from None
        if place in seen:
            raise refuse(f"has the address {address!r} twice")
        seen.add(place)


def _whole_number(value: Any) -> int | None:
    """A number from 0, or one written as text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _base_port(environ: Mapping[str, str]) -> int:
    text = environ.get(PORT_VARIABLE, str(DEFAULT_PORT))
    port = _whole_number(text)
    if port is None or not 1 <= port <= 65535:
        raise UserError(f"{PORT_VARIABLE} must be a port from 1 to 65535; received {text!r}")
    return port


def _from_slurm(environ: Mapping[str, str], port: int) -> Cluster:
    """The cluster by SLURM's variables; tasks are numbered node by node (srun's `--distribution=block`)."""

    def first(*names: str) -> tuple[str, str]:
        for name in names:
            if environ.get(name):
                return name, environ[name]
        raise UserError(f"SLURM_PROCID is set but {names[-1]} is not; start the workers by srun")

    index_name, index_text = first("SLURM_PROCID")
    count_name, count_text = first("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    nodes_name, nodes_text = first("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
    tasks_name, tasks_text = first("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    index, count = _whole_number(index_text), _whole_number(count_text)
    if count is None or index is None or index >= count:
        raise UserError(
            f"{index_name} must be a number below {count_name}; received {index_text!r} and {count_text!r}"
        )
    try:
        nodes = expand_host_list(nodes_text)
        tasks = expand_tasks_per_node(tasks_text)
    except ValueError as error:
        raise UserError(f"{nodes_name} and {tasks_name} cannot be read: {error}") from None
    if len(nodes) != len(tasks) or sum(tasks) != count:
        raise UserError(
            f"{nodes_name}, {tasks_name} and {count_name} must agree; received {nodes_text!r} ({len(nodes)} "
            f"nodes), {tasks_text!r} ({len(tasks)} nodes, {sum(tasks)} tasks) and {count_text!r}"
        )
    if port + max(tasks) - 1 > 65535:
        raise UserError(f"{PORT_VARIABLE} leaves no room for {max(tasks)} ports; received {port}")
    places = [(node, number) for node, total in enumerate(tasks) for number in range(total)]
    for name, expected in zip(("SLURM_NODEID", "SLURM_LOCALID"), places[index], strict=True):
        if environ.get(name, str(expected)) != str(expected):
            raise UserError(
                f"tasks must be numbered node by node; add --distribution=block to srun; received {name}="
                f"{environ[name]} for task {index}, which would be {expected}"
            )
    # A batch script is process 0 of its job too; srun alone makes the others, and steps of the job.
    doubt = ""
    if count > 1 and "SLURM_JOB_ID" in environ and not any(name in environ for name in STEP_VARIABLES):
        doubt = (
            f"this job's script seems to run it without srun, which starts all {count} tasks: srun python ..."
        )
    return Cluster(tuple(f"{nodes[node]}:{port + number}" for node, number in places), index, doubt)


def expand_tasks_per_node(text: str) -> list[int]:
    """Expands SLURM's task counts: `2(x3),1` -> [2, 2, 2, 1].

    Raises:
      ValueError: for another form.
    """
    tasks: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:\(x(\d{1,6})\))?", part.strip(), re.ASCII)
        if match is None:
            raise ValueError(f"{text!r} is no list of task numbers such as 2(x3),1")
        tasks += [int(match[1])] * int(match[2] or 1)
    return tasks


def expand_host_list(text: str) -> list[str]:
    """Expands SLURM's host lists: `node[01-03,7],gpu5` -> node01, node02, node03, node7, gpu5.

    Of several brackets the last runs fastest.

    Raises:
      ValueError: for another form.
    """
    hosts: list[str] = []
    # Commas inside brackets belong to the ranges.
    for part in re.split(r",(?![^\[]*\])", text.strip()):
        names = [""]
        for literal, ranges in re.findall(r"([^\[\]]+)|\[([^\[\]]*)\]", part):
            pieces = _expand_ranges(ranges, text) if ranges or not literal else [literal]
            if len(names) * len(pieces) > MOST_HOSTS:
                raise ValueError(f"{text!r} names more than {MOST_HOSTS} hosts")
            names = [name + piece for name in names for piece in pieces]
        if re.sub(r"[^\[\]]+|\[[^\[\]]*\]", "", part) or not all(HOST.fullmatch(name) for name in names):
            raise ValueError(f"{text!r} is no list of hosts such as node[01-03,7],gpu5")
        hosts += names
    return hosts


def _expand_ranges(ranges: str, text: str) -> list[str]:
    """`01-03,7` -> 01, 02, 03, 7: a number is as wide as the first of its range."""
    numbers: list[str] = []
    for part in ranges.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part, re.ASCII)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{text!r} has a range {part!r}; write it as 01-03")
        low, high = int(match[1]), int(match[2] or match[1])
        if high - low >= MOST_HOSTS:
            raise ValueError(f"{text!r} names more than {MOST_HOSTS} hosts")
        numbers += [str(number).zfill(len(match[1])) for number in range(low, high + 1)]
    return numbers
