import functools
import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from pipelines.pictures import orientation
from pipelines.pictures.decode import decode
from tests.support.pictures import encoded, textured, ways

PICTURE = textured(24, 40)
NUMBERS = range(1, 9)
XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"


def directory(number, *, order="<", kind=3, before=0, behind=0, tag=0x0112):
    """EXIF's content with the orientation among other entries."""

    def entry(tag, kind, value):
        packed = struct.pack(f"{order}{'I' if kind == 4 else 'H'}", value)
        return struct.pack(f"{order}HHI", tag, kind, 1) + packed.ljust(4, b"\0")

    others = [entry(0x0100 + place, 3, 8) for place in range(before)]
    others += [entry(tag, kind, number)] + [entry(0x0200 + place, 4, 7) for place in range(behind)]
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return mark + struct.pack(f"{order}IH", 8, len(others)) + b"".join(others) + bytes(4)


def segment(kind, content):
    return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content


def jpeg(exif, *, before=(), picture=PICTURE):
    """A JPEG with other segments and then EXIF behind the one that JFIF begins with."""
    whole = encoded(picture, "JPEG", quality=95)
    assert whole[2:4] == b"\xff\xe0"
    start = 4 + struct.unpack(">H", whole[4:6])[0]
    return whole[:start] + b"".join([*before, segment(0xE1, b"Exif\0\0" + exif)]) + whole[start:]


@functools.cache
def reader():
    return tf.function(orientation.of, autograph=False, input_signature=[tf.TensorSpec([], tf.string)])


@functools.cache
def in_graph():
    return ways(lambda image_bytes: decode(image_bytes, upright=True))["graph"]


def number_of(image_bytes):
    return int(reader()(tf.constant(image_bytes)))


def by_pillow(image_bytes):
    return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(image_bytes))).convert("RGB"))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_come_out_as_pillow_turns_them(kind, number):
    exif = Image.Exif()
    exif[0x0112] = number
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    image_bytes = encoded(PICTURE, kind, exif=exif, **options)
    assert number_of(image_bytes) == number
    np.testing.assert_array_equal(in_graph()(image_bytes), by_pillow(image_bytes))
    np.testing.assert_array_equal(decode(image_bytes, upright=False), Image.open(io.BytesIO(image_bytes)))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("number", NUMBERS)
def test_both_byte_orders_among_other_entries(order, number):
    image_bytes = jpeg(directory(number, order=order, before=3, behind=2))
    assert number_of(image_bytes) == number
    np.testing.assert_array_equal(in_graph()(image_bytes), by_pillow(image_bytes))


def test_it_lies_behind_other_segments():
    profile, words = b"ICC_PROFILE\0\1\1" + bytes(60_000), b"made by hand"
    others = [segment(0xE1, XMP), segment(0xE2, profile), segment(0xFE, words)]
    assert number_of(jpeg(directory(6), before=others)) == 6
    bare = encoded(PICTURE, "JPEG")
    first = bare[:2] + segment(0xE1, b"Exif\0\0" + directory(8)) + bare[2:]
    assert number_of(first) == 8


def test_what_follows_jfifs_segment_decides():
    whole, exif = encoded(PICTURE, "JPEG", quality=95), segment(0xE1, b"Exif\0\0" + directory(6))
    start = 20
    assert whole[start : start + 2] == b"\xff\xdb"
    assert number_of(whole[:start] + exif + whole[start:]) == 6
    # Behind a table nobody looks for segments, nor do others behind a thumbnail that is none.
    table_ends = start + 2 + struct.unpack(">H", whole[start + 2 : start + 4])[0]
    assert number_of(whole[:table_ends] + exif + whole[table_ends:]) == 1
    longer = segment(0xE0, whole[6:start] + b"\xff\xdb")
    assert number_of(whole[:2] + longer + exif + whole[start:]) == 6
    shorter = segment(0xE0, whole[6 : start - 2])
    assert number_of(whole[:2] + shorter + exif + whole[start:]) == 6
    for length in range(start + 3):
        assert number_of(whole[:length]) == 1


MALFORMED = {
    "no picture": b"no picture at all",
    "nothing": b"",
    "mark": b"\xff\xd8\xff",
    "bare": encoded(PICTURE, "JPEG"),
    "number 0": jpeg(directory(0)),
    "number 9": jpeg(directory(9)),
    "number 65535": jpeg(directory(65535)),
    "another type": jpeg(directory(6, kind=4)),
    "another tag": jpeg(directory(6, tag=0x0113)),
    "neither order": jpeg(b"XX*\0" + directory(6)[4:]),
    "no content": jpeg(b""),
    "half a header": jpeg(b"II*\0"),
    "a directory beyond the end": jpeg(b"II*\0" + struct.pack("<I", 2**32 - 1) + directory(6)[8:]),
    "no entries": jpeg(directory(6)[:8] + bytes(6)),
    "half an entry": jpeg(directory(6)[:15]),
    "more entries than bytes": jpeg(directory(1)[:8] + b"\xff\xff" + directory(1)[10:]),
    "a segment of no bytes": b"\xff\xd8\xff\xe0\0\0" + encoded(PICTURE, "JPEG")[2:],
    "a segment beyond the end": b"\xff\xd8\xff\xe1\xff\xffExif\0\0" + directory(6),
    "many segments": jpeg(directory(6), before=[segment(0xEF, b"")] * 100_000),
    "in the picture": encoded(PICTURE, "JPEG") + segment(0xE1, b"Exif\0\0" + directory(6)),
    "webp cut": encoded(PICTURE, "WEBP")[:20],
    "webp that announces one": b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\x08" + bytes(9) + b"EXIF\xff\xff\xff\xff",
    "png cut": encoded(PICTURE, "PNG")[:20],
    "png of huge chunks": b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf" + directory(6),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_upright_and_no_error(name):
    assert number_of(MALFORMED[name]) == 1


def test_every_way_of_calling_is_the_same():
    image_bytes = jpeg(directory(6, order=">"))
    for called in ways(lambda one: decode(one, upright=True)).values():
        np.testing.assert_array_equal(called(tf.constant(image_bytes)), by_pillow(image_bytes))


def test_is_looked_for_after_the_decoder_whose_failure_is_then_the_first(monkeypatch):
    monkeypatch.setattr(orientation, "of", lambda b: tf.strings.to_number(b, tf.int32, name="noted"))
    decoding = tf.function(lambda b: decode(b, upright=True), autograph=False)
    graph = decoding.get_concrete_function(tf.TensorSpec([], tf.string)).graph
    (noted,) = [op for op in graph.get_operations() if op.name == "noted"]
    before, following = set(), [noted]
    while following:
        op = following.pop()
        following += {*(tensor.op for tensor in op.inputs), *op.control_inputs} - before
        before.add(op)
    assert {"If", "StatelessIf"} & {op.type for op in before}
