"""The tables of the health service, for SQLite and PostgreSQL alike: the one definition of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

from ...platform.columns import SERIAL, Document, Identifier, Key, Moment
from . import compact

metadata = MetaData()
ingests = Table(
    "health_ingests",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("user_id", SERIAL, nullable=False),
    Column("key_id", Text),
    Column("received_at", Moment, nullable=False),
    Column("completed_at", Moment),
    Column("state", Text, nullable=False),  # accepted, processing, processed, failed
    Column("attempt", Integer, nullable=False),
    Column("error", Text),
    Column("form", Text, nullable=False),
    Column("format", Text),  # v1, v2, internal, csv ... as found
    Column("content_type", Text),
    Column("content_encoding", Text),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("canonical_sha256", Text),
    Column("raw", Text, nullable=False),
    Column("headers", Document),
    Column("duplicate", Boolean, nullable=False, default=False),
    Column("parts", Integer, nullable=False, default=0),  # committed parts of this attempt
    Column("received", BigInteger, nullable=False, default=0),
    Column("stored", BigInteger, nullable=False, default=0),
    Column("updated", BigInteger, nullable=False, default=0),
    Column("unchanged", BigInteger, nullable=False, default=0),
    Column("quarantined", BigInteger, nullable=False, default=0),
    Column("types", Document),  # {type: [received, stored, updated, unchanged, quarantined]}
    Column("warnings", Document),  # the first hundred
    Index("health_ingests_user", "user_id", "received_at"),
    Index("health_ingests_sha256", "user_id", "sha256"),
    Index(
        "health_ingests_open",
        "user_id",
        "id",
        postgresql_where=text("state <> 'processed'"),
        sqlite_where=text("state <> 'processed'"),
    ),
)


def _of_an_ingest() -> ForeignKeyConstraint:
    """Return the reference to an ingest, of PostgreSQL; points have none, which would be looked up for each of them."""
    refers = ForeignKeyConstraint(
        ["ingest_id"], [ingests.c.id], ondelete="CASCADE", deferrable=True, initially="DEFERRED"
    )
    return refers.ddl_if(dialect="postgresql")


parts = Table(
    "health_parts",
    metadata,
    Column("ingest_id", Identifier, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("last", Boolean, nullable=False),  # whether the body ends here
    Column("committed_at", Moment, nullable=False),
    _of_an_ingest(),
    comment="The parts that are committed: a part that comes again after a crash is known here and not counted twice.",
)


def _tracked() -> list[Column[Any]]:
    """The columns that all stored points have: what was received, and by which ingest it was last written."""
    return [
        Column("original", Text, nullable=False),  # JSON, as it was received
        Column("original_unit", Text),
        Column("offset_minutes", SmallInteger),
        Column("warnings", Document),
        Column("ingest_id", Identifier, nullable=False),
        Column("updated_at", Moment, nullable=False),
    ]


_CLUSTERED: dict[str, Any] = {"postgresql_partition_by": "RANGE (time)", "sqlite_with_rowid": False}
"""Rows in the order of their key, and in PostgreSQL in monthly partitions."""

points = Table(
    "health_points",
    metadata,
    Column("user_id", SERIAL, primary_key=True, autoincrement=False),
    Column("metric", Key, primary_key=True),
    Column("time", Moment, primary_key=True),
    Column("source", Key, primary_key=True),
    Column("end_time", Moment, primary_key=True),
    Column("kind", Key, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("value", Float),
    Column("minimum", Float),
    Column("maximum", Float),
    Column("unit", Text),
    Column("fields", Document),
    *_tracked(),
    Column("period", Integer),  # how many seconds are summed up in it; null: a sample
    Column("counted", Float),  # which share of it counts in sums and means; null: all
    sqlite_with_rowid=False,
    info={compact.VIEW: True},
)
event.listen(points, "before_create", compact.create)
DAYS = 86_400
"""From this period on, points are read by themselves, not by the sums of quarters."""
_LONG = text(f"period >= {DAYS}")
_days = Index("health_points_days", points.c.user_id, points.c.metric, points.c.time, sqlite_where=_LONG)
_days.ddl_if(dialect="sqlite")
Index("health_compact_points_days", compact.points.c.metric_id, compact.points.c.time, postgresql_where=_LONG)

workouts = Table(
    "health_workouts",
    metadata,
    Column("user_id", SERIAL, primary_key=True, autoincrement=False),
    Column("id", Key, primary_key=True),  # the app's, or made of name, start and end
    Column("name", Text, nullable=False),
    Column("time", Moment, nullable=False),
    Column("end_time", Moment, nullable=False),
    Column("source", Text, nullable=False),
    Column("value", Float),  # duration
    Column("unit", Text),  # s
    Column("fields", Document),
    *_tracked(),
    Index("health_workouts_time", "user_id", "time"),
)

series = Table(
    "health_series",
    metadata,
    Column("user_id", SERIAL, primary_key=True, autoincrement=False),
    Column("parent_id", Key, primary_key=True),  # workout or ECG
    Column("metric", Key, primary_key=True),
    Column("time", Moment, primary_key=True),
    Column("source", Key, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("value", Float),
    Column("minimum", Float),
    Column("maximum", Float),
    Column("unit", Text),
    Column("fields", Document),
    *_tracked(),
    Index("health_series_metric", "user_id", "metric", "time"),
    **_CLUSTERED,
)

routes = Table(
    "health_routes",
    metadata,
    Column("user_id", SERIAL, primary_key=True, autoincrement=False),
    Column("parent_id", Key, primary_key=True),
    Column("time", Moment, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
    Column("altitude", Float),
    Column("fields", Document),
    *_tracked(),
    **_CLUSTERED,
)
TRACKED = {"point": points, "workout": workouts, "series": series, "route": routes}
"""The table of each kind of record, as it is read."""
PARTITIONED = (compact.points, series, routes)
"""The tables that PostgreSQL keeps in monthly partitions of ``time``, each with a BRIN index on it.

What is in no month's partition is in ``<table>_default``.
"""


def stored(record: str, *, postgres: bool) -> Table:
    """Return the table to which records are written: PostgreSQL keeps points by numbers, and has a view of them."""
    return compact.points if postgres and record == "point" else TRACKED[record]


def of_user(table: Table, user: int) -> ColumnElement[bool]:
    """Return the condition that rows of a table are those of ``user``."""
    return compact.of_user(user) if table is compact.points else table.c.user_id == user


for _table in PARTITIONED:
    _brin = Index(
        f"{_table.name}_time", _table.c.time, postgresql_using="brin", postgresql_with={"autosummarize": "on"}
    )
    _brin.ddl_if(dialect="postgresql")
    _net = DDL(f"CREATE TABLE {_table.name}_default PARTITION OF {_table.name} DEFAULT")  # type: ignore[no-untyped-call]
    event.listen(_table, "after_create", _net.execute_if(dialect="postgresql"))

Index("health_routes_place", routes.c.user_id, routes.c.latitude, routes.c.longitude).ddl_if(dialect="sqlite")
_POSITION = (
    "ALTER TABLE health_routes ADD COLUMN position geography(Point, 4326) GENERATED ALWAYS AS "
    "(ST_SetSRID(ST_MakePoint(longitude, latitude), 4326)::geography) STORED",
    "CREATE INDEX health_routes_position ON health_routes USING gist (position)",
)
"""PostgreSQL knows besides where each place of a route is on the earth (PostGIS)."""
for _statement in _POSITION:
    event.listen(routes, "after_create", DDL(_statement).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]

quarters = Table(
    "health_quarters",
    metadata,
    Column("user_id", SERIAL, primary_key=True, autoincrement=False),
    Column("metric", Key, primary_key=True),
    Column("time", Moment, primary_key=True),  # when the quarter of an hour begins
    Column("source", Key, primary_key=True),
    Column("count", Integer, nullable=False),  # points that count
    Column("measured", Integer, nullable=False),  # of those, points that have a value
    Column("sum", Float),
    Column("minimum", Float),  # of minimum, else of value
    Column("maximum", Float),
    Column("first", Moment, nullable=False),
    Column("last", Moment, nullable=False),
    Column("reduced", Integer, nullable=False, server_default="0"),  # points that do not count, or not as a whole
    sqlite_with_rowid=False,
    comment="The points of each quarter of an hour: the borders of hours, days and weeks of all time zones are among"
    " those of quarters. Points of a day and longer are not among them.",
)

metrics = Table(
    "health_metrics",
    metadata,
    Column("user_id", SERIAL, primary_key=True, autoincrement=False),
    Column("metric", Key, primary_key=True),  # as ingests count it: step_count, workouts, workout_heart_rate ...
    Column("source", Key, primary_key=True),
    Column("record", Text, nullable=False),  # point, workout, series, route
    Column("unit", Text),  # of the latest
    Column("count", BigInteger, nullable=False),
    Column("first", Moment, nullable=False),
    Column("last", Moment, nullable=False),
    Column("period", Integer, primary_key=True, autoincrement=False, server_default="0"),  # 0: samples; or see below
    Column("span", BigInteger, nullable=False, server_default="0"),  # how many seconds the longest lasts
    comment="What there is of each metric, without reading its points.",
)
UNCOUNTED, DOUBTFUL = -1, -2
"""Instead of a period: rows of an older version, to be counted anew; points whose time cannot be right."""

priorities = Table(
    "health_priorities",
    metadata,
    Column("user_id", SERIAL, primary_key=True, autoincrement=False),
    Column("metric", Key, primary_key=True),  # "": all metrics
    Column("sources", Document, nullable=False),  # a list, the first counts first
    comment="In which order the sources of a person count where they say the same time.",
)

history = Table(
    "health_history",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("user_id", SERIAL, nullable=False),
    Column("record", Text, nullable=False),  # point, workout, series, route
    Column("metric", Text, nullable=False),  # workouts: their name; routes: route
    Column("time", Moment, nullable=False),
    Column("key", Text, nullable=False),  # JSON of the other key columns
    Column("original", Text, nullable=False),
    Column("original_unit", Text),
    Column("value", Float),
    Column("unit", Text),
    Column("ingest_id", Identifier, nullable=False),  # that had written it
    Column("replaced_by", Identifier, nullable=False),
    Column("replaced_at", Moment, nullable=False),
    Index("health_history_metric", "user_id", "metric", "time", "key"),
)

quarantine = Table(
    "health_quarantine",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("user_id", SERIAL, nullable=False),
    Column("ingest_id", Identifier, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("index", BigInteger),
    Column("path", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("resolved_at", Moment),  # when a later attempt at the ingest could store it
    _of_an_ingest(),
    Index("health_quarantine_user", "user_id", "created_at"),
    Index("health_quarantine_ingest", "ingest_id"),
    Index(
        "health_quarantine_open",
        "user_id",
        "ingest_id",
        postgresql_where=text("resolved_at IS NULL"),
        sqlite_where=text("resolved_at IS NULL"),
    ),
)

characteristics = Table(
    "health_characteristics",
    metadata,
    Column("user_id", SERIAL, primary_key=True, autoincrement=False),
    Column("values", Text, nullable=False),  # JSON, of any text
    Column("updated_at", Moment, nullable=False),
    Column("verified_at", Moment),
)

quality = Table(
    "health_quality",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("user_id", SERIAL, nullable=False),
    Column("time", Moment, nullable=False),
    Column("score", Float, nullable=False),  # 0 to 100
    Column("findings", Document, nullable=False),
    UniqueConstraint("user_id", "time"),
)
