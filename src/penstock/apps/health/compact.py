"""How PostgreSQL keeps points: numbers in the rows, and the texts that many of them share in tables beside them.

``health_points`` is a view of it there, with the columns that SQLite has in a table.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    delete,
    exists,
    literal,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.functions import FunctionElement

from ...platform.columns import Document, Identifier, Key, Moment

metadata = MetaData()
VIEW = "view"
"""Marks, in its ``info``, the table of which PostgreSQL has a view."""


def _id() -> Column[Any]:
    return Column("id", Integer, Identity(), primary_key=True)


def _belonging() -> Column[Any]:
    return Column("metric_id", Integer, ForeignKey("health_compact_metrics.id", ondelete="CASCADE"), nullable=False)


metrics = Table(
    "health_compact_metrics",
    metadata,
    _id(),
    Column("user_id", BigInteger, nullable=False),
    Column("metric", Key, nullable=False),
    UniqueConstraint("user_id", "metric"),
    comment="The metrics of each person, by the numbers that points have.",
)
identities = Table(
    "health_compact_identities",
    metadata,
    _id(),
    _belonging(),
    Column("source", Key, nullable=False),
    Column("kind", Key, nullable=False),
    Column("span", BigInteger, nullable=False),  # microseconds from its time to its end
    Column("ordinal", Integer, nullable=False),
    UniqueConstraint("metric_id", "source", "kind", "span", "ordinal"),
    comment="What tells points of one metric and one time apart.",
)
units = Table(
    "health_compact_units",
    metadata,
    _id(),
    _belonging(),
    Column("unit", Key, nullable=False),
    UniqueConstraint("metric_id", "unit"),
)
forms = Table(
    "health_compact_forms",
    metadata,
    _id(),
    _belonging(),
    Column("form", Key, nullable=False),  # "": the points have what was received themselves
    Column("shift", SmallInteger, nullable=False),  # minutes from UTC to the local time that was sent
    Column("original_unit", Key),
    Index("health_compact_forms_form", "metric_id", "form", "shift"),
    comment="What was received of points, without the times and numbers, which their columns say.",
)
points = Table(
    "health_compact_points",
    metadata,
    Column("time", Moment),  # Wide columns first, so that little room is lost between them.
    Column("value", Float),
    Column("sent", Float),  # the number that was received, where value is in another unit
    Column("minimum", Float),
    Column("maximum", Float),
    Column("counted", Float),
    Column("metric_id", Integer),
    Column("identity_id", Integer),
    Column("form_id", Integer, nullable=False),
    Column("unit_id", Integer),
    Column("period", Integer),
    Column("offset_minutes", SmallInteger),
    Column("ingest_id", Identifier, nullable=False),
    Column("original", Text),  # null where the form says it
    Column("fields", Document),
    Column("warnings", Document),
    PrimaryKeyConstraint("metric_id", "time", "identity_id"),
    postgresql_partition_by="RANGE (time)",
)
KEY = ("metric_id", "time", "identity_id")

START, END = "\x01", "\x08"
VALUE, MINIMUM, MAXIMUM = ("\x02", "\x03"), ("\x04", "\x05"), ("\x06", "\x07")
"""Where in a form the local time and the end are, and numbers: written as integers, and with a fraction.

JSON has none of these characters in its texts.
"""


def select_points(source: str, *, staged: bool = False, more: str = "") -> str:
    """Return the query that tells the rows of ``source`` as points.

    It has the columns of ``points``; where they are ``staged``, without those that come with the writing.
    """
    columns = ", ".join(
        f"{expression} AS {name}" for name, expression in _COLUMNS.items() if not (staged and name in _WRITTEN)
    )
    return f"SELECT {columns}{more} FROM {source} p {_JOINS}{'' if staged else _INGEST}"  # noqa: S608


_JOINS = (
    "LEFT JOIN health_compact_metrics m ON m.id = p.metric_id "
    "LEFT JOIN health_compact_identities i ON i.id = p.identity_id "
    "LEFT JOIN health_compact_forms f ON f.id = p.form_id "
    "LEFT JOIN health_compact_units u ON u.id = p.unit_id"
)
_INGEST = " LEFT JOIN health_ingests g ON g.id = p.ingest_id"
_WRITTEN = ("ingest_id", "updated_at", "counted")
"""Each is left out by PostgreSQL where a query takes none of its columns."""
_END = "p.time + i.span / 3600000000 * interval '1 hour' + mod(i.span, 3600000000) * interval '1 microsecond'"
"""Hours have a length of their own; more microseconds than 2^53 would be rounded."""


def _local(time: str) -> str:
    return f"to_char(({time}) AT TIME ZONE 'UTC' + f.shift * interval '1 minute', 'YYYY-MM-DD HH24:MI:SS')"


def _original() -> str:
    """Return the expression of what was received, with the numbers as JSON has them."""
    found = "f.form"
    for slot, time in ((START, "p.time"), (END, _END)):
        found = f"replace({found}, {_quoted(slot)}, {_local(time)})"
    numbers = {VALUE: "coalesce(p.sent, p.value)", MINIMUM: "p.minimum", MAXIMUM: "p.maximum"}
    for (whole, fraction), number in numbers.items():
        written = f"coalesce(CAST({number} AS text), '')"
        broken = f"{written} || CASE WHEN {number} = trunc({number}) THEN '.0' ELSE '' END"
        found = f"replace(replace({found}, {_quoted(whole)}, {written}), {_quoted(fraction)}, {broken})"
    return f"CASE WHEN p.original IS NULL THEN {found} ELSE p.original END"


def _quoted(slot: str) -> str:
    return f"chr({ord(slot)})"


_COLUMNS = {
    "user_id": "m.user_id",
    "metric": "m.metric",
    "time": "p.time",
    "source": "i.source",
    "end_time": _END,
    "kind": "i.kind",
    "ordinal": "i.ordinal",
    "value": "p.value",
    "minimum": "p.minimum",
    "maximum": "p.maximum",
    "unit": "u.unit",
    "fields": "p.fields",
    "original": _original(),
    "original_unit": "f.original_unit",
    "offset_minutes": "p.offset_minutes",
    "warnings": "p.warnings",
    "ingest_id": "p.ingest_id",
    "updated_at": "coalesce(g.completed_at, g.received_at)",
    "period": "p.period",
    "counted": "p.counted",
    "metric_id": "p.metric_id",
    "identity_id": "p.identity_id",
}


def of_user(user: int) -> ColumnElement[bool]:
    """Return the condition that points are those of ``user``."""
    return points.c.metric_id.in_(select(metrics.c.id).where(metrics.c.user_id == user))


class _OfMetric(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


def of_metric(user: int, metric: str) -> ColumnElement[bool]:
    """Return the condition that rows of ``health_points`` are of a metric; an index then has them in order of time."""
    return _OfMetric(literal(user), literal(metric))


@compiles(_OfMetric)
def _of_metric(element: Any, compiler: Any, **options: Any) -> str:
    user, metric = (compiler.process(clause, **options) for clause in element.clauses)
    if compiler.dialect.name != "postgresql":
        return f"(health_points.user_id = {user} AND health_points.metric = {metric})"
    known = f"SELECT id FROM {metrics.name} WHERE user_id = {user} AND metric = {metric}"  # noqa: S608
    return f"health_points.metric_id = ({known})"


def forget_unused(connection: Connection, user: int) -> None:
    """Delete the texts of metrics of which ``user`` has no points any more."""
    if connection.dialect.name == "postgresql":
        there = exists().where(points.c.metric_id == metrics.c.id)
        connection.execute(delete(metrics).where(metrics.c.user_id == user, ~there))


def create(_: Any, connection: Any, **__: Any) -> None:
    """Make the tables, as ``metadata`` says; the view is made in place of the table of points."""
    if connection.dialect.name == "postgresql":
        metadata.create_all(connection)


@compiles(CreateTable, "postgresql")
def _create(element: Any, compiler: Any, **options: Any) -> str:
    """Make a view of a table that is one in PostgreSQL."""
    table = element.element
    if VIEW in table.info:
        return f"CREATE VIEW {compiler.preparer.format_table(table)} AS {select_points(points.name)}"
    return str(compiler.visit_create_table(element, **options))
