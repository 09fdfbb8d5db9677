"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import TIMESTAMP, BigInteger, ColumnElement, Integer, Text, Uuid, cast
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, UserDefinedType


class Moment(TypeDecorator[datetime]):
    """A time in UTC: ``timestamptz``, or in SQLite a text ``2026-02-03 06:15:00.000000Z`` that sorts by time."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if postgres else _SqliteMoment())

    def process_bind_param(self, value: datetime | None, dialect: Any) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return moment_text(value)

    def process_result_value(self, value: Any, dialect: Any) -> datetime | None:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return value.astimezone(UTC) if value is not None else None


def moment_text(value: datetime) -> str:
    """Return a time as SQLite keeps it."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds") + "Z"


class _SqliteMoment(Text):
    """The declared type by which readers of the file know what the text is."""

    __visit_name__ = "sqlite_moment"


@compiles(_SqliteMoment)
def _sqlite_moment(*_: Any, **__: Any) -> str:
    return "TIMESTAMPTZ"


class Document(TypeDecorator[str]):
    """JSON, given and returned as a text: ``jsonb``, or in SQLite the text."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(_Jsonb() if dialect.name == "postgresql" else Text())

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return cast(column, Text)


class _Jsonb(UserDefinedType[str]):
    """Takes its values as texts, which the driver would otherwise take apart and put together again."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSONB"


Identifier = Text().with_variant(Uuid(as_uuid=False), "postgresql")
"""A UUID, given and returned as a text with hyphens."""
Key = Text().with_variant(Text(collation="C"), "postgresql")
"""A text of a key, in the order of its bytes: it does not change with the locale, and comparing is fast."""
SERIAL = BigInteger().with_variant(Integer, "sqlite")
