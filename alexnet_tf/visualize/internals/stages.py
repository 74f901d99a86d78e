"""The layers with weights, read from the model itself: sizes, costs, and values that towers exchange."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras

from alexnet_tf import model
from alexnet_tf.network import graph
from alexnet_tf.network.layers import (
    InvertedDropout,
    LocalResponseNormalization,
    PaperDropout,
    SpatialResponseNormalization,
    TwoGroupConv2D,
)


class Stage(NamedTuple):
    """A convolution or dense layer, of both towers together, and what follows it up to the next one.

    Attributes:
      name: without a tower's suffix.
      towers: 2 where each tower has its own, else 1.
      output: height, width and maps of both towers, or units.
      kernel: height, width and input maps of one kernel; a dense layer's inputs.
      stride: of a convolution; 0 for a dense layer.
      groups: groups in which the layer connects along one path.
      then: what follows, in words.
      parameters, multiply_adds: of both towers; multiply-adds for one picture.
    """

    name: str
    towers: int
    output: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    groups: int
    then: tuple[str, ...]
    parameters: int
    multiply_adds: int

    @property
    def neurons(self) -> int:
        return math.prod(self.output)


class Crossing(NamedTuple):
    """Values of one picture that one tower computes and that the other tower, or a layer of no tower, reads.

    Attributes:
      source: the stage whose maps they are.
      target: the stage that they lie before.
      reader: what reads them: the stage itself or a normalisation layer.
      values: of both towers together.
      meets: whether the reader belongs to no tower, so that nothing goes from one to the other.
    """

    source: str
    target: str
    reader: str
    values: int
    meets: bool


def of(network: keras.Model) -> list[Stage]:
    """The network's stages from the pixels to the logits."""
    costs = model.multiply_adds(network)
    found: list[Stage] = []
    for step in graph.steps(network):
        name, tower = _split(step.name)
        if step.name in costs:
            if found and tower and found[-1].name == name:
                found[-1] = _with_twin(found[-1], step.layer, costs[step.name])
            else:
                found.append(_stage(name, step.layer, costs[step.name]))
        elif found:
            words = _in_words(step.layer)
            if words and words not in found[-1].then:
                found[-1] = found[-1]._replace(then=(*found[-1].then, words))
    return found


def crossings(network: keras.Model) -> list[Crossing]:
    """The values that the towers exchange, in the order of the computation; none without towers.

    A layer that reads all maps takes from the other tower all of its maps; normalisation with a window of
    n maps only the n // 2 next to the border, each way.
    """
    names = {stage.name for stage in of(network)}
    readers = _readers(network)
    found, source = [], ""
    for step in graph.steps(network):
        name = _split(step.name)[0]
        if name in names:
            source = name
        if not isinstance(step.layer, keras.layers.Concatenate):
            continue
        height, width, maps = step.layer.output.shape[1:]
        reader = readers[step.name][0]
        target = _next_stage(readers, step.name, names)
        if isinstance(reader, LocalResponseNormalization):
            border = min(reader.size // 2, maps // 2)
            found.append(Crossing(source, target, reader.name, 2 * border * height * width, False))
        else:
            meets = not _split(reader.name)[1]
            found.append(Crossing(source, target, target, height * width * maps, meets))
    return found


def _stage(name: str, layer: Any, cost: int) -> Stage:
    strides = getattr(layer, "strides", None)
    is_dense = isinstance(layer, keras.layers.Dense)
    return Stage(
        name=name,
        towers=1,
        output=tuple(layer.output.shape[1:]),
        kernel=tuple(layer.kernel.shape[:-1]),
        stride=0 if is_dense else (strides[0] if strides else 1),
        groups=2 if isinstance(layer, TwoGroupConv2D) else 1,
        then=(),
        parameters=layer.count_params(),
        multiply_adds=cost,
    )


def _with_twin(first: Stage, layer: Any, cost: int) -> Stage:
    """Tower a's stage together with tower b's."""
    *place, maps = first.output
    return first._replace(
        towers=2,
        output=(*place, maps + layer.output.shape[-1]),
        parameters=first.parameters + layer.count_params(),
        multiply_adds=first.multiply_adds + cost,
    )


def _in_words(layer: Any) -> str:
    """What a layer without weights computes, in words; empty for one that only arranges values."""
    if isinstance(layer, keras.layers.Activation):
        return "ReLU" if layer.activation is keras.activations.relu else ""
    if isinstance(layer, LocalResponseNormalization):
        return f"normalise over {layer.size} maps"
    if isinstance(layer, SpatialResponseNormalization):
        return f"normalise over {layer.size} × {layer.size}"
    if isinstance(layer, keras.layers.MaxPooling2D):
        return f"max pool {layer.pool_size[0]} × {layer.pool_size[1]} / {layer.strides[0]}"
    if isinstance(layer, (PaperDropout, InvertedDropout)):
        return f"dropout {layer.rate:g}"
    return ""


def _readers(network: keras.Model) -> dict[str, list[keras.Layer]]:
    """For each layer those that read its output."""
    found: dict[str, list[keras.Layer]] = {layer.name: [] for layer in network.layers}
    for step in graph.steps(network):
        for source, _ in step.inputs:
            found[source].append(step.layer)
    return found


def _next_stage(readers: dict[str, list[keras.Layer]], name: str, names: set[str]) -> str:
    """The first stage after a layer."""
    while True:
        layer = readers[name][0]
        name = layer.name
        if _split(name)[0] in names:
            return _split(name)[0]


def _split(name: str) -> tuple[str, str]:
    """A layer's name and its tower's suffix, empty without one."""
    return (name[:-2], name[-2:]) if name.endswith(graph.TOWERS) else (name, "")
