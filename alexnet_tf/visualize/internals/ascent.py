"""Activation maximisation: pictures that activate a unit most, by gradient ascent with tf-keras-vis.

After Erhan et al. (2009), for classes after Simonyan, Vedaldi and Zisserman (2013): the logit, not the
probability, and a penalty on the picture's norm; with total variation (Mahendran and Vedaldi 2015), a picture
that is shifted and rotated between steps, and steps that are large at low frequencies, as natural pictures
are (Olah, Mordvintsev and Schubert 2017).

tf-keras-vis does the ascent, rotates the picture and holds the penalties. By itself it cannot be repeated:
its shifts draw from NumPy's global generator, its rotations from one without a seed, neither from
TensorFlow's. Nor does it keep to its `input_range` before the very end, or shift a picture back. Here every
draw comes from `seed`, and a unit's picture is the same whatever others are made with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from alexnet_tf.network import graph
from alexnet_tf.visualize.internals import receptive
from pipelines import progress

# Pictures in one ascent.
BATCH = 16
# In grey levels of 0..255: the initial noise's standard deviation, and the first step's typical size.
NOISE, FIRST_STEP = 10.0, 9.0
# Logits, or a unit's own measure, that a grey level of typical size and of variation cost.
SIZE_COST = VARIATION_COST = 0.017
# Share of a picture's side by which it is shifted, and degrees by which it is rotated, at most.
SHAKE, TURN = 1 / 14, 2.0
# Steps are this power of a frequency's inverse: 1 is the spectrum of pictures of the world.
POWER = 1.3


class AscentSettings(NamedTuple):
    """Step size, penalties and jitter of an ascent; what is zero has no effect."""

    first_step: float = FIRST_STEP
    noise: float = NOISE
    size_cost: float = SIZE_COST
    variation_cost: float = VARIATION_COST
    shake: float = SHAKE
    turn: float = TURN
    power: float = POWER


class Window(NamedTuple):
    """A unit's receptive field in the picture: first pixel and one past the last, down and across alike."""

    first: int
    end: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.first, self.end), slice(self.first, self.end)


def maximise(
    network: keras.Model,
    units: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    layer: str = "",
    steps: int = 64,
    seed: int = 0,
    settings: AscentSettings | None = None,
) -> np.ndarray:
    """For each of a layer's units a picture that makes it as active as possible.

    Args:
      network: pixels [N, S, S, 3] -> logits.
      units: int [N]; of a layer of maps these are maps, and the unit in the middle of each is maximised.
      low, high: the pixels of black and of white, broadcast to [S, S, 3]; no step leads outside.
      layer: such as `conv5`, of both towers, or `fc7`; empty for the logits.
      steps: of the ascent.
      seed: of the initial noise, of shaking and of turning.
      settings: penalties and the rest; None for the defaults.

    Returns:
      Pixels float32 [N, S, S, 3]; outside `window` they mean nothing.

    Raises:
      UserError: no such layer.
    """
    objective = _Objective(target(network, layer), window(network, layer))
    shape = objective.inputs[0].shape[1:]
    bounds = tuple(np.broadcast_to(np.asarray(bound, np.float32), shape) for bound in (low, high))
    starts = range(0, len(units), BATCH)
    chosen = settings or AscentSettings()
    with progress.phase("gradient ascent, steps", len(starts) * steps) as phase:
        objective.stepped = lambda: phase.reached(min(phase.done + 1, len(starts) * steps))
        found = [
            _ascend(objective, np.asarray(units)[s : s + BATCH], bounds, steps, seed, chosen) for s in starts
        ]
    return np.concatenate(found)


def target(network: keras.Model, layer: str = "") -> keras.Model:
    """Pixels -> [N, units]: the logits, a layer's units, or of a layer of maps the middle unit of each.

    Raises:
      UserError: no such layer.
    """
    values = graph.taps(network, layer).outputs[0] if layer else network.output
    if len(values.shape) == 4:
        values = values[:, values.shape[1] // 2, values.shape[2] // 2]
    return keras.Model(network.input, values)


def window(network: keras.Model, layer: str = "") -> Window:
    """The receptive field of the units of `target`: that of the middle unit, or the whole picture."""
    side = network.input.shape[1]
    if not layer:
        return Window(0, side)
    output = graph.parts(network, layer)[0].output
    if len(output.shape) != 4:
        return Window(0, side)
    first, end = receptive.field(network, layer).bounds(output.shape[1] // 2)
    return Window(max(0, first), min(side, end))


class _Objective:
    """The units' activations as the model that tf-keras-vis expects, computed by a compiled function.

    A layer of Keras would be called operation by operation, and its gradient through conv1 is slow.
    """

    def __init__(self, network: keras.Model, place: Window) -> None:
        import tensorflow as tf

        from alexnet_tf.network import input_gradient

        self.inputs, self.outputs = network.inputs, network.outputs
        self.layers: list[keras.Layer] = []  # none of them in half precision
        self.place = place
        self.units: Any = None
        self.stepped: Callable[[], None] = lambda: None  # called once a step
        gradient = input_gradient.function(network)
        self._slopes = tf.function(
            lambda pixels, units: gradient(pixels, input_gradient.of_class(units)), autograph=False
        )

    def __call__(self, values: list[Any], training: bool = False) -> list[Any]:
        import tensorflow as tf

        self.stepped()
        (pixels,) = values
        activations, slopes = self._slopes(tf.stop_gradient(pixels), self.units)
        own = tf.gather(activations, self.units, batch_dims=1)
        # Zero, with the gradient that is already known.
        rise = tf.reduce_sum(slopes * (pixels - tf.stop_gradient(pixels)), axis=[1, 2, 3])
        return [own + rise]


def _ascend(
    objective: _Objective,
    units: np.ndarray,
    bounds: tuple[np.ndarray, ...],
    steps: int,
    seed: int,
    settings: AscentSettings,
) -> np.ndarray:
    """The ascent of one batch of pictures."""
    import tensorflow as tf
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.activation_maximization.regularizers import Norm, TotalVariation2D

    low, high = bounds
    grey = float((high - low).mean()) / 255.0  # a grey level in the network's units
    noise = [np.random.default_rng((seed, unit)).standard_normal(low.shape, np.float32) for unit in units]
    jitter = _Jitter(objective.place, bounds, settings, seed)
    objective.units = tf.constant(units, tf.int32)
    pixels = ActivationMaximization(objective, clone=False)(
        lambda activations: activations,
        seed_input=np.stack(noise) * np.float32(settings.noise * grey),
        input_range=None,
        input_modifiers=[jitter],
        regularizers=[
            TotalVariation2D(weight=settings.variation_cost / grey),
            Norm(weight=settings.size_cost / grey, p=2),
        ],
        steps=steps,
        optimizer=keras.optimizers.SGD(1.0),
        gradient_modifier=_step_modifier(
            objective.place, low.shape[0], steps, settings.first_step * grey, settings.power
        ),
    )
    return np.asarray(jitter.back(pixels), np.float32)


class _Jitter:
    """Between two steps, clips pictures to black and white, and shifts and rotates them at random."""

    def __init__(
        self, place: Window, bounds: tuple[np.ndarray, ...], settings: AscentSettings, seed: int
    ) -> None:
        from tf_keras_vis.activation_maximization.input_modifiers import Rotate2D

        self.draws = np.random.default_rng(seed)
        self.bounds = bounds
        self.farthest = int((place.end - place.first) * settings.shake)
        self.turn = Rotate2D(settings.turn) if settings.turn else None
        if self.turn is not None:
            self.turn.random_generator = self.draws
        self.shift = np.zeros(2, int)

    def __call__(self, pixels: Any) -> Any:
        import tensorflow as tf

        pixels = self.back(pixels)
        if self.turn is not None:
            pixels = self.turn(pixels)
        self.shift = self.draws.integers(-self.farthest, self.farthest + 1, 2)
        return tf.roll(pixels, tuple(self.shift), axis=(1, 2))

    def back(self, pixels: Any) -> Any:
        """Pictures [N, S, S, 3] shifted back, clipped to black and white."""
        import tensorflow as tf

        return tf.clip_by_value(tf.roll(pixels, tuple(-self.shift), axis=(1, 2)), *self.bounds)


def _step_modifier(place: Window, side: int, steps: int, first: float, power: float) -> Callable[[Any], Any]:
    """A function from gradients [N, S, S, 3] to steps, whose size falls from `first` to 0 by half a cosine.

    A frequency's share is its own times the inverse frequency to the given power: the steepest way where
    the low frequencies that pictures of the world are made of count as short. Waves longer than the window
    count as if they fitted into it.
    """
    import tensorflow as tf

    across = np.hypot(np.fft.fftfreq(side)[:, np.newaxis], np.fft.rfftfreq(side))
    weights = (np.maximum(across, 1 / (place.end - place.first)) ** -power).astype(np.float32)
    down, right = place.slices
    taken = iter(range(steps))

    @tf.function(autograph=False)
    def shape(gradient: Any) -> Any:
        spectrum = tf.signal.rfft2d(tf.transpose(gradient, [0, 3, 1, 2])) * weights
        step = tf.transpose(tf.signal.irfft2d(spectrum, [side, side]), [0, 2, 3, 1])
        seen = step[:, down, right]
        size = tf.sqrt(tf.reduce_mean(seen**2, axis=[1, 2, 3], keepdims=True))
        return tf.math.divide_no_nan(step, size)

    def stride(gradient: Any) -> Any:
        return shape(gradient) * (first * (1.0 + math.cos(math.pi * next(taken) / steps)) / 2.0)

    return stride
