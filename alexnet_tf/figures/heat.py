"""Heatmaps in colours, alone or over a picture: TensorFlow operations for figures and the export's graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# From 0 to 1, dark to light, in steps that a grey print keeps apart.
COLOURS = (
    (16, 12, 58),
    (72, 16, 110),
    (136, 34, 106),
    (194, 58, 78),
    (234, 104, 44),
    (250, 164, 30),
    (252, 222, 112),
    (255, 252, 214),
)
# Gradients jump from pixel to pixel: their overlay, not the map, is averaged over this many.
OVERLAY_WINDOW = 9


def to_unit(maps: tf.Tensor) -> tf.Tensor:
    """Divides each map of [N, H, W] by its largest value; a map of zeros stays."""
    return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=[1, 2], keepdims=True))


def colour(strength: tf.Tensor) -> tf.Tensor:
    """The colours of values of 0..1, any shape [...]: float32 [..., 3] of 0..255."""
    return tf.gather(tf.constant(_table()), tf.cast(strength * 255.0 + 0.5, tf.int32))


def overlay(crops: tf.Tensor, maps: tf.Tensor, window: int = OVERLAY_WINDOW) -> tf.Tensor:
    """Heatmaps over pictures in grey, more opaque where the value is larger.

    Args:
      crops: uint8 [N, H, W, 3].
      maps: float32 [N, H, W], 0 or more.
      window: pixels over whose square the map is averaged first; 1 for smooth maps.

    Returns:
      uint8 [N, H, W, 3].
    """
    smooth = tf.nn.avg_pool2d(maps[..., tf.newaxis], window, 1, "SAME")
    strength = to_unit(smooth[..., 0])
    grey = tf.image.rgb_to_grayscale(tf.cast(crops, tf.float32))
    opacity = tf.sqrt(strength)[..., tf.newaxis]
    return tf.cast(grey * (1.0 - opacity) + colour(strength) * opacity + 0.5, tf.uint8)


def _table() -> np.ndarray:
    """float32 [256, 3]: COLOURS and the steps between them."""
    at = np.linspace(0.0, len(COLOURS) - 1.0, 256)
    columns = np.asarray(COLOURS, np.float32).T
    return np.stack([np.interp(at, range(len(COLOURS)), column) for column in columns], axis=1).astype(
        np.float32
    )
