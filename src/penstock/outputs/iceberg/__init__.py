"""Write rows to tables of Apache Iceberg."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from ...clients.http import check_credentials, check_tls, check_url
from ...clients.tls import Tls
from ...component import Output, TransactionalWriter
from ...context import Context
from ...duration import Duration
from ...extras import require
from ...options import Options
from ...runtime.threads import Workers
from .writer import IcebergWriter


class SqlCatalog(Options):
    """A catalog in a database: SQLite or PostgreSQL."""

    type: Literal["sql"] = "sql"
    """The kind of catalog."""
    name: str = "default"
    """The name of the catalog, by which one database tells several apart."""
    uri: SecretStr
    """The database, as SQLAlchemy writes it: `sqlite:////data/catalog.db`."""
    warehouse: str
    """Where tables are kept: a folder, `file:///data/warehouse`, or `s3://bucket/path`."""
    properties: dict[str, SecretStr] = {}
    """Other properties of pyiceberg, such as `s3.endpoint`."""


class RestCatalog(Options):
    """A catalog behind HTTP."""

    type: Literal["rest"] = "rest"
    """The kind of catalog."""
    name: str = "default"
    """The name of the catalog, for messages."""
    uri: str
    """Where the catalog is, `http://` or `https://`."""
    warehouse: str | None = None
    """The warehouse, where the catalog has several."""
    credential: SecretStr | None = None
    """The credential, as `client:secret`."""
    token: SecretStr | None = None
    """The token."""
    tls: Tls | None = None
    """How to know the catalog by TLS, with `https://`."""
    properties: dict[str, SecretStr] = {}
    """Other properties of pyiceberg, such as `s3.endpoint`."""

    @field_validator("uri")
    @classmethod
    def _is_url(cls, uri: str) -> str:
        uri = check_url(uri)
        check_credentials(uri, None, {})
        return uri

    @model_validator(mode="after")
    def _check(self) -> RestCatalog:
        check_tls(self.uri, self.tls)
        if self.tls is not None and self.tls.key_password is not None:
            raise ValueError("expected a `key` without a password: what connects to the catalog reads no other")
        return self


class Iceberg(Output, type="iceberg"):
    """Write rows to a table of Apache Iceberg: append, or replace by key.

    Each write is one commit: all of its rows are there when it returns, or none. With `checkpoint: output` the
    positions of the input are in that commit, as properties of the table, so that each row is there exactly once, also
    when the answer to a commit was lost. With `key` a row replaces the one that has the same key, as a whole.

    The table and its namespace are made from the rows, and columns that appear later are added, unless `create` is
    false. Whole numbers are `long`, fractions `double`, timestamps have microseconds, with a zone (UTC) where the rows
    have one; decimals, dates, times, text, bytes, lists, structs and maps are what they are in Iceberg, and durations
    are a `long` of microseconds. What is finer than a microsecond is cut. A row that does not fit the column that is
    there is refused with its own reason. Columns that a row lacks are null.

    Every commit makes files: give the stream a buffer that gathers rows for some seconds or more. After `compact_after`
    commits of one run the files that are small are written as one, which changes no rows.

    Example::

        type: iceberg
        catalog: {type: sql, uri: "sqlite:////data/catalog.db", warehouse: "file:///data/warehouse"}
        table_name: sensors.readings
        key: [sensor, time]
    """

    extra: ClassVar[str] = "iceberg"

    catalog: Annotated[SqlCatalog | RestCatalog, Field(discriminator="type")]
    """The catalog that knows the tables."""
    table_name: str = Field(pattern=r"^[^.]+(\.[^.]+)+$")
    """The table, behind its namespace: `sensors.readings`."""
    key: list[str] = []
    """The columns that tell rows apart: a row replaces the one with the same key. Without it, rows add up."""
    create: bool = True
    """Make the table and missing columns; otherwise rows that need a column are refused, and a table is waited for."""
    compact_after: int = Field(100, ge=0)
    """After how many commits small files are written as one; 0 for never."""
    timeout: Duration = Field(120.0, gt=0)
    """How long a commit, and reading the table before it, may take."""

    @model_validator(mode="after")
    def _check(self) -> Iceberg:
        require("pyiceberg", "the output 'iceberg'")
        if self.codec is not None:
            raise ValueError("`codec` is for payloads, and a table has columns")
        return self

    def catalog_properties(self) -> dict[str, Any]:
        """Return what pyiceberg is told of the catalog."""
        given = self.catalog
        found: dict[str, Any] = {name: value.get_secret_value() for name, value in given.properties.items()}
        uri = given.uri.get_secret_value() if isinstance(given, SqlCatalog) else given.uri
        found |= {"type": given.type, "uri": uri, "downcast-ns-timestamp-to-us-on-write": "true"}
        if given.warehouse is not None:
            found["warehouse"] = given.warehouse
        if isinstance(given, RestCatalog):
            for name in ("credential", "token"):
                if (secret := getattr(given, name)) is not None:
                    found[name] = secret.get_secret_value()
        return found

    def open_catalog(self) -> Any:
        """Open the catalog; blocks, and raises what pyiceberg and the network do."""
        from .projection import keep_nulls

        keep_nulls()
        given = self.catalog
        if isinstance(given, RestCatalog):
            from .rest import PatientCatalog

            return PatientCatalog(given.name, self.timeout, given.tls, **self.catalog_properties())
        from pyiceberg.catalog import load_catalog

        return load_catalog(given.name, **self.catalog_properties())

    def secrets(self) -> list[str]:
        """Return what no message may show."""
        given = self.catalog
        found = [secret.get_secret_value() for secret in given.properties.values() if len(secret) >= 8]
        if isinstance(given, SqlCatalog):
            found.append(given.uri.get_secret_value())
        else:
            found += [secret.get_secret_value() for secret in (given.credential, given.token) if secret is not None]
        return found

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[TransactionalWriter]:
        """Open the catalog; raises ConnectionLost if it does not answer."""
        workers = Workers(f"{context.name}-iceberg", self.timeout)
        writer = IcebergWriter(self, workers, context.seen)
        try:
            await writer.connect()
            yield writer
        finally:
            workers.close()
