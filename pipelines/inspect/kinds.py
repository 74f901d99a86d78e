"""Format and colours of a picture by the first bytes of its file; no TensorFlow import."""

from __future__ import annotations

from pipelines.pictures.file_types import BMP, GIF, PNG, WEBP, format_of

HEAD = 32  # bytes that are enough for all of it

GRAY, COLOUR, INKS, PALETTE = "gray", "RGB", "CMYK", "palette"
GRAY_ALPHA, COLOUR_ALPHA = "gray with alpha", "RGB with alpha"
MODES = (COLOUR, GRAY, COLOUR_ALPHA, GRAY_ALPHA, PALETTE, INKS)
OTHER = "other"

_JPEG_MODES = {1: GRAY, 3: COLOUR, 4: INKS}
_PNG_MODES = {0: GRAY, 2: COLOUR, 3: PALETTE, 4: GRAY_ALPHA, 6: COLOUR_ALPHA}
_PNG_COLOURS_AT, _BMP_BITS_AT, _WEBP_FLAGS_AT, _WEBP_LOSSLESS_FLAGS_AT = 25, 28, 20, 24
_WEBP_ALPHA, _WEBP_LOSSLESS_ALPHA = 0x10, 0x10


def kind_of(head: bytes, channels: int) -> tuple[str, str]:
    """Names of a file's format and of its colours.

    Args:
      head: at least its first HEAD bytes.
      channels: of a JPEG, as its header says; of no meaning for others.

    Returns:
      The format's name, or OTHER, and one of MODES: how the file holds colours, before decoding to RGB.
    """
    form = format_of(head)
    if form is None:
        return OTHER, COLOUR
    if channels:
        return form.name, _JPEG_MODES.get(channels, COLOUR)
    padded = head.ljust(HEAD, b"\0")
    if form is PNG:
        return form.name, _PNG_MODES.get(padded[_PNG_COLOURS_AT], COLOUR)
    if form is GIF or (form is BMP and padded[_BMP_BITS_AT] <= 8):
        return form.name, PALETTE
    if form is WEBP and _webp_alpha(padded):
        return form.name, COLOUR_ALPHA
    return form.name, COLOUR


def _webp_alpha(head: bytes) -> bool:
    chunk = head[12:16]
    if chunk == b"VP8X":
        return bool(head[_WEBP_FLAGS_AT] & _WEBP_ALPHA)
    return chunk == b"VP8L" and bool(head[_WEBP_LOSSLESS_FLAGS_AT] & _WEBP_LOSSLESS_ALPHA)
