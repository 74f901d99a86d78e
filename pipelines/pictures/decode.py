"""Decoding of pictures of any format to RGB pixels, with TensorFlow operations only.

No decoder of TensorFlow sees a file before its header has been read here: some of them take memory for
whatever a header announces, and `tf.io.decode_image` knows formats that end the process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from pipelines.pictures import bmp, file_types, formats, gif, headers, orientation, ppm
from pipelines.pictures.apart import apart
from pipelines.pictures.file_types import JPEG, Format

# Left to itself TensorFlow takes another transform, off by one grey level on average and no faster.
_TRANSFORM = "INTEGER_ACCURATE"
# Each scan of a JPEG can hold nothing in ten bytes and costs a pass over all pixels. Progressive ones
# have about ten; they are counted only where pixels x bytes, a bound of what they can cost, is large.
MAX_SCANS = 100
_SCAN_START = b"\xff\xda\0"
_SCANS_MATTER = 2**36


class _Decoder(NamedTuple):
    """How files of a format beside JPEG are decoded.

    Attributes:
      form: the format.
      check: file -> what is wrong with it, a string scalar that is empty when nothing is, and what else
        was found in its header.
      pixels: file and what was found -> uint8 [height, width, 3].
    """

    form: Format
    check: Callable[[tf.Tensor], tuple[tf.Tensor, Any]]
    pixels: Callable[[tf.Tensor, Any], tf.Tensor]


def decode(image_bytes: tf.Tensor, *, upright: bool = False, form: Format | None = None) -> tf.Tensor:
    """Decodes one JPEG, PNG, GIF, BMP, WebP or PPM file by its content, whatever its name.

    Gray becomes RGB, palettes are looked up, 16-bit PNGs keep their upper eight bits, alpha is dropped
    and only the first frame of a GIF is kept, on its canvas; a WebP must be a still. CMYK and YCCK JPEGs
    become R = (255-C)(255-K)/255 and so on, their inks inverted where Adobe's marker says so; ICC profiles
    are ignored. JPEGs come out bit for bit as from Pillow and libjpeg.

    Args:
      image_bytes: string scalar, the encoded file.
      upright: whether the picture is turned as EXIF says (`DataConfig.exif_orientation`), or left as it is
        stored.
      form: the only format that is read, where it is known: every data set's graph is optimised anew, and the
        decoders of all formats take half a second of that.

    Returns:
      image, uint8 [height, width, 3], RGB.

    Raises:
      tf.errors.InvalidArgumentError: the bytes are no picture, a broken one, or one of more than
        `formats.MAX_PIXELS`; the message says which (see `complaint`).
    """
    image_bytes = tf.convert_to_tensor(image_bytes)
    if form is None:
        image = tf.cond(
            formats.is_of(image_bytes, JPEG),
            lambda: _decode_jpeg(image_bytes),
            lambda: _decode_other(image_bytes),
        )
    elif form == JPEG:
        image = _decode_jpeg(image_bytes)
    else:
        image = _checked(next(decoder for decoder in _DECODERS if decoder.form == form), image_bytes)
    if upright:
        # After the decoder: its failure could otherwise be told as the cancellation of what runs beside it.
        with tf.control_dependencies([image]):
            image_bytes = tf.identity(image_bytes)
        image = orientation.turned(image, orientation.of(image_bytes))
    return tf.ensure_shape(image, [None, None, 3])


@tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
def complaint(image_bytes: tf.Tensor) -> tf.Tensor:
    """Why `decode` refuses a file before it decodes it, in a few words; empty when it does not.

    Args:
      image_bytes: string scalar, the encoded file.

    Returns:
      string scalar.

    Raises:
      tf.errors.InvalidArgumentError: a JPEG without a header that can be read.
    """
    return tf.cond(
        formats.is_of(image_bytes, JPEG),
        lambda: _jpeg_complaint(image_bytes, tf.io.extract_jpeg_shape(image_bytes)),
        lambda: _by_format(
            image_bytes,
            lambda decoder: decoder.check(image_bytes)[0],
            lambda: formats.foreign_complaint(image_bytes),
        ),
    )


@apart
def _decode_other(image_bytes: tf.Tensor) -> tf.Tensor:
    """The pixels of what is no JPEG; uint8 [height, width, 3]."""
    return _by_format(
        image_bytes,
        lambda decoder: _checked(decoder, image_bytes),
        lambda: _refused(formats.foreign_complaint(image_bytes)),
    )


def _by_format(
    image_bytes: tf.Tensor, known: Callable[[_Decoder], tf.Tensor], unknown: Callable[[], tf.Tensor]
) -> tf.Tensor:
    """Calls `known` with the decoder of a file's format, or `unknown` where there is none."""
    fits = tf.stack([*(formats.is_of(image_bytes, decoder.form) for decoder in _DECODERS), tf.constant(True)])
    return tf.switch_case(
        tf.argmax(fits, output_type=tf.int32),
        [*(functools.partial(known, decoder) for decoder in _DECODERS), unknown],
    )


def _checked(decoder: _Decoder, image_bytes: tf.Tensor) -> tf.Tensor:
    words, found = decoder.check(image_bytes)
    return _guarded(words, lambda: decoder.pixels(image_bytes, found))


def _guarded(words: tf.Tensor, pixels: Callable[[], tf.Tensor]) -> tf.Tensor:
    return tf.cond(tf.equal(words, ""), pixels, lambda: _refused(words))


def _refused(words: tf.Tensor) -> tf.Tensor:
    """Fails with an InvalidArgumentError of these words when it is run."""
    with tf.control_dependencies([tf.debugging.Assert(False, [words])]):
        return tf.zeros([0, 0, 3], tf.uint8)


def _decode_jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(image_bytes)

    def pixels() -> tf.Tensor:
        return tf.io.decode_jpeg(image_bytes, channels=3, dct_method=_TRANSFORM)

    return tf.cond(
        _is_ordinary(image_bytes, shape),
        pixels,
        lambda: _guarded(_jpeg_complaint(image_bytes, shape), pixels),
    )


def _is_ordinary(image_bytes: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG is so small that its scans need not be counted; bool scalar."""
    count = tf.reduce_prod(tf.cast(shape[:2], tf.int64))
    work = count * tf.cast(tf.strings.length(image_bytes), tf.int64)
    return (count <= formats.MAX_PIXELS) & (work <= _SCANS_MATTER)


def _jpeg_complaint(image_bytes: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(tf.cast(shape[:2], tf.int64))

    def scans() -> tf.Tensor:
        many = formats.count(image_bytes, _SCAN_START, MAX_SCANS + 1) > MAX_SCANS
        return tf.where(many, f"JPEG file of more than {MAX_SCANS} scans", "")

    return tf.cond(
        formats.too_large(height, width) | _is_ordinary(image_bytes, shape),
        lambda: formats.size_complaint(JPEG.name, height, width),
        scans,
    )


def _png_pixels(image_bytes: tf.Tensor, _: None) -> tf.Tensor:
    return tf.io.decode_png(image_bytes, channels=3)


def _webp_pixels(image_bytes: tf.Tensor, _: None) -> tf.Tensor:
    # Asked for three channels, the operation refuses pictures with alpha.
    return tf.io.decode_webp(image_bytes, channels=0)[0, :, :, :3]


_DECODERS = (
    _Decoder(file_types.PNG, headers.png, _png_pixels),
    _Decoder(file_types.GIF, gif.check, gif.decode),
    _Decoder(file_types.BMP, bmp.check, bmp.decode),
    _Decoder(file_types.WEBP, headers.webp, _webp_pixels),
    _Decoder(file_types.PPM, ppm.check, ppm.decode),
)


def decode_jpeg_window(
    image_bytes: tf.Tensor, side: int, corner: tuple[tf.Tensor, tf.Tensor], size: int
) -> tf.Tensor:
    """Decodes only a square window of a JPEG, to the same pixels as decoding it whole.

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
