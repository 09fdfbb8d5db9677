"""What clients of brokers are told about TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from ..errors import ConfigError
from ..options import Options


class Tls(Options):
    """How to know a server, and how to be known by it."""

    ca: Path | None = Field(None, alias="ca_file")
    """The file with the certificates of the authorities that vouch for the server; by default those of the system."""
    certificate: Path | None = Field(None, alias="certificate_file")
    """The file with the certificate that is shown to the server."""
    key: Path | None = Field(None, alias="key_file")
    """The file with the key of that certificate."""
    key_password: SecretStr | None = None
    """The password of that key."""
    verify: bool = True
    """Whether the server's certificate has to be right; otherwise anyone in between may read and change everything."""

    @model_validator(mode="after")
    def _key_has_certificate(self) -> Self:
        if self.key is not None and self.certificate is None:
            raise ValueError("expected a `certificate` for the `key`")
        return self

    def context(self) -> ssl.SSLContext:
        """Return what makes connections; it reads files. Raises ConfigError if one of them cannot be used."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
            if self.certificate is not None:
                password = self.key_password.get_secret_value() if self.key_password else ""
                context.load_cert_chain(self.certificate, self.key, password=lambda: password)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(file) for file in (self.ca, self.certificate, self.key) if file is not None)
            raise ConfigError(f"tls: {files} cannot be used: {error}") from error
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
