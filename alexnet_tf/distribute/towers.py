"""The network with one tower on each of two devices, as in 2012; TensorFlow only.

The towers meet at conv3, fc6, fc7 and fc8 [P 3.5; S layers-145.cfg]. fc6 and fc7 are split by columns:
each device holds half of the units, and each unit reads everything. fc8 is one layer on the first
device. Where the towers meet, each device joins the maps for itself: a tensor crosses once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from alexnet_tf import model
from alexnet_tf.model import Maps
from alexnet_tf.network import variants
from alexnet_tf.network.normalization import HaloResponseNormalization
from pipelines.errors import UserError

Devices = tuple[str, str]


def devices() -> Devices:
    """The devices of tower a and tower b: the first two GPUs, or the first two logical CPUs.

    Raises:
      UserError: there is only one.
    """
    gpus, cpus = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    found = [device.name for device in (gpus if len(gpus) > 1 else cpus)]
    if len(found) < 2:
        raise UserError(
            "--devices towers needs two devices, one for each tower; received "
            f"{len(gpus)} GPU and {len(cpus)} CPU (cure: --devices one)"
        )
    return found[0], found[1]


def build(variant: str = "paper", classes: int = 1000, *, devices: Devices, **settings: Any) -> keras.Model:
    """Builds a network whose tower a lives on the first device and tower b on the second, backward too.

    From the same seed it has the weights, the masks and the outputs of `model.build`; fc6 and fc7 are
    two halves each, `fc6_a`, `fc6_b`, `fc7_a` and `fc7_b`.

    Args:
      variant: One with two towers.
      classes: Outputs of fc8.
      devices: Names as in `devices()`.
      **settings: As for `model.build`.

    Raises:
      UserError: for a variant without two towers, and as `model.build`.
    """
    variants.require_two_towers(variant)
    return model.build(variant, classes, builder=functools.partial(_TowerBuilder, devices), **settings)


def run_on(device: str, name: str, function: Callable[..., Any], *tensors: tf.Tensor) -> Any:
    """Calls `function` with its operations, and later those of its gradient, on `device`.

    `with tf.device` alone places the forward pass only: a tape runs the gradient wherever it is asked.
    In a graph the operations are called forward/<name>/... and backward/<name>/...
    """

    @tf.custom_gradient
    def placed(*inputs: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(*inputs)

        def backward(*upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()) -> Any:
            with tf.device(device), tf.name_scope(f"backward/{name}/"):
                sources = (list(inputs), list(variables))
                of_inputs, of_variables = tape.gradient(outputs, sources, list(upstream))
            return (of_inputs, of_variables) if variables else of_inputs

        return outputs, backward

    with tf.device(device), tf.name_scope(f"forward/{name}/"):
        return placed(*tensors)


def _placed(kind: type[keras.Layer]) -> type[keras.Layer]:
    """A subclass of a layer whose variables and operations, backward ones too, stay on one device."""

    class Placed(kind):
        def __init__(self, *args: Any, device: str, **kwargs: Any) -> None:
            with tf.device(device):
                super().__init__(*args, **kwargs)
            self.device = device

        # Wrapped, since Keras looks into the signatures and whether `build` is its own empty one.
        @functools.wraps(kind.build)
        def build(self, input_shape: Any) -> None:
            with tf.device(self.device):
                super().build(input_shape)

        @functools.wraps(kind.call)
        def call(self, inputs: Any, **kwargs: Any) -> Any:
            def function(*tensors: tf.Tensor) -> Any:
                return super(Placed, self).call(tf.nest.pack_sequence_as(inputs, tensors), **kwargs)

            return run_on(self.device, self.name, function, *tf.nest.flatten(inputs))

    Placed.__name__ = Placed.__qualname__ = f"Placed{kind.__name__}"
    return Placed


class _Fork(keras.layers.Layer):
    """Gives the same maps to two readers; their gradients are summed on the maps' device."""

    def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        return [tf.identity(inputs), tf.identity(inputs)]


class _HaloFork(keras.layers.Layer):
    """Gives the maps, and besides the first or last few of them for the other tower.

    Args:
      width: How many.
      first: Whether they are the first; else the last.
      fused: Compiles the sum of the gradients, which is bound by memory, with XLA.
    """

    def __init__(self, width: int, *, first: bool, fused: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.first = width, first
        self._summed = tf.function(self._sum, jit_compile=True) if fused else self._sum

    def _sum(self, of_maps: tf.Tensor, of_edge: tf.Tensor) -> tf.Tensor:
        others = int(of_maps.shape[-1]) - self.width
        around = (0, others) if self.first else (others, 0)
        return of_maps + tf.pad(of_edge, [(0, 0), (0, 0), (0, 0), around])

    def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        @tf.custom_gradient
        def fork(maps: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., tf.Tensor]]:
            edge = maps[..., : self.width] if self.first else maps[..., -self.width :]
            return [tf.identity(maps), edge], self._summed

        outputs: list[tf.Tensor] = fork(inputs)
        return outputs


class _Columns(keras.initializers.Initializer):
    """An initializer: half of the columns that another one draws for the whole of a layer."""

    def __init__(self, whole: keras.initializers.Initializer, index: int) -> None:
        self.whole, self.index = whole, index

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
        *rows, columns = shape
        drawn = self.whole((*rows, 2 * columns), dtype=dtype)
        return drawn[..., self.index * columns : (self.index + 1) * columns]


class _TowerBuilder(model.Builder):
    """The architecture, laid out on two devices."""

    def __init__(self, devices: Devices, *args: Any) -> None:
        super().__init__(*args)
        self.devices = dict(zip(self.arch.towers, devices, strict=True))

    def layer(self, kind: type[keras.Layer], *args: Any, name: str, tower: str = "", **settings: Any) -> Any:
        """A new layer on its tower's device; what belongs to no tower is on the first device."""
        settings["device"] = self.devices[tower or self.arch.towers[0]]
        return super().layer(_placed(kind), *args, name=name, tower=tower, **settings)

    def cross(self, name: str, t: Maps) -> Maps:
        for_a, for_b = zip(*self.each(_Fork, f"{name}_out", t), strict=True)
        pairs = zip(self.arch.towers, (list(for_a), list(for_b)), strict=True)
        return [self.layer(layers.Concatenate, name=f"{name}_in", tower=tower)(x) for tower, x in pairs]

    def normalize_across(self, name: str, t: Maps, settings: dict[str, Any]) -> Maps:
        own, edges = [], []
        for first, tower, x in zip((False, True), self.arch.towers, t, strict=True):  # a ends where b begins
            edge = {"width": settings["size"] // 2, "first": first, "fused": self.fused}
            outputs = self.layer(_HaloFork, name=f"{name}_edge", tower=tower, **edge)(x)
            own.append(outputs[0])
            edges.append(outputs[1])
        parts = zip((False, True), self.arch.towers, own, edges[::-1], strict=True)
        kind = HaloResponseNormalization
        return [
            self.layer(kind, halo_first=first, name=name, tower=tower, **settings)([x, halo])
            for first, tower, x, halo in parts
        ]

    def fully_connected(self, t: Maps, classes: int) -> Any:
        t = self.each(layers.Flatten, "flatten", self.cross("fc6", t))
        t = self.halves("6", t)
        t = self.halves("7", self.cross("fc7", t))
        return self.dense("fc8", self.layer(layers.Concatenate, name="fc8_in")(t), classes)

    def halves(self, number: str, t: Maps) -> Maps:
        """A fully connected hidden layer with its dropout: half of its units on each device."""
        name, units, initial = f"fc{number}", self.arch.hidden // 2, self.initial(f"fc{number}")
        outputs = []
        for index, (tower, x) in enumerate(zip(self.arch.towers, t, strict=True)):
            own = {key: _Columns(keras.initializers.get(whole), index) for key, whole in initial.items()}
            x = self.dense(name, x, units, tower=tower, **own)
            x = self.layer(layers.Activation, "relu", name=f"relu{number}", tower=tower)(x)
            outputs.append(self.dropout(number, tower=tower, part=(index, 2))(x))
        return outputs
