"""A network of some thousand weights that can be exported."""

from __future__ import annotations

import keras


def small_network(classes=3, side=224):
    """A network of some thousand weights with the layers that an export asks for by name."""
    pixels = keras.Input((side, side, 3), name="pixels")
    x = keras.layers.AveragePooling2D(side // 7)(pixels)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(16, kernel_initializer=keras.initializers.RandomNormal(0.0, 0.3, 1))(x)
    x = keras.layers.Activation("relu", name="relu7")(x)
    initial = keras.initializers.RandomNormal(0.0, 0.3, 2)
    return keras.Model(pixels, keras.layers.Dense(classes, kernel_initializer=initial)(x))
