"""Checks the headers of PNG and WebP files before anything is decoded.

Each check takes the whole file (string scalar) and returns what is wrong with it, a string scalar that is
empty when nothing is, and None. A file that is cut short is the decoder's to complain of.
"""

from __future__ import annotations

import struct

import tensorflow as tf

from pipelines.pictures import formats

# Each can unpack to 8 MB, which libpng keeps; photographs carry one or two.
MAX_PNG_TEXTS = 16
_PNG_TEXTS = (b"zTXt", b"iTXt")
# libjpeg's limit.
JPEG_SIDE = 65500
# Markers that begin a frame.
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_JPEG_RARE_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7)  # the last one: JPEG-LS
_WEBP_ANIMATED = 0x02
_WEBP_KEY_FRAME = 0x2A019D
_WEBP_LOSSLESS = 0x2F


def png(image_bytes: tf.Tensor) -> tuple[tf.Tensor, None]:
    """Checks the size and the number of compressed texts of a PNG."""
    width, height = formats.numbers(image_bytes, (16, 4), (20, 4), big_endian=True)
    texts = sum(formats.count(image_bytes, mark, MAX_PNG_TEXTS + 1) for mark in _PNG_TEXTS)
    complaint = formats.first_of(
        [
            (texts > MAX_PNG_TEXTS, f"PNG file with more than {MAX_PNG_TEXTS} compressed texts"),
            (tf.constant(True), formats.size_complaint("PNG", height, width)),
        ]
    )
    return complaint, None


def jpeg_form(image_bytes: bytes) -> str:
    """Why a JPEG that may be whole cannot be decoded, such as a rare compression; empty for other damage."""
    at = 2
    while len(image_bytes) >= at + 9 and image_bytes[at] == 0xFF:
        marker, length, bits, height, width = struct.unpack_from(">BHBHH", image_bytes, at + 1)
        if marker in _JPEG_RARE_FRAMES:
            return "lossless or hierarchical JPEG file; baseline and progressive ones are read"
        if marker in _JPEG_FRAMES and max(height, width) > JPEG_SIDE:
            return f"JPEG file of {width} x {height} pixels; a side may have at most {JPEG_SIDE}"
        if marker in _JPEG_FRAMES:
            return f"JPEG file of {bits} bits a colour; 8 are read" if bits > 8 else ""
        at += 2 + length
    return ""


def webp(image_bytes: tf.Tensor) -> tuple[tf.Tensor, None]:
    """Checks the size of a WebP and that it is a still: TensorFlow 2.21 corrupts memory for animations."""
    key_frame, lossless_mark, flags, packed, *sides = formats.numbers(
        image_bytes, (23, 3), (20, 1), (20, 1), (21, 4), (26, 2), (28, 2), (24, 3), (27, 3)
    )
    lossy = sides[0] % 2**14, sides[1] % 2**14
    lossless = packed % 2**14 + 1, packed // 2**14 % 2**14 + 1
    extended = sides[2] + 1, sides[3] + 1
    is_lossy = formats.starts(image_bytes, b"VP8 ", 12)
    is_lossless = formats.starts(image_bytes, b"VP8L", 12)
    is_extended = formats.starts(image_bytes, b"VP8X", 12)
    whole = (
        (is_lossy & tf.equal(key_frame, _WEBP_KEY_FRAME))
        | (is_lossless & tf.equal(lossless_mark, _WEBP_LOSSLESS))
        | is_extended
    )
    width, height = (
        tf.where(is_lossy, first, tf.where(is_lossless, second, third))
        for first, second, third in zip(lossy, lossless, extended, strict=True)
    )
    animated = is_extended & tf.not_equal(tf.bitwise.bitwise_and(flags, _WEBP_ANIMATED), 0)
    complaint = formats.first_of(
        [
            (~whole, formats.DAMAGED.format("WebP")),
            (animated, "animated WebP file; stills are read"),
            (tf.constant(True), formats.size_complaint("WebP", height, width)),
        ]
    )
    return complaint, None
