"""Options that name a database: the long form and the URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeAlias
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, model_validator

from ..errors import TransientError
from ..extras import require
from ..options import Options


class TableChanged(TransientError):
    """A table is gone, or has lost a column or an index, since its columns were read."""


class Ssl(Options):
    """The encryption of a connection, and the certificates of both sides."""

    ssl_mode: Literal["disable", "prefer", "require", "verify_ca", "verify_full"] = "prefer"
    """The checks: `verify_full` checks the server's certificate and its name."""
    root_cert: Path | None = None
    """The certificates of the authorities that are trusted, PEM."""
    client_cert: Path | None = None
    """Our own certificate, PEM."""
    client_key: Path | None = None
    """The key of our own certificate, PEM."""


class Postgres(Options):
    """A PostgreSQL database."""

    type: Literal["postgres"] = "postgres"
    """The kind of database."""
    uri: SecretStr
    """The address: `postgresql://user:password@host:5432/database`."""
    ssl: Ssl | None = None
    """The encryption of the connection; by default what the URI says."""
    name: str | None = None
    """The name before the schema in `name.schema.table`; `flow` without it. Read by the input."""

    @model_validator(mode="after")
    def _expect_postgres(self) -> Postgres:
        require("psycopg", "a PostgreSQL database")
        scheme = self.uri.get_secret_value().partition("://")[0]
        if scheme not in ("postgresql", "postgres"):
            raise ValueError("expected a uri of the form postgresql://user:password@host:5432/database")
        return self


class Sqlite(Options):
    """A SQLite file."""

    type: Literal["sqlite"] = "sqlite"
    """The kind of database."""
    path: Path
    """The file."""
    name: str | None = None
    """The name before the schema in `name.schema.table`; `flow` without it. Read by the input."""


class Duckdb(Options):
    """A DuckDB file."""

    type: Literal["duckdb"] = "duckdb"
    """The kind of database."""
    path: Path
    """The file."""
    name: str | None = None
    """The name before the schema in `name.schema.table`; `flow` without it. Read by the input."""

    @model_validator(mode="after")
    def _expect_duckdb(self) -> Duckdb:
        require("duckdb", "a DuckDB database")
        return self


class Mysql(Options):
    """A MySQL or MariaDB database."""

    type: Literal["mysql"] = "mysql"
    """The kind of database."""
    uri: SecretStr
    """The address: `mysql://user:password@host:3306/database`."""
    ssl: Ssl | None = None
    """The encryption of the connection; by default TLS where the server has it."""
    name: str | None = None
    """The name before the schema in `name.schema.table`; `flow` without it. Read by the input."""

    @model_validator(mode="after")
    def _expect_mysql(self) -> Mysql:
        require("pymysql", "a MySQL database")
        parts = self.uri.get_secret_value().partition("://")
        if parts[0] not in ("mysql", "mariadb") or not parts[2].partition("?")[0].partition("/")[2]:
            raise ValueError("expected a uri of the form mysql://user:password@host:3306/database")
        return self


def _refuse_mysql(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") == "mysql":
        _no_mysql()
    return value


def _no_mysql() -> NoReturn:
    raise ValueError("mysql is not available here; expected one of duckdb, postgres, sqlite")


Database: TypeAlias = Annotated[
    Annotated[Postgres | Sqlite | Duckdb, Field(discriminator="type")], BeforeValidator(_refuse_mysql)
]
"""Any of the databases that everything here works with, told apart by ``type``."""
AnyDatabase: TypeAlias = Annotated[Postgres | Sqlite | Duckdb | Mysql, Field(discriminator="type")]
"""Any of the databases, told apart by ``type``."""


def any_from_url(url: str) -> Postgres | Sqlite | Duckdb | Mysql:
    """Parse a database URL, which may be one of MySQL too; raises ValueError for an unknown scheme."""
    return Mysql(uri=SecretStr(url)) if url.startswith(("mysql://", "mariadb://")) else from_url(url)


def from_url(url: str) -> Postgres | Sqlite | Duckdb:
    """Parse a database URL; raises ValueError for an unknown scheme.

    ``sqlite:///data/x.db`` is relative to the working directory, ``sqlite:////data/x.db`` is absolute.
    """
    scheme, _, rest = url.partition("://")
    if scheme in ("postgresql", "postgres"):
        require("psycopg", "a PostgreSQL database")
        return Postgres(uri=SecretStr(url))
    if scheme in ("mysql", "mariadb"):
        _no_mysql()
    if scheme in ("sqlite", "duckdb"):
        if not rest.startswith("/") or len(rest) < 2:
            raise ValueError(f"expected {scheme}:///relative/path or {scheme}:////absolute/path")
        path = Path(unquote(rest[1:]))
        if scheme == "duckdb":
            require("duckdb", "a DuckDB database")
        return Sqlite(path=path) if scheme == "sqlite" else Duckdb(path=path)
    raise ValueError("expected a url that begins with sqlite:///, duckdb:/// or postgresql://")


def check_choice(
    url: SecretStr | None, database: object | None, option: str, parse: Callable[[str], object] = from_url
) -> None:
    """Raise ValueError unless exactly one of URL and options is given and the URL is valid."""
    if (url is None) == (database is None):
        raise ValueError(f"expected either `url` or `{option}`")
    if url is not None:
        parse(url.get_secret_value())


def space(database: Postgres | Sqlite | Duckdb | Mysql, schema: str = "") -> str:
    """Return a canonical name of the place of tables: the resolved path of a file, or server, database and schema."""
    if isinstance(database, Sqlite | Duckdb):
        return str(database.path.resolve())
    parts = urlsplit(database.uri.get_secret_value())
    host = (parts.hostname or "localhost").replace("localhost", "127.0.0.1")
    if isinstance(database, Mysql):  # its schemas are its databases
        return f"{host}:{parts.port or 3306}/{schema or parts.path.strip('/')}"
    return f"{host}:{parts.port or 5432}{parts.path}/{schema or 'public'}"


def redact(text: str, database: BaseModel | str) -> str:
    """Replace the password of the database in ``text`` by ``***``."""
    uri = database if isinstance(database, str) else None
    if isinstance(database, Postgres | Mysql):
        uri = database.uri.get_secret_value()
    if uri is None:
        return text
    text = text.replace(uri, redact_url(uri))
    for password in {_password(uri), unquote(_password(uri))} - {""}:
        text = text.replace(password, "***")
    return text


def redact_url(uri: str) -> str:
    """Return a URL for messages: without its password and its query."""
    password = _password(uri)
    base = uri.partition("?")[0]
    return base.replace(f":{password}@", ":***@") if password else base


def _password(uri: str) -> str:
    try:
        return urlsplit(uri).netloc.rpartition("@")[0].partition(":")[2]
    except ValueError:
        return uri.partition("://")[2].rpartition("@")[0].partition(":")[2]
