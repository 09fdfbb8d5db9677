"""Connect to Redis and classify its errors."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..errors import ConfigError, ConnectionLost, PenstockError, PermanentError, TransientError
from ..extras import MissingPackage
from .database import redact, redact_url

if TYPE_CHECKING:
    from redis.asyncio import Redis

_EXPECTED = "expected redis://[user:password@]host[:port][/database], or rediss:// for TLS"
_LATER = ("OOM", "BUSY", "LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "NOREPLICAS", "MISCONF")
"""No memory, a script that runs, a server that starts, fails over or cannot write to its disk."""


def client(url: SecretStr, *, timeout: float = 1.0) -> Redis:
    """Return a client for ``url`` that connects when it is used, and whose pool holds as many as are used at once.

    Connecting and each answer may take ``timeout`` seconds. It repeats nothing by itself. Close it by ``aclose``.
    Raises ConfigError, without the password, for what is not the URL of a Redis.
    """
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.driver_info import DriverInfo
    except ImportError:
        raise MissingPackage("redis", "a Redis URL") from None
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
        database = parts.path.strip("/")
        fits = fits and (not database or (database.isascii() and database.isdigit()))
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(f"{redact_url(text)} is not the URL of a Redis; {_EXPECTED}")
    try:
        made: Redis = Redis.from_url(
            text,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name="penstock",
            driver_info=DriverInfo(None, None),  # to find its own version it would read files on the event loop
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{redact_url(text)}: {redact(str(error), text)}; {_EXPECTED}") from None
    return made


def classify_error(error: Exception, url: SecretStr) -> PenstockError:
    """Convert an error of this Redis to one of the five kinds of errors, without its password."""
    from redis import exceptions

    if isinstance(error, PenstockError):
        return error
    text = url.get_secret_value()
    message = redact(f"redis {redact_url(text)}: {str(error).strip() or type(error).__name__}", text)
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError | exceptions.NoPermissionError):
        return PermanentError(message)
    if isinstance(error, exceptions.BusyLoadingError):
        return TransientError(message)
    if isinstance(error, ssl.SSLCertVerificationError):
        return PermanentError(message)
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError | TimeoutError):
        return ConnectionLost(message)
    if isinstance(error, exceptions.ReadOnlyError | exceptions.OutOfMemoryError | exceptions.MasterDownError):
        return TransientError(message)
    if isinstance(error, exceptions.ResponseError) and str(error).startswith(_LATER):
        return TransientError(message)
    return PermanentError(message)


def ping(url: SecretStr, *, timeout: float = 1.0) -> None:
    """Ping a Redis; blocks. Raises PenstockError, without its password, if there is none."""
    try:
        from redis import Redis, RedisError
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise MissingPackage("redis", "a Redis URL") from None
    text = url.get_secret_value()
    try:
        client = Redis.from_url(
            text, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        with client:
            client.ping()
    except ValueError as error:
        raise ConfigError(f"{redact_url(text)}: {redact(str(error), text)}; {_EXPECTED}") from None
    except (RedisError, OSError) as error:
        raise classify_error(error, url) from None
