"""File types by their first bytes, whatever a file is called: the formats that are read, and others by name.

No TensorFlow import; `formats` asks the same tables in a graph.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Format(NamedTuple):
    """A format of pictures that is read.

    Attributes:
      name: what people call it.
      marks: (position, bytes) that every file of it has.
      suffixes: of files that are taken for pictures of it, in small letters; which format one really has,
        and so how it is decoded, its content decides.
      ending: of a file that is written.
    """

    name: str
    marks: tuple[tuple[int, bytes], ...]
    suffixes: tuple[str, ...]
    ending: str


JPEG = Format("JPEG", ((0, b"\xff\xd8\xff"),), (".jpg", ".jpeg"), ".jpg")
PNG = Format("PNG", ((0, b"\x89PNG\r\n\x1a\n"),), (".png",), ".png")
GIF = Format("GIF", ((0, b"GIF8"),), (".gif",), ".gif")
BMP = Format("BMP", ((0, b"BM"),), (".bmp",), ".bmp")
WEBP = Format("WebP", ((0, b"RIFF"), (8, b"WEBP")), (".webp",), ".webp")
# Records of `pipelines.prepare --encoding ppm` hold it; a folder's .ppm files are left alone.
PPM = Format("PPM", ((0, b"P6\n"),), (), ".ppm")
FORMATS = (JPEG, PNG, GIF, BMP, WEBP, PPM)
READ = "JPEG, PNG, GIF, BMP, WebP and PPM"
SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes)

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


# Files of pictures that are not read, by how their names end, with what their content is called above.
OTHER_PICTURES = {
    ".heic": "a HEIC file",
    ".heif": "a HEIF file",
    ".hif": "a HEIF file",
    ".avif": "an AVIF file",
    ".tif": "a TIFF file",
    ".tiff": "a TIFF file",
    ".jxl": "a JPEG XL file",
    ".jp2": "a JPEG 2000 file",
    ".j2k": "a JPEG 2000 file",
    ".jpx": "a JPEG 2000 file",
    ".jxr": "a JPEG XR file",
    ".wdp": "a JPEG XR file",
    ".jfif": "a JPEG file",
    ".jpe": "a JPEG file",
    ".ppm": "a PPM file",
    ".pgm": "a PGM file",
    ".pbm": "a PBM file",
    ".pnm": "a PNM file",
    ".tga": "a TGA file",
    ".ico": "a Windows icon",
    ".svg": "an SVG drawing",
    ".psd": "a Photoshop file",
    ".xcf": "a GIMP file",
    ".exr": "an OpenEXR file",
    ".dcm": "a DICOM file",
    ".pcx": "a PCX file",
    ".qoi": "a QOI file",
    ".dng": "a raw file of a camera (DNG)",
    ".cr2": "a raw file of a camera (CR2)",
    ".cr3": "a raw file of a camera (CR3)",
    ".nef": "a raw file of a camera (NEF)",
    ".arw": "a raw file of a camera (ARW)",
    ".orf": "a raw file of a camera (ORF)",
    ".rw2": "a raw file of a camera (RW2)",
    ".raf": "a raw file of a camera (RAF)",
}
CURE = "convert them to JPEG or PNG"
RENAME = "give them names that end in .jpg, .png, .gif, .bmp or .webp"
# As many bytes as the marks reach.
HEAD = max(position + len(mark) for position, mark, _ in MARKS)


def kind_of(path: str | bytes | os.PathLike[str]) -> str:
    """What a file is, with an article: by its first bytes, else by how its name ends, else `a file`.

    Args:
      path: the file; one that cannot be opened is named by how its name ends.

    Returns:
      Such as `a HEIC file`, `a JPEG file`, `an empty file`.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(HEAD)
    except OSError:
        pass
    else:
        if not start:
            return "an empty file"
        if known := kind_of_bytes(start):
            return known
    return OTHER_PICTURES.get(os.path.splitext(os.fsdecode(path))[1].lower(), "a file")


def kind_of_bytes(start: bytes) -> str:
    """What begins with these bytes, with an article; empty where nothing known does."""
    form = format_of(start)
    if form is not None:
        return f"a {form.name} file"
    for position, mark, name in MARKS:
        if start.startswith(mark, position):
            return name
    text = start.removeprefix(b"\xef\xbb\xbf").strip().lower()
    return next((name for mark, name in TEXTS if text.startswith(mark)), "")


def advice_on(path: str | bytes | os.PathLike[str]) -> str:
    """What to do with a picture that no suffix of `SUFFIXES` names: rename or convert it; else empty."""
    kind = kind_of(path)
    if any(kind == f"a {form.name} file" for form in FORMATS if form.suffixes):
        return RENAME
    return CURE if kind in _PICTURES else ""


# Kinds that show something, and that a converter reads.
_PICTURES = {*OTHER_PICTURES.values()} - {"a JPEG file"} | {
    "an SGI picture",
    "a Sun raster file",
    "a BPG file",
}


def format_of(image_bytes: bytes) -> Format | None:
    """The format as which a file begins, of those that are read; None for any other file."""

    def fits(form: Format) -> bool:
        return all(image_bytes.startswith(mark, position) for position, mark in form.marks)

    return next((form for form in FORMATS if fits(form)), None)
