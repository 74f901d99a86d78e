"""Random augmentation of training pictures: crop, mirror and PCA colour (section 4.1).

Every draw is a pure function of a seed that the caller passes in, the same eagerly and in a graph;
nothing here keeps a state, so that a resumed run sees the crops it would have seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.pictures import ppm, preprocess, statistics
from pipelines.pictures.decode import decode_jpeg_window
from pipelines.pictures.file_types import JPEG, Format
from pipelines.pictures.statistics import ColourComponents


class Window(NamedTuple):
    """Where a crop begins in the padded picture (int32), and whether it is mirrored (bool).

    Scalars for one picture, [n] for n of them.
    """

    top: tf.Tensor
    left: tf.Tensor
    mirrored: tf.Tensor


def draw_windows(config: DataConfig, seed: tf.Tensor, count: int) -> Window:
    """Draws crops and mirrors (section 4.1).

    Offsets are uniform over `config.crop_places` from 0 on, each way.

    Args:
      config: `resize`, `pad`, `crop`, `edge_crops` and `mirror` are read.
      seed: int [2].
      count: how many.

    Returns:
      [count] windows.
    """
    draws = tf.random.stateless_uniform([count, 3], seed)
    offsets = tf.cast(draws[:, :2] * config.crop_places, tf.int32)
    mirrored = tf.less(draws[:, 2], 0.5) if config.mirror else tf.zeros([count], tf.bool)
    return Window(offsets[:, 0], offsets[:, 1], mirrored)


def crop_mirror(image: tf.Tensor, config: DataConfig, window: Window) -> tf.Tensor:
    """Cuts one window out of a prepared picture.

    Args:
      image: uint8 [resize, resize, 3].
      config: `pad` and `crop` are read.
      window: scalars.

    Returns:
      uint8 [crop, crop, 3].
    """
    image = preprocess.pad_reflected(image, config.pad)
    image = tf.slice(image, [window.top, window.left, 0], [config.crop, config.crop, 3])
    return _mirror_if(image, window.mirrored)


def decode_crop_mirror(
    image_bytes: tf.Tensor, config: DataConfig, window: Window, form: Format = JPEG
) -> tf.Tensor:
    """The same from the file of a prepared picture, decoding no more than the crop needs.

    Args:
      image_bytes: string scalar, of resize x resize pixels.
      config: `resize` and `crop` are read; `pad` must be 0.
      window: scalars.
      form: what the file is, JPEG, or PPM as `pipelines.pictures.ppm` writes it. To look at every file costs
        a thirtieth of decoding it.

    Returns:
      uint8 [crop, crop, 3], bit for bit what `crop_mirror` gives on the decoded picture.

    Raises:
      ValueError: `config.pad` is not 0.
    """
    if config.pad:
        raise ValueError(f"`pad` must be 0 to crop while decoding; received {config.pad}")
    decode_window = decode_jpeg_window if form == JPEG else ppm.decode_window
    image = decode_window(image_bytes, config.resize, (window.top, window.left), config.crop)
    return _mirror_if(image, window.mirrored)


def colour_shifts(
    config: DataConfig, stats: ColourComponents | None, seed: tf.Tensor, count: int
) -> tf.Tensor:
    """PCA colour noise: what is added to every pixel of one presentation of a picture (section 4.1).

    `eigenvalue`: sum over k of p_k alpha_k lambda_k with lambda on 0..1 data, times 255.
    `deviation`: sum over k of p_k alpha_k sigma_k with sigma on 0..255 data (convdata_jpeg.py).

    Args:
      config: `colour_noise`, `colour_std` and `colour_statistics` are read.
      stats: the training set's components; not needed for published ones or without noise.
      seed: int [2].
      count: for how many pictures; every one has alphas of its own.

    Returns:
      float32 [count, 3], grey levels of 0..255 to add to R, G and B.

    Raises:
      ValueError: the components are needed and missing.
    """
    if config.colour_noise == "none":
        return tf.zeros([count, 3], tf.float32)
    alphas = tf.random.stateless_normal([count, 3], seed, stddev=config.colour_std)
    return tf.matmul(alphas, tf.constant(colour_matrix(config, stats)), transpose_b=True)


def colour_matrix(config: DataConfig, stats: ColourComponents | None) -> np.ndarray:
    """Float32 [3, 3]: column k is component k in the length that a multiplier of 1 gives it, grey levels."""
    released = config.colour_statistics == "published"
    components = statistics.published(config.colour_noise) if released else stats
    if components is None:
        raise ValueError("`stats` is needed: `colour_statistics` is training_set and `colour_noise` is on")
    values = components.eigenvalues.astype(np.float64)
    lengths = np.sqrt(values) if config.colour_noise == "deviation" else values / 255.0**2 * 255.0
    return (components.eigenvectors * lengths).astype(np.float32)


def _mirror_if(image: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Flips left to right where `mirrored`."""
    return tf.cond(mirrored, lambda: tf.reverse(image, axis=[1]), lambda: image)
