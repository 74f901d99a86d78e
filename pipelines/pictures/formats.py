"""What a file is by its first bytes, whatever its name: the formats that are read, and all others by name."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

READ = "JPEG, PNG, GIF, BMP, WebP and PPM"
# The name only decides whether a file is meant as a picture; its content decides how it is decoded.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})
# A few hundred bytes can announce gigabytes of pixels; the largest photographs have half of this.
MAX_PIXELS = 2**26
EMPTY, DAMAGED = "empty file", "damaged or truncated {} file"

# Where a kind of file has its mark, the mark, and what to call the file. The first that fits is taken.
MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", "a JPEG XL file"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL file"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (0, b"II\xbc", "a JPEG XR file"),
    (0, b"II*\0\x10\0\0\0CR", "a raw file of a camera (CR2)"),
    (0, b"IIRO", "a raw file of a camera (ORF)"),
    (0, b"IIU\0", "a raw file of a camera (RW2)"),
    (0, b"FUJIFILMCCD-RAW", "a raw file of a camera (RAF)"),
    (0, b"II*\0", "a TIFF file"),
    (0, b"MM\0*", "a TIFF file"),
    (0, b"II+\0", "a TIFF file"),
    (0, b"MM\0+", "a TIFF file"),
    (4, b"ftypheic", "a HEIC file"),
    (4, b"ftypheix", "a HEIC file"),
    (4, b"ftypheim", "a HEIC file"),
    (4, b"ftypheis", "a HEIC file"),
    (4, b"ftyphevc", "a HEIC file"),
    (4, b"ftyphevx", "a HEIC file"),
    (4, b"ftypmif1", "a HEIF file"),
    (4, b"ftypmsf1", "a HEIF file"),
    (4, b"ftypavif", "an AVIF file"),
    (4, b"ftypavis", "an AVIF file"),
    (4, b"ftypcrx ", "a raw file of a camera (CR3)"),
    (4, b"ftypqt  ", "a QuickTime video"),
    (4, b"ftypM4A", "a sound file (M4A)"),
    (4, b"ftyp", "an MP4 video"),
    (4, b"moov", "a QuickTime video"),
    (0, b"\0\0\x01\0", "a Windows icon"),
    (0, b"\0\0\x02\0", "a Windows cursor"),
    (0, b"icns", "an Apple icon"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"gimp xcf", "a GIMP file"),
    (0, b"qoif", "a QOI file"),
    (0, b"DDS ", "a DDS file"),
    (0, b"v/1\x01", "an OpenEXR file"),
    (0, b"#?RADIANCE", "a Radiance HDR file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x01\xda\x01", "an SGI picture"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster file"),
    (0, b"BPG\xfb", "a BPG file"),
    (0, b"farbfeld", "a farbfeld file"),
    (0, b"AT&TFORM", "a DjVu file"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (0, b"\x8aMNG\r\n", "an MNG file"),
    (0, b"\x8bJNG\r\n", "a JNG file"),
    (0, b"\xabKTX ", "a KTX texture"),
    (0, b"P1\n", "a PBM file"),
    (0, b"P2\n", "a PGM file of text"),
    (0, b"P3\n", "a PPM file of text"),
    (0, b"P4\n", "a PBM file"),
    (0, b"P5\n", "a PGM file"),
    (0, b"P7\n", "a PAM file"),
    (0, b"\x0a\x05\x01\x08", "a PCX file"),
    (8, b"AVI LIST", "an AVI video"),
    (8, b"WAVE", "a sound file (WAV)"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (0, b"OggS", "an Ogg file"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"\0\0\x01\xba", "an MPEG video"),
    (0, b"\0\0\x01\xb3", "an MPEG video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file"),
    (0, b"ID3", "a sound file (MP3)"),
    (0, b"\xff\xfb", "a sound file (MP3)"),
    (0, b"fLaC", "a sound file (FLAC)"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"CDF", "a NetCDF file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xca\xfe\xba\xbe", "a program"),
    (0, b"\xcf\xfa\xed\xfe", "a program"),
    (0, b"\0asm", "a WebAssembly program"),
    (0, b"wOFF", "a font"),
    (0, b"wOF2", "a font"),
    (0, b"OTTO", "a font"),
)
# The same of files of text, in small letters, after spaces and a byte order mark.
TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com", "a Git LFS pointer, not the picture it stands for"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<head", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<!doctype svg", "an SVG drawing"),
    (b"<?xml", "an XML file (an SVG drawing, an error of a web server)"),
    (b"%pdf", "a PDF file"),
    (b"%!ps", "a PostScript file"),
    (b"{\\rtf", "an RTF document"),
    (b"#!/", "a script"),
    (b"{", "a JSON file"),
)
_UTF8_MARK = b"\xef\xbb\xbf"
_HEAD = max(position + len(mark) for position, mark, _ in MARKS)
_BLANK = b"\0" * _HEAD


def numbers(image_bytes: tf.Tensor, *fields: tuple[int, int], big_endian: bool = False) -> list[tf.Tensor]:
    """Whole numbers without sign from the beginning of a file; int64 scalars.

    Args:
      image_bytes: string scalar; counts as followed by zeros.
      *fields: of each number the place of its first byte, and how many it has.
      big_endian: whether the first byte counts most.
    """
    length = max(position + size for position, size in fields)
    weights = np.zeros((len(fields), length), np.int64)
    for row, (position, size) in enumerate(fields):
        powers = 256 ** np.arange(size)
        weights[row, position : position + size] = powers[::-1] if big_endian else powers
    start = tf.strings.join([tf.strings.substr(image_bytes, 0, length), b"\0" * length])
    values = tf.cast(tf.io.decode_raw(start, tf.uint8)[:length], tf.int64)
    found: list[tf.Tensor] = tf.unstack(tf.linalg.matvec(weights, values), num=len(fields))
    return found


def starts(image_bytes: tf.Tensor, mark: bytes, position: int = 0) -> tf.Tensor:
    """Whether a file has `mark` at `position`; bool scalar."""
    known = tf.strings.substr(image_bytes, 0, position + len(mark))
    if position:
        # A file that ends before would be an error of `substr`.
        known = tf.strings.substr(tf.strings.join([known, b"\0" * position]), position, len(mark))
    return tf.equal(known, mark)


def split(text: tf.Tensor, mark: str | bytes, most: int = -1) -> tf.Tensor:
    """The parts of a string scalar between marks, of which no more than `most` count; string [parts]."""
    # tf.strings.split goes by ragged tensors, forty operations for this one.
    parts: tf.Tensor = tf.raw_ops.StringSplitV2(input=[text], sep=mark, maxsplit=most).values
    return parts


def count(image_bytes: tf.Tensor, mark: bytes, most: int) -> tf.Tensor:
    """How often some bytes occur in a file, counted up to `most`; int32 scalar."""
    return tf.size(split(image_bytes, mark, most)) - 1


def too_large(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Whether a picture of this size (int64 scalars) is refused; bool scalar."""
    # Each by itself first: a product of two sizes of 32 bits can leave those of 64.
    return (height > MAX_PIXELS) | (width > MAX_PIXELS) | (height * width > MAX_PIXELS)


def size_complaint(kind: str, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """What to say of a picture that is `too_large`, string scalar; empty for others."""

    def words() -> tf.Tensor:
        sides = tf.strings.as_string(tf.stack([width, height]))
        limit = f" pixels; a picture may hold at most {MAX_PIXELS} pixels"
        return tf.strings.join([f"{kind} file of ", sides[0], " x ", sides[1], limit])

    return tf.cond(too_large(height, width), words, lambda: tf.constant(""))


def first_of(complaints: list[tuple[tf.Tensor, str | tf.Tensor]]) -> tf.Tensor:
    """The words beside the first condition that holds; empty when none does. String scalar."""
    found: str | tf.Tensor = ""
    for condition, words in reversed(complaints):
        found = tf.where(condition, words, found)
    return tf.convert_to_tensor(found)


def foreign_complaint(image_bytes: tf.Tensor) -> tf.Tensor:
    """What to say of a file of none of the formats that are read; string scalar, never empty."""
    start = tf.strings.join([tf.strings.substr(image_bytes, 0, _HEAD), _BLANK])
    positions = tf.constant([position for position, _, _ in MARKS])
    lengths = tf.constant([len(mark) for _, mark, _ in MARKS])
    parts = tf.strings.substr(tf.fill([len(MARKS)], start), positions, lengths)
    marked = tf.equal(parts, tf.constant([mark for _, mark, _ in MARKS]))

    bare = tf.cond(
        starts(image_bytes, _UTF8_MARK),
        lambda: tf.strings.substr(start, len(_UTF8_MARK), _HEAD),
        lambda: start,
    )
    text = tf.strings.lower(tf.strings.strip(tf.strings.substr(bare, 0, _HEAD)))
    text = tf.strings.join([text, _BLANK])
    sizes = tf.constant([len(mark) for mark, _ in TEXTS])
    parts = tf.strings.substr(tf.fill([len(TEXTS)], text), tf.zeros_like(sizes), sizes)
    written = tf.equal(parts, tf.constant([mark for mark, _ in TEXTS]))

    names = [name for _, _, name in MARKS] + [name for _, name in TEXTS]
    fits = tf.concat([marked, written, [True]], axis=0)
    name = tf.gather(tf.constant([*names, ""]), tf.argmax(fits))
    unknown = f"not a {READ.replace(' and ', ' or ')} file"
    return first_of(
        [
            (tf.equal(image_bytes, ""), EMPTY),
            (tf.equal(name, ""), unknown),
            (tf.constant(True), tf.strings.join(["this is ", name, f"; {READ} are read"])),
        ]
    )
