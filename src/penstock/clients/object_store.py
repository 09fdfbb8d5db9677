"""Object stores (S3, Google Cloud Storage, Azure Blob, HTTP): their options, and their errors as ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from ..errors import ConfigError, ConnectionLost, PenstockError, PermanentError, TransientError
from ..extras import require
from ..options import Options

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=15)}


def _client(allow_http: bool) -> ClientConfig:
    return {"allow_http": allow_http, "connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=120)}


def _given(**settings: str | SecretStr | None) -> Any:
    """Return the settings that are not None: the others are looked up in the environment."""
    given = {key: value for key, value in settings.items() if value is not None}
    return {key: value.get_secret_value() if isinstance(value, SecretStr) else value for key, value in given.items()}


class _Store(Options):
    @model_validator(mode="after")
    def _expect_obstore(self) -> Self:
        require("obstore", "an object store")
        return self


class S3(_Store):
    """A bucket of S3, or of a server that speaks its protocol. Keys left out come from ``AWS_*`` variables."""

    type: Literal["s3"] = "s3"
    bucket_name: str
    """The bucket."""
    access_key_id: str | None = None
    """The access key; from the environment when left out."""
    secret_access_key: SecretStr | None = None
    """The secret of the access key."""
    endpoint: str | None = None
    """The address of the server, where it is not Amazon's."""
    region: str | None = None
    """The region of the bucket."""
    allow_http: bool | None = None
    """Allow an endpoint without TLS; from the environment when left out."""

    def connect(self) -> ObjectStore:
        """Return a client of the store; nothing is sent yet."""
        from obstore.store import S3Store

        given = _given(
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            endpoint=self.endpoint,
            region=self.region,
        )
        client = _client(self.allows_http())
        return S3Store(self.bucket_name, config=given, client_options=client, retry_config=_RETRIES)

    def allows_http(self) -> bool:
        """Tell whether the endpoint may be without TLS, by the option or the environment."""
        if self.allow_http is not None:
            return self.allow_http
        return os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1", "yes", "on")


class Gs(_Store):
    """A bucket of Google Cloud Storage. Credentials left out come from ``GOOGLE_*`` variables."""

    type: Literal["gs"] = "gs"
    bucket_name: str
    """The bucket."""
    url: str | None = None
    """The address of the server, where it is not Google's."""
    service_account_path: str | None = None
    """The file with the key of the service account."""
    service_account_key: SecretStr | None = None
    """The key of the service account itself, as JSON."""

    @model_validator(mode="after")
    def _one_service_account(self) -> Gs:
        if self.service_account_path is not None and self.service_account_key is not None:
            raise ValueError("give either service_account_path or service_account_key, not both")
        return self

    def connect(self) -> ObjectStore:
        """Return a client of the store; nothing is sent yet."""
        from obstore.store import GCSStore

        base_url = self.url if self.url is not None and not self.url.startswith("gs://") else None
        given = _given(
            service_account=self.service_account_path,
            service_account_key=self.service_account_key,
            base_url=base_url,
        )
        client = _client((base_url or "").startswith("http://"))
        return GCSStore(self.bucket_name, config=given, client_options=client, retry_config=_RETRIES)


class Az(_Store):
    """A container of Azure Blob Storage. Credentials left out come from ``AZURE_*`` variables."""

    type: Literal["az"] = "az"
    account: str | None = None
    """The storage account."""
    container_name: str
    """The container."""
    access_key: SecretStr | None = None
    """The access key of the account."""
    url: str | None = None
    """The address of the container, as `https://account.blob.core.windows.net/container`."""
    endpoint: str | None = None
    """The address of the server, where it is not Azure's; it may do without TLS."""

    def connect(self) -> ObjectStore:
        """Return a client of the store; nothing is sent yet."""
        from obstore.store import AzureStore

        given = _given(account_name=self.account, account_key=self.access_key, endpoint=self.endpoint)
        client = _client(self.endpoint is not None)
        if self.url is not None:
            return AzureStore.from_url(self.url, config=given, client_options=client, retry_config=_RETRIES)
        return AzureStore(self.container_name, config=given, client_options=client, retry_config=_RETRIES)


class Http(_Store):
    """Files of a web server."""

    type: Literal["http"] = "http"
    url: str
    """The address below which the files are."""

    @model_validator(mode="after")
    def _is_a_plain_address(self) -> Http:
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.netloc:
            raise ValueError(f"expected an address that begins with http:// or https://, not {self.url!r}")
        if address.query or address.fragment:
            raise ValueError("an address with a query string or a fragment is not supported here")
        return self

    def connect(self) -> ObjectStore:
        """Return a client of the store; nothing is sent yet."""
        from obstore.store import HTTPStore

        client = _client(self.url.startswith("http://"))
        return HTTPStore.from_url(self.url.rstrip("/"), client_options=client, retry_config=_RETRIES)


def _refuse_hdfs(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") == "hdfs":
        raise ValueError("hdfs is not supported; expected one of s3, gs, az, http")
    return value


Store: TypeAlias = Annotated[S3 | Gs | Az | Http, Field(discriminator="type"), BeforeValidator(_refuse_hdfs)]
"""The options of an object store, told apart by ``type``. ``connect()`` gives the live obstore store."""

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "http", "https")
"""The schemes of the addresses that ``locate`` understands."""


def locate(address: str) -> tuple[S3 | Gs | Az | Http, str] | None:
    """Return the store an address such as ``s3://bucket/path`` names and the path in it; None for a local path.

    Credentials come from the environment. Raises ConfigError for an address that names no bucket.
    """
    scheme, mark, rest = address.partition("://")
    if not mark or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        return None
    bucket, _, path = rest.partition("/")
    if scheme not in SCHEMES:
        raise ConfigError(f"no object store is called {scheme!r} in {address!r}; expected one of {', '.join(SCHEMES)}")
    if not bucket:
        raise ConfigError(f"{address!r} names no bucket; expected, for example, {scheme}://bucket/path")
    if scheme in ("s3", "s3a"):
        return S3(bucket_name=bucket), path
    if scheme in ("gs", "gcs"):
        return Gs(bucket_name=bucket), path
    if scheme in ("http", "https"):
        folder, _, name = path.rpartition("/")
        return Http(url=f"{scheme}://{bucket}/{folder}"), name
    container, _, host = bucket.partition("@")
    return Az(container_name=container, account=host.partition(".")[0] or None), path


def path_within(store: S3 | Gs | Az | Http, address: str) -> str:
    """Return the path in ``store`` of an address such as ``s3://bucket/path``, or of a path that it is already.

    Raises ValueError for an address in another store.
    """
    if "://" not in address:
        return address
    if isinstance(store, Http):
        within = address.removeprefix(store.url.rstrip("/") + "/")
        if within == address:
            raise ValueError(f"{address!r} is not below the url {store.url!r} of the store")
        return within
    found = locate(address)
    if found is None or type(found[0]) is not type(store) or _bucket(found[0]) != _bucket(store):
        raise ValueError(f"{address!r} is not in the store that is given: {store.type} {_bucket(store)!r}")
    return found[1]


def _bucket(store: S3 | Gs | Az | Http) -> str:
    return str(getattr(store, "container_name" if isinstance(store, Az) else "bucket_name", ""))


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Convert what an object store raises to one of the five kinds of errors; ``action`` says what was tried.

    Refused credentials are a ConnectionLost: they may be renewed, and no row is at fault. A server that is
    unreachable, overloaded or failing is a TransientError; all else a PermanentError.
    """
    from obstore import exceptions

    try:
        yield
    except PenstockError:
        raise
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        raise PermanentError(f"{action}: not found ({_short(error)})") from None
    except (exceptions.AlreadyExistsError, FileExistsError, exceptions.PreconditionError) as error:
        raise PermanentError(f"{action}: {_short(error)}") from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError) as error:
        raise ConnectionLost(f"{action}: permission denied ({_short(error)})") from None
    except exceptions.BaseError as error:
        kind = TransientError if _may_pass(str(error)) else PermanentError
        raise kind(f"{action}: {_short(error)}") from None
    except OSError as error:
        raise TransientError(f"{action}: {_short(error)}") from None


def _may_pass(message: str) -> bool:
    status = re.search(r"status code: (\d{3})", message)
    if status is not None:
        return status[1] in ("408", "409", "425", "429") or status[1].startswith("5")
    return "builder error" not in message and ("HTTP error" in message or "timed out" in message)


def _short(error: BaseException) -> str:
    """Return the message of an error without the bodies and the debug text of the client."""
    text = str(error).split("\n\nDebug source", 1)[0]
    told = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
    line = text.split("\n", 1)[0].partition(": <?xml")[0].partition(": <")[0]
    line = re.sub(r"\?[^\s]*", "", line)  # a query string may hold a signature
    return f"{line}: {told[1].strip()}" if told else line
