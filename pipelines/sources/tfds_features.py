"""Which features of a TFDS data set are the picture and its class, and pictures of other types than uint8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipelines.errors import DataError


def choose(builder: Any, asked: Mapping[str, str], spec: str) -> tuple[str, str]:
    """The names of the image and of the class label.

    Each is the one that `asked` names (as `image`, `label`), else that with the usual name, else that of
    the data set's own `supervised_keys`, else the only one.

    Raises:
      DataError: there is none, it is not clear which, or it is of a kind that cannot be used.
    """
    features = builder.info.features
    named = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    keys = builder.info.supervised_keys or ()
    usual = {"image": ["image", *keys[:1]], "label": ["label", *keys[-1:]]}
    images = [
        name
        for name, feature in named.items()
        # A LabeledImage is a map of labels, one for each pixel.
        if isinstance(feature, tfds.features.Image) and not isinstance(feature, tfds.features.LabeledImage)
    ]
    labels = [name for name, feature in named.items() if isinstance(feature, tfds.features.ClassLabel)]
    kinds = [f"{name} ({type(feature).__name__})" for name, feature in named.items()]
    image, label = (
        _chosen(option, found, asked.get(option), usual[option], kinds, spec)
        for option, found in (("image", images), ("label", labels))
    )
    if not named[label].num_classes:
        raise DataError(f"{spec}: the feature {label} does not say how many classes it has")
    return image, label


def _chosen(
    option: str, found: list[str], asked: str | None, usual: list[Any], kinds: list[str], spec: str
) -> str:
    kind = {"image": "Image", "label": "ClassLabel"}[option]
    if not found:
        raise DataError(f"{spec}: has no {kind} feature, only {', '.join(kinds) or 'none at all'}")
    if asked is not None:
        if asked not in found:
            raise DataError(f"{spec}: no {kind} feature {asked!r}; `{option}` can be {', '.join(found)}")
        return asked
    preferred = [name for name in usual if name in found]
    if not preferred and len(found) > 1:
        example = f"{spec.partition('?')[0]}?{option}={found[0]}"
        raise DataError(
            f"{spec}: has {len(found)} {kind} features, {', '.join(found)}; choose one: {example}"
        )
    return (preferred or found)[0]


def encoded(feature: Any, name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph function from what TFDS stores of an image feature to a picture of our formats.

    TFDS stores pictures of uint8 and uint16 as files, the latter as PNGs of 16 bits, of which the decoder
    keeps the upper eight. Those of float32, which have one channel, it stores as PNGs whose four channels
    are the bytes of the numbers; here they become grey levels, 0 to 1 becoming 0 to 255.

    Args:
      feature: the image feature.
      name: the feature's, for errors.

    Returns:
      string scalar -> string scalar; it fails with an InvalidArgumentError where floating-point pixels
      lie outside 0 to 1, as nobody knows what they mean.
    """
    if feature.dtype != np.float32:
        return lambda image_bytes: image_bytes

    def grey(image_bytes: tf.Tensor) -> tf.Tensor:
        pixels = tf.bitcast(tf.io.decode_png(image_bytes, channels=4), tf.float32)
        legal = tf.reduce_all((pixels >= 0.0) & (pixels <= 1.0))  # not so for NaN
        words = tf.strings.format(
            f"the floating-point pixels of the feature {name} must lie between 0 and 1 to become grey levels;"
            " received {} to {}",
            (tf.reduce_min(pixels), tf.reduce_max(pixels)),
        )
        with tf.control_dependencies([tf.debugging.Assert(legal, [words])]):
            levels = tf.cast(tf.round(pixels * 255.0), tf.uint8)
        return tf.io.encode_png(levels[:, :, tf.newaxis], compression=1)

    return grey
