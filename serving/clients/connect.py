"""Makes a client for a server, over REST or gRPC. Nothing heavy is imported for REST."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from serving.clients import addresses
from serving.clients.addresses import Address
from serving.clients.client import DEFAULT_MODEL, TIMEOUT_SECONDS, Client, ClientSettings
from serving.clients.rest import RestClient
from serving.clients.retry import RetryPolicy
from serving.command import UserError
from serving.errors import Code, ServingError
from serving.specs import ModelSpec


def connect(
    address: str,
    *,
    grpc: bool = False,
    model: str = DEFAULT_MODEL,
    version: int | None = None,
    label: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    retries: int = RetryPolicy().retries,
    token: str | None = None,
    tls: bool = False,
    ca_file: str | os.PathLike[str] | None = None,
    cert_file: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | None = None,
) -> Client:
    """Makes a client for a server that speaks TF Serving's interfaces. Nothing is sent before the first call.

    Args:
      address: `host`, `host:port`, `[IPv6]:port`, a URL, or `unix:PATH` (gRPC only); without a port 8501
        for REST and 8500 for gRPC.
      grpc: speaks gRPC, for which TensorFlow is imported, instead of REST.
      model: the model to use where a call names none.
      version: of this model; None for the latest available one.
      label: of a version of this model; never beside `version`.
      timeout: seconds for one call, its retries included, where a call names no other.
      retries: tries after the first, when the server is full, stopping or not reached.
      token: sent as `authorization: Bearer TOKEN`.
      tls: encrypts; so do the files below, and an address that starts with https://.
      ca_file: PEM file of the authorities that the server's certificate is checked against; None for the
        system's.
      cert_file: PEM file of the client's certificate, for servers that ask for one.
      key_file: PEM file of its key; None when `cert_file` holds it too.

    Raises:
      UserError: for an address or settings that cannot be.
      OSError: for a file that cannot be read.
    """
    if version is not None and label is not None:
        raise UserError("a version and a label exclude each other")
    if timeout <= 0 or retries < 0:
        raise UserError(
            f"the timeout must be positive and retries not negative; received {timeout} and {retries}"
        )
    if key_file is not None and cert_file is None:
        raise UserError("a client's key needs its certificate")
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
        raise UserError("a token consists of printable ASCII characters")
    where = addresses.parse(address, addresses.GRPC_PORT if grpc else addresses.REST_PORT)
    settings = ClientSettings(ModelSpec(model, version, label), timeout, RetryPolicy(retries=retries), token)
    encrypted = tls or where.tls or ca_file is not None or cert_file is not None
    if grpc:
        return _grpc_client(where, settings, encrypted, ca_file, cert_file, key_file)
    if not where.port:
        raise UserError("REST needs HOST:PORT; UNIX sockets are for gRPC")
    context = _context(ca_file, cert_file, key_file) if encrypted else None
    return RestClient(where, settings, context)


def use_only_model(client: Client) -> None:
    """Sets the client's model to the server's only one; servers that do not list theirs keep the default.

    Raises:
      UserError: when the server has several, none with TF Serving's default name.
      ServingError: when it is unreachable or wants a token.
    """
    try:
        names = client.models()
    except ServingError as error:
        if error.code in (Code.UNAVAILABLE, Code.UNAUTHENTICATED, Code.DEADLINE_EXCEEDED):
            raise
        return
    if len(names) > 1 and DEFAULT_MODEL not in names:
        raise UserError(f"the server has several models; name one with --model: {', '.join(names)}")
    if len(names) == 1:
        spec = client.settings.model._replace(name=names[0])
        client.settings = client.settings._replace(model=spec)


def _grpc_client(
    where: Address,
    settings: ClientSettings,
    encrypted: bool,
    ca_file: str | os.PathLike[str] | None,
    cert_file: str | os.PathLike[str] | None,
    key_file: str | os.PathLike[str] | None,
) -> Client:
    if where.prefix:
        raise UserError(f"gRPC needs HOST:PORT, without a path; received {where.prefix!r}")
    certificate = _bytes(cert_file)
    key = _bytes(key_file) if key_file is not None else certificate
    authorities = _bytes(ca_file)
    from serving.clients.grpc import GrpcClient, TlsFiles

    tls = TlsFiles(authorities, key, certificate) if encrypted else None
    return GrpcClient(where, settings, tls)


def _context(
    ca_file: str | os.PathLike[str] | None,
    cert_file: str | os.PathLike[str] | None,
    key_file: str | os.PathLike[str] | None,
) -> ssl.SSLContext:
    for path in (ca_file, cert_file, key_file):
        _bytes(path)  # the ssl module's own errors name no file
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise UserError(f"{ca_file}: no certificate in PEM form") from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, password=_no_password)
        except ssl.SSLError as error:
            raise UserError(f"{cert_file}: no certificate and key in PEM form that fit each other") from error
    return context


def _no_password() -> str:
    """Refuses an encrypted key; OpenSSL would prompt for a password, and in a pod wait for ever."""
    raise UserError("the client's key is encrypted; decrypt it first: openssl pkey -in KEY -out PLAIN")


def _bytes(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
