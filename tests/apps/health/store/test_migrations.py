"""The migrations make what the schema says, from empty, whoever runs them at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import create_engine, select, text

from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.schema import ingests, metadata, points
from penstock.apps.health.store import rollups
from penstock.apps.health.store.migrations import current, migrate
from penstock.apps.health.store.output import Store
from penstock.apps.health.store.recounting import count_older
from penstock.apps.health.store.session import Session
from penstock.errors import PenstockError, PermanentError
from penstock.platform.database import Database
from penstock.testing.servers import PostgresServer

from .conftest import Stored
from .factory import NOON, accepted, part, point, refused, stable_id

_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname,
    pg_get_expr(d.adbin, d.adrelid), a.attgenerated::text
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relname LIKE 'health%' AND c.relkind IN ('r', 'p', 'v') ORDER BY 1, a.attnum
"""
_TABLES = """
SELECT relname, relkind::text, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), obj_description(oid),
    CASE relkind WHEN 'v' THEN pg_get_viewdef(oid) END
FROM pg_class WHERE relname LIKE 'health%' AND relkind IN ('r', 'p', 'S', 'v') ORDER BY 1
"""
_INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE tablename LIKE 'health%' ORDER BY 1, 2"
_CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid::regclass::text LIKE 'health%' ORDER BY 1, 2
"""


def described(database: Database) -> list[list[tuple[Any, ...]]]:
    """Return all that the catalogue of the database says of the tables."""
    if database.is_postgres:
        statements = [_COLUMNS, _TABLES, _INDEXES, _CONSTRAINTS]
    else:
        statements = ["SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"]

    def read(connection: Any) -> list[list[tuple[Any, ...]]]:
        found = [[tuple(row) for row in connection.execute(text(statement))] for statement in statements]
        return [[_flat(row) for row in rows if "health_schema_version" not in str(row)] for rows in found]

    return database.call(read)


def _flat(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """SQLite keeps the statement as it was written, with its line breaks."""
    return tuple(" ".join(each.split()) if isinstance(each, str) else each for each in row)


def test_l18_a_migrated_database_is_what_the_schema_says(url: str, request: Any, tmp_path: Any, closing: Any) -> None:
    migrated = closing(Database.of(url))
    assert current(migrated) is None
    assert migrate(migrated) == current(migrated) == "0005"
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    if migrated.is_postgres:
        server: PostgresServer = request.getfixturevalue("shared_postgres_server")
        other_url = server.create_database(postgis=True)
    made = closing(Database.of(other_url))
    made.call(metadata.create_all)
    found, expected = described(migrated), described(made)
    assert found == expected


def test_migrating_again_changes_nothing(url: str, closing: Any) -> None:
    database = closing(Database.of(url))
    migrate(database)
    before = described(database)
    assert migrate(database) == "0005"
    assert described(database) == before


def test_replicas_that_start_at_once_migrate_once(url: str) -> None:
    databases = [Database.of(url) for _ in range(4)]
    done: list[str] = []
    failures: list[BaseException] = []

    def start(database: Database) -> None:
        try:
            done.append(migrate(database))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert done == ["0005"] * 4


def test_tables_of_a_newer_version_are_left_alone(url: str, closing: Any) -> None:
    database = closing(Database.of(url))
    migrate(database)
    database.call(lambda connection: connection.execute(text("UPDATE health_schema_version SET version_num = '9999'")))
    with pytest.raises(PermanentError, match=r"9999.*newer Penstock"):
        migrate(database)


def test_a_migration_that_fails_leaves_nothing(url: str, closing: Any) -> None:
    database = closing(Database.of(url))
    if database.is_postgres:
        database.call(lambda connection: connection.execute(text("CREATE TABLE health_quality (x int)")))
    else:
        database.call(lambda connection: connection.execute(text("CREATE TABLE health_quality (x)")))
    with pytest.raises(PenstockError, match="health_quality"):
        migrate(database)
    assert current(database) is None
    assert not any("health_points" in str(row) for rows in described(database) for row in rows)


def test_where_postgis_may_not_be_loaded_it_says_what_to_do(
    shared_postgres_server: PostgresServer, closing: Any
) -> None:
    url = shared_postgres_server.create_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        connection.execute("GRANT ALL ON SCHEMA public TO plain")
    base = url.partition("@")[2]
    database = closing(Database.of(f"postgresql://plain:plain@{base}"))
    with pytest.raises(PermanentError, match=r"CREATE EXTENSION postgis.*superuser"):
        migrate(database)


def test_where_postgis_is_not_installed_it_says_what_to_install(postgres_database: str, closing: Any) -> None:
    """What the server says it could load is played: PostGIS is installed here."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA played")
        connection.execute("CREATE VIEW played.pg_available_extensions AS SELECT 'x'::text AS name WHERE false")
    url = f"{postgres_database}?options=-csearch_path%3Dplayed,pg_catalog,public"
    with pytest.raises(PermanentError, match=r"install it there"):
        migrate(closing(Database.of(url)))


def test_a_new_database_is_made_by_the_metadata_too() -> None:
    """Tests of other parts make their tables that way."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    engine.dispose()


def populate_first_version(database: Database) -> None:
    """Fill the tables of version 0001 as it did: buckets without periods, and a point for each list of sources."""
    night = '{"core":240.0,"deep":60.0,"rem":120.0}'
    rows = [
        ("flights_climbed", "2025-04-30 22:00", "Watch", "", 3.0, "days", None),
        ("flights_climbed", "2025-04-30 22:00", "Phone|Watch", "", 9.0, "days", None),
        *(("step_count", f"2025-05-02 08:0{n}", "Watch", "", 10.0, "minutes", None) for n in range(10)),
        ("step_count", "2025-05-01 22:00", "Watch", "", 500.0, "none", None),  # no header: a list of midnights
        ("heart_rate", "2025-05-02 08:00", "Watch", "", 61.0, "minutes", None),
        ("sleep_analysis", "2025-05-05 21:00", "Watch", "aggregated", 420.0, "days", night),
        ("sleep_analysis", "2025-05-05 21:00", "Phone|Watch", "aggregated", 420.0, "days", night),
    ]
    ids = {"days": stable_id(1), "minutes": stable_id(2), "none": stable_id(3)}
    said = {
        "days": '{"automation-aggregation": "Days"}',
        "minutes": '{"automation-aggregation": "Minutes"}',
        "none": None,
    }

    def fill(connection: Any) -> None:
        for name, id in ids.items():
            connection.execute(
                text(
                    "INSERT INTO health_ingests (id, user_id, received_at, state, attempt, form, bytes, sha256, raw, "
                    "headers, duplicate, parts, received, stored, updated, unchanged, quarantined) VALUES (:id, 1, "
                    "'2025-06-01 00:00:00.000000Z', 'processed', 1, 'export', 1, 'x', 'x', :headers, false, 1, 1, 1, "
                    "0, 0, 0)"
                ),
                {"id": id, "headers": said[name]},
            )
        for metric, time, source, kind, value, ingest, fields in rows:
            at = f"{time}:00.000000Z"
            end = at if not kind else "2025-05-06 04:00:00.000000Z"
            connection.execute(
                text(
                    "INSERT INTO health_points (user_id, metric, time, source, end_time, kind, ordinal, value, unit, "
                    "fields, original, offset_minutes, ingest_id, updated_at) VALUES (1, :metric, :at, :source, :end, "
                    ":kind, 0, :value, 'count', :fields, '{}', 120, :ingest, :at)"
                ),
                {"metric": metric, "at": at, "source": source, "end": end, "kind": kind, "value": value}
                | {"fields": fields, "ingest": ids[ingest]},
            )
        connection.execute(
            text(
                "INSERT INTO health_quarters SELECT 1, metric, time, source, 1, 1, value, value, value, time, time "
                "FROM health_points WHERE metric <> 'step_count'"
            )
        )
        connection.execute(
            text(
                "INSERT INTO health_metrics SELECT 1, metric, source, 'point', 'count', count(*), min(time), max(time) "
                "FROM health_points GROUP BY metric, source"
            )
        )

    database.call(fill, changes=True)


def test_a_populated_database_of_the_first_version_has_the_right_sums_afterwards(url: str, closing: Any) -> None:
    database = closing(Database.of(url))
    migrate(database, revision="0001")
    populate_first_version(database)
    assert migrate(database) == "0005"
    for _ in range(2):
        count_older(database)

        def sums(connection: Any, metric: str) -> dict[str, Any]:
            found = rollups.aggregate(connection, 1, metric, "day", "Europe/Berlin")
            return {str(day.time.date()): (day.count, day.sum) for day in found}

        found = {
            metric: database.call(partial(sums, metric=metric))
            for metric in ("flights_climbed", "step_count", "heart_rate", "sleep_analysis")
        }
        assert found == {
            "flights_climbed": {"2025-05-01": (1, 9.0)},
            "step_count": {"2025-05-02": (11, 500.0)},
            "heart_rate": {"2025-05-02": (1, 61.0)},
            "sleep_analysis": {"2025-05-06": (1, 420.0)},
        }
    rows = database.call(lambda c: list(c.scalars(text("SELECT DISTINCT period FROM health_metrics ORDER BY period"))))
    assert rows == [0, 60, 86_400]


def test_points_of_the_first_version_are_known_again_when_they_come_again(stored: Stored) -> None:
    """After the migration an old bucket has the key that the same bucket has when it is sent now."""
    ids = [stable_id(1), stable_id(2)]
    point_of = point(9.0, NOON, metric="flights_climbed")
    stored.write(part(accepted(id=ids[0]), [point_of]))
    stored.database.call(
        lambda c: c.execute(text('UPDATE health_ingests SET headers = \'{"automation-aggregation": "Hours"}\'')),
        changes=True,
    )
    stored.database.call(lambda c: c.execute(text("UPDATE health_metrics SET period = -1")), changes=True)
    count_older(stored.database)
    again = point_of | {"period": 3600, "end_time": NOON + timedelta(hours=1)}
    [done] = stored.write(part(accepted(id=ids[1]), [again]))
    assert (done.counts.stored, done.counts.unchanged) == (0, 1)


def store_as_before(connection: Any, of: Accepted, rows: list[dict[str, Any]]) -> None:
    """Store the first part of an ingest as version 0002 did: points in one table, with all their texts."""
    connection.execute(
        text(
            "INSERT INTO health_ingests (id, user_id, received_at, state, attempt, form, bytes, sha256, raw, "
            "duplicate, parts, received, stored, updated, unchanged, quarantined) VALUES (:id, 1, :at, 'processing', "
            "1, 'export', 1, 'x', 'x', false, 1, 4, 3, 0, 0, 1)"
        ),
        {"id": of.id, "at": str(NOON)},
    )
    connection.execute(text("INSERT INTO health_parts VALUES (:id, 1, 0, false, :at)"), {"id": of.id, "at": str(NOON)})
    connection.execute(
        text(
            "INSERT INTO health_quarantine (user_id, ingest_id, attempt, type, path, reason, payload, created_at) "
            "VALUES (1, :id, 1, 'heart_rate', 'x', 'x', 'x', :at)"
        ),
        {"id": of.id, "at": str(NOON)},
    )
    for row in rows:
        at = row["time"].strftime("%Y-%m-%d %H:%M:%S.000000Z")
        connection.execute(
            text(
                "INSERT INTO health_points (user_id, metric, time, source, end_time, kind, ordinal, value, unit, "
                "original, original_unit, offset_minutes, ingest_id, updated_at) VALUES (1, :metric, :at, :source, "
                ":at, '', 0, :value, :unit, :original, :original_unit, 60, :ingest, :at)"
            ),
            {**{name: row[name] for name in ("metric", "source", "value", "unit", "original", "original_unit")}}
            | {"at": at, "ingest": of.id},
        )


def test_what_was_half_stored_is_stored_from_its_beginning(url: str, closing: Any) -> None:
    """Its body is cut otherwise now: by the numbers of its parts, points in between would be taken as stored."""
    database = closing(Database.of(url))
    migrate(database, revision="0002")
    half, settled = accepted(), []
    rows = [point(minute, NOON + minute * timedelta(minutes=1)) for minute in range(9)]
    database.call(partial(store_as_before, of=half, rows=rows[:3]), changes=True)
    assert migrate(database) == "0005"
    after = closing(Store(Session(database)))
    for number, cut in enumerate((rows[:1], [*rows[1:], refused()])):
        after.write([part(half, cut, number=number, last=number == 1)], settled)
    [done] = settled
    assert (done.id, done.state) == (half.id, "processed")
    assert (done.counts.received, done.counts.quarantined, done.counts.stored) == (10, 1, 6)


def test_points_of_the_last_version_are_the_same_afterwards(url: str, closing: Any) -> None:
    """Their texts stand elsewhere now; what is read of them, and what comes again, does not change."""
    database = closing(Database.of(url))
    migrate(database, revision="0004")
    units = ["count/min", None, "", "count/min"]
    rows = [
        point(float(n), NOON + n * timedelta(days=40), source=f"Watch {n % 2}", unit=unit, original_unit=unit)
        for n, unit in enumerate(units)
    ]
    database.call(partial(store_as_before, of=accepted(id=stable_id(1)), rows=rows), changes=True)
    before = told(database)
    assert migrate(database) == "0005"
    assert told(database) == before
    settled: list[Any] = []
    closing(Store(Session(database))).write([part(accepted(id=stable_id(2)), rows)], settled)
    assert (settled[0].counts.unchanged, settled[0].counts.received) == (4, 4)
    assert told(database) == before


def told(database: Database) -> list[tuple[Any, ...]]:
    """Return all columns of points but when they were written."""
    c = [column for column in points.columns if column.name != "updated_at"]
    return database.call(lambda connection: [tuple(row) for row in connection.execute(select(*c).order_by("time"))])


def test_json_of_an_older_version_is_jsonb_afterwards(url: str, closing: Any) -> None:
    """Queries of others take it apart without a cast, and nothing of it is lost."""
    database = closing(Database.of(url))
    migrate(database, revision="0001")
    populate_first_version(database)
    assert migrate(database) == "0005"
    [(fields,)] = database.call(
        lambda c: c.execute(select(points.c.fields).where(points.c.fields.is_not(None)).distinct()).all()
    )
    assert msgspec.json.decode(fields) == {"core": 240, "deep": 60, "rem": 120}
    headers = database.call(lambda c: set(c.scalars(select(ingests.c.headers))))
    said = {each and msgspec.json.decode(each)["automation-aggregation"] for each in headers}
    assert said == {None, "Days", "Minutes"}
    if database.is_postgres:
        found = database.call(lambda c: c.scalar(text("SELECT sum((fields ->> 'deep')::float8) FROM health_points")))
        assert found == 120
        with pytest.raises(PenstockError, match="foreign key"):
            database.call(lambda c: c.execute(text(_ORPHAN)), changes=True)


_ORPHAN = (
    "INSERT INTO health_parts (ingest_id, attempt, part, last, committed_at) "
    "VALUES (gen_random_uuid(), 1, 0, true, now())"
)
