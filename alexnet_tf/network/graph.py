"""A network as a graph of layers, with two towers' layers of one name taken as one.

A layer of two towers is named without its suffix (`conv5`: tower a's maps, then tower b's) or with it
(`conv5_b`). To explain a whole network by one tower's maps is the commonest mistake with AlexNet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from alexnet_tf.network.layers import TowerSplit
from pipelines.errors import UserError

TOWERS = ("_a", "_b")
JOINED = "joined"


class Step(NamedTuple):
    """A layer and its inputs, each as the name of a layer and the index of that layer's output."""

    inputs: tuple[tuple[str, int], ...]
    layer: keras.Layer

    @property
    def name(self) -> str:
        return str(self.layer.name)


def steps(network: keras.Model) -> list[Step]:
    """The layers in the order of the computation; the first is the input layer, without inputs."""
    producers: dict[int, tuple[str, int]] = {}
    found = []
    for layer in network.layers:
        is_input = isinstance(layer, keras.layers.InputLayer)
        inputs = () if is_input else tuple(producers[id(x)] for x in keras.tree.flatten(layer.input))
        found.append(Step(inputs, layer))
        for index, output in enumerate(keras.tree.flatten(layer.output)):
            producers[id(output)] = (layer.name, index)
    return found


def first_layers(network: keras.Model) -> list[keras.Layer]:
    """Layers with kernels that read the pixels, directly or through layers without; tower a's first."""
    found: list[keras.Layer] = []
    without_kernel: set[str] = set()  # layers whose outputs depend on pixels alone
    for step in steps(network):
        if not {source for source, _ in step.inputs} <= without_kernel:
            continue
        if getattr(step.layer, "kernel", None) is None:
            without_kernel.add(step.name)
        else:
            found.append(step.layer)
    return sorted(found, key=lambda layer: layer.name)  # a network's own order of its towers may be another


def layer_names(network: keras.Model, *, maps: bool = False) -> list[str]:
    """The names that `parts` takes: of both towers' layers together, and of each.

    Args:
      network: with or without towers.
      maps: whether to leave out what has no feature maps [N, H, W, C].
    """
    names = []
    for layer in network.layers:
        shape = getattr(layer.output, "shape", None)  # None: several outputs
        skipped = isinstance(layer, (keras.layers.InputLayer, keras.layers.Concatenate))
        if skipped or shape is None or (maps and len(shape) != 4):
            continue
        base = _base(network, layer.name)
        names += [name for name in dict.fromkeys((base, layer.name)) if name not in names]
    return names


def parts(network: keras.Model, name: str, *, maps: bool = False) -> list[keras.Layer]:
    """The layer called `name`, or the two of that name, tower a's first.

    Args:
      network: with or without towers.
      name: such as `conv5`, `conv5_a` or `fc7`.
      maps: whether only layers of feature maps [N, H, W, C] will do.

    Raises:
      UserError: there is none; lists those that there are.
    """
    existing = {layer.name for layer in network.layers}
    legal = layer_names(network, maps=maps)
    if name not in legal:
        kind = "layer of feature maps" if maps else "layer"
        bases = ", ".join(dict.fromkeys(_base(network, own) for own in legal))
        towers = ", and with _a or _b one tower's" if any(own.endswith(TOWERS) for own in legal) else ""
        raise UserError(f"no {kind} {name!r} in {network.name}; legal: {bases}{towers}")
    names = [name] if name in existing else [name + tower for tower in TOWERS]
    return [network.get_layer(own) for own in names]


def joined(network: keras.Model, name: str) -> keras.Model:
    """The same network with the maps of `name`, both towers', joined in one tensor on the way.

    The layers are the network's own, so that both have the same weights.

    Returns:
      A model pixels -> [maps, logits], maps [N, H, W, C] (or [N, units]) those of tower a, then of tower b:
      the logits' gradient with respect to the maps is that of the whole network.

    Raises:
      UserError: no such layer.
    """
    own = [layer.name for layer in parts(network, name)]
    known: dict[str, list[Any]] = {}  # a layer's name -> its outputs
    maps: Any = None
    for step in steps(network):
        if not step.inputs:
            known[step.name] = [keras.Input(step.layer.output.shape[1:], name=step.name)]
        else:
            read = [known[source][index] for source, index in step.inputs]
            several = isinstance(step.layer.input, (list, tuple))
            known[step.name] = keras.tree.flatten(step.layer(read if several else read[0]))
        if maps is None and all(part in known for part in own):
            maps = known[own[0]][0]
            if len(own) == 2:
                maps = keras.layers.Concatenate(name=f"{name}_{JOINED}")([known[part][0] for part in own])
                split = TowerSplit(name=f"{name}_{JOINED}_split")(maps)
                known.update({part: [x] for part, x in zip(own, split, strict=True)})
    pixels, logits = known[network.layers[0].name][0], known[network.layers[-1].name][0]
    return keras.Model(pixels, [maps, logits], name=f"{network.name}_{JOINED}")


def taps(network: keras.Model, *names: str) -> keras.Model:
    """A model pixels -> [maps of each named layer, towers joined, ..., logits].

    Not for gradients with respect to maps: joined maps lie beside the way to the logits (see `joined`).

    Raises:
      UserError: no such layer.
    """
    outputs = []
    for name in names:
        found = [layer.output for layer in parts(network, name)]
        outputs.append(found[0] if len(found) == 1 else keras.ops.concatenate(found, axis=-1))
    return keras.Model(network.input, [*outputs, network.output])


def _base(network: keras.Model, name: str) -> str:
    """The name that the towers' layers share; the layer's own where it has no twin in the other tower."""
    existing = {layer.name for layer in network.layers}
    base = name[:-2] if name.endswith(TOWERS) else name
    return base if all(base + tower in existing for tower in TOWERS) else name
