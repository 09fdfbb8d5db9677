"""What is older than the months that are kept goes, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, text

from penstock.apps.health import compact
from penstock.apps.health.schema import TRACKED, history, metrics, quarantine, quarters, workouts
from penstock.apps.health.settings import Settings
from penstock.apps.health.store import partitions, retention
from penstock.platform.access.schema import audit

from .conftest import Stored, values
from .factory import accepted, part, place, point, refused, series, workout

OLD, EDGE, NEW = (datetime(2025, month, 1, tzinfo=UTC) for month in (9, 11, 12))
NOW = datetime(2026, 2, 15, 12, tzinfo=UTC)


def filled(stored: Stored) -> None:
    of = accepted()
    rows: list[Any] = []
    for number, time in enumerate((OLD, EDGE, NEW)):
        rows += [point(1.0, time), series(1.0, time), place(1.0, 1.0, time), workout(str(number), time)]
    stored.write(part(of, [*rows, refused()]))
    stored.write(part(accepted(), [point(2.0, OLD), point(2.0, NEW)]))


def test_old_months_go_as_a_whole_and_it_says_how_many_rows(stored: Stored) -> None:
    filled(stored)
    gone = retention.apply(stored.database, Settings(retention_months=3), NOW)
    assert gone == {
        "health_points": 1,
        "health_series": 1,
        "health_routes": 1,
        "health_workouts": 1,
        "health_quarters": 1,
        "health_history": 1,
    }
    for table in (*TRACKED.values(), quarters):
        assert sorted(values(stored.rows(select(table.c.time)))) == [EDGE, NEW]
    assert values(stored.rows(select(history.c.time))) == [NEW]
    assert len(stored.rows(select(quarantine))) == 1
    told = stored.rows(select(metrics.c.metric, metrics.c.count, metrics.c.first, metrics.c.last, metrics.c.unit))
    assert sorted(row[:4] for row in told) == [
        ("heart_rate", 2, EDGE, NEW),
        ("workout_heart_rate", 2, EDGE, NEW),
        ("workout_route", 2, EDGE, NEW),
        ("workouts", 2, EDGE, NEW),
    ]
    assert {row[0]: row[4] for row in told}["heart_rate"] == "count/min"
    assert retention.apply(stored.database, Settings(retention_months=3), NOW) == {}


def test_postgres_drops_the_partitions(stored: Stored) -> None:
    filled(stored)
    retention.apply(stored.database, Settings(retention_months=3), NOW)
    if stored.database.is_postgres:
        left = stored.database.call(lambda connection: partitions.existing(connection, compact.points))
        assert left == {"health_compact_points_2025_11", "health_compact_points_2025_12"}
    stored.write(part(accepted(), [point(3.0, OLD)]))
    assert retention.apply(stored.database, Settings(retention_months=3), NOW)["health_points"] == 1


def test_without_months_nothing_goes(stored: Stored) -> None:
    filled(stored)
    before = stored.dump()
    assert retention.apply(stored.database, Settings(), NOW) == {}
    assert stored.dump() == before


def test_more_rows_than_one_transaction_deletes_go_all_the_same(stored: Stored, monkeypatch: Any) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    stored.write(part(accepted(), [workout(str(number), OLD) for number in range(5)]))
    assert retention.apply(stored.database, Settings(retention_months=3), NOW) == {"health_workouts": 5}
    assert stored.rows(select(workouts)) == stored.rows(text("SELECT * FROM health_metrics")) == []


def test_old_rows_of_the_audit_go_too(stored: Stored) -> None:
    stored.database.call(lambda connection: audit.create(connection))
    for time in (OLD, NEW):
        row = {"id": str(time), "time": time, "action": "x", "outcome": "success"}
        stored.database.call(lambda connection, row=row: connection.execute(insert(audit).values(row)))
    assert retention.apply_to_audit(stored.database, Settings(retention_months=3), NOW) == 1
    assert values(stored.rows(select(audit.c.time))) == [NEW]
    assert retention.apply_to_audit(stored.database, Settings(), NOW) == 0
