"""Connect to NATS and classify its errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr, model_validator

from ..errors import ConfigError, ConnectionLost, PenstockError, PermanentError
from ..extras import require
from ..options import Options
from .database import redact, redact_url
from .tls import Tls

if TYPE_CHECKING:
    from nats.aio.client import Client

PING_INTERVAL = 5
"""Seconds from one question whether the server still answers to the next; after two without answer it is gone."""
CLOSE_TIMEOUT = 2.0
_SCHEMES = ("nats", "tls", "ws", "wss")


class Auth(Options):
    """How to show who connects: a user and a password, else a token, an nkey or a file of credentials."""

    username: str | None = None
    """The user name."""
    password: SecretStr | None = None
    """The password."""
    token: SecretStr | None = None
    """The token."""
    nkey: SecretStr | None = None
    """The seed of an nkey, which begins with `SU`."""
    credentials: Path | None = None
    """The file with a JWT and the seed of its nkey (`.creds`)."""

    @model_validator(mode="after")
    def _something_is_given(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("expected `username` and `password` together")
        if all(value is None for value in (self.username, self.token, self.nkey, self.credentials)):
            raise ValueError("expected `username` and `password`, `token`, `nkey` or `credentials`")
        return self


def _check_url(url: SecretStr) -> SecretStr:
    require("nats", "NATS")
    for each in url.get_secret_value().split(","):
        try:
            parts = urlsplit(each.strip())
            fits = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("expected a URL like 'nats://127.0.0.1:4222' (or tls://, ws://, wss://)")
    return url


Url = Annotated[SecretStr, AfterValidator(_check_url)]


class Server(Options):
    """Where a NATS is and how to connect to it."""

    url: Url
    """Where the server is, for example `nats://127.0.0.1:4222`; several, separated by commas, if it is a cluster."""
    auth: Auth | None = None
    """How to show who connects; instead of user and password in the URL."""
    tls: Tls | None = None
    """How to know the server by TLS; used anyway with `tls://` and where the server asks for it."""

    def describe(self) -> str:
        """Return where it is, for messages."""
        return ",".join(f"nats {redact_url(each.strip())}" for each in self.url.get_secret_value().split(","))

    def secrets(self) -> list[str]:
        """Return what no message may show."""
        auth = self.auth or Auth.model_construct()
        return [each.get_secret_value() for each in (auth.password, auth.token, auth.nkey) if each is not None]


@asynccontextmanager
async def connected(
    server: Server, *, timeout: float, name: str, lost: Callable[[Exception], None], failed: Callable[[Exception], None]
) -> AsyncIterator[Client]:
    """Yield a connection; ``lost`` is called once when it is over, ``failed`` with what goes wrong meanwhile.

    It does not connect again by itself. Raises what connecting has failed with as an error of the engine.
    """
    from nats.aio.client import Client

    client, errors = Client(), []

    async def note(error: Exception) -> None:
        errors.append(error)
        if client.is_connected:
            failed(error)

    async def close() -> None:
        lost(classify_error(errors[-1] if errors else ConnectionError("the connection was closed"), server))

    try:
        options = await asyncio.to_thread(_options, server)
        async with asyncio.timeout(timeout):
            await client.connect(
                [each.strip() for each in server.url.get_secret_value().split(",")],
                name=f"penstock {name}",
                allow_reconnect=False,
                connect_timeout=timeout,  # type: ignore[arg-type]
                max_reconnect_attempts=1,  # of each server, while connecting for the first time
                reconnect_time_wait=0,
                ping_interval=PING_INTERVAL,
                max_outstanding_pings=2,
                error_cb=note,
                closed_cb=close,
                inbox_prefix=b"_INBOX",
                skip_subject_validation=True,
                **options,
            )
    except PenstockError:
        raise
    except Exception as error:
        await _close(client)
        if isinstance(error, TimeoutError) and not errors:
            raise ConnectionLost(f"{server.describe()}: no answer within {timeout:g} s") from None
        raise classify_error(errors[-1] if errors else error, server) from None
    try:
        yield client
    finally:
        await _close(client)


async def _close(client: Client) -> None:
    with suppress(Exception):  # a server that is gone must not keep us
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await client.close()


def _options(server: Server) -> dict[str, Any]:
    """What the client is to be told besides; reads files."""
    from nats.aio.client import RawCredentials

    found: dict[str, Any] = {}
    if server.tls is not None:
        found["tls"] = server.tls.context()
    elif server.url.get_secret_value().startswith(("tls://", "wss://")):
        found["tls"] = ssl.create_default_context()
    auth = server.auth
    if auth is None:
        return found
    if auth.username is not None and auth.password is not None:
        return {**found, "user": auth.username, "password": auth.password.get_secret_value()}
    if auth.token is not None:
        return {**found, "token": auth.token.get_secret_value()}
    if auth.nkey is not None:
        return {**found, "nkeys_seed_str": auth.nkey.get_secret_value()}
    assert auth.credentials is not None
    try:
        return {**found, "user_credentials": RawCredentials(auth.credentials.read_text())}
    except OSError as error:
        raise ConfigError(f"{auth.credentials} cannot be read: {error.strerror}") from error


def classify_error(error: Exception, server: Server) -> PenstockError:
    """Convert an error of this NATS to one of the five kinds of errors, without its secrets."""
    from nats import errors

    if isinstance(error, PenstockError):
        return error
    text = redact(str(error).strip() or type(error).__name__, server.url.get_secret_value())
    for secret in server.secrets():
        text = text.replace(secret, "***")
    message = f"{server.describe()}: {text}"
    refused = ("authorization", "authentication", "invalid user", "nkeys")
    if isinstance(error, errors.AuthorizationError) or any(word in text.lower() for word in refused):
        return PermanentError(message)
    if isinstance(error, ssl.SSLCertVerificationError):
        return PermanentError(message)
    return ConnectionLost(message)
