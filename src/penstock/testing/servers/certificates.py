"""A certificate for loopback servers that speak TLS."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """A certificate that vouches for itself, for ``localhost`` and 127.0.0.1, and its key; both are files."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return what a server shows it by."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificate(folder: Path, *, names: str = "DNS:localhost,IP:127.0.0.1", expired: bool = False) -> Certificate:
    """Make a certificate in ``folder`` that is valid for two days, or was, for the ``names`` it is given to."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}"]
    command += ["-out", str(made.certificate), "-keyout", str(made.key)]
    subprocess.run(command, check=True, capture_output=True)
    if expired:
        file = str(made.certificate)
        again = ["openssl", "x509", "-in", file, "-signkey", str(made.key), "-days", "-1", "-out", file]
        subprocess.run(again, check=True, capture_output=True)
    return made
