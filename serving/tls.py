"""TLS from an SSLConfig message: the REST port's settings, and the check of both ports' files."""

from __future__ import annotations

import os
import ssl
import tempfile
from typing import Any

from serving.errors import ServingError, invalid


def server_context(config: Any) -> ssl.SSLContext:
    """A server's TLS settings; at least TLS 1.2.

    Args:
      config: an SSLConfig message: `server_key`, `server_cert` and `custom_ca` are PEM texts;
        `client_verify` asks every client for a certificate that `custom_ca` vouches for.

    Raises:
      ServingError: INVALID_ARGUMENT: texts that are no PEM, do not belong together, or are missing.
    """
    if not config.server_key or not config.server_cert:
        raise invalid("SSLConfig needs server_key and server_cert")
    if config.client_verify and not config.custom_ca:
        raise invalid("SSLConfig with client_verify needs custom_ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load_chain(context, config.server_cert, config.server_key)
    except (ssl.SSLError, ValueError) as error:
        raise _unusable("server_key and server_cert", error) from None
    if config.custom_ca:
        try:
            context.load_verify_locations(cadata=config.custom_ca)
        except (ssl.SSLError, ValueError) as error:
            raise _unusable("custom_ca", error) from None
    if config.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_chain(context: ssl.SSLContext, certificates: str, key: str) -> None:
    """Loads the server's own chain, which Python takes from files alone: private ones, gone at once."""
    with tempfile.TemporaryDirectory(prefix="serving-tls-") as folder:
        certificate_path, key_path = (os.path.join(folder, name) for name in ("certificate.pem", "key.pem"))
        for path, text in ((certificate_path, certificates), (key_path, key)):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
        # No password: a prompt would hold up the start for ever.
        context.load_cert_chain(certificate_path, key_path, password=lambda: "")


def _unusable(what: str, error: Exception) -> ServingError:
    return invalid(f"SSLConfig: {what} cannot be used: {getattr(error, 'reason', None) or error}")
