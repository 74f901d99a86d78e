"""Response normalisation across channels (section 3.3) and within maps, written with Keras operations.

Feature maps are channels-last, [N, H, W, C].
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

PACKAGE = "alexnet_tf"  # under which Keras registers our layers
Tensor = Any  # a tensor of whichever Keras backend runs
Shape = tuple[int | None, ...]  # None for sizes that are not known


def _inverse_power(base: Tensor, beta: float) -> Tensor:
    """base^-beta; the 2012 exponent 3/4 from two square roots, several times faster than a power."""
    if beta == 0.75:
        root = ops.rsqrt(base)
        return root * ops.sqrt(root)
    return ops.power(base, -beta)


def _channel_band(channels: int, size: int, groups: int) -> np.ndarray:
    """[C, C] matrix of ones where two channels share a window: |i - j| <= size // 2, same group."""
    index = np.arange(channels)
    near = np.abs(index[:, None] - index[None, :]) <= size // 2
    same_group = (index[:, None] * groups // channels) == (index[None, :] * groups // channels)
    band: np.ndarray = (near & same_group).astype("float32")
    return band


def _banded_sum(values: Tensor, size: int, groups: int) -> Tensor:
    """Sum over the channel window as a 1x1 convolution with a banded matrix: the fast way op by op."""
    band = _channel_band(int(values.shape[-1]), size, groups)
    return ops.conv(values, ops.convert_to_tensor(band[None, None], values.dtype), padding="valid")


def _shifted_sum(values: Tensor, size: int, groups: int) -> Tensor:
    """Sum over the channel window as `size` shifted slices: the fast way once a compiler fuses them."""
    radius, width = size // 2, int(values.shape[-1]) // groups
    no_pad = [(0, 0)] * (len(values.shape) - 1)

    def within(group: Tensor) -> Tensor:
        padded = ops.pad(group, [*no_pad, (radius, radius)])
        return functools.reduce(lambda a, b: a + b, (padded[..., i : i + width] for i in range(size)))

    if groups == 1:
        return within(values)
    return ops.concatenate([within(part) for part in ops.split(values, groups, axis=-1)], axis=-1)


class _Formula:
    """y = x * (k + alpha * windowed_sum(x^2))^-beta and its gradient, in float32 for any input type."""

    def __init__(self, k: float, alpha: float, beta: float, windowed_sum: Callable[[Tensor], Tensor]) -> None:
        self.k, self.alpha, self.beta, self.windowed_sum = k, alpha, beta, windowed_sum

    def forward(self, x: Tensor) -> Tensor:
        x32 = ops.cast(x, "float32")
        return ops.cast(x32 * _inverse_power(self._base(x32), self.beta), x.dtype)

    def backward(self, x: Tensor, upstream: Tensor) -> Tensor:
        # With s = k + alpha * sum, dy_j/dx_i = s_i^-beta [i = j] - 2 alpha beta x_i x_j s_j^(-beta-1) in
        # j's window; windows are symmetric, so the sum over j is the same windowed sum. Recomputing s
        # from x is cheaper than keeping it: the layer is bound by memory, not by arithmetic.
        x32, upstream32 = ops.cast(x, "float32"), ops.cast(upstream, "float32")
        base = self._base(x32)
        scaled = upstream32 * _inverse_power(base, self.beta)
        spread = self.windowed_sum(scaled * x32 / base)
        return ops.cast(scaled - (2.0 * self.alpha * self.beta) * x32 * spread, x.dtype)

    def _base(self, x32: Tensor) -> Tensor:
        return self.k + self.alpha * self.windowed_sum(x32 * x32)


class _HaloFormula:
    """The formula over one tower's maps and those of the other that the windows reach into, the halo.

    Only the own maps are normalised. Their windows are whole, so that they, and the gradients of own
    maps and halo, are those of the joined towers.
    """

    def __init__(self, formula: _Formula, halo_first: bool) -> None:
        self.formula, self.halo_first = formula, halo_first

    def forward(self, own: Tensor, halo: Tensor) -> Tensor:
        own32 = ops.cast(own, "float32")
        base = self._base(own32, ops.cast(halo, "float32"))
        return ops.cast(own32 * _inverse_power(base, self.formula.beta), own.dtype)

    def backward(self, own: Tensor, halo: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
        # As in `_Formula.backward`. The halo is in the windows of the own maps next to it alone, which
        # themselves reach as far again: all that its gradient takes is twice its width.
        own32, halo32, upstream32 = (ops.cast(x, "float32") for x in (own, halo, upstream))
        scaled, share = self._shares(own32, halo32, upstream32)
        factor = 2.0 * self.formula.alpha * self.formula.beta
        of_own = scaled - factor * own32 * self.formula.windowed_sum(share)
        width = int(halo.shape[-1])
        near_own, near_upstream = (self._next_to_halo(x, 2 * width) for x in (own32, upstream32))
        _, near_share = self._shares(near_own, halo32, near_upstream)
        of_halo = -factor * halo32 * self._from_one_to_the_other(self._next_to_halo(near_share, width))
        return ops.cast(of_own, own.dtype), ops.cast(of_halo, halo.dtype)

    def _shares(self, own32: Tensor, halo32: Tensor, upstream32: Tensor) -> tuple[Tensor, Tensor]:
        base = self._base(own32, halo32)
        scaled = upstream32 * _inverse_power(base, self.formula.beta)
        return scaled, scaled * own32 / base

    def _base(self, own32: Tensor, halo32: Tensor) -> Tensor:
        sums = self.formula.windowed_sum(own32 * own32)
        beyond = self._from_one_to_the_other(halo32 * halo32, back=True)
        others = int(own32.shape[-1]) - int(halo32.shape[-1])
        around = (0, others) if self.halo_first else (others, 0)
        return self.formula.k + self.formula.alpha * (sums + ops.pad(beyond, [(0, 0)] * 3 + [around]))

    def _next_to_halo(self, x: Tensor, width: int) -> Tensor:
        return x[..., :width] if self.halo_first else x[..., -width:]

    def _from_one_to_the_other(self, x: Tensor, back: bool = False) -> Tensor:
        """Windowed sums at the halo's places over the own maps next to it; `back`, the other way round."""
        width = int(x.shape[-1])
        x_first = self.halo_first == back
        nothing = ops.zeros_like(x)
        sums = self.formula.windowed_sum(ops.concatenate([x, nothing] if x_first else [nothing, x], axis=-1))
        return sums[..., width:] if x_first else sums[..., :width]


def _compiled_by_xla(formula: _Formula | _HaloFormula) -> Callable[..., Tensor]:
    """The formula as two XLA programs: each reads and writes memory once instead of a dozen times."""
    import tensorflow as tf  # only reached on the TensorFlow backend

    forward = tf.function(formula.forward, jit_compile=True, reduce_retracing=True)
    backward = tf.function(formula.backward, jit_compile=True, reduce_retracing=True)

    def normalize(*inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
        return forward(*inputs), lambda upstream: backward(*inputs, upstream)

    compiled: Callable[..., Tensor] = tf.custom_gradient(normalize)
    return compiled


class _ResponseNormalization(keras.layers.Layer):
    """Base of the normalisations: no weights, float32 inside, an optional compiled form.

    `fused` compiles the layer with XLA for training on the TensorFlow backend. A network that is to
    be exported is built without: a compiled function in a SavedModel needs a server built with XLA.
    """

    def __init__(self, *, fused: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fused = fused
        self._function: Callable[..., Tensor] | None = None

    def _formula(self) -> _Formula | _HaloFormula:
        raise TypeError("subclasses give the formula")

    def build(self, input_shape: Shape) -> None:
        formula = self._formula()
        use_xla = self.fused and keras.backend.backend() == "tensorflow"
        self._function = _compiled_by_xla(formula) if use_xla else formula.forward
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        if self._function is None:
            raise ValueError("the layer is called before it is built")
        return self._function(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fused": self.fused}


@keras.saving.register_keras_serializable(PACKAGE)
class LocalResponseNormalization(_ResponseNormalization):
    """b_i = a_i / (k + alpha * sum_j a_j^2)^beta over the `size` channels around i.

    The window is cut off at the first and last channel of each group, without rescaling (section 3.3
    of the paper). `alpha` multiplies the sum itself: Caffe, PyTorch and the 2012 source divide theirs by
    `size` first, so their 1e-4 is 2e-5 here.

    Args:
      size: Channels in a window, odd.
      k, alpha, beta: Constants of the formula.
      groups: Windows do not reach from one group of channels into another; 2 keeps each tower to itself.
      fused: See the base class.
    """

    def __init__(
        self,
        size: int = 5,
        k: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        groups: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"`size` must be an odd number of channels. Received: size={size}")
        if groups < 1:
            raise ValueError(f"`groups` must be 1 or more. Received: groups={groups}")
        self.size, self.k, self.alpha, self.beta, self.groups = size, k, alpha, beta, groups

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        if channels is None or channels % self.groups:
            raise ValueError(
                f"`groups` must divide the number of channels. Received: groups={self.groups}, "
                f"input_shape={input_shape}"
            )
        super().build(input_shape)

    def _formula(self) -> _Formula | _HaloFormula:
        sum_over = _shifted_sum if self.fused else _banded_sum
        windowed = functools.partial(sum_over, size=self.size, groups=self.groups)
        return _Formula(self.k, self.alpha, self.beta, windowed)

    def get_config(self) -> dict[str, Any]:
        own = {"size": self.size, "k": self.k, "alpha": self.alpha, "beta": self.beta, "groups": self.groups}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(PACKAGE)
class HaloResponseNormalization(LocalResponseNormalization):
    """Normalisation across two towers, one tower's share: [own maps, the other's nearest] -> own maps.

    The second input is [N, H, W, size // 2], all of the other tower that the windows reach into.

    Args:
      halo_first: The other tower's maps come before the own ones (tower b) or after them (tower a).
      **kwargs: See the base class; `groups` stays 1.
    """

    def __init__(self, *, halo_first: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.halo_first = halo_first

    def build(self, input_shape: Any) -> None:  # of both inputs
        if input_shape[1][-1] != self.size // 2:
            raise ValueError(f"the halo must have {self.size // 2} channels. Received: {input_shape}")
        super().build(input_shape[0])

    def _formula(self) -> _HaloFormula:
        formula = super()._formula()
        if isinstance(formula, _HaloFormula):
            raise TypeError("a halo of a halo")
        return _HaloFormula(formula, self.halo_first)

    def call(self, inputs: list[Tensor]) -> Tensor:
        if self._function is None:
            raise ValueError("the layer is called before it is built")
        return self._function(*inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "halo_first": self.halo_first}


@keras.saving.register_keras_serializable(PACKAGE)
class SpatialResponseNormalization(_ResponseNormalization):
    """u / (1 + alpha * sum of u^2 over a size x size window of the same map)^beta, zeros outside.

    The paper does not mention it; the 2012 source has one after the second channel normalisation
    (`cnorm2a` and `cnorm2b` in layers-145.cfg, with scale 0.001 divided by the window's 25 places).

    Args:
      size: Side of the window, odd.
      alpha, beta: Constants of the formula.
      fused: See the base class.
    """

    def __init__(self, size: int = 5, alpha: float = 0.001 / 25, beta: float = 0.75, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"`size` must be an odd number of places. Received: size={size}")
        self.size, self.alpha, self.beta = size, alpha, beta

    def _formula(self) -> _Formula:
        return _Formula(1.0, self.alpha, self.beta, self._windowed_sum)

    def _windowed_sum(self, values: Tensor) -> Tensor:
        radius, height, width = self.size // 2, int(values.shape[1]), int(values.shape[2])
        padded = ops.pad(values, [(0, 0), (radius, radius), (radius, radius), (0, 0)])
        # A square window is a sum over rows of sums over columns: 10 additions instead of 25.
        rows = functools.reduce(lambda a, b: a + b, (padded[:, i : i + height] for i in range(self.size)))
        return functools.reduce(lambda a, b: a + b, (rows[:, :, i : i + width] for i in range(self.size)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta}
