import functools
import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.pictures import file_types, formats, gif
from pipelines.pictures.decode import complaint, decode
from tests.support.pictures import encoded, textured, ways

PICTURE = textured(40, 56)


@functools.cache
def in_graph():
    """`decode`, traced once for all tests."""
    return ways(decode)["graph"]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGB", "BMP"), ("L", "BMP"), ("P", "BMP")]
    + [("P", "GIF"), ("L", "GIF"), ("RGB", "WEBP"), ("RGBA", "WEBP")],
)
def test_lossless_files_are_exact(mode, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    image_bytes = encoded(Image.fromarray(PICTURE).convert(mode), kind, **options)
    expected = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"))
    np.testing.assert_array_equal(decode(image_bytes), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_dropped_and_colours_stay(mode, kind):
    picture = Image.fromarray(PICTURE).convert(mode)
    picture.putalpha(Image.fromarray(np.tile(np.arange(56, dtype=np.uint8), (40, 1))))
    expected = np.array(picture)[..., :-1]
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    decoded = decode(encoded(picture, kind, **options))
    np.testing.assert_array_equal(decoded, np.broadcast_to(expected, decoded.shape))


def test_transparent_places_of_a_gif_have_their_colour():
    picture = Image.fromarray(PICTURE).convert("P")
    index = picture.getpixel((5, 5))
    image_bytes = encoded(picture, "GIF", transparency=index)
    assert Image.open(io.BytesIO(image_bytes)).info["transparency"] is not None
    np.testing.assert_array_equal(decode(image_bytes), np.array(picture.convert("RGB")))


@pytest.mark.parametrize("alpha", [False, True])
def test_lossy_webp_agrees_with_pillow(alpha):
    picture = Image.fromarray(PICTURE).convert("RGBA" if alpha else "RGB")
    if alpha:
        picture.putalpha(200)
    image_bytes = encoded(picture, "WEBP", quality=80)
    assert image_bytes[12:16] == (b"VP8X" if alpha else b"VP8 ")
    expected = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"), np.int32)
    assert np.abs(decode(image_bytes).numpy() - expected).max() <= 1


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


def noisy_gif(*frames):
    """Noise cannot be compressed: more data than the cut looks at in one go."""
    pictures = [Image.fromarray(frame) for frame in frames]
    return encoded(pictures[0], "GIF", save_all=True, append_images=pictures[1:], comment=b"text " * 500)


def test_a_frame_is_cut_out_exactly_where_it_ends():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 256, (2, 150, 211), np.uint8)
    whole = noisy_gif(first, second)
    assert gif.check(tf.constant(whole))[0].numpy() == b""
    # What lies behind the frame is not looked at.
    assert len(whole) > 60_000
    damaged = whole[: int(0.6 * len(whole))] + b"\xff" * 20_000
    expected = np.array(Image.open(io.BytesIO(whole)).convert("RGB"))
    np.testing.assert_array_equal(decode(damaged), expected)
    for called in ways(decode).values():
        np.testing.assert_array_equal(called(tf.constant(whole)), expected)


@pytest.mark.parametrize("lengths", [[1], [1, 2], [255, 1, 254], [7] * 40 + [200]])
def test_blocks_of_a_frame_may_have_any_length(lengths):
    whole = noisy_gif(np.random.default_rng(1).integers(0, 256, (90, 101), np.uint8))
    start = whole.index(b"," + bytes(4)) + 11  # behind the descriptor and the size of a code
    content, at = b"", start
    while whole[at]:
        content += whole[at + 1 : at + 1 + whole[at]]
        at += 1 + whole[at]
    blocks, place = b"", 0
    for length in lengths * len(content):
        part = content[place : place + length]
        if not part:
            break
        blocks += bytes([len(part)]) + part
        place += length
    other = whole[:start] + blocks + whole[at:]
    assert other != whole
    np.testing.assert_array_equal(decode(other), decode(whole))


def placed_gif(*, screen, at, transparency=None, comment=b"", own_table=False):
    """A GIF whose frame lies somewhere on a screen of (width, height), maybe with a table of its own."""
    picture = Image.fromarray(PICTURE).convert("P")
    options = {} if transparency is None else {"transparency": transparency}
    image_bytes = bytearray(encoded(picture, "GIF", **options))
    start = image_bytes.index(b"," + bytes(4))
    image_bytes[6:10] = struct.pack("<HH", *screen)
    image_bytes[start + 1 : start + 5] = struct.pack("<HH", *at)
    table = 13 + 3 * 2 ** (image_bytes[10] % 8 + 1)
    extensions = bytes(image_bytes[table:start])
    if comment:  # between the extension that knows the transparent colour and the frame
        extensions += b"!\xfe" + bytes([len(comment)]) + comment + b"\0"
    if not own_table:
        return bytes(image_bytes[:table]) + extensions + bytes(image_bytes[start:])
    flags = bytes([image_bytes[start + 9] | 0x80 | image_bytes[10] % 8])
    other = bytes(255 - value for value in image_bytes[13:table])
    frame = bytes(image_bytes[start : start + 9]) + flags + bytes(image_bytes[13:table])
    return bytes(image_bytes[:13]) + other + extensions + frame + bytes(image_bytes[start + 10 :])


@pytest.mark.parametrize("own_table", [False, True])
@pytest.mark.parametrize("transparency", [None, 0, 5, 77])
@pytest.mark.parametrize(
    ("screen", "at"), [((70, 50), (3, 4)), ((500, 40), (444, 0)), ((60, 90), (30, 20)), ((10, 10), (0, 0))]
)
def test_a_frame_lies_on_its_canvas_as_with_pillow(screen, at, transparency, own_table):
    image_bytes = placed_gif(screen=screen, at=at, transparency=transparency, own_table=own_table)
    expected = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"))
    height, width = max(screen[1], at[1] + 40), max(screen[0], at[0] + 56)
    assert expected.shape == (height, width, 3)
    np.testing.assert_array_equal(in_graph()(image_bytes), expected)


def test_the_canvas_is_found_behind_a_comment_and_may_not_be_too_large():
    image_bytes = placed_gif(screen=(70, 50), at=(3, 4), transparency=9, comment=b"made by hand")
    expected = np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"))
    for called in ways(decode).values():
        np.testing.assert_array_equal(called(tf.constant(image_bytes)), expected)
    large = placed_gif(screen=(65535, 65535), at=(0, 0))
    assert complaint(large).numpy().startswith(b"GIF file of 65535 x 65535 pixels")


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_bmp_from_the_top_down_and_with_bytes_behind_it(mode):
    image_bytes = bytearray(encoded(Image.fromarray(PICTURE).convert(mode), "BMP"))
    image_bytes[22:26] = struct.pack("<i", -40)
    expected = np.array(Image.fromarray(PICTURE).convert(mode).convert("RGB"))[::-1]
    np.testing.assert_array_equal(decode(bytes(image_bytes) + b"\0\0"), expected)


def test_pictures_of_every_format_in_one_batch():
    picture = Image.fromarray(PICTURE).convert("P")
    kinds = {"PNG": {}, "GIF": {}, "BMP": {}, "WEBP": {"lossless": True}, "PPM": {}}
    files = [
        encoded(picture if kind != "PPM" else picture.convert("RGB"), kind, **kinds[kind]) for kind in kinds
    ]
    files.append(encoded(picture.convert("RGB"), "JPEG", quality=100, subsampling=0))
    spec = tf.TensorSpec([40, 56, 3], tf.uint8)
    mapped = tf.function(
        lambda batch: tf.map_fn(decode, batch, fn_output_signature=spec, parallel_iterations=4)
    )
    images = mapped(tf.constant(files)).numpy()
    for image in images[:-1]:
        np.testing.assert_array_equal(image, np.array(picture.convert("RGB")))
    assert np.abs(images[-1].astype(int) - images[0]).max() < 12


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
        at = data.index(b"," + bytes(4)) + 5
        data[at : at + 4] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "bomb",
    [png_of_nothing(2**15, 2**15), with_size("JPEG", 65500, 65500), with_size("GIF", 65535, 65535)],
    ids=["PNG", "JPEG", "GIF"],
)
def test_announced_pixels_are_counted_before_memory_is_taken(bomb):
    with pytest.raises(tf.errors.InvalidArgumentError, match="a picture may hold at most 67108864 pixels"):
        decode(bomb)
    assert re.search(r"\d{5} x \d{5} pixels", complaint(bomb).numpy().decode())


def test_a_picture_of_just_the_largest_size_is_decoded():
    assert decode(encoded(np.zeros([2**13, 2**13, 3], np.uint8), "PNG")).shape == (2**13, 2**13, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most"):
        decode(png_of_nothing(2**13 + 1, 2**13))


def test_whole_pictures_are_not_complained_of():
    progressive = encoded(np.asarray(Image.fromarray(PICTURE).resize((3000, 2000))), "JPEG", progressive=True)
    # Large enough that its scans are counted.
    assert 3000 * 2000 * len(progressive) > 2**36
    for image_bytes in (
        progressive,
        encoded(PICTURE, "PNG"),
        encoded(PICTURE, "WEBP"),
        encoded(PICTURE, "PPM"),
    ):
        assert complaint(image_bytes).numpy() == b""
        assert decode(image_bytes).shape[-1] == 3


def test_every_mark_is_found_by_the_name_it_stands_for():
    for position, mark, name in file_types.MARKS:
        words = formats.foreign_complaint(tf.constant(bytes(position) + mark)).numpy().decode()
        assert words == f"this is {name}; {file_types.READ} are read"
