"""The network, read top to bottom; sizes beside the lines are those of the paper's, height x width x maps.

A tower is two of everything: plain convolutions whose maps meet at conv3, fc6, fc7 and fc8 (section
3.5 and figure 2 of the paper). `variants.py` says what each named network is and where from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from alexnet_tf.network import backend, graph, variants
from alexnet_tf.network.layers import (
    InvertedDropout,
    LocalResponseNormalization,
    PaperDropout,
    SpatialResponseNormalization,
    TowerSplit,
    TrainingDense,
    TwoGroupConv2D,
)
from alexnet_tf.network.variants import INITIALIZERS, Architecture
from alexnet_tf.network.winograd import WinogradConv2D
from pipelines.errors import UserError

Maps = list[keras.KerasTensor]  # one [N, H, W, C] tensor a tower


def build(
    variant: str = "paper",
    classes: int = 1000,
    *,
    dtype_policy: str = "float32",
    initializer: str = "published",
    pixel_std: float = 1.0,
    dropout_rate: float = 0.5,
    seed: int = 0,
    fused: bool = False,
    builder: Callable[..., Builder] | None = None,
) -> keras.Model:
    """Builds a network: pixels float32 [N, S, S, 3], mean subtracted -> logits float32 [N, classes].

    Args:
      variant: A name in `variants.VARIANTS`; S is that architecture's `input_size`, 224 for most.
      classes: Outputs of fc8.
      dtype_policy: `float32` or `mixed_bfloat16` (matrix work in bfloat16, weights in float32).
      initializer: `published` draws the architecture's own weights and biases; `he` draws weights with
        variance 2 / fan-in and biases 0, which starts to learn within a few steps on small data.
      pixel_std: Typical standard deviation of the pixels; `he` draws conv1's weights smaller by it, so
        that the larger the pixels, the less is left of the initial noise in conv1's kernels.
      dropout_rate: Share of fc6's and fc7's units dropped in training.
      seed: Decides initial weights and dropout masks.
      fused: Compiles the normalisation layers with XLA and takes Winograd's algorithm for 3 x 3
        convolutions: the same function, faster; for training, not for export.
      builder: Another way to lay the network out than on one device; see `towers.build`.

    Raises:
      UserError: for a variant or an initializer that does not exist, or Keras set to channels_first.
    """
    if initializer not in INITIALIZERS:
        raise UserError(f"`initializer` must be one of {', '.join(INITIALIZERS)}; received {initializer!r}")
    if classes < 2:
        raise UserError(f"`classes` must be 2 or more; received {classes}")
    backend.require_channels_last()
    new = (builder or Builder)(variants.get(variant), dtype_policy, seed, fused)
    new.initializer, new.pixel_std, new.dropout_rate = initializer, pixel_std, dropout_rate
    return new.build(classes, name=f"alexnet_{variant}")


class Builder:
    """Names, initialises and connects the layers of one architecture.

    Everything that `towers.py` does otherwise is a method: where a layer is made, where maps meet, and
    the fully connected part.
    """

    initializer = "published"
    pixel_std = 1.0
    dropout_rate = 0.5

    def __init__(self, arch: Architecture, policy: str, seed: int, fused: bool) -> None:
        self.arch, self.policy, self.seed, self.fused = arch, policy, seed, fused
        self.drawn = 0

    def build(self, classes: int, name: str) -> keras.Model:
        arch, side = self.arch, self.arch.input_size
        first, (c1, c2, c3, c4, c5) = arch.first_layer, arch.filters
        pixels = keras.Input((side, side, 3), name="pixels")  # 224 x 224 x 3
        x = self.layer(layers.ZeroPadding2D, (arch.conv1_padding,) * 2, name="pad")(pixels)  # 227

        t = self.conv(first.name, [x] * len(arch.towers), c1, first.kernel, first.stride)  # 55 x 55 x 96
        t = self.relu_norm_pool("1", t)  # 27 x 27 x 96
        t = self.conv("conv2", t, c2, 5, padding=arch.conv2_padding, groups=arch.groups)  # 27 x 27 x 256
        t = self.relu_norm_pool("2", t)  # 13 x 13 x 256
        t = self.conv("conv3", self.cross("conv3", t), c3, 3, padding=1)  # 13 x 13 x 384
        t = self.relu("relu3", t)
        t = self.conv("conv4", t, c4, 3, padding=1, groups=arch.groups)  # 13 x 13 x 384
        t = self.relu("relu4", t)
        t = self.conv("conv5", t, c5, 3, padding=arch.conv5_padding, groups=arch.groups)  # 13 x 13 x 256
        t = self.pool("pool5", self.relu("relu5", t))  # 6 x 6 x 256
        if arch.conv6:
            t = self.conv("conv6", self.cross("conv6", t), 256, 3, padding=1)  # 6 x 6 x 256
            t = self.relu("relu6_conv", t)

        x = self.fully_connected(t, classes)
        logits = self.layer(layers.Activation, "linear", dtype="float32", name="logits")(x)
        return keras.Model(pixels, logits, name=name)

    def layer(self, kind: type[keras.Layer], *args: Any, name: str, tower: str = "", **settings: Any) -> Any:
        """A new layer of the given kind; `tower` is the suffix of the tower that it belongs to, if any."""
        return kind(*args, name=name + tower, **{"dtype": self.policy, **settings})

    def relu_norm_pool(self, number: str, t: Maps) -> Maps:
        """Layers 1 and 2 after their convolution, in the order that the architecture gives (row 2)."""
        arch = self.arch
        relu_last = number == "1" and arch.relu1_after_pool
        if not relu_last:
            t = self.relu(f"relu{number}", t)
        if arch.norm_after_pool:
            t = self.normalize(number, self.pool(f"pool{number}", t))
        else:
            t = self.pool(f"pool{number}", self.normalize(number, t))
        return self.relu(f"relu{number}", t) if relu_last else t

    def normalize(self, number: str, t: Maps) -> Maps:
        """Response normalisation across channels (rows 4, 5), then within each map (row 3), if used."""
        norm, spatial = self.arch.channel_norm, self.arch.spatial_norm
        if norm is not None:
            settings: dict[str, Any] = {
                "size": norm.size,
                "k": norm.k,
                "alpha": norm.alpha,
                "beta": norm.beta,
            }
            if norm.across_towers and len(t) > 1:
                t = self.normalize_across(f"lrn{number}", t, {**settings, "fused": self.fused})
            else:
                groups = 1 if norm.across_towers or len(t) > 1 else self.arch.groups
                settings |= {"groups": groups, "fused": self.fused}
                t = self.each(LocalResponseNormalization, f"lrn{number}", t, **settings)
        if spatial is not None and number == "2":
            settings = {"alpha": spatial.alpha, "beta": spatial.beta, "fused": self.fused}
            t = self.each(SpatialResponseNormalization, "cnorm2", t, spatial.size, **settings)
        return t

    def normalize_across(self, name: str, t: Maps, settings: dict[str, Any]) -> Maps:
        """Normalises the maps of both towers as those of one layer."""
        x = self.layer(LocalResponseNormalization, name=name, **settings)(self.join(name, t))
        maps: Maps = self.layer(TowerSplit, name=f"{name}_split")(x)
        return maps

    def fully_connected(self, t: Maps, classes: int) -> keras.KerasTensor:
        x = self.layer(layers.Flatten, name="flatten")(self.join("maps", t))  # 9216
        x = self.hidden("6", x)  # 4096
        x = self.hidden("7", x)  # 4096
        return self.dense("fc8", x, classes)

    def hidden(self, number: str, x: keras.KerasTensor) -> keras.KerasTensor:
        """A fully connected hidden layer with its dropout."""
        before = self.arch.dropout == "inverted_before"
        x = self.dropout(number)(x) if before else x
        x = self.dense(f"fc{number}", x, self.arch.hidden)
        x = self.layer(layers.Activation, "relu", name=f"relu{number}")(x)
        return x if before else self.dropout(number)(x)

    def dropout(self, number: str, **settings: Any) -> Any:
        kind = PaperDropout if self.arch.dropout == "paper" else InvertedDropout
        seed = self.seed + int(number)
        return self.layer(kind, self.dropout_rate, seed=seed, name=f"dropout{number}", **settings)

    def conv(
        self,
        name: str,
        inputs: Maps,
        filters: int,
        size: int,
        strides: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> Maps:
        """One convolution a tower; `filters` counts both towers' maps.

        Raises:
          ValueError: for other than 1 or 2 groups.
        """
        if groups not in (1, 2):
            raise ValueError(f"`groups` must be 1 or 2. Received: groups={groups}")
        outputs = []
        for suffix, x in zip(self.arch.towers, inputs, strict=True):
            settings = {**self.initial(name), "name": name, "tower": suffix}
            own = filters // len(self.arch.towers)
            if groups == 2:
                settings |= {"padding": padding, "strides": strides}
                outputs.append(self.layer(TwoGroupConv2D, own, size, **settings)(x))
                continue
            same = size == 2 * padding + 1 and strides == 1
            if padding and not same:
                x = self.layer(layers.ZeroPadding2D, padding, name=f"{name}_pad", tower=suffix)(x)
            settings |= {"strides": strides, "padding": "same" if same else "valid"}
            kind = WinogradConv2D if self.fused and same and size == 3 else layers.Conv2D
            outputs.append(self.layer(kind, own, size, **settings)(x))
        return outputs

    def dense(self, name: str, x: keras.KerasTensor, units: int, **settings: Any) -> keras.KerasTensor:
        """A fully connected layer; `settings` may give other initializers, or a tower."""
        kind = TrainingDense if self.fused else layers.Dense
        return self.layer(kind, units, name=name, **(settings or self.initial(name)))(x)

    def relu(self, name: str, t: Maps) -> Maps:
        return self.each(layers.Activation, name, t, "relu")

    def pool(self, name: str, t: Maps) -> Maps:
        # The source rounds sizes up. 55, 27 and 13 divide exactly by 3/2 windows; 2/2 windows need "same".
        size, padding = self.arch.pool_size, "same" if self.arch.pool_size == 2 else "valid"
        return self.each(layers.MaxPooling2D, name, t, size, 2, padding)

    def each(self, kind: type[keras.Layer], name: str, t: Maps, *args: Any, **settings: Any) -> Maps:
        """A layer of the given kind for each tower."""
        pairs = zip(self.arch.towers, t, strict=True)
        return [self.layer(kind, *args, name=name, tower=tower, **settings)(x) for tower, x in pairs]

    def cross(self, name: str, t: Maps) -> Maps:
        """Gives every tower the maps of all towers."""
        return [self.join(f"{name}_in", t)] * len(t)

    def join(self, name: str, t: Maps) -> keras.KerasTensor:
        return t[0] if len(t) == 1 else self.layer(layers.Concatenate, name=f"{name}_join")(t)

    def initial(self, name: str) -> dict[str, Any]:
        """The layer's initializers; each layer draws from a seed of its own."""
        self.drawn += 1
        seed = self.seed * 1000 + self.drawn
        if self.initializer == "he":
            scale = 2.0 / self.pixel_std**2 if name == self.arch.first_layer.name else 2.0
            weights = keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal", seed)
            return {"kernel_initializer": weights, "bias_initializer": "zeros"}
        index = variants.LAYERS.index(name if name != "conv6" else "conv5")
        std, bias = self.arch.weight_std[index], self.arch.bias[index]
        return {
            "kernel_initializer": keras.initializers.RandomNormal(0.0, std, seed),
            "bias_initializer": keras.initializers.Constant(bias),
        }


def first_layer_variables(network: keras.Model) -> list[keras.Variable]:
    """Trainable kernels and biases of the layers that read the pixels, tower a's before tower b's."""
    return [variable for layer in graph.first_layers(network) for variable in layer.trainable_variables]


def conv1_kernels(network: keras.Model) -> np.ndarray:
    """The first convolution's kernels, float32 [k, k, 3, filters], tower a's before tower b's.

    k is 11 in the networks of the paper.
    """
    return np.concatenate([np.asarray(layer.kernel) for layer in graph.first_layers(network)], axis=-1)


def multiply_adds(network: keras.Model) -> dict[str, int]:
    """Multiply-adds of the forward pass for one picture, for each layer with a kernel."""
    counts: dict[str, int] = {}
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            places = int(np.prod(layer.output.shape[1:-1], dtype=int))
            counts[layer.name] = places * int(np.prod(kernel.shape))
    return counts
