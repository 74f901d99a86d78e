"""The deconvolutional network: a unit's activation carried back to the pixels (Zeiler and Fergus 2013).

Every layer between the unit and the pixels is undone in turn (their section 2.1):

    pooling        each value returns to the place of its window's maximum, the switch, which the forward
                   pass of the same picture set; where windows overlap, values that meet add up
    ReLU           the signal itself is rectified, whatever the unit's sign was on the way forward
    convolution    the same kernels transposed, without biases
    normalisation  left out: the signal passes unchanged
    towers         a signal goes back to the tower, or the towers, that its kernels read

All but ReLU and normalisation is what the gradient does too, so that one backward pass with these two rules
in place of the gradient's own projects a whole batch; for a network of neither, both coincide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import UserError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Pictures that are projected at once.
BATCH = 32


def project(
    network: keras.Model,
    pixels: np.ndarray,
    layer: str,
    unit: int | np.ndarray,
    places: np.ndarray | None = None,
) -> np.ndarray:
    """Projects a unit's activation in each picture back to the pixels.

    The signal that is carried back is the unit's activation at one place, all others being zero. A unit
    that does not fire there, whose activation is 0 or less, projects nothing.

    Args:
      network: pixels -> logits, with or without towers.
      pixels: float32 [N, S, S, 3], mean subtracted.
      layer: such as `conv5` (tower b's units after tower a's), `relu5`, `pool5` or `fc7`.
      unit: one for all pictures, or int [N], one for each.
      places: int [N, 2], row and column in the layer's maps; None takes the strongest of the unit's in
        each picture. None for a layer without maps.

    Returns:
      float32 [N, S, S, 3], signed, in the pixels' units times the activation's.

    Raises:
      UserError: no such layer or unit, a place outside the maps, or a network with other activations
        than ReLU, for which the rules say nothing.
    """
    forward = _forward(network, layer)
    units = np.broadcast_to(np.asarray(unit, np.int64), [len(pixels)])
    parts = []
    for start in range(0, len(pixels), BATCH):
        chosen = slice(start, start + BATCH)
        where = None if places is None else np.asarray(places)[chosen]
        parts.append(_project(forward, pixels[chosen], layer, units[chosen], where))
    return np.concatenate(parts)


def _project(
    forward: Callable[[Any], Any],
    pixels: np.ndarray,
    layer: str,
    units: np.ndarray,
    places: np.ndarray | None,
) -> np.ndarray:
    import tensorflow as tf

    x = tf.constant(pixels, tf.float32)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        maps = forward(x)
    _check_units(units, layer, maps.shape[-1])
    own = tf.gather(maps, units, axis=-1, batch_dims=1) if maps.shape.rank == 2 else _of_units(maps, units)
    flat = tf.reshape(own, [len(pixels), -1])
    index = tf.argmax(flat, axis=1) if places is None else _flat_places(places, layer, maps.shape[1:-1])
    value = tf.nn.relu(tf.gather(flat, index, axis=1, batch_dims=1))
    signal = tf.one_hot(index, flat.shape[1])[..., None] * tf.one_hot(units, maps.shape[-1])[:, None]
    signal = tf.reshape(signal * value[:, None, None], maps.shape)
    return tape.gradient(maps, x, output_gradients=signal).numpy()


def _of_units(maps: tf.Tensor, units: np.ndarray) -> tf.Tensor:
    """Each picture's map of its own unit: [N, h, w, C] -> [N, h, w]."""
    import tensorflow as tf

    return tf.gather(tf.transpose(maps, [0, 3, 1, 2]), units, axis=1, batch_dims=1)


def _check_units(units: np.ndarray, layer: str, width: int) -> None:
    wrong = [int(unit) for unit in units if not 0 <= unit < width]
    if wrong:
        raise UserError(f"`unit`: {layer} has units 0 to {width - 1}; received {wrong[0]}")


def _flat_places(places: np.ndarray, layer: str, size: tuple[int, ...]) -> np.ndarray:
    """Row and column as one index."""
    if len(size) != 2 or not ((places >= 0) & (places < size)).all():
        legal = f"0 0 to {size[0] - 1} {size[1] - 1}" if len(size) == 2 else "none, since it has no maps"
        raise UserError(f"`places`: of {layer} {legal}; received {np.asarray(places).tolist()}")
    return np.asarray(places[:, 0] * size[1] + places[:, 1], np.int64)


def _forward(network: keras.Model, name: str) -> Callable[[Any], Any]:
    """A function pixels -> the maps of layer `name`, both towers', whose gradient is the projection."""
    import keras

    from alexnet_tf.network import graph

    wanted = [layer.name for layer in graph.parts(network, name)]
    steps = []
    for step in graph.steps(network):
        steps.append((step, _rule(step.layer)))
        if step.name == wanted[-1]:
            break

    def forward(pixels: Any) -> Any:
        known: dict[str, list[Any]] = {}
        for step, call in steps:
            if not step.inputs:
                known[step.name] = [pixels]
                continue
            read = [known[source][index] for source, index in step.inputs]
            several = isinstance(step.layer.input, (list, tuple))
            known[step.name] = keras.tree.flatten(call(read if several else read[0]))
        outputs = [known[own][0] for own in wanted]
        return outputs[0] if len(outputs) == 1 else keras.ops.concatenate(outputs, axis=-1)

    return forward


def _rule(layer: keras.Layer) -> Callable[[Any], Any]:
    """The layer as a function whose gradient undoes it as a deconvolutional network does."""
    import keras
    import tensorflow as tf

    from alexnet_tf.network.layers import LocalResponseNormalization, SpatialResponseNormalization

    activation = getattr(layer, "activation", keras.activations.linear)
    rectifies = isinstance(layer, keras.layers.ReLU) or (
        isinstance(layer, keras.layers.Activation) and activation is keras.activations.relu
    )
    if not rectifies and activation is not keras.activations.linear:
        name = getattr(activation, "__name__", str(activation))
        raise UserError(
            f"layer {layer.name} ends in {name}; projections need a network whose activations are layers "
            "of their own, ReLU or linear"
        )
    if rectifies:
        return tf.custom_gradient(lambda x: (layer(x), tf.nn.relu))
    if isinstance(layer, (LocalResponseNormalization, SpatialResponseNormalization)):
        return tf.custom_gradient(lambda x: (layer(x), tf.identity))
    return layer
