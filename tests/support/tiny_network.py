"""A network of a few hundred weights with the real one's interface, for tests of what surrounds it."""

import keras

from alexnet_tf.network.layers import PaperDropout


def tiny_network(variant="paper", classes=12, *, seed=0, dropout_rate=0.5, **_):
    """A network with the real one's interface: 224 pixels in, conv1, a ReLU, dropout, fc8."""
    pixels = keras.Input((224, 224, 3), name="pixels")
    first = keras.initializers.HeNormal(seed)
    x = keras.layers.Conv2D(4, 11, strides=32, name="conv1", kernel_initializer=first)(pixels)
    x = keras.layers.Activation("relu", name="relu1")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = PaperDropout(dropout_rate, seed=seed, name="dropout6")(x)
    last = keras.initializers.HeNormal(seed + 1)
    logits = keras.layers.Dense(classes, name="fc8", kernel_initializer=last)(x)
    return keras.Model(pixels, logits, name="tiny")
