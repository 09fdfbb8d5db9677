"""Write rows to InfluxDB, or to what takes its line protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, model_validator

from ...clients.http import Basic, Url, check_credentials, check_tls, open_session
from ...clients.tls import Tls
from ...component import Output, Writer
from ...context import Context
from ...duration import Duration
from ...options import Options
from ...sql.expression import Expr
from .lines import FieldColumn, TagColumn
from .writer import InfluxdbWriter


class FieldOption(Options):
    """A column that is a field."""

    field: str
    """The column."""
    field_name: str | None = None
    """The name of the field; by default that of the column."""
    field_type: Literal["float", "integer", "unsigned", "boolean", "string"] | None = None
    """The type of the field; by default that of the column. What cannot be of that type is refused."""


class TagOption(Options):
    """A column that is a tag."""

    field: str
    """The column."""
    tag_name: str | None = None
    """The name of the tag; by default that of the column."""


class Influxdb(Output, type="influxdb"):
    """Write rows to InfluxDB 1, 2 or 3, as line protocol over HTTP.

    Each row is a point. Rows are written once the server has confirmed them. A point takes the place of one of the same
    measurement, tags and time, so that with a `timestamp_field` what is sent again doubles nothing. Without one a point
    has the time at which it was first sent, and rows that are read again after a crash are there again.

    A row that the server refuses is refused by itself, with the server's reason: a field of another type than it has
    there, a time beyond the retention. So is a row without any field, one whose time is null, one with a number that is
    infinite or none (NaN), and a name or a tag with a line break or with a backslash at its end, which the protocol has
    no form for. Null fields and tags, and empty tags, are left out.

    Example::

        type: influxdb
        url: http://127.0.0.1:8086
        org: home
        bucket: sensors
        token: not-a-secret
        measurement: readings
        tags: [{field: sensor}]
        fields: [{field: value, field_type: float}]
        timestamp_field: time
    """

    extra: ClassVar[str] = "http"

    url: Url
    """Where the server is."""
    version: Literal[1, 2, 3] = 2
    """The version of the server, whose interface for writing is used."""
    org: str | None = None
    """The organisation, for version 2."""
    bucket: str | None = None
    """The bucket, for version 2."""
    token: SecretStr | None = None
    """The token, for versions 2 and 3."""
    database: str | None = None
    """The database, for versions 1 and 3."""
    retention_policy: str | None = None
    """The retention policy, for version 1; by default that of the database."""
    username: str | None = None
    """The user, for version 1."""
    password: SecretStr | None = None
    """The password of the user."""
    measurement: Expr
    """The measurement, or an expression that gives it for each row."""
    fields: list[FieldOption] = []
    """The columns that are fields; by default all that are neither tags nor the time."""
    tags: list[TagOption] = []
    """The columns that are tags."""
    timestamp_field: str | None = None
    """The column with the time: a timestamp, or a number of nanoseconds since 1970."""
    batch_size: int = Field(5000, ge=1)
    """The most points of one request."""
    flush_interval: Duration | int | None = None
    """Accepted but without effect: each write is sent at once, before it is acked."""
    retry_count: int | None = Field(None, ge=0)
    """Accepted but without effect: the stream's `retry` says how often to try again."""
    tls: Tls | None = None
    """How to know the server by TLS, with `https://`."""
    timeout_ms: int = Field(5000, ge=1)
    """How long a request may take, in milliseconds."""
    timeout: Duration | None = Field(None, gt=0)
    """How long a request may take; instead of `timeout_ms`."""

    @model_validator(mode="after")
    def _check(self) -> Influxdb:
        check_credentials(self.url, None, {})
        check_tls(self.url, self.tls)
        needed = {1: ("database",), 2: ("org", "bucket"), 3: ("database",)}[self.version]
        others = {1: ("org", "bucket", "token"), 2: ("database", "username", "retention_policy"), 3: ("org", "bucket")}
        for name in needed:
            if not getattr(self, name):
                raise ValueError(f"version {self.version} needs `{name}`")
        for name in others[self.version]:
            if getattr(self, name) is not None:
                raise ValueError(f"`{name}` is not for version {self.version}")
        if (self.username is None) != (self.password is None):
            raise ValueError("expected both `username` and `password`, or neither")
        names = [one.field_name or one.field for one in self.fields] + [one.tag_name or one.field for one in self.tags]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two fields or tags are called {twice[0]!r}")
        if bad := [name for name in names if name == "time" or not name]:
            raise ValueError(f"{bad[0]!r} cannot be the name of a field or a tag: InfluxDB would drop it")
        if self.codec is not None:
            raise ValueError("`codec` is for payloads, and a point has fields")
        return self

    def field_columns(self) -> list[FieldColumn]:
        """Return which columns are fields; none for all."""
        return [FieldColumn(one.field, one.field_name or one.field, one.field_type) for one in self.fields]

    def tag_columns(self) -> list[TagColumn]:
        """Return which columns are tags."""
        return [TagColumn(one.field, one.tag_name or one.field) for one in self.tags]

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Get ready to send; nothing is sent yet."""
        auth = None
        if self.username is not None and self.password is not None:
            auth = Basic(username=self.username, password=self.password)
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self.token is not None:
            scheme = "Token" if self.version == 2 else "Bearer"
            headers["Authorization"] = f"{scheme} {self.token.get_secret_value()}"
        timeout = self.timeout if self.timeout is not None else self.timeout_ms / 1000
        async with open_session(headers, auth, timeout=timeout, connections=1, tls=self.tls) as session:
            yield InfluxdbWriter(self, session, context.clock)
