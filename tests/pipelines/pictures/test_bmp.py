import functools
import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.pictures.decode import complaint, decode
from tests.support.pictures import encoded, textured, ways

HEIGHT, WIDTH = 13, 19  # rows of no whole word at any depth
PICTURE = textured(HEIGHT, WIDTH)
INFO, CORE = 40, 12


def bmp(
    body, *, bits, height=HEIGHT, width=WIDTH, header=INFO, compression=0, masks=(), table=b"", colours=0
):
    """A file of any header; `masks` lie in the header where it is long enough, else behind it."""
    if header == CORE:
        start = struct.pack("<IHHHH", header, width, height, 1, bits)
    else:
        start = struct.pack(
            "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, colours, 0
        )
        start = struct.pack("<I", header) + start[4:] + struct.pack(f"<{len(masks)}I", *masks)
        start = start.ljust(header, b"\0")
    offset = 14 + len(start) + len(table)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + start + table + body


def by_pillow(image_bytes):
    return np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"))


def rows(values, dtype):
    """Pixels [height, width] as rows of whole words, the lowest first."""
    lines = [line.astype(dtype).tobytes() for line in values[::-1]]
    return b"".join(line + b"\0" * (-len(line) % 4) for line in lines)


def packed(numbers, bits):
    """Numbers of less than a byte as rows."""
    lines = []
    for line in numbers[::-1]:
        digits = "".join(format(number, f"0{bits}b") for number in line)
        digits += "0" * (-len(digits) % 32)
        lines.append(int(digits, 2).to_bytes(len(digits) // 8, "big"))
    return b"".join(lines)


@functools.cache
def in_graph():
    """`decode`, traced once for all tests."""
    return ways(decode)["graph"]


def check(image_bytes, expected=None):
    expected = by_pillow(image_bytes) if expected is None else expected
    assert expected.std() > 10
    np.testing.assert_array_equal(in_graph()(tf.constant(image_bytes)), expected)


RED, GREEN, BLUE, ALPHA = 0xFF, 0xFF00, 0xFF0000, 0xFF000000


@pytest.mark.parametrize("header", [INFO, 52, 56, 108, 124])
@pytest.mark.parametrize(
    "masks",
    [
        (RED, GREEN, BLUE, ALPHA),
        (BLUE, GREEN, RED, 0),
        (BLUE, GREEN, RED, ALPHA),
        (ALPHA, BLUE, GREEN, 0),
        (ALPHA, BLUE, GREEN, RED),
        (ALPHA, GREEN, RED, 0),
        (0, 0, 0, 0),
    ],
)
def test_colours_of_32_bits_are_where_the_masks_say(header, masks):
    places = [
        mask.bit_length() // 8 - 1 if mask else place for mask, place in zip(masks, (2, 1, 0, 3), strict=True)
    ]
    pixels = np.zeros([HEIGHT, WIDTH, 4], np.uint8)
    pixels[..., places[:3]] = PICTURE
    body = rows(pixels.view("<u4")[..., 0], "<u4")
    # The oldest header has no place for alpha, and its three masks lie behind it.
    written = masks if header >= 56 else masks[:3]
    image_bytes = bmp(body, bits=32, header=header, compression=3, masks=written)
    check(image_bytes, PICTURE)
    if header >= 56 or masks[3] == 0:
        check(image_bytes)  # Pillow reads it as well


def test_a_file_without_fields_ignores_what_lies_where_masks_would():
    body = rows(np.dstack([PICTURE[..., ::-1], np.zeros_like(PICTURE[..., :1])]).view("<u4")[..., 0], "<u4")
    check(bmp(body, bits=32, header=124, masks=(RED, GREEN, BLUE, ALPHA)))
    check(bmp(rows(PICTURE[..., ::-1], np.uint8), bits=24, header=108, masks=(RED, GREEN, BLUE, 0)))


def test_bits_that_are_no_whole_bytes():
    values = np.random.default_rng(0).integers(0, 1024, (HEIGHT, WIDTH, 3))
    words = values[..., 0] << 20 | values[..., 1] << 10 | values[..., 2]
    masks = (1023 << 20, 1023 << 10, 1023)
    check(bmp(rows(words, "<u4"), bits=32, compression=3, masks=masks), values >> 2)


@pytest.mark.parametrize("header", [INFO, 56, 124])
@pytest.mark.parametrize("masks", [(), (0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)])
def test_sixteen_bits(header, masks):
    values = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH))
    check(bmp(rows(values, "<u2"), bits=16, header=header, compression=3 if masks else 0, masks=masks))


def table(count, entry):
    colours = np.random.default_rng(count).integers(0, 256, (count, entry), dtype=np.uint8)
    return colours.tobytes()


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("header", [CORE, INFO, 64, 124])
def test_numbers_are_looked_up(bits, header):
    count = 2**bits
    numbers = np.random.default_rng(2).integers(0, count, (HEIGHT, WIDTH))
    check(
        bmp(packed(numbers, bits), bits=bits, header=header, table=table(count, 3 if header == CORE else 4))
    )


def test_two_bits():
    numbers = np.random.default_rng(2).integers(0, 4, (HEIGHT, WIDTH))
    colours = table(4, 4)
    check(
        bmp(packed(numbers, 2), bits=2, table=colours),
        np.frombuffer(colours, np.uint8).reshape(4, 4)[:, 2::-1][numbers],
    )


def test_numbers_beyond_a_short_table_are_black():
    numbers = np.random.default_rng(3).integers(0, 16, (HEIGHT, WIDTH))
    check(bmp(packed(numbers, 4), bits=4, table=table(7, 4), colours=7))


def test_pixels_behind_the_table_though_the_file_says_before_it():
    numbers = np.random.default_rng(3).integers(0, 16, (HEIGHT, WIDTH))
    for start in (0, 14 + INFO):
        image_bytes = bytearray(bmp(packed(numbers, 4), bits=4, table=table(16, 4)))
        image_bytes[10:14] = struct.pack("<I", start)
        check(bytes(image_bytes))


def test_24_bits_of_os2():
    check(bmp(rows(PICTURE[..., ::-1], np.uint8), bits=24, header=CORE))


@pytest.mark.parametrize("bits", [1, 4, 16, 32])
def test_rows_from_the_top_down(bits):
    numbers = np.random.default_rng(4).integers(0, 2 ** min(bits, 16), (HEIGHT, WIDTH))
    body = rows(numbers, "<u4" if bits == 32 else "<u2") if bits > 8 else packed(numbers, bits)
    fields = {"compression": 3, "masks": (RED, GREEN, 0xFF0000)} if bits == 32 else {}
    colours = table(2**bits, 4) if bits <= 8 else b""
    lying = in_graph()(bmp(body, bits=bits, table=colours, **fields)).numpy()
    check(bmp(body, bits=bits, height=-HEIGHT, table=colours, **fields), lying[::-1])


def coded(numbers, bits, generator):
    """RLE8 or RLE4 of rows, by runs and literals of random lengths, with an end behind each row."""
    found = bytearray()
    half = bits == 4
    for line in numbers[::-1]:
        at = 0
        while at < len(line):
            count = int(min(generator.integers(1, 9), len(line) - at))
            part = line[at : at + count]
            if count >= 3 and generator.random() < 0.6:
                content = packed([part], bits)[: -(-count * bits // 8)]
                found += bytes([0, count]) + content + b"\0" * (len(content) % 2)
            else:
                period = 2 if half else 1
                while count > 1 and any(part[k] != part[k % period] for k in range(count)):
                    count -= 1
                value = part[0] * 16 + part[1 % count] if half else part[0]
                found += bytes([count, int(value)])
            at += count
        found += b"\0\0"
    found[-1] = 1
    return bytes(found)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_runs(bits, seed):
    generator = np.random.default_rng(seed)
    numbers = np.repeat(generator.integers(0, 2**bits, (HEIGHT, WIDTH)), 3, axis=1)[:, : 2 * WIDTH + 1]
    body = coded(numbers, bits, generator)
    form = {"bits": bits, "width": numbers.shape[1], "compression": {8: 1, 4: 2}[bits]}
    runs = bmp(body, table=table(2**bits, 4), **form)
    check(
        runs,
        in_graph()(bmp(packed(numbers, bits), table=table(2**bits, 4), **form | {"compression": 0})).numpy(),
    )
    check(runs)  # as Pillow


def test_runs_may_jump_end_early_and_reach_beyond_their_row():
    body = bytes([5, 1, 0, 2, 3, 2, 4, 2, 200, 3, 0, 0, 2, 7, 0, 1])
    numbers = np.zeros([HEIGHT, WIDTH], np.uint8)
    numbers[0, :5], numbers[2, 8:12], numbers[2, 12:], numbers[3, :2] = 1, 2, 3, 7
    colours = table(256, 4)
    expected = np.frombuffer(colours, np.uint8).reshape(256, 4)[:, 2::-1][numbers[::-1]]
    check(bmp(body, bits=8, compression=1, table=colours), expected)


@pytest.mark.parametrize(
    "body",
    [b"", b"\5", b"\0\0" * 20 + b"\3\1", bytes([5, 1, 0, 200, 1, 2]), bytes([255, 1, 0, 0]) * (HEIGHT - 1)],
)
def test_runs_that_are_cut_short_are_damaged(body):
    height = 2 * HEIGHT if body.startswith(b"\0\0") else HEIGHT
    with pytest.raises(tf.errors.InvalidArgumentError, match="damaged or truncated BMP file"):
        in_graph()(tf.constant(bmp(body, bits=8, height=height, compression=1, table=table(256, 4))))


def test_many_runs_take_no_more_than_a_moment():
    numbers = np.random.default_rng(5).integers(0, 256, (500, 700))
    body = b"".join(
        b"".join(bytes([1, number]) for number in line.tolist()) + b"\0\0"
        for line in numbers[::-1].astype(int)
    )
    colours = table(256, 4)
    image = in_graph()(bmp(body + b"\0\1", bits=8, height=500, width=700, compression=1, table=colours))
    np.testing.assert_array_equal(image, np.frombuffer(colours, np.uint8).reshape(256, 4)[:, 2::-1][numbers])


@pytest.mark.parametrize(
    ("image_bytes", "words"),
    [
        (bmp(b"", bits=0, compression=4), "BMP file that holds a JPEG file"),
        (bmp(b"", bits=0, compression=5), "BMP file that holds a PNG file"),
        (bmp(b"", bits=1, header=64, compression=3), "BMP file of OS/2 in Huffman's code"),
        (bmp(b"", bits=24, header=64, compression=4), "BMP file of OS/2 with runs of 24 bits"),
        (bmp(b"", bits=24, compression=1), "BMP file of compression 1 at 24 bits a pixel"),
        (bmp(b"", bits=48), "BMP file of 48 bits a pixel; 1, 2, 4, 8, 16, 24 and 32 are read"),
        (bmp(b"", bits=24, header=16), "BMP file with a header of 16 bytes; 12, 40, 52, 56, 64, 108 and 124"),
        (bmp(b"\0" * 40, bits=24), "damaged or truncated BMP file"),
        (bmp(b"\0" * 20, bits=1, table=table(2, 4)), "damaged or truncated BMP file"),
        (
            bmp(b"\1\1" * 2**22 + b"\0\1", bits=8, compression=1, table=table(256, 4)),
            "more than 8388608 bytes of runs",
        ),
    ],
)
def test_what_is_not_read_is_named(image_bytes, words):
    assert words in complaint(image_bytes).numpy().decode()
    with pytest.raises(tf.errors.InvalidArgumentError):
        in_graph()(image_bytes)


def test_what_pillow_writes():
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        check(encoded(Image.fromarray(PICTURE).convert(mode), "BMP"))


def test_every_way_of_calling_is_the_same():
    numbers = np.random.default_rng(6).integers(0, 16, (HEIGHT, WIDTH))
    body = coded(numbers, 4, np.random.default_rng(7))
    image_bytes = bmp(body, bits=4, compression=2, table=table(16, 4))
    for called in ways(decode).values():
        np.testing.assert_array_equal(called(tf.constant(image_bytes)), by_pillow(image_bytes))
