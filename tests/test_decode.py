import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from pictures import encoded, textured, ways
from PIL import Image

from pipelines.decode import decode

PICTURE = textured(40, 56)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGB", "BMP"), ("L", "BMP"), ("P", "BMP")]
    + [("P", "GIF"), ("L", "GIF")],
)
def test_lossless_files_are_exact(mode, kind):
    image_bytes = encoded(Image.fromarray(PICTURE).convert(mode), kind)
    expected = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"))
    np.testing.assert_array_equal(decode(image_bytes), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_colours_stay(mode):
    picture = Image.fromarray(PICTURE).convert(mode)
    picture.putalpha(Image.fromarray(np.tile(np.arange(56, dtype=np.uint8), (40, 1))))
    expected = np.array(picture)[..., :-1]
    decoded = decode(encoded(picture, "PNG"))
    np.testing.assert_array_equal(decoded, np.broadcast_to(expected, decoded.shape))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_upper_eight(channels):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    decoded = decode(tf.io.encode_png(values))
    np.testing.assert_array_equal(decoded, np.broadcast_to(values >> 8, (5, 7, 3)))


def test_first_frame_of_an_animation():
    frames = [Image.fromarray(frame).convert("P") for frame in (PICTURE, 255 - PICTURE)]
    image_bytes = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(image_bytes)).n_frames == 2
    np.testing.assert_array_equal(decode(image_bytes), np.array(frames[0].convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_agrees_with_pillow(mode):
    image_bytes = encoded(Image.fromarray(PICTURE).convert(mode), "JPEG", quality=90)
    expected = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"), np.int32)
    difference = np.abs(decode(image_bytes).numpy() - expected)
    # Equal with the same libjpeg-turbo on both sides; TensorFlow's faster transform gives a mean of 0.6.
    assert difference.max() <= 1
    assert difference.mean() < 0.05


@pytest.mark.parametrize("transform", [0, 2], ids=["CMYK", "YCCK"])
def test_inks_agree_with_pillow(transform):
    inks = np.array(Image.fromarray(PICTURE).convert("CMYK"))
    inks[..., 3] = textured(40, 56, seed=1)[..., 0] // 2
    image_bytes = bytearray(encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95, subsampling=0))
    # Adobe's marker says whether three of the inks are stored as YCbCr; Pillow writes 0 (they are not).
    image_bytes[image_bytes.find(b"Adobe") + 11] = transform
    expected = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"), np.int32)
    assert expected.std() > 20
    difference = np.abs(decode(bytes(image_bytes)).numpy() - expected)
    assert difference.mean() < 2.5
    assert difference.max() <= 12


def test_content_decides_whatever_the_name(tmp_path):
    path = tmp_path / "n01440764_1.JPEG"
    path.write_bytes(encoded(PICTURE, "PNG"))
    np.testing.assert_array_equal(decode(tf.io.read_file(str(path))), PICTURE)


@pytest.mark.parametrize(
    "image_bytes",
    [
        b"",
        b"BM",
        b"no picture at all",
        encoded(PICTURE, "JPEG")[:300],
        encoded(PICTURE, "PNG")[:-40],
        encoded(Image.fromarray(PICTURE).convert("P"), "BMP")[:900],
        encoded(Image.fromarray(PICTURE).convert("P"), "GIF")[:500],
    ],
    ids=["empty", "two_bytes", "text", "cut_jpeg", "cut_png", "cut_bmp", "cut_gif"],
)
def test_broken_bytes_raise(image_bytes):
    for called in ways(decode).values():
        with pytest.raises(tf.errors.InvalidArgumentError):
            called(tf.constant(image_bytes))


def png_of_nothing(width, height):
    """A PNG whose header announces a size, without the pixels: a decoder takes memory before it looks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    return b"\x89PNG\r\n\x1a\n" + chunk


def with_size(kind, height, width):
    """A small picture whose header announces another size."""
    data = bytearray(encoded(np.zeros([8, 8, 3], np.uint8), kind))
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    else:
        data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "bomb",
    [png_of_nothing(2**15, 2**15), with_size("JPEG", 65500, 65500), with_size("GIF", 65535, 65535)],
    ids=["PNG", "JPEG", "GIF"],
)
def test_announced_pixels_are_counted_before_memory_is_taken(bomb):
    with pytest.raises(tf.errors.InvalidArgumentError, match="a picture may hold at most 67108864 pixels"):
        decode(bomb)


def test_a_picture_of_just_the_largest_size_is_decoded():
    assert decode(encoded(np.zeros([2**13, 2**13, 3], np.uint8), "PNG")).shape == (2**13, 2**13, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most"):
        decode(png_of_nothing(2**13 + 1, 2**13))
