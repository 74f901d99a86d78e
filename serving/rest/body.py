"""Request bodies: reads and decompresses them within limits."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Mapping
from typing import Any

from serving.errors import Code, ServingError, invalid
from serving.rest.asgi import Receive

GZIP_ONLY = 16 + zlib.MAX_WBITS
PIECE = 1024 * 1024
# Each gzip member costs some microseconds and up to a piece of copying, however little it holds.
MAX_MEMBERS = 1000
PADDING = re.compile(rb"\0*")
TOO_LARGE_STATUS = 413
LONGEST_LENGTH = 20  # digits of a content length worth reading
# How much of a refused body is still read, and for how long, so that the client gets to read the answer.
LINGER_BYTES = 16 * 1024 * 1024
LINGER_SECONDS = 2.0


class BodyTooLarge(ServingError):
    """A body beyond the limit; answered with HTTP's own status for it."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.INVALID_ARGUMENT, message)

    @property
    def http_status(self) -> int:
        return TOO_LARGE_STATUS


class ClientDisconnected(Exception):
    """The client disconnected before its request was complete."""


async def read(receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int) -> bytes:
    """Reads a request's body.

    Args:
      receive: ASGI's.
      headers: lower-case names.
      max_bytes: limit of the body as it is sent; 0 for no limit.

    Raises:
      BodyTooLarge: at once when Content-Length is beyond the limit, else when the limit is passed.
      ClientDisconnected: the connection ended first.
    """
    declared = headers.get(b"content-length", b"")
    if max_bytes and declared.isdigit() and (len(declared) > LONGEST_LENGTH or int(declared) > max_bytes):
        raise too_large(max_bytes)
    pieces, length = [], 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnected
        pieces.append(message.get("body", b""))
        length += len(pieces[-1])
        if 0 < max_bytes < length:
            raise too_large(max_bytes)
        more = message.get("more_body", False)
    return b"".join(pieces)


def too_large(max_bytes: int) -> BodyTooLarge:
    """The error for a body longer than `max_bytes`."""
    return BodyTooLarge(f"Request body is larger than the limit of {max_bytes} bytes")


async def discard(receive: Receive) -> None:
    """Reads and drops some more of a refused body.

    Closing a connection with unread bytes resets it, and the client may lose the answer.
    """

    async def take() -> None:
        length = 0
        while length < LINGER_BYTES:
            message = await receive()
            length += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return

    try:
        await asyncio.wait_for(take(), LINGER_SECONDS)
    except asyncio.TimeoutError:
        return


def is_gzip(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body is compressed: TF Serving searches for `gzip` anywhere in Content-Encoding."""
    return b"gzip" in headers.get(b"content-encoding", b"").lower()


def gunzip(body: bytes, max_bytes: int) -> bytes:
    """Decompresses a gzip body of one or more members; never holds more than the limit and one piece.

    Raises:
      ServingError: INVALID_ARGUMENT for invalid or incomplete gzip.
      BodyTooLarge: for more than `max_bytes`.
    """
    pieces: list[bytes] = []
    try:
        _unpack(body, max_bytes, pieces)
    except ServingError:
        pieces.clear()  # the error references this frame until the client has its answer
        raise
    return b"".join(pieces)


def _unpack(body: bytes, max_bytes: int, pieces: list[bytes]) -> None:
    """Appends the decompressed pieces of `body`; see `gunzip`."""
    length = position = members = 0
    while position < len(body):
        members += 1
        if members > MAX_MEMBERS:
            raise invalid(f"Failed to decompress the gzip body: it has more than {MAX_MEMBERS} members")
        unpacker = zlib.decompressobj(GZIP_ONLY)
        while not unpacker.eof:
            packed = unpacker.unconsumed_tail
            if not packed:
                packed = body[position : position + PIECE]
                position += len(packed)
            pieces.append(_unpacked(unpacker, packed))
            length += len(pieces[-1])
            if length > max_bytes:
                raise BodyTooLarge(
                    f"Request body is larger than the limit of {max_bytes} bytes once unpacked"
                )
        position = PADDING.match(body, position - len(unpacker.unused_data)).end()  # type: ignore[union-attr]


def _unpacked(unpacker: Any, packed: bytes) -> bytes:
    """At most one piece of the decompressed data in `packed`."""
    try:
        piece: bytes = unpacker.decompress(packed, PIECE)
    except zlib.error as error:
        raise invalid(f"Failed to decompress the gzip body: {error}") from None
    if not packed and not piece:
        raise invalid("Failed to decompress the gzip body: it is cut short")
    return piece
