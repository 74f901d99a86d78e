"""The update rule of section 5, with the per-layer rates that the 2012 source used.

    v <- momentum * v - weight_decay * rate * w - rate * gradient
    w <- w + v

Weight decay is inside the momentum and scaled by the rate (src/weights.cu agrees): not Keras'
`SGD(weight_decay=...)`, which decays outside it and is 10 times weaker at momentum 0.9.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Any

import keras
from keras import ops

from alexnet_tf.network.layers import PACKAGE

Tensor = Any


def _step(
    w: Tensor, v: Tensor, gradient: Tensor, rate: Tensor, momentum: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    """One update of one variable; returns the new (w, v). A rate of 0 leaves both alone (src/weights.cu)."""
    # Freezing is a matter of scalar factors, so that the arrays are passed over once.
    moves = ops.cast(rate != 0, w.dtype)
    kept = moves * momentum + (1.0 - moves)
    v = kept * v - rate * (ops.cast(gradient, w.dtype) + decay * w)
    return w + moves * v, v


def _compile_step() -> Any:
    """`_step` as one XLA program that reads and writes memory once (3 times faster than op by op).

    A program is for one variable only: it holds on to a mirrored velocity as it was when traced, and
    would take another of the same shape for it.
    """
    import tensorflow as tf  # only reached on the TensorFlow backend

    def assign_step(w: Any, v: Any, gradient: Any, rate: Any, momentum: Any, decay: float) -> None:
        new_w, new_v = _step(w.read_value(), v.read_value(), gradient, rate, momentum, decay)
        v.assign(new_v)
        w.assign(new_w)

    return tf.function(assign_step, jit_compile=True)


def _beside(variable: Any) -> contextlib.AbstractContextManager[Any]:
    """A context that runs operations on the device that holds a variable."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    there: contextlib.AbstractContextManager[Any] = tf.device(variable.device)
    return there


def clip_by_global_norm(gradients: Sequence[Tensor], limit: float, variables: Sequence[Any]) -> list[Tensor]:
    """Scales gradients so that their global norm is at most `limit`; TensorFlow only.

    `tf.clip_by_global_norm` multiplies always; most steps need no more than the norm. A norm that is
    not finite is left alone, for the loop to stop on. Each gradient stays on its variable's device:
    between devices go their norms and the common factor.
    """
    import tensorflow as tf

    norm = tf.linalg.global_norm(gradients)  # measures each gradient where it is
    too_long, factor = tf.math.is_finite(norm) & (norm > limit), limit / norm
    by_device: dict[str, list[int]] = {}
    for index, variable in enumerate(variables):
        by_device.setdefault(variable.device, []).append(index)
    scaled: dict[int, Tensor] = {}
    for device, indices in by_device.items():
        own = [gradients[index] for index in indices]
        with tf.device(device):
            results = tf.cond(
                too_long,
                lambda own=own: [gradient * factor for gradient in own],
                lambda own=own: [tf.identity(gradient) for gradient in own],
            )
        scaled.update(zip(indices, results, strict=True))
    return [scaled[index] for index in range(len(gradients))]


@keras.saving.register_keras_serializable(PACKAGE)
class PaperMomentum(keras.optimizers.Optimizer):
    """Momentum with the paper's weight decay, and with rates of their own for biases and the first layer.

    Args:
      learning_rate: The rate of the weights.
      momentum: 0.9 in section 5.
      weight_decay: 0.0005 in section 5; weights only, biases are not decayed (src/layer.cu).
      bias_multiplier: Biases move at `bias_multiplier * learning_rate` (2 in the source, 1 in the text).
      conv1_multiplier: The first layer's weights and biases move at this much less; 0 freezes them.
      first_layer: Names of the layers that this holds for (`graph.first_layers`), one a tower.
      fused: Compiles the update with XLA (TensorFlow backend only).
      **kwargs: Keras' own, such as `global_clipnorm`: the norm of the whole gradient, summed over the
        replicas, beyond which it is scaled down to it (Pascanu et al. 2013; not in the paper).

    The multipliers are variables: a schedule may change them as training goes on.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        bias_multiplier: float = 1.0,
        conv1_multiplier: float = 1.0,
        first_layer: Collection[str] = (),
        fused: bool = False,
        name: str = "paper_momentum",
        **kwargs: Any,
    ) -> None:
        # The base class would apply its own `weight_decay` outside the momentum: it must not see ours.
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"`momentum` must lie in [0, 1). Received: momentum={momentum}")
        self.momentum, self.decay, self.fused = momentum, weight_decay, fused
        self.first_layer = tuple(first_layer)
        self._compiled_steps: list[Any] = []  # one for each variable
        self._initial_multipliers = (bias_multiplier, conv1_multiplier)
        self.bias_multiplier = self._multiplier(bias_multiplier, "bias_multiplier")
        self.conv1_multiplier = self._multiplier(conv1_multiplier, "conv1_multiplier")

    def _multiplier(self, value: float, name: str) -> Any:
        return self.add_variable(
            shape=(), initializer=keras.initializers.Constant(value), dtype="float32", name=name
        )

    def build(self, var_list: list[Any]) -> None:
        if self.built:
            return
        super().build(var_list)
        self.velocities = [self.add_variable_from_reference(v, name="velocity") for v in var_list]
        firsts = [[name] for name in self.first_layer]
        self._is_bias = [v.name == "bias" for v in var_list]
        # A variable's path ends in its layer's name and its own; what comes before depends on who built it.
        self._is_first_layer = [v.path.split("/")[-2:-1] in firsts for v in var_list]
        if self.fused and keras.backend.backend() == "tensorflow":
            self._compiled_steps = [_compile_step() for _ in var_list]

    def set_rates(self, weights: Tensor, biases: Tensor, conv1: Tensor) -> None:
        """Sets the learning rates of weights, of biases, and of the first layer's weights.

        The first layer's biases are slowed down by as much as its weights.

        Scalars: numbers, or tensors of a graph.
        """
        self.learning_rate = weights
        self.bias_multiplier.assign(ops.divide_no_nan(biases, weights))
        self.conv1_multiplier.assign(ops.divide_no_nan(conv1, weights))

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        index = self._get_variable_index(variable)
        velocity, is_bias = self.velocities[index], self._is_bias[index]
        rate = ops.cast(learning_rate, variable.dtype)
        if is_bias:
            rate = rate * ops.cast(self.bias_multiplier, variable.dtype)
        if self._is_first_layer[index]:
            rate = rate * ops.cast(self.conv1_multiplier, variable.dtype)
        decay = 0.0 if is_bias else self.decay
        with _beside(variable):
            momentum = ops.cast(self.momentum, variable.dtype)
            if self._compiled_steps:
                self._compiled_steps[index](variable, velocity.value, gradient, rate, momentum, decay)
                return
            new_w, new_v = _step(variable, velocity, gradient, rate, momentum, decay)
            self.assign(velocity, new_v)
            self.assign(variable, new_w)

    def _clip_gradients(self, grads: list[Tensor]) -> list[Tensor]:
        # Keras clips each replica's share before the sum: two replicas would then take another step
        # than one. On TensorFlow the norm of everything is held to its limit after the sum, below.
        later = self.global_clipnorm is not None and keras.backend.backend() == "tensorflow"
        return grads if later else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars: list[Any]) -> list[Any]:
        import tensorflow as tf  # only reached on the TensorFlow backend

        # A sum over one replica would only gather all gradients on one device.
        alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        reduced = list(grads_and_vars) if alone else super()._all_reduce_sum_gradients(grads_and_vars)
        if self.global_clipnorm is None:
            return reduced
        gradients, variables = zip(*reduced, strict=True)
        clipped = clip_by_global_norm(gradients, self.global_clipnorm, variables)
        return list(zip(clipped, variables, strict=True))

    def get_config(self) -> dict[str, Any]:
        bias_multiplier, conv1_multiplier = self._initial_multipliers
        own = {
            "momentum": self.momentum,
            "weight_decay": self.decay,
            "bias_multiplier": bias_multiplier,
            "conv1_multiplier": conv1_multiplier,
            "first_layer": self.first_layer,
            "fused": self.fused,
        }
        return {**super().get_config(), **own}
