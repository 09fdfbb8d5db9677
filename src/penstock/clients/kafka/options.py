"""The options that every connection to Kafka takes, and the settings of librdkafka that they stand for."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from ...duration import Duration
from ...options import Options

log = logging.getLogger("penstock")

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

_SECRET = re.compile(r"password|secret|token|key\.pem|\.config$|credential", re.IGNORECASE)
_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/,@\[\]]+)(:[0-9]{1,5})?")


def _one_or_more(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Names = Annotated[
    list[str],
    BeforeValidator(_one_or_more, json_schema_input_type=list[str] | str),
    Field(min_length=1),
]
"""One name, several with commas between them, or a list."""


class Oauth(Options):
    """Where tokens are fetched with the credentials of a client (OpenID Connect)."""

    token_url: str
    """The address of the token endpoint."""
    client_id: str
    """The client."""
    client_secret: SecretStr
    """Its secret."""
    scope: str | None = None
    """What the token is asked for."""


def _mechanism(value: Any) -> Any:
    return value.upper().replace("_", "-") if isinstance(value, str) else value


class Sasl(Options):
    """How the client says who it is."""

    mechanism: Annotated[Mechanism, BeforeValidator(_mechanism)]
    """How: in capitals or not, with hyphens or underscores."""
    username: str | None = None
    """The user, for PLAIN and SCRAM."""
    password: SecretStr | None = None
    """The user's password."""
    oauth: Oauth | None = None
    """Where tokens come from, for OAUTHBEARER."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mechanism == "OAUTHBEARER":
            if self.oauth is None or self.username is not None or self.password is not None:
                raise ValueError("OAUTHBEARER needs `oauth`, and neither `username` nor `password`")
        elif self.username is None or self.password is None or self.oauth is not None:
            raise ValueError(f"{self.mechanism} needs `username` and `password`, and no `oauth`")
        return self

    def settings(self) -> dict[str, Any]:
        """Return the settings of librdkafka."""
        if self.oauth is None:
            assert self.password is not None
            return {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password.get_secret_value(),
            }
        scope = {"sasl.oauthbearer.scope": self.oauth.scope} if self.oauth.scope else {}
        return {
            "sasl.mechanism": self.mechanism,
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": self.oauth.token_url,
            "sasl.oauthbearer.client.id": self.oauth.client_id,
            "sasl.oauthbearer.client.secret": self.oauth.client_secret.get_secret_value(),
            **scope,
        }


class Tls(Options):
    """How the servers are known, and the client to them."""

    ca: Path | None = None
    """Whose certificates the servers must show, PEM; without it those that the system trusts."""
    certificate: Path | None = None
    """The certificate of the client, PEM, where servers ask for one."""
    key: Path | None = None
    """Its private key, PEM."""
    key_password: SecretStr | None = None
    """What the key is encrypted with."""
    verify: bool = True
    """Whether the certificate of a server must be valid, and for its name."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("expected both `certificate` and `key`, or neither")
        return self

    def settings(self) -> dict[str, Any]:
        """Return the settings of librdkafka."""
        found: dict[str, Any] = {
            "ssl.ca.location": str(self.ca) if self.ca else None,
            "ssl.certificate.location": str(self.certificate) if self.certificate else None,
            "ssl.key.location": str(self.key) if self.key else None,
            "ssl.key.password": self.key_password.get_secret_value() if self.key_password else None,
        }
        if not self.verify:
            found |= {"enable.ssl.certificate.verification": False, "ssl.endpoint.identification.algorithm": "none"}
        return {name: value for name, value in found.items() if value is not None}


class Security(Options):
    """How the connection is secured."""

    protocol: Annotated[
        Protocol | None, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
    ] = None
    """What the servers speak; by default what `sasl` and `tls` ask for."""
    sasl: Sasl | None = None
    """Who the client is; without it nobody."""
    tls: Tls | None = None
    """How the connection is encrypted; `{}` for what the system trusts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        wants_sasl, wants_tls = self.spoken.startswith("sasl"), self.spoken.endswith("ssl")
        if wants_sasl != (self.sasl is not None):
            raise ValueError(f"protocol {self.spoken} {'needs' if wants_sasl else 'has no'} `sasl`")
        if not wants_tls and self.tls is not None:
            raise ValueError(f"protocol {self.spoken} has no `tls`")
        return self

    @property
    def spoken(self) -> Protocol:
        """What the servers speak."""
        if self.protocol is not None:
            return self.protocol
        if self.sasl is not None:
            return "sasl_ssl" if self.tls is not None else "sasl_plaintext"
        return "ssl" if self.tls is not None else "plaintext"

    def settings(self) -> dict[str, Any]:
        """Return the settings of librdkafka."""
        found: dict[str, Any] = {"security.protocol": self.spoken}
        for part in (self.sasl, self.tls):
            found |= part.settings() if part is not None else {}
        return found


class Connection(Options):
    """Options of everything that connects to Kafka."""

    brokers: Names
    """Where the cluster is: some of its servers, as `host:port`."""
    client_id: str = "penstock"
    """The name by which the servers know the client in their logs and quotas."""
    security: Security = Security()
    """How the connection is encrypted, and who the client is."""
    request_timeout: Duration = Field(10.0, ge=2.0, le=300.0)
    """How long the servers may take to answer a request."""
    librdkafka: dict[str, str | int | float | bool] = {}
    """Further settings of librdkafka, by their own names; those that other options stand for are refused."""

    @field_validator("brokers")
    @classmethod
    def _check_brokers(cls, brokers: list[str]) -> list[str]:
        for broker in brokers:
            if not _BROKER.fullmatch(broker):
                raise ValueError(f"{broker!r} is not the address of a server; expected host:port")
        return brokers

    @field_validator("librdkafka")
    @classmethod
    def _check_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            if _SECRET.search(name):
                raise ValueError(f"{name!r} may hold a secret: write it as an option of `security`")
        return settings

    def connection_settings(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of librdkafka, ``own`` being those of the input or output."""
        timeout = int(self.request_timeout * 1000)
        return {
            "bootstrap.servers": ",".join(self.brokers),
            "client.id": self.client_id,
            "socket.timeout.ms": timeout,
            "socket.connection.setup.timeout.ms": timeout,
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 5000,
            **self.security.settings(),
            **own,
            **self.librdkafka,
        }

    def refuse_settings(self, own: frozenset[str]) -> None:
        """Raise ValueError for settings of librdkafka that options stand for: of the connection, or in ``own``."""
        of_connection = {"bootstrap.servers", "metadata.broker.list", "client.id", "socket.timeout.ms"}
        for name in self.librdkafka:
            if name in own or name in of_connection or name.startswith(("security.", "sasl.", "ssl.")):
                raise ValueError(f"librdkafka: {name!r} is set by other options")


class Log:
    """What librdkafka logs, for those who debug: what matters of it is an error, which the stream tells."""

    def log(self, level: int, format: str, *values: Any) -> None:
        """Log a line of librdkafka."""
        log.debug(f"kafka: {format}", *values)
