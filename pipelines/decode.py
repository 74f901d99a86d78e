"""Encoded files to RGB pixels, whatever their format, with TensorFlow operations only."""

from __future__ import annotations

import tensorflow as tf

from pipelines import ppm

_JPEG_START = b"\xff\xd8\xff"
# Left to itself TensorFlow takes another transform, off by one grey level on average and no faster.
_TRANSFORM = "INTEGER_ACCURATE"
_PNG_START = b"\x89PNG\r\n\x1a\n"
# A few hundred kilobytes of PNG can announce gigabytes of pixels; the largest photographs have half of this.
MAX_PIXELS = 2**26


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG, PNG, GIF, BMP or PPM file by its content, whatever its name.

    Gray becomes RGB, palettes are looked up, 16-bit PNGs keep their upper eight bits, alpha is dropped
    and only the first frame of an animation is kept. CMYK and YCCK JPEGs become R = (255-C)(255-K)/255
    and so on, their inks inverted where Adobe's marker says so; ICC profiles are ignored. A rotation
    noted in EXIF is not applied, as in 2012. JPEGs come out bit for bit as from Pillow and libjpeg.

    Args:
      image_bytes: string scalar, the encoded file.

    Returns:
      image, uint8 [height, width, 3], RGB.

    Raises:
      tf.errors.InvalidArgumentError: the bytes are no picture, a broken one, or one of more than MAX_PIXELS.
    """
    image_bytes = tf.convert_to_tensor(image_bytes)

    def jpeg() -> tf.Tensor:
        with tf.control_dependencies([_not_too_large(tf.image.extract_jpeg_shape(image_bytes)[:2])]):
            return tf.io.decode_jpeg(image_bytes, channels=3, dct_method=_TRANSFORM)

    def other() -> tf.Tensor:
        return tf.cond(ppm.is_ppm(image_bytes), lambda: ppm.decode(image_bytes), known_to_tensorflow)

    def known_to_tensorflow() -> tf.Tensor:
        with tf.control_dependencies([_not_too_large(_announced_shape(image_bytes))]):
            image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
        is_bmp = tf.equal(tf.strings.substr(image_bytes, 0, 2), "BM")
        return tf.cond(is_bmp, lambda: _look_up_bmp_palette(image, image_bytes), lambda: image)

    is_jpeg = tf.equal(tf.strings.substr(image_bytes, 0, 3), _JPEG_START)
    return tf.ensure_shape(tf.cond(is_jpeg, jpeg, other), [None, None, 3])


def _not_too_large(shape: tf.Tensor) -> tf.Operation:
    """Fails for a picture of too many pixels, before memory is taken for them."""
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    return tf.debugging.Assert(
        pixels <= MAX_PIXELS,
        [f"a picture may hold at most {MAX_PIXELS} pixels; its height and width are", shape],
    )


def _announced_shape(image_bytes: tf.Tensor) -> tf.Tensor:
    """Height and width from the header of a PNG or GIF; others hold no more pixels than bytes: [0, 0]."""

    def numbers(position: int, dtype: tf.DType, *, little_endian: bool) -> tf.Tensor:
        two = tf.strings.substr(image_bytes, position, 2 * dtype.size)
        # A header that is cut short is the decoder's to complain of.
        whole = tf.equal(tf.strings.length(two), 2 * dtype.size)
        read = tf.cast(tf.io.decode_raw(two, dtype, little_endian=little_endian), tf.int64)
        return tf.cond(whole, lambda: read, lambda: tf.zeros([2], tf.int64))

    def gif() -> tf.Tensor:
        return numbers(6, tf.uint16, little_endian=True)

    def neither() -> tf.Tensor:
        return tf.zeros([2], tf.int64)

    is_png = tf.equal(tf.strings.substr(image_bytes, 0, 8), _PNG_START)
    is_gif = tf.equal(tf.strings.substr(image_bytes, 0, 4), b"GIF8")
    return tf.cond(
        is_png,
        lambda: numbers(16, tf.int32, little_endian=False),
        lambda: tf.cond(is_gif, gif, neither),
    )


def decode_jpeg_window(
    image_bytes: tf.Tensor, side: int, corner: tuple[tf.Tensor, tf.Tensor], size: int
) -> tf.Tensor:
    """Decodes no more of a JPEG than a square window, to the same pixels as decoding it whole.

    Args:
      image_bytes: string scalar, a JPEG of `side` x `side` pixels.
      side: of the whole picture.
      corner: (top, left) of the window, int32 scalars.
      size: side of the window.

    Returns:
      uint8 [size, size, 3].
    """
    top, left = corner
    # Where colour is stored at half the resolution, the last column is interpolated from the next two.
    width = tf.minimum(size + 2, side - left)
    window = tf.stack([top, left, size, width])
    image = tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3, dct_method=_TRANSFORM)
    return image[:, :size]


def _look_up_bmp_palette(image: tf.Tensor, image_bytes: tf.Tensor) -> tf.Tensor:
    """Colours for a BMP of 8 bits a pixel, which TensorFlow decodes to the numbers of its colours."""

    def number_at(position: int, dtype: tf.DType) -> tf.Tensor:
        return tf.cast(
            tf.io.decode_raw(tf.strings.substr(image_bytes, position, dtype.size), dtype)[0], tf.int32
        )

    def looked_up() -> tf.Tensor:
        first = 14 + number_at(14, tf.int32)  # file header, then a header that gives its own size
        entries = tf.strings.substr(image_bytes, first, number_at(10, tf.int32) - first)
        blue_green_red = tf.reshape(tf.io.decode_raw(entries, tf.uint8), [-1, 4])[:, :3]
        return tf.gather(blue_green_red[:, ::-1], tf.cast(image[:, :, 0], tf.int32))

    return tf.cond(tf.equal(number_at(28, tf.uint16), 8), looked_up, lambda: image)
