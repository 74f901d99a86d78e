"""Server addresses as users write them: `host:port`, a URL, or a UNIX socket."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from serving.command import UserError

# TF Serving's --port, and the port that its image and its documents give to REST.
GRPC_PORT = 8500
REST_PORT = 8501
LARGEST_PORT = 65535


class Address(NamedTuple):
    """A server's address.

    Attributes:
      host: name or IP address, IPv6 without brackets; the path of a UNIX socket when `port` is 0.
      port: 0 for a UNIX socket.
      tls: whether the address began with https://.
      prefix: path before /v1/, as behind a reverse proxy, without a trailing slash.
    """

    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    @property
    def netloc(self) -> str:
        """`host:port`, IPv6 in brackets, as in HTTP's Host header and gRPC's targets."""
        if not self.port:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str, default_port: int) -> Address:
    """Reads an address.

    Args:
      text: `host`, `host:port`, `[IPv6]:port`, `http://...`, `https://...` or `unix:PATH`.
      default_port: for an address without a port; a URL without one means 80 or 443.

    Raises:
      UserError: when it is none of these.
    """
    if text.startswith("unix:"):
        return Address(text.removeprefix("unix:").removeprefix("//"), 0)
    scheme = re.match(r"(\w+)://", text)
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise UserError(
            f"a server's address is HOST:PORT or starts with http:// or https://; received {text!r}"
        )
    try:
        parts = urlsplit(text if scheme else f"//{text}")
        port = parts.port
    except ValueError:
        raise UserError(
            f"a server's address is HOST:PORT, the port from 1 to {LARGEST_PORT}; received {text!r}"
        ) from None
    odd = parts.username is not None or parts.query or parts.fragment or (parts.path and not scheme)
    if not parts.hostname or odd or port == 0 or re.search(r"\s", text):
        raise UserError(f"a server's address is HOST:PORT or a URL without a query; received {text!r}")
    tls = bool(scheme) and parts.scheme == "https"
    if port is None:
        port = (443 if tls else 80) if scheme else default_port
    return Address(parts.hostname, port, tls, parts.path.rstrip("/"))
