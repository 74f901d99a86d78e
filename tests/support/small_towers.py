"""A two-tower network of 1,200 weights, with the kinds and names of the paper network's layers."""

from __future__ import annotations

import keras
from keras import layers

from alexnet_tf.network.layers import LocalResponseNormalization, PaperDropout, TowerSplit

TOWERS = ("_a", "_b")


def network(classes: int = 5, seed: int = 0, side: int = 32) -> keras.Model:
    """Pixels [N, side, side, 3] -> logits [N, classes]; conv4 and conv5 are left out.

    With 32 pixels, maps of 16 x 16 x 4 after conv1, 7 x 7 x 4 from pool1 on and 3 x 3 x 4 after pool5.
    Weights are He's, other for every layer, and biases small and positive, so that units neither die nor
    all fire.
    """
    drawn = iter(range(1000 * seed, 1000 * seed + 1000))

    def initial() -> dict[str, keras.Initializer]:
        bias = keras.initializers.RandomUniform(0.0, 0.2, next(drawn))
        return {"kernel_initializer": keras.initializers.HeNormal(next(drawn)), "bias_initializer": bias}

    def convolve(name: str, inputs: list, filters: int, size: int, **settings: object) -> list:
        kind = {"strides": 1, "padding": "same", **settings}
        maps = [
            layers.Conv2D(filters, size, name=name + tower, **kind, **initial())(x)
            for tower, x in zip(TOWERS, inputs, strict=True)
        ]
        return each(layers.Activation, f"relu{name[-1]}", maps, "relu")

    pixels = keras.Input((side, side, 3), name="pixels")
    x = layers.ZeroPadding2D(((0, 3), (0, 3)), name="pad")(pixels)  # 35
    t = convolve("conv1", [x, x], 2, 5, strides=2, padding="valid")  # 16 x 16 x 2 a tower
    x = layers.Concatenate(name="lrn1_join")(t)
    # With the paper's alpha, values this small would pass unchanged.
    x = LocalResponseNormalization(size=3, k=2.0, alpha=0.1, beta=0.75, name="lrn1")(x)
    t = TowerSplit(name="lrn1_split")(x)
    t = each(layers.MaxPooling2D, "pool1", t, 3, 2)  # 7 x 7 x 2
    t = convolve("conv2", t, 2, 3)
    t = convolve("conv3", [layers.Concatenate(name="conv3_in_join")(t)] * 2, 2, 3)
    t = each(layers.MaxPooling2D, "pool5", t, 3, 2)  # 3 x 3 x 2
    x = layers.Flatten(name="flatten")(layers.Concatenate(name="maps_join")(t))
    for number in "67":
        x = layers.Dense(12, name=f"fc{number}", **initial())(x)
        x = layers.Activation("relu", name=f"relu{number}")(x)
        x = PaperDropout(0.5, seed=seed, name=f"dropout{number}")(x)
    x = layers.Dense(classes, name="fc8", **initial())(x)
    return keras.Model(pixels, layers.Activation("linear", name="logits")(x), name="small_towers")


def each(kind: type[keras.Layer], name: str, maps: list, *settings: object) -> list:
    """One layer of a kind for each tower."""
    return [kind(*settings, name=name + tower)(x) for tower, x in zip(TOWERS, maps, strict=True)]
