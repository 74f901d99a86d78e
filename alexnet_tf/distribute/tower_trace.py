"""Trace of one step: its operations by device, and every tensor sent between devices.

Read from the graphs that the runtime has cut the step into, after placement and optimisation, not from
what the layers asked for.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

# `towers.run_on` names a layer's operations so, and TensorFlow those that a tape adds to them.
_OF_A_LAYER = re.compile(r"(?:^|/)(gradient_tape/forward|backward|forward)/([^/]+)/")
# The layers of `towers` through which the towers meet at a place.
_MEETING = re.compile(r"(.+)_(?:in|out|edge)(?:_[ab])?")
# What hands its input on unchanged.
_PASSES_ON = ("Identity", "Switch", "Merge", "Enter", "Exit")
_VENDOR = re.compile(r"^_(Mkl)?(Native)?(Fused)?")


@dataclasses.dataclass(frozen=True)
class Crossing:
    """A tensor that is sent from one device to another in each step.

    Attributes:
      tensor: its name in the graph.
      source, destination: the devices, such as `CPU:0`.
      place: where the towers meet: `pad` (the pixels), `lrn1`, `lrn2`, `conv3`, `conv6`, `fc6`, `fc7`,
        `fc8`, or empty for what belongs to no layer, such as the rates of the update.
      phase: `forward` or `backward`, or empty like `place`.
      dtype: of its elements.
      shape: its shape in this step, or None where the graph does not say.
    """

    tensor: str
    source: str
    destination: str
    place: str
    phase: str
    dtype: str
    shape: tuple[int, ...] | None

    @property
    def bytes(self) -> int | None:
        """Its size in this step in bytes; None where the shape is not known."""
        if self.shape is None:
            return None
        count = 1
        for side in self.shape:
            count *= side
        return count * int(tf.dtypes.as_dtype(self.dtype).size)


class Trace(NamedTuple):
    """The tensors sent in one step, and each device's operations as {(phase, operation): count}.

    Operations have their plain names (`Conv2D` for `_MklNativeFusedConv2D`). A program compiled by XLA
    counts as one `XLA`.
    """

    crossings: list[Crossing]
    operations: dict[str, dict[tuple[str, str], int]]


def trace(run: Callable[[], Any]) -> Trace:
    """Traces the first run of a tf.function, such as a training step, from the runtime's graphs.

    Args:
      run: calls a tf.function that has not run before; what it changes is changed.

    Raises:
      ValueError: nothing was compiled, as the function has run before.
    """
    from tensorflow.python.eager import context  # TensorFlow has no public way to these graphs

    before = _function_graphs()
    context.enable_graph_collection()
    try:
        run()
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_graph_collection()
    if not graphs:
        raise ValueError("nothing was compiled while it ran: it must be its first time")
    parts = [_Part(graph) for graph in graphs]
    old = {id(graph) for graph in before}
    shapes = _Shapes([graph for graph in _function_graphs() if id(graph) not in old])
    return Trace(list(_crossings(parts, shapes)), _operations(parts))


def _function_graphs() -> list[Any]:
    """The graphs of all traced functions: TensorFlow keeps no list of them."""
    from tensorflow.python.framework.func_graph import FuncGraph

    return [thing for thing in gc.get_objects() if issubclass(type(thing), FuncGraph)]


class _Part:
    """One device's part of a step's graph."""

    def __init__(self, graph: Any) -> None:
        self.nodes = {node.name: node for node in graph.node}
        self.readers: dict[str, list[str]] = collections.defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[_node_of(name)].append(node.name)

    def of_kind(self, *kinds: str) -> Iterator[Any]:
        return (node for node in self.nodes.values() if node.op in kinds)


def _node_of(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _short(device: bytes) -> str:
    return device.decode().rpartition("device:")[2]


def _crossings(parts: list[_Part], shapes: _Shapes) -> Iterator[Crossing]:
    received = {
        (node.attr["tensor_name"].s, node.attr["recv_device"].s): (part, node.name)
        for part in parts
        for node in part.of_kind("_Recv", "_HostRecv")
    }
    for part in parts:
        for node in part.of_kind("_Send", "_HostSend"):
            ends = node.attr["send_device"].s, node.attr["recv_device"].s
            if ends[0] == ends[1]:
                continue
            reader, arrival = received[node.attr["tensor_name"].s, ends[1]]
            place, phase = _whose(node.input[0], reader.readers[arrival])
            dtype = tf.dtypes.as_dtype(node.attr["T"].type)
            source, destination = (_short(device) for device in ends)
            shape = shapes.of(part, node.input[0])
            yield Crossing(node.input[0], source, destination, place, phase, dtype.name, shape)


def _layer(node: str) -> tuple[str, str]:
    """The (layer, phase) that an operation belongs to; both empty for none."""
    match = _OF_A_LAYER.search(node)
    if match is None or "/ctrl/" in node:  # the latter says only that something has happened
        return "", ""
    return match.group(2), "forward" if match.group(1) == "forward" else "backward"


def _whose(source: str, readers: list[str]) -> tuple[str, str]:
    """The (place, phase) of a crossing: the sending layer's, or the reading one's where towers meet there."""
    layer, phase = _layer(source)
    if not layer:
        return "", ""
    for name in (layer, *(_layer(reader)[0] for reader in readers)):
        meeting = _MEETING.fullmatch(name)
        if meeting is not None:
            return meeting.group(1), phase
    return layer, phase


class _Shapes:
    """Shapes as they were when the functions were traced: the graphs that run do not hold them."""

    def __init__(self, traced: Iterable[Any]) -> None:
        self.by_name: dict[str, tuple[int, ...]] = {}
        for graph in traced:
            for operation in graph.get_operations():
                for tensor in operation.outputs:
                    if tensor.shape.is_fully_defined():
                        self.by_name.setdefault(tensor.name, tuple(tensor.shape))

    def of(self, part: _Part, tensor: str) -> tuple[int, ...] | None:
        """The shape of a tensor of one device's graph, or None where it is not known."""
        while True:
            node, _, output = tensor.partition(":")
            # The runtime puts the names of loops and calls before those of the operations within.
            words = node.split("/")
            for start in range(max(1, len(words) - 1)):
                shape = self.by_name.get(f"{'/'.join(words[start:])}:{output or 0}")
                if shape is not None:
                    return shape
            found = part.nodes.get(node)
            if found is not None and found.op == "Const":
                return tuple(side.size for side in found.attr["value"].tensor.tensor_shape.dim)
            if found is not None and found.op == "LoopCond":
                return ()
            if found is None or found.op not in _PASSES_ON:
                return None
            tensor = found.input[0]


def _operations(parts: list[_Part]) -> dict[str, dict[tuple[str, str], int]]:
    counts: dict[str, dict[tuple[str, str], int]] = {}
    for part in parts:
        for node in part.nodes.values():
            own = counts.setdefault(_short(node.device.encode()), {})
            operation = "XLA" if node.attr["_XlaMustCompile"].b else _plain(node.op)
            key = _layer(node.name)[1], operation
            own[key] = own.get(key, 0) + 1
    return counts


def _plain(operation: str) -> str:
    """`Conv2D` for `_FusedConv2D` and `_MklNativeFusedConv2D`; the added bias stays in names that have it."""
    return _VENDOR.sub("", operation).removesuffix("WithBias")
