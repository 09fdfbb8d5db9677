"""Connect to Redis and classify its errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from ..errors import ConfigError, ConnectionLost, PenstockError, PermanentError, TransientError
from ..extras import MissingPackage, require
from ..options import Options
from .database import redact, redact_url
from .tls import Tls

if TYPE_CHECKING:
    from redis.asyncio import Redis

_EXPECTED = "expected redis://[user:password@]host[:port][/database], or rediss:// for TLS"
_CLOSE_TIMEOUT = 2.0
_LATER = ("OOM", "BUSY", "LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "NOREPLICAS", "MISCONF")
"""No memory, a script that runs, a server that starts, fails over or cannot write to its disk."""


def _check_url(url: SecretStr) -> SecretStr:
    require("redis", "Redis")
    if not _is_url(url.get_secret_value()):
        raise ValueError(_EXPECTED)
    return url


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        database = parts.path.strip("/")
        fits = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return fits and (not database or (database.isascii() and database.isdigit()))


RedisUrl = Annotated[SecretStr, AfterValidator(_check_url)]


def client(url: SecretStr, *, timeout: float = 1.0, **options: Any) -> Redis:
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
    if not _is_url(text):
        raise ConfigError(f"{redact_url(text)} is not the URL of a Redis; {_EXPECTED}")
    try:
        made: Redis = Redis.from_url(
            text,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name="penstock",
            **options,
            driver_info=DriverInfo(None, None),  # to find its own version it would read files on the event loop
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{redact_url(text)}: {redact(str(error), text)}; {_EXPECTED}") from None
    return made


class Single(Options):
    """One server."""

    type: Literal["single"] = "single"
    """How the servers are arranged."""
    url: RedisUrl
    """Where the server is, for example `redis://127.0.0.1:6379/0`, or `rediss://` for TLS."""

    def urls_tried(self) -> list[SecretStr]:
        """Return where to connect to."""
        return [self.url]


class Cluster(Options):
    """A cluster, of which any server is enough to find the others."""

    type: Literal["cluster"] = "cluster"
    """How the servers are arranged."""
    urls: list[RedisUrl] = Field(min_length=1)
    """Where some of the servers are."""

    def urls_tried(self) -> list[SecretStr]:
        """Return where to connect to."""
        return self.urls


class Sentinel(Options):
    """A server that may change, and those who know which it is."""

    type: Literal["sentinel"] = "sentinel"
    """How the servers are arranged."""
    urls: list[RedisUrl] = Field(min_length=1)
    """Where the sentinels are, with their own passwords if they have any."""
    service: str = "mymaster"
    """The name under which they know the server."""
    username: str | None = None
    """The user name at the server."""
    password: SecretStr | None = None
    """The password at the server."""
    database: int = Field(0, ge=0)
    """The database of the server."""

    def urls_tried(self) -> list[SecretStr]:
        """Return where to connect to."""
        return self.urls


Mode: TypeAlias = Annotated[Single | Cluster | Sentinel, Field(discriminator="type")]


@asynccontextmanager
async def opened(mode: Single | Cluster | Sentinel, tls: Tls | None, *, timeout: float) -> AsyncIterator[Any]:
    """Yield a client of the server, the cluster or the present master; raises ConnectionLost if none answers."""
    failure: PenstockError | None = None
    for url in mode.urls_tried():
        made: Any = None
        try:
            made = await _made(mode, url, tls, timeout)
            async with asyncio.timeout(timeout):
                await made.ping()
        except Exception as error:
            silent = ConnectionLost(f"redis {redact_url(url.get_secret_value())}: no answer within {timeout:g} s")
            failure = silent if type(error) is TimeoutError else classify_error(error, url)
            if made is not None:
                await _close(made)
            continue
        try:
            yield made
        finally:
            await _close(made)
        return
    assert failure is not None
    raise failure


async def _close(made: Any) -> None:
    manager = getattr(getattr(made, "connection_pool", None), "sentinel_manager", None)
    for each in (made, *(manager.sentinels if manager is not None else ())):
        with suppress(Exception):  # a server that is gone must not keep us
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await each.aclose()


async def _made(mode: Single | Cluster | Sentinel, url: SecretStr, tls: Tls | None, timeout: float) -> Any:
    from redis.asyncio import sentinel
    from redis.asyncio.cluster import RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    secured = _tls_options(tls)
    if isinstance(mode, Single):
        return client(url, timeout=timeout, **secured)
    if isinstance(mode, Cluster):
        options = {**_common(timeout), **secured, "retry": Retry(NoBackoff(), 3)}
        return RedisCluster.from_url(url.get_secret_value(), **options)
    seen = client(url, timeout=timeout, **secured).connection_pool.connection_kwargs
    credentials = {name: seen[name] for name in ("username", "password") if seen.get(name)}
    if url.get_secret_value().startswith("rediss://"):
        secured["ssl"] = True  # of the sentinels and, by the same files, of the server that they name
    else:
        secured = {}
    watchers = sentinel.Sentinel(  # type: ignore[no-untyped-call]
        [(seen["host"], seen.get("port", 26379))],
        sentinel_kwargs={**_common(timeout), **credentials, **secured},
        **_common(timeout),
        **secured,
    )
    password = mode.password.get_secret_value() if mode.password is not None else None
    return watchers.master_for(mode.service, username=mode.username, password=password, db=mode.database)


def _common(timeout: float) -> dict[str, Any]:
    from redis.driver_info import DriverInfo

    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "driver_info": DriverInfo(None, None)}


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    """What the client is told of TLS; it reads the files itself, and only with `rediss://`."""
    if tls is None:
        return {}
    found = {
        "ssl_ca_certs": tls.ca and str(tls.ca),
        "ssl_certfile": tls.certificate and str(tls.certificate),
        "ssl_keyfile": tls.key and str(tls.key),
        "ssl_password": tls.key_password and tls.key_password.get_secret_value(),
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify,
    }
    return {name: value for name, value in found.items() if value is not None}


def classify_error(error: Exception, url: SecretStr) -> PenstockError:
    """Convert an error of this Redis to one of the five kinds of errors, without its password."""
    from redis import exceptions

    if isinstance(error, PenstockError):
        return error
    text = url.get_secret_value()
    said = str(error).strip().rpartition(" of pipeline caused error: ")[2].strip("()\"',")  # without the row's payload
    message = redact(f"redis {redact_url(text)}: {said or type(error).__name__}", text)
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError | exceptions.NoPermissionError):
        return PermanentError(message)
    if isinstance(error, exceptions.BusyLoadingError):
        return TransientError(message)
    if isinstance(error, ssl.SSLCertVerificationError):
        return PermanentError(message)
    if isinstance(error, exceptions.RedisClusterException) and not isinstance(error, exceptions.ResponseError):
        return ConnectionLost(message)
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
