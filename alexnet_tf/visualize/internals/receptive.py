"""Receptive fields: which part of the picture each unit of a layer reads."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from alexnet_tf.network import graph
from alexnet_tf.network.layers import TwoGroupConv2D


class Field(NamedTuple):
    """The receptive fields of a layer's units, the same down and across, in pixels of the network's input.

    Attributes:
      stride: from one unit's field to the next unit's.
      size: side of a field.
      start: first pixel of the first unit's field; negative where it hangs over the edge.
    """

    stride: int
    size: int
    start: int

    def bounds(self, index: int) -> tuple[int, int]:
        """First pixel and one past the last of unit `index`; may reach over the edges."""
        first = self.start + self.stride * index
        return first, first + self.size

    def centre(self, index: int) -> float:
        """The middle of unit `index`'s field, in pixels, where pixel 0 reaches from -0.5 to 0.5."""
        return self.start + self.stride * index + (self.size - 1) / 2

    def interpolation(self, side: int, units: int) -> np.ndarray:
        """Weights float32 [side, units] that lay a map over `side` pixels, each unit at its field's centre.

        Between centres the map is linear, beyond the outermost constant. Merely enlarging a map of 13 x 13
        to the picture's size would put its outer units up to eight pixels too far out.
        """
        places = np.clip((np.arange(side) - self.centre(0)) / self.stride, 0, units - 1)
        return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(units))).astype(np.float32)

    def enlarge(self, maps: np.ndarray, side: int) -> np.ndarray:
        """Maps [N, h, w] over the picture: float32 [N, side, side], by `interpolation`."""
        down, across = (self.interpolation(side, units) for units in maps.shape[1:])
        return np.einsum("yh,nhw,xw->nyx", down, np.asarray(maps, np.float32), across, optimize=True)


def field(network: keras.Model, name: str) -> Field:
    """The receptive fields of a layer of feature maps, such as `conv5`; normalisation does not widen them.

    Raises:
      UserError: the network has no such layer of feature maps.
    """
    wanted = graph.parts(network, name, maps=True)[0].name
    fields: dict[str, Field] = {}
    for step in graph.steps(network):
        read = fields[step.inputs[0][0]] if step.inputs else Field(1, 1, 0)
        fields[step.name] = _after(read, step.layer)
        if step.name == wanted:
            break
    return fields[wanted]


def _after(read: Field, layer: keras.Layer) -> Field:
    """The fields of a layer's units, from those of the layer that it reads."""
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return read._replace(start=read.start - read.stride * layer.padding[0][0])
    window, stride, before = _window(layer)
    return Field(
        read.stride * stride, read.size + read.stride * (window - 1), read.start - read.stride * before
    )


def _window(layer: keras.Layer) -> tuple[int, int, int]:
    """Side of a layer's window, its stride, and how far the first one begins before the maps."""
    if isinstance(layer, TwoGroupConv2D):
        return layer.kernel_size, layer.strides[0], layer.padding
    if isinstance(layer, keras.layers.Conv2D):
        return layer.kernel_size[0], layer.strides[0], _padding(layer, layer.kernel_size[0])
    if isinstance(layer, keras.layers.MaxPooling2D):
        return layer.pool_size[0], layer.strides[0], _padding(layer, layer.pool_size[0])
    return 1, 1, 0


def _padding(layer: Any, window: int) -> int:
    """Zeros before the first row: TensorFlow's `same` puts the odd one behind."""
    if layer.padding == "valid":
        return 0
    read, gives = layer.input.shape[1], layer.output.shape[1]
    return max((gives - 1) * layer.strides[0] + window - read, 0) // 2
