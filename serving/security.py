"""TLS and API tokens, of the server's ports and of clients."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import Protocol, cast

from serving.errors import ServingError, invalid

# Environment variable of the API token, for commands without a token file.
TOKEN_VARIABLE = "SERVING_API_TOKEN"


class SslConfig(Protocol):
    """The message SSLConfig of tensorflow_serving/config/ssl_config.proto: PEM texts, and a flag."""

    @property
    def server_key(self) -> str: ...
    @property
    def server_cert(self) -> str: ...
    @property
    def custom_ca(self) -> str: ...
    @property
    def client_verify(self) -> bool: ...


def server_context(config: SslConfig) -> ssl.SSLContext:
    """A server's TLS settings; at least TLS 1.2.

    Args:
      config: an SSLConfig message: `server_key`, `server_cert` and `custom_ca` are PEM texts;
        `client_verify` requires a client certificate that `custom_ca` has signed.

    Raises:
      ServingError: INVALID_ARGUMENT: texts that are not PEM, do not match each other, or are missing.
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
    """Loads the certificate chain through private temporary files, since Python reads it only from files."""
    with tempfile.TemporaryDirectory(prefix="serving-tls-") as folder:
        certificate_path, key_path = (os.path.join(folder, name) for name in ("certificate.pem", "key.pem"))
        for path, text in ((certificate_path, certificates), (key_path, key)):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
        # An empty password: a prompt would block the start for ever.
        context.load_cert_chain(certificate_path, key_path, password=lambda: "")


def _unusable(what: str, error: Exception) -> ServingError:
    return invalid(f"SSLConfig: {what} cannot be used: {getattr(error, 'reason', None) or error}")


def read_token(path: str | None) -> str | None:
    """A client's API token from a file, without one from the environment; None where there is none.

    Raises:
      OSError: when the file cannot be read.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    return Path(path).read_text(encoding="utf-8").strip()


def server_token(path: str) -> str:
    """A server's API token from a file; empty without one.

    Raises:
      ServingError: the file cannot be read, or holds no token.
    """
    if not path:
        return ""
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(f"--api_token_file: {path} cannot be read: {error}") from None
    if not token or any(character.isspace() for character in token):
        raise invalid(f"--api_token_file: {path} must hold one word of ASCII characters")
    return token


def ssl_config(path: str) -> SslConfig | None:
    """Reads and checks an SSLConfig file; None without one.

    Raises:
      ServingError: the file cannot be read, or its certificates cannot be used.
    """
    from serving.settings import messages as config_messages  # loads TensorFlow, which clients do without

    if not path:
        return None
    config = cast("SslConfig", config_messages.read_text_file(path, config_messages.SSLConfig()))
    try:
        # Before any model is loaded; gRPC's own error would only be that it cannot listen.
        server_context(config)
    except ServingError as error:
        raise invalid(f"{path}: {error.message}") from None
    return config
