"""The files with which a listener speaks TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError


class Tls(NamedTuple):
    """The files with which a listener speaks TLS."""

    certificate: Path
    """The certificate chain, PEM."""
    key: Path
    """The private key, PEM."""
    client_authority: Path | None = None
    """Whose certificates clients must show; without it, clients need none."""


def load(tls: Tls) -> ssl.SSLContext:
    """Return what speaks TLS with these files; raises ConfigError if they cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")  # an encrypted key is an error, not a prompt
        if tls.client_authority is not None:
            context.load_verify_locations(tls.client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the TLS files {tls.certificate} and {tls.key}: {error}") from error
    return context
