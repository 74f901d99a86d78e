"""Deterministic preparation of pictures, used by evaluation, by the exported graph and before augmentation.

Section 2 of the paper: the short side of every picture becomes 256 pixels, the central 256x256 square
is kept, and the mean over the training set is subtracted; nothing else is done to the pixels. Every
function is made of TensorFlow operations only, so that it gives the same numbers eagerly, inside
tf.data and inside a SavedModel. Crops and mirrors of evaluation: section 4.1 and convdata_jpeg.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from pipelines.config import DataConfig, PictureSettings
from pipelines.pictures.decode import decode
from pipelines.pictures.file_types import Format

if TYPE_CHECKING:
    from pipelines.pictures.statistics import ImageStats

# A picture longer than this many short sides is cut first: resized whole, a line of 1x5000 pixels
# would take gigabytes, and all but its middle is thrown away afterwards.
LONGEST_ASPECT = 16


def resize_short_side(image: tf.Tensor, size: int, *, square: bool = False) -> tf.Tensor:
    """Scales an image so that its short side has `size` pixels, keeping its aspect (section 2).

    Shrinking averages areas, enlarging interpolates by cubics, as make-data did in cuda-convnet2
    (whose cubic has parameter -0.75, where TensorFlow's has Keys' -0.5). The long side is rounded to
    the nearest pixel. An image of the right size comes back untouched.

    Args:
      image: uint8 [height, width, 3].
      size: pixels of the new short side.
      square: whether only the central square is kept. Its pixels are the same; of the rest none is rounded.

    Returns:
      uint8 [new height, new width, 3], or [size, size, 3] with `square`.
    """
    shape = tf.shape(image)[:2]
    short = tf.reduce_min(shape)
    # Whole numbers only, so that no float rounding can make a side one pixel too short.
    new_shape = (2 * shape * size + short) // (2 * short)

    def kept(values: tf.Tensor) -> tf.Tensor:
        return centre_crop(values, size) if square else values

    def area() -> tf.Tensor:
        return _rounded(kept(tf.image.resize(image, new_shape, method="area")))

    def cubic() -> tf.Tensor:
        # The only ones that overshoot. Clipping takes as long as rounding and cutting together.
        return _rounded(
            tf.clip_by_value(kept(tf.image.resize(image, new_shape, method="bicubic")), 0.0, 255.0)
        )

    resized = tf.cond(
        tf.equal(short, size), lambda: kept(image), lambda: tf.cond(tf.greater(short, size), area, cubic)
    )
    return tf.ensure_shape(resized, [size if square else None] * 2 + [3])


def squeeze(image: tf.Tensor, size: int) -> tf.Tensor:
    """Makes a square of a whole picture, whatever its aspect, as Caffe's tools did (convert_imageset).

    Bilinear interpolation between the nearest four pixels, also when shrinking, as OpenCV's `resize` does it
    by default: no averaging. Caffe's own figures, and those of networks converted from it, were measured so.

    Args:
      image: uint8 [height, width, 3].
      size: side of the square, pixels.

    Returns:
      uint8 [size, size, 3].
    """
    return tf.ensure_shape(_rounded(tf.image.resize(image, [size, size])), [size, size, 3])


def centre_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """The central square of `size` pixels of an image [..., height, width, 3] that is at least as large."""
    shape = tf.shape(image)
    top = (shape[-3] - size) // 2
    left = (shape[-2] - size) // 2
    return image[..., top : top + size, left : left + size, :]


def prepare(image_bytes: tf.Tensor, config: PictureSettings, *, form: Format | None = None) -> tf.Tensor:
    """Decodes a picture and makes it a square by `config.resize_rule`.

    `short_side` (section 2) brings the short side to `config.resize` and keeps the central square; the other
    rules squeeze the whole picture into it.

    Args:
      image_bytes: string scalar, the encoded file.
      config: `resize`, `resize_rule` and `exif_orientation` are read.
      form: the file's format, where it is known (`Source.prepared_form`).

    Returns:
      uint8 [resize, resize, 3].
    """
    return square(decode(image_bytes, upright=config.exif_orientation, form=form), config)


def square(image: tf.Tensor, config: PictureSettings) -> tf.Tensor:
    """Makes a square of a decoded picture, as `prepare` does.

    Args:
      image: uint8 [height, width, 3].
      config: `resize` and `resize_rule` are read.

    Returns:
      uint8 [resize, resize, 3].
    """
    if config.squeezes:
        return squeeze(image, config.resize)
    return resize_short_side(_cut_extreme_aspect(image), config.resize, square=True)


def pad_reflected(image: tf.Tensor, pad: int) -> tf.Tensor:
    """Adds a mirrored border of `pad` pixels to [height, width, 3]; the edge itself is not repeated."""
    if not pad:
        return image
    # What tf.pad(mode="REFLECT") gives, in a fifth of its time.
    top, bottom = tf.reverse(image[1 : pad + 1], [0]), tf.reverse(image[-pad - 1 : -1], [0])
    image = tf.concat([top, image, bottom], axis=0)
    left, right = tf.reverse(image[:, 1 : pad + 1], [1]), tf.reverse(image[:, -pad - 1 : -1], [1])
    return tf.concat([left, image, right], axis=1)


def evaluation_crop(image_bytes: tf.Tensor, config: DataConfig, *, form: Format | None = None) -> tf.Tensor:
    """The central crop of a picture, from which single-crop errors are computed (section 6).

    A border (`config.pad`) exists only for training: the crop is the centre of the resized picture,
    unless the crop is larger than that. Arguments are those of `prepare`.

    Returns:
      uint8 [crop, crop, 3].
    """
    image = prepare(image_bytes, config, form=form)
    if config.crop > config.resize:
        image = pad_reflected(image, config.pad)
    return tf.ensure_shape(centre_crop(image, config.crop), [config.crop, config.crop, 3])


# How many views of a picture can be averaged, and the centre's place among them.
CENTRES = {1: 0, 9: 4, 10: 2}


def view_offsets(config: DataConfig, count: int) -> tuple[tuple[int, int], ...]:
    """(top, left) of the views of a picture that are no mirrors.

    Of ten views the four corners and the centre, in the order of convdata_jpeg.py: corners of the picture in
    both conventions, also where training keeps off the far edge (`edge_crops`), as section 4.1 calls them
    "the four corner patches". Of nine also the middles of the sides, row by row, without mirrors: the test
    of cuda-convnet on CIFAR until March 2012.

    Args:
      config: `resize`, `pad` and `crop` are read.
      count: of views, 9 or 10.
    """
    most = config.resize + 2 * config.pad - config.crop
    if count == 9:
        places = (0, most // 2, most)
        return tuple((top, left) for top in places for left in places)
    return (0, 0), (0, most), (most // 2, most // 2), (most, 0), (most, most)


def views(image_bytes: tf.Tensor, config: DataConfig, count: int, *, form: Format | None = None) -> tf.Tensor:
    """Several crops of a picture, whose answers are averaged (section 4.1); arguments as for `prepare`.

    Returns:
      uint8 [count, crop, crop, 3]: those at `view_offsets`, of ten views then their mirrors.
    """
    image = prepare(image_bytes, config, form=form)
    return _views_of(pad_reflected(image, config.pad), config, count)


def ten_crops(image_bytes: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """The ten views of section 4.1: uint8 [10, crop, crop, 3], as `views` gives them."""
    return views(image_bytes, config, 10)


def _views_of(image: tf.Tensor, config: DataConfig, count: int) -> tf.Tensor:
    """[count, crop, crop, 3] out of a picture [side, side, 3] with its border."""
    side = config.crop
    offsets = view_offsets(config, count)
    crops = tf.stack([image[top : top + side, left : left + side] for top, left in offsets])
    if count == 10:
        crops = tf.concat([crops, tf.reverse(crops, axis=[2])], axis=0)
    return tf.ensure_shape(crops, [count, side, side, 3])


def to_pixels(
    images: tf.Tensor,
    stats: ImageStats,
    config: DataConfig,
    *,
    training: bool = False,
    colour_shift: tf.Tensor | None = None,
    colour_share: tf.Tensor | float = 1.0,
    windows: tf.Tensor | None = None,
) -> tf.Tensor:
    """Turns crops into the network's input: float32, with the training set's mean subtracted.

    The mean is one value a channel, or the mean image: its centre from every crop (convdata_jpeg.py), or
    its crop from the same place, mirrored likewise (`mean_follows_crop`), which is the same for the crop
    at the centre.

    Args:
      images: uint8 [..., crop, crop, 3]. With five dimensions they are the nine or ten views of each
        picture, as `views` gives them; without `windows`, others are crops at the centre.
      stats: the training set's statistics.
      config: `mean`, `mean_follows_crop`, `pixel_divisor` and, in training, `colour_divisor`,
        `colour_rescale` and `colour_std` are read.
      training: whether these are augmented training crops.
      colour_shift: float32 [n, 3] in grey levels of 0..255, added to every position of its picture.
      colour_share: scalar, 0 to 1: what a schedule has left of the colour noise.
      windows: int32 [n, 3], where each of [n, crop, crop, 3] was cut out: top, left, and 1 if mirrored.

    Returns:
      float32 of the same shape as `images`.

    Raises:
      ValueError: training crops come without the `windows` that their mean depends on.
    """
    if training and windows is None and config.mean_moves:
        raise ValueError("`windows` are needed: `mean_follows_crop` is on")
    pixels = tf.cast(images, tf.float32)
    pixels -= _mean_under(pixels.shape, stats, config, windows)
    if colour_shift is not None:
        pixels = _add_colour(pixels, colour_shift * colour_share)
    divisor = config.pixel_divisor * (config.colour_divisor if training else 1.0)
    # A graph divides by a constant by multiplying by its inverse: thus numbers are the same everywhere.
    factor = tf.constant(1.0 / divisor, tf.float32)
    if training and config.colour_rescale and config.colour_noise != "none":
        # With the noise the source scales down what it was added to, and stops when it ends.
        return pixels * (factor / (1.0 + config.colour_std * colour_share))
    return pixels if divisor == 1.0 else pixels * factor


def _mean_under(
    shape: tf.TensorShape, stats: ImageStats, config: DataConfig, windows: tf.Tensor | None
) -> tf.Tensor:
    """The mean that is subtracted from crops of that shape."""
    if config.mean_moves and windows is not None:
        return _mean_windows(stats.whole_mean(config), windows, config.crop)
    if config.mean_moves and shape.rank == 5:
        return _views_of(tf.constant(stats.whole_mean(config)), config, int(shape[1]))
    return tf.constant(stats.mean_crop(config))


def _mean_windows(mean: np.ndarray, windows: tf.Tensor, crop: int) -> tf.Tensor:
    """Cuts [n, crop, crop, 3] out of [side, side, 3] where `windows` [n, 3] says."""
    side, lefts = mean.shape[0], mean.shape[1] - crop + 1
    with tf.init_scope():  # once, and not at every step
        # Every row of every crop, so that whole rows are gathered: pixel by pixel takes many times as long.
        shifted = tf.stack([mean[:, left : left + crop] for left in range(lefts)])
        rows = tf.reshape(tf.concat([shifted, tf.reverse(shifted, axis=[2])], axis=0), [-1, 3 * crop])
    top, left, mirrored = tf.unstack(windows, axis=1)
    first = ((lefts * mirrored + left) * side + top)[:, tf.newaxis]
    return tf.reshape(tf.gather(rows, first + tf.range(crop)), [-1, crop, crop, 3])


def _add_colour(pixels: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """[..., height, width, 3] + [..., 3] by whole rows: three numbers at a time take thrice as long."""
    width = pixels.shape[-2]
    row = tf.tile(shift, [1] * (shift.shape.rank - 1) + [width])[..., tf.newaxis, :]
    rows = tf.reshape(pixels, tf.concat([tf.shape(pixels)[:-2], [3 * width]], axis=0))
    return tf.ensure_shape(tf.reshape(rows + row, tf.shape(pixels)), pixels.shape)


def _cut_extreme_aspect(image: tf.Tensor) -> tf.Tensor:
    """Keeps the middle of a picture that is more than LONGEST_ASPECT times as long as wide."""
    shape = tf.shape(image)[:2]
    longest = LONGEST_ASPECT * tf.reduce_min(shape)

    def cut() -> tf.Tensor:
        kept = tf.minimum(shape, longest)
        first = (shape - kept) // 2
        return image[first[0] : first[0] + kept[0], first[1] : first[1] + kept[1]]

    # A cut that leaves all of a picture would copy it.
    return tf.cond(tf.reduce_max(shape) > longest, cut, lambda: image)


def _rounded(values: tf.Tensor) -> tf.Tensor:
    """Means of grey levels, rounded to the nearest one; uint8."""
    return tf.cast(values + 0.5, tf.uint8)
