"""The layers of 2012 that Keras lacks, written with Keras operations: they run on every Keras backend.

The two response normalisations stand in `normalization.py` and are to be had from here.
Feature maps are channels-last, [N, H, W, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from alexnet_tf.network.normalization import (
    PACKAGE,
    LocalResponseNormalization,
    Shape,
    SpatialResponseNormalization,
    Tensor,
)

__all__ = [
    "PACKAGE",
    "InvertedDropout",
    "LocalResponseNormalization",
    "PaperDropout",
    "SpatialResponseNormalization",
    "TowerSplit",
    "TrainingDense",
    "TwoGroupConv2D",
]


class _ReplicaSeedGenerator(keras.random.SeedGenerator):
    """A seed generator whose draws differ between the replicas of a tf.distribute strategy.

    Keras mirrors a generator's state, so all replicas would draw the same mask.
    """

    def next(self, ordered: bool = True) -> Tensor:
        seed = super().next(ordered)
        if keras.backend.backend() != "tensorflow":
            return seed
        import tensorflow as tf  # already loaded by the backend

        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([replica * tf.constant(0x9E3779B1, seed.dtype), tf.zeros_like(replica)])


@keras.saving.register_keras_serializable(PACKAGE)
class PaperDropout(keras.layers.Layer):
    """Dropout of section 4.2: x * mask in training, x * (1 - rate) in testing.

    Keras' own dropout is the inverted kind (x * mask / (1 - rate) in training, x in testing), which
    changes initial weights, rates and decay of the layer that follows.

    Args:
      rate: Probability that a unit is dropped.
      seed: Where the masks start; each call in training draws a new one, on each replica its own.
      part: (index, count) for one of `count` equal parts of a wider layer: the mask is drawn for the
        wider one and the part's own units are kept, so that parts of one seed share one mask.
    """

    def __init__(self, rate: float = 0.5, seed: int = 0, part: Sequence[int] = (0, 1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"`rate` must lie in [0, 1). Received: rate={rate}")
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"`part` must be an index and a larger count. Received: part={part}")
        self.rate, self.seed, self.part = rate, seed, tuple(part)
        # Named after the layer: a checkpoint finds the state by its path, and a name that Keras makes up
        # would count the networks built before this one.
        self.seed_generator = _ReplicaSeedGenerator(seed, name=f"{self.name}_seed")
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if self.rate == 0.0:
            return inputs
        if not training:
            return inputs * ops.cast(1.0 - self.rate, inputs.dtype)
        *others, units = ops.shape(inputs)
        index, count = self.part
        draw = keras.random.uniform((*others, units * count), dtype="float32", seed=self.seed_generator)
        if count > 1:
            draw = draw[..., index * units : (index + 1) * units]
        return ops.where(draw >= self.rate, inputs, ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed, "part": self.part}


@keras.saving.register_keras_serializable(PACKAGE)
class InvertedDropout(PaperDropout):
    """x * mask / (1 - rate) in training, x in testing: Caffe's and torchvision's kind.

    Differs from `keras.layers.Dropout` in one thing: each replica draws its own mask.
    """

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training or self.rate == 0.0:
            return inputs
        return super().call(inputs, training=True) * ops.cast(1.0 / (1.0 - self.rate), inputs.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class TwoGroupConv2D(keras.layers.Layer):
    """A convolution in two groups along one path: two plain convolutions of the halves, joined.

    Kernel [kh, kw, C / 2, filters], the layout of a grouped convolution: the first half of the filters
    reads the first half of the channels. `Conv2D(groups=2)` computes the same function, but trains
    several times slower on CPUs and puts XLA into the SavedModel.

    Args:
      filters: Output channels, even.
      kernel_size: Side of the square kernel.
      padding: Zeros around the input, in pixels.
      strides: Pixels from one window to the next, both ways.
      kernel_initializer, bias_initializer: As in `keras.layers.Conv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        padding: int = 0,
        kernel_initializer: keras.Initializer | str = "glorot_uniform",
        bias_initializer: keras.Initializer | str = "zeros",
        *,
        strides: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if filters % 2:
            raise ValueError(f"`filters` must be even. Received: filters={filters}")
        self.filters, self.kernel_size, self.padding = filters, kernel_size, padding
        self.strides = (strides, strides)  # as `keras.layers.Conv2D` has them
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        if channels is None or channels % 2:
            raise ValueError(f"the input must have an even number of channels. Received: {input_shape}")
        shape = (self.kernel_size, self.kernel_size, channels // 2, self.filters)
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer=self.bias_initializer, name="bias")
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        pad = self.padding
        if pad:
            inputs = ops.pad(inputs, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        halves = zip(ops.split(inputs, 2, axis=-1), ops.split(self.kernel, 2, axis=-1), strict=True)
        maps = [ops.conv(x, w, self.strides, padding="valid") for x, w in halves]
        return ops.concatenate(maps, axis=-1) + self.bias

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shrink = self.kernel_size - 1 - 2 * self.padding
        height, width = (
            side if side is None else (side - shrink - 1) // self.strides[0] + 1 for side in input_shape[1:3]
        )
        return (input_shape[0], height, width, self.filters)

    def get_config(self) -> dict[str, Any]:
        own = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "strides": self.strides[0],
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(PACKAGE)
class TowerSplit(keras.layers.Layer):
    """Splits joined maps [N, H, W, C] into two towers' own, each [N, H, W, C / 2]."""

    def call(self, inputs: Tensor) -> list[Tensor]:
        # A split's gradient is one concatenation; a slice's is a slow scatter into zeros.
        towers: list[Tensor] = ops.split(inputs, 2, axis=-1)
        return towers

    def compute_output_shape(self, input_shape: Shape) -> list[Shape]:
        *places, channels = input_shape
        half = (*places, None if channels is None else channels // 2)
        return [half, half]


@keras.saving.register_keras_serializable(PACKAGE)
class TrainingDense(keras.layers.Dense):
    """`keras.layers.Dense` whose input gradient is a faster product in float32 on processors.

    With few rows, a batch's, times a transposed matrix oneDNN reaches a quarter of its rate where there is
    AVX-512; the same numbers come from the matrix times the transposed rows.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if keras.backend.backend() != "tensorflow" or self.compute_dtype != "float32":
            return super().call(inputs, training=training)
        import tensorflow as tf  # already loaded by the backend

        @tf.custom_gradient
        def product(x: Tensor, kernel: Tensor) -> tuple[Tensor, Any]:
            def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
                of_input = tf.transpose(tf.matmul(kernel, upstream, transpose_b=True))
                return of_input, tf.matmul(x, upstream, transpose_a=True)

            return tf.matmul(x, kernel), gradient

        x = product(inputs, tf.convert_to_tensor(self.kernel))
        return self.activation(x if self.bias is None else ops.add(x, self.bias))
