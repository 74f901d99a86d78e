"""Deterministic preparation of pictures, used by evaluation, by the exported graph and before augmentation.

Section 2 of the paper: the short side of every picture becomes 256 pixels, the central 256x256 square
is kept, and the mean over the training set is subtracted; nothing else is done to the pixels. Every
function is made of TensorFlow operations only, so that it gives the same numbers eagerly, inside
tf.data and inside a SavedModel. Crops and mirrors of evaluation: section 4.1 and convdata_jpeg.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from pipelines.config import DataConfig
from pipelines.decode import decode

if TYPE_CHECKING:
    from pipelines.image_stats import ImageStats

# A picture longer than this many short sides is cut first: resized whole, a line of 1x5000 pixels
# would take gigabytes, and all but its middle is thrown away afterwards.
LONGEST_ASPECT = 16


def resize_short_side(image: tf.Tensor, size: int) -> tf.Tensor:
    """Scales an image so that its short side has `size` pixels, keeping its aspect (section 2).

    Shrinking averages areas, enlarging interpolates by cubics, as make-data did in cuda-convnet2
    (whose cubic has parameter -0.75, where TensorFlow's has Keys' -0.5). The long side is rounded to
    the nearest pixel. An image of the right size comes back untouched.

    Args:
      image: uint8 [height, width, 3].
      size: pixels of the new short side.

    Returns:
      uint8 [new height, new width, 3].
    """
    shape = tf.shape(image)[:2]
    short = tf.reduce_min(shape)
    # Whole numbers only, so that no float rounding can make a side one pixel too short.
    new_shape = (2 * shape * size + short) // (2 * short)

    def area() -> tf.Tensor:
        return _to_uint8(tf.image.resize(image, new_shape, method="area"))

    def cubic() -> tf.Tensor:
        return _to_uint8(tf.image.resize(image, new_shape, method="bicubic"))

    resized = tf.cond(
        tf.equal(short, size), lambda: image, lambda: tf.cond(tf.greater(short, size), area, cubic)
    )
    return tf.ensure_shape(resized, [None, None, 3])


def centre_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """The central square of `size` pixels of an image [..., height, width, 3] that is at least as large."""
    shape = tf.shape(image)
    top = (shape[-3] - size) // 2
    left = (shape[-2] - size) // 2
    return image[..., top : top + size, left : left + size, :]


def prepare(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes a picture, brings its short side to `size` and keeps the central square (section 2).

    Args:
      image_bytes: string scalar, the encoded file.
      size: side of the square in pixels, 256 in the paper.

    Returns:
      uint8 [size, size, 3].
    """
    image = resize_short_side(_cut_extreme_aspect(decode(image_bytes)), size)
    return tf.ensure_shape(centre_crop(image, size), [size, size, 3])


def pad_reflected(image: tf.Tensor, pad: int) -> tf.Tensor:
    """Adds a mirrored border of `pad` pixels to [height, width, 3]; the edge itself is not repeated."""
    if not pad:
        return image
    # What tf.pad(mode="REFLECT") gives, in a fifth of its time.
    top, bottom = tf.reverse(image[1 : pad + 1], [0]), tf.reverse(image[-pad - 1 : -1], [0])
    image = tf.concat([top, image, bottom], axis=0)
    left, right = tf.reverse(image[:, 1 : pad + 1], [1]), tf.reverse(image[:, -pad - 1 : -1], [1])
    return tf.concat([left, image, right], axis=1)


def evaluation_crop(image_bytes: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """The central crop of a picture, from which single-crop errors are computed (section 6).

    A border (`config.pad`) exists only for training: the crop is the centre of the resized picture,
    unless the crop is larger than that.

    Returns:
      uint8 [crop, crop, 3].
    """
    image = prepare(image_bytes, config.resize)
    if config.crop > config.resize:
        image = pad_reflected(image, config.pad)
    return tf.ensure_shape(centre_crop(image, config.crop), [config.crop, config.crop, 3])


def ten_crop_offsets(config: DataConfig) -> tuple[tuple[int, int], ...]:
    """(top, left) of the four corners and the centre, in the order of convdata_jpeg.py."""
    most = config.resize + 2 * config.pad - config.crop
    return (0, 0), (0, most), (most // 2, most // 2), (most, 0), (most, most)


def ten_crops(image_bytes: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Five crops and their mirrors (section 4.1), in the order of convdata_jpeg.py.

    Returns:
      uint8 [10, crop, crop, 3]: corners and centre (see `ten_crop_offsets`), then their mirrors.
    """
    image = pad_reflected(prepare(image_bytes, config.resize), config.pad)
    side = config.crop
    crops = tf.stack([image[top : top + side, left : left + side] for top, left in ten_crop_offsets(config)])
    return tf.ensure_shape(tf.concat([crops, tf.reverse(crops, axis=[2])], axis=0), [10, side, side, 3])


def to_pixels(
    images: tf.Tensor,
    stats: ImageStats,
    config: DataConfig,
    *,
    training: bool = False,
    colour_shift: tf.Tensor | None = None,
) -> tf.Tensor:
    """Turns crops into what the network eats: float32, the training set's mean subtracted.

    The mean is the central crop of the mean image whatever the offset and the mirror of the crop
    (convdata_jpeg.py), or one value a channel.

    Args:
      images: uint8 [..., crop, crop, 3].
      stats: the training set's statistics.
      config: `mean`, `pixel_divisor` and, in training, `colour_divisor` are read.
      training: whether these are augmented training crops.
      colour_shift: float32 [..., 3] in grey levels of 0..255, added to every position of its picture.

    Returns:
      float32 of the same shape as `images`.
    """
    pixels = tf.cast(images, tf.float32) - tf.constant(stats.mean_crop(config))
    if colour_shift is not None:
        pixels = _add_colour(pixels, colour_shift)
    divisor = config.pixel_divisor * (config.colour_divisor if training else 1.0)
    # A graph divides by a constant by multiplying by its inverse: thus numbers are the same everywhere.
    return pixels if divisor == 1.0 else pixels * tf.constant(1.0 / divisor, tf.float32)


def _add_colour(pixels: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """[..., height, width, 3] + [..., 3] by whole rows: three numbers at a time take thrice as long."""
    width = pixels.shape[-2]
    row = tf.tile(shift, [1] * (shift.shape.rank - 1) + [width])[..., tf.newaxis, :]
    rows = tf.reshape(pixels, tf.concat([tf.shape(pixels)[:-2], [3 * width]], axis=0))
    return tf.ensure_shape(tf.reshape(rows + row, tf.shape(pixels)), pixels.shape)


def _cut_extreme_aspect(image: tf.Tensor) -> tf.Tensor:
    """Keeps the middle of a picture that is more than LONGEST_ASPECT times as long as wide."""
    shape = tf.shape(image)[:2]
    kept = tf.minimum(shape, LONGEST_ASPECT * tf.reduce_min(shape))
    first = (shape - kept) // 2
    return image[first[0] : first[0] + kept[0], first[1] : first[1] + kept[1]]


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Rounds to the nearest grey level; cubics overshoot, hence the clipping."""
    return tf.cast(tf.clip_by_value(values + 0.5, 0.0, 255.0), tf.uint8)
