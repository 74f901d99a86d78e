"""Files that are no pictures, or pictures made to take a decoder's memory or time; each a few kilobytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

# How files of all kinds begin, where that is not at their first byte after so many others.
MAGIC = {
    # pictures
    "jxl": bytes.fromhex("ff0a"),
    "jxl box": bytes.fromhex("0000000c4a584c200d0a870a00000014667479706a786c20"),
    "jp2": bytes.fromhex("0000000c6a5020200d0a870a00000014667479706a703220"),
    "j2k": bytes.fromhex("ff4fff51"),
    "jls": bytes.fromhex("ffd8fff7000b08ffffffff"),
    "jxr": bytes.fromhex("4949bc01"),
    "tiff little": b"II*\0",
    "tiff big": b"MM\0*",
    "bigtiff": b"II+\0\x08\0\0\0",
    "cr2": b"II*\0\x10\0\0\0CR\x02\0",
    "orf": b"IIRO",
    "rw2": b"IIU\0",
    "raf": b"FUJIFILMCCD-RAW ",
    "cr3": b"\0\0\0\x18ftypcrx ",
    "heic": b"\0\0\0\x18ftypheic",
    "heix": b"\0\0\0\x18ftypheix",
    "hevc": b"\0\0\0\x18ftyphevc",
    "mif1": b"\0\0\0\x18ftypmif1",
    "avif": b"\0\0\0\x1cftypavif",
    "avis": b"\0\0\0\x1cftypavis",
    "webp lossy": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff",
    "webp lossless": b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff",
    "webp extended": b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0",
    "webp other": b"RIFF\xff\xff\xff\xffWEBPALPH",
    "gif87": b"GIF87a",
    "gif89": b"GIF89a",
    "png": b"\x89PNG\r\n\x1a\n",
    "apng": b"\x89PNG\r\n\x1a\n\0\0\0\x08acTL",
    "mng": b"\x8aMNG\r\n\x1a\n",
    "jng": b"\x8bJNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff",
    "jpeg jfif": bytes.fromhex("ffd8ffe000104a464946000101"),
    "jpeg exif": b"\xff\xd8\xff\xe1\xff\xffExif\0\0",
    "jpeg sof": bytes.fromhex("ffd8ffc00011080000000003"),
    "bmp": b"BM",
    "bmp windows": b"BM" + b"\xff" * 8 + b"\x36\0\0\0\x28\0\0\0",
    "bmp os2": b"BM" + b"\xff" * 8 + b"\x1a\0\0\0\x0c\0\0\0",
    "ico": b"\0\0\x01\0\x01\0",
    "cur": b"\0\0\x02\0\x01\0",
    "icns": b"icns",
    "psd": b"8BPS\0\x01",
    "psb": b"8BPS\0\x02",
    "xcf": b"gimp xcf v011",
    "qoi": b"qoif",
    "dds": b"DDS |\0\0\0",
    "exr": b"v/1\x01",
    "hdr": b"#?RADIANCE\n",
    "fits": b"SIMPLE  =                    T",
    "dicom": bytes(128) + b"DICM",
    "sgi": b"\x01\xda\x01\x01\0\x03",
    "sun": b"\x59\xa6\x6a\x95",
    "bpg": b"BPG\xfb",
    "flif": b"FLIF",
    "farbfeld": b"farbfeld",
    "djvu": b"AT&TFORM",
    "wmf": b"\xd7\xcd\xc6\x9a",
    "emf": b"\x01\0\0\0",
    "pcx": b"\x0a\x05\x01\x08",
    "tga": b"\0\0\x02\0\0\0\0\0",
    "ktx": b"\xabKTX 11\xbb",
    "pvr": b"PVR\x03",
    "xpm": b"/* XPM */",
    "xbm": b"#define x_width 65535\n",
    **{f"pnm {kind}": b"P%d\n65535 65535\n255\n" % kind for kind in range(1, 8)},
    "pfm": b"PF\n65535 65535\n-1\n",
    "ppm spaces": b"P6 65535 65535 255 ",
    "ppm comment": b"P6\n# no\n65535 65535\n255\n",
    "ppm huge": b"P6\n999999999 999999999\n255\n",
    # text
    "svg": b"<svg width='65535'>",
    "xml": b"<?xml version='1.0'?>",
    "html": b"<!DOCTYPE html><html>",
    "html mark": b"\xef\xbb\xbf \r\n<HTML>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:",
    "pdf": b"%PDF-1.7",
    "eps": b"%!PS-Adobe-3.0",
    "eps binary": b"\xc5\xd0\xd3\xc6",
    "rtf": b"{\\rtf1",
    "json": b'{"a": 1}',
    "script": b"#!/bin/sh\n",
    "utf16": b"\xff\xfeh\0",
    # films and sounds
    "mp4": b"\0\0\0\x18ftypisom",
    "mov": b"\0\0\0\x14ftypqt  ",
    "old mov": b"\0\0\0\x08moov",
    "m4a": b"\0\0\0\x20ftypM4A ",
    "3gp": b"\0\0\0\x18ftyp3gp5",
    "mkv": b"\x1a\x45\xdf\xa3",
    "avi": b"RIFF\xff\xff\xff\xffAVI LIST",
    "wav": b"RIFF\xff\xff\xff\xffWAVEfmt ",
    "ani": b"RIFF\xff\xff\xff\xffACON",
    "ogg": b"OggS\0",
    "flv": b"FLV\x01",
    "swf": b"CWS\x0a",
    "mpeg": b"\0\0\x01\xba",
    "wmv": bytes.fromhex("3026b2758e66cf11"),
    "mp3": b"ID3\x04",
    "mp3 bare": b"\xff\xfb\x90",
    "aac": b"\xff\xf1",
    "flac": b"fLaC",
    "midi": b"MThd",
    "aiff": b"FORM\0\0\0\0AIFF",
    # archives and documents
    "zip": b"PK\x03\x04",
    "zip empty": b"PK\x05\x06",
    "gzip": b"\x1f\x8b\x08",
    "bzip2": b"BZh9",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "lz4": b"\x04\x22\x4d\x18",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "rar": b"Rar!\x1a\x07\0",
    "tar": bytes(257) + b"ustar\0",
    "cab": b"MSCF",
    "ole": bytes.fromhex("d0cf11e0a1b11ae1"),
    "sqlite": b"SQLite format 3\0",
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "netcdf": b"CDF\x01",
    "parquet": b"PAR1",
    "numpy": b"\x93NUMPY\x01\0",
    "pickle": b"\x80\x04\x95",
    "elf": b"\x7fELF",
    "exe": b"MZ\x90\0",
    "java": b"\xca\xfe\xba\xbe",
    "macho": b"\xcf\xfa\xed\xfe",
    "wasm": b"\0asm",
    "woff": b"wOFF",
    "ttf": b"\0\x01\0\0",
    "otf": b"OTTO",
    "tfrecord": b"\x10\0\0\0\0\0\0\0",
}
TAILS = {
    "nothing": b"",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "huge": struct.pack("<IiIi", 2**31 - 1, -(2**31), 2**32 - 1, 2**31 - 1) * 8,
    "garbage": np.random.default_rng(0).bytes(600),
}


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *between: bytes, pixels: bytes = b"") -> bytes:
    """A PNG of eight bits a channel, whatever its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [header, *between, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bmp(width: int, height: int, bits: int = 24, compression: int = 0, pixels: bytes = bytes(64)) -> bytes:
    offset = 54 + (1024 if bits == 8 else 0)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    body = header + bytes(offset - 54) + pixels
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, offset) + body


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for kind, c in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8l(width: int, height: int) -> bytes:
    """The smallest lossless picture: one colour, whatever the size."""
    small = encoded(Image.new("RGB", (16, 16), (1, 2, 3)), "WEBP", lossless=True)
    content = small[20 : 20 + struct.unpack("<I", small[16:20])[0]]
    (packed,) = struct.unpack("<I", content[1:5])
    return (
        content[:1] + struct.pack("<I", packed >> 28 << 28 | (height - 1) << 14 | (width - 1)) + content[5:]
    )


def vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + sides


def vp8(width: int, height: int) -> bytes:
    small = bytearray(encoded(Image.new("RGB", (16, 16), (1, 2, 3)), "WEBP", quality=50))
    small[26:30] = struct.pack("<HH", width, height)
    return bytes(small)


def gif(frames: int = 1, frame: tuple[int, int] = (8, 8), said: tuple[int, int] | None = None) -> bytes:
    """A GIF with a screen of 8 x 8 pixels, whose frames may say another size than they have."""
    whole = encoded(Image.new("P", frame), "GIF")
    start = whole.index(b"," + bytes(4))
    block = bytearray(whole[start:-1])
    block[5:9] = struct.pack("<HH", *(said or frame))
    return whole[:6] + struct.pack("<HH", 8, 8) + whole[10:start] + bytes(block) * frames + b";"


def jpeg(width: int, height: int, *, progressive: bool = False, scans: int = 0) -> bytes:
    """A small gray JPEG that says another size, its last scan repeated."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "JPEG", progressive=progressive))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    last = bytes(data[data.rindex(b"\xff\xda") : -2])
    return bytes(data[:-2]) + last * scans + b"\xff\xd9"


def attacks() -> dict[str, bytes]:
    """Each must be refused; by name, what the refusal is about."""
    bomb = zlib.compress(bytes(7_900_000), 9)
    texts = [chunk(b"zTXt", b"k\0\0" + bomb)] * 60
    large = 16383
    return {
        "jxl too large": bytes.fromhex("ff0afeffffff3f") + bytes(32),
        "webp lossless too large": riff((b"VP8L", vp8l(large, large))),
        "webp lossless of one row": riff((b"VP8L", vp8l(16384, 4097))),
        "webp lossy too large": vp8(large, large),
        "webp canvas too large": riff(vp8x(2**24, 2**24), (b"VP8L", vp8l(16, 16))),
        "webp lossless in small canvas": riff(vp8x(16, 16), (b"VP8L", vp8l(large, large))),
        "webp lossless in canvas": riff(vp8x(large, large), (b"VP8L", vp8l(large, large))),
        "webp animated": animated_webp(),
        "webp animated, canvas too large": riff(vp8x(2**24, 2**24, 2), (b"ANIM", bytes(6))),
        "png largest": png(2**31 - 1, 2**31 - 1),
        "png zero wide": png(0, 2**31 - 1),
        "png minus one": png(2**32 - 1, 2**32 - 1),
        "png of a row": png(2**31 - 1, 1),
        "png 20000": png(20_000, 20_000),
        "apng too large": png(65536, 65536, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "png texts": png(4, 4, *texts, pixels=bytes(4 * 13)),
        "bmp lowest height": bmp(1, -(2**31)),
        "bmp lowest": bmp(-(2**31), -(2**31)),
        "bmp largest": bmp(2**31 - 1, 2**31 - 1),
        "bmp beyond its end": bmp(8000, 8000),
        "bmp beyond its end, colours": bmp(8000, -8000, 8),
        "bmp run-length": bmp(8000, 8000, 8, 1),
        "bmp one bit": bmp(8192, 8192, 1),
        "gif frame too large": gif(said=(65535, 65535)),
        "gif frame 20000": gif(said=(20_000, 20_000)),
        "gif endless extensions": gif()[:-1].replace(b"," + bytes(4), b"!\xfe\0" * 200_000, 1),
        "jpeg largest": jpeg(65535, 65535),
        "jpeg progressive largest": jpeg(65500, 65500, progressive=True),
        "jpeg of many scans": jpeg(8000, 8000, progressive=True, scans=3000),
        "ppm overflow": b"P6\n65536 65536\n255\n" + bytes(64),
        "ppm beyond its end": b"P6\n8000 8000\n255\n" + bytes(64),
    }


def animated_webp() -> bytes:
    frames = [Image.new("RGB", (64, 64), (level, 0, 0)) for level in (10, 200)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


def costly() -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Pictures that are decoded, of which only what is shown may be paid for, with (width, height)."""
    whole = gif(frame=(400, 300))
    comment = b"!\xfe" + b"\x01a" * 400_000 + b"\0"
    tiny = whole.index(b"," + bytes(4))
    return {
        "gif of 150 frames": (gif(150, (4000, 4000)), (4000, 4000)),
        "gif with a frame too large behind": (whole[:-1] + gif(said=(65535, 65535))[-60:], (400, 300)),
        "gif with comments": (whole[:tiny] + comment + whole[tiny:], (400, 300)),
    }
