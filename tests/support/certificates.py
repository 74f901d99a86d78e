"""Certificates for tests of TLS, made by the openssl command."""

import shutil
import subprocess

import pytest

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


def write_certificates(folder):
    """An authority, and a certificate with its key for a server and a client: paths of PEM files by name."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command, which makes the certificates, is missing")

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder, timeout=60)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", 2, "-subj", "/CN=authority"
    )
    (folder / "names").write_text(NAMES)
    for name in ("server", "client"):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", 2, "-extfile", "names", "-out", f"{name}.crt"),
        )
        parts = [(folder / f"{name}.{kind}").read_text() for kind in ("crt", "key")]
        (folder / f"{name}.pem").write_text("".join(parts))
    return {name: folder / f"{name}.pem" for name in ("ca", "server", "client")}
