"""Connect to MongoDB and classify its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl

from pydantic import AfterValidator, SecretStr

from ..errors import ConfigError, ConnectionLost, PenstockError, PermanentError, TransientError
from ..extras import require
from .database import redact
from .tls import Tls

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient

MAX_DOCUMENT_SIZE = 16 << 20
"""Bytes of the largest document that MongoDB takes."""
DUPLICATE_KEY = 11000
PASSING = frozenset(
    {6, 7, 13, 18, 24, 46, 50, 64, 79, 89, 91, 112, 133, 134, 189, 202, 225, 251, 262, 290, 314, 358, 391, 8000}
    | {9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436, 17280}
)
"""Codes that say nothing about a document: no network, no primary, no time, no rights, a conflict, a shutdown."""


def _check_uri(uri: SecretStr) -> SecretStr:
    require("pymongo", "MongoDB")
    scheme, _, rest = uri.get_secret_value().partition("://")
    if scheme not in ("mongodb", "mongodb+srv") or not rest.strip("/"):
        raise ValueError("expected mongodb://[user:password@]host[:port][/?options], or mongodb+srv://")
    options = {name.lower(): value for name, value in parse_qsl(rest.partition("?")[2])}
    if options.get("w") == "0":
        raise ValueError("with `w=0` the server confirms nothing: expected `w=majority` or a number above 0")
    return uri


MongodbUri = Annotated[SecretStr, AfterValidator(_check_uri)]


@asynccontextmanager
async def open_client(uri: SecretStr, tls: Tls | None, timeout: float) -> AsyncIterator[AsyncMongoClient[Any]]:
    """Yield a client that has reached the server, and whose calls take ``timeout`` seconds at most.

    Raises ConnectionLost if the server cannot be reached or does not let us in.
    """
    from pymongo import AsyncMongoClient
    from pymongo.errors import ConfigurationError, InvalidURI

    milliseconds = int(timeout * 1000)
    options: dict[str, Any] = {
        "timeoutMS": milliseconds,
        "serverSelectionTimeoutMS": milliseconds,
        "appname": "penstock",
    }
    if "w=" not in uri.get_secret_value().partition("?")[2].lower():
        options["w"] = "majority"
    try:
        client: AsyncMongoClient[Any] = AsyncMongoClient(uri.get_secret_value(), **options, **_tls_options(tls))
    except (ConfigurationError, InvalidURI, ValueError, TypeError, OSError) as error:
        raise ConfigError(f"mongodb: {redact(str(error), uri.get_secret_value())}") from None
    try:
        await client.admin.command("ping")
        yield client
    except PenstockError:
        raise
    except Exception as error:
        raise classify_error(error, uri, opening=True) from error
    finally:
        await client.close()


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    if tls.key is not None and tls.key != tls.certificate:
        raise ConfigError("mongodb: expected the `certificate` and its `key` in one file")
    given = {
        "tls": True,
        "tlsCAFile": str(tls.ca) if tls.ca else None,
        "tlsCertificateKeyFile": str(tls.certificate) if tls.certificate else None,
        "tlsCertificateKeyFilePassword": tls.key_password.get_secret_value() if tls.key_password else None,
        "tlsAllowInvalidCertificates": None if tls.verify else True,
    }
    return {name: value for name, value in given.items() if value is not None}


def classify_error(error: Exception, uri: SecretStr, *, opening: bool = False) -> PenstockError:
    """Convert an error of pymongo to one of the five kinds of errors, without the password."""
    from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

    text = redact(str(error), uri.get_secret_value())
    for rest in (" (configured timeouts", ", full error", ", Timeout: ", ", Topology Description: "):
        text = text.partition(rest)[0]
    text = text.replace("No servers found yet", "no server has answered in time")
    message = f"mongodb: {text[:500]}"
    if isinstance(error, OperationFailure) and not opening:
        return TransientError(message) if error.code is None or error.code in PASSING else PermanentError(message)
    if isinstance(error, ConnectionFailure | PyMongoError | OSError):
        return ConnectionLost(message)
    return PermanentError(message)
