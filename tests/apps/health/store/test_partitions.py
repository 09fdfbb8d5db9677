"""PostgreSQL keeps points in a partition for each month, made when the first of them comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text

from penstock.apps.health import compact
from penstock.apps.health.schema import PARTITIONED, points, routes
from penstock.apps.health.store import partitions
from penstock.apps.health.store.output import Store

from .conftest import Stored
from .factory import NOON, accepted, many, part, place, point, series


@pytest.fixture
def stored(postgis_database: str) -> Iterator[Stored]:
    opened = Stored(postgis_database)
    yield opened
    opened.close()


def held(stored: Stored, table: str = "health_compact_points") -> dict[str, int]:
    """Return how many rows each partition has."""
    statement = text(f"SELECT tableoid::regclass::text, count(*) FROM {table} GROUP BY 1 ORDER BY 1")
    return dict(tuple(row) for row in stored.rows(statement))


def at(year: int, month: int = 1, day: int = 1) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def test_there_is_a_partition_for_any_month_that_comes(stored: Stored) -> None:
    times = [at(1900), at(1969, 12, 31), at(2026, 2, 28), at(2026, 3), at(2200, 12, 31)]
    stored.write(part(accepted(), [point(time=time) for time in times]))
    assert held(stored) == {
        "health_compact_points_1900_01": 1,
        "health_compact_points_1969_12": 1,
        "health_compact_points_2026_02": 1,
        "health_compact_points_2026_03": 1,
        "health_compact_points_2200_12": 1,
    }


def test_times_that_no_clock_shows_are_kept_in_the_default_partition(stored: Stored) -> None:
    stored.write(part(accepted(), [point(time=at(1899, 12, 31)), point(time=at(2201)), point(time=at(9999, 12, 31))]))
    assert held(stored) == {"health_compact_points_default": 3}


def test_series_and_routes_have_partitions_too(stored: Stored) -> None:
    stored.write(part(accepted(), [series(), place(1.0, 2.0)]))
    assert held(stored, "health_series") == {"health_series_2026_02": 1}
    assert held(stored, "health_routes") == {"health_routes_2026_02": 1}


def test_rows_that_wait_in_the_default_partition_move_into_the_one_of_their_month(
    stored: Stored, monkeypatch: Any
) -> None:
    monkeypatch.setattr(partitions, "_MAX_PARTITIONS", 2)
    rows = [point(time=at(2020, month)) for month in range(1, 6)] + [point(time=at(2020, 1, 2))]
    stored.write(part(accepted(), rows))
    assert held(stored) == {
        "health_compact_points_2020_01": 2,
        "health_compact_points_2020_02": 1,
        "health_compact_points_default": 3,
    }
    [again] = stored.write(part(accepted(), rows))
    assert again.counts.unchanged == 6
    stored.write(part(accepted(), rows))
    assert held(stored) == {f"health_compact_points_2020_0{month}": 2 if month == 1 else 1 for month in range(1, 6)}


def test_a_route_that_waited_keeps_its_position(stored: Stored, monkeypatch: Any) -> None:
    with monkeypatch.context() as most:
        most.setattr(partitions, "_MAX_PARTITIONS", 0)
        stored.write(part(accepted(), [place(52.0, 13.0)]))
    assert held(stored, "health_routes") == {"health_routes_default": 1}
    stored.write(part(accepted(), [place(52.0, 13.0)]))
    assert held(stored, "health_routes") == {"health_routes_2026_02": 1}
    position = text("SELECT ST_X(position::geometry), ST_Y(position::geometry) FROM health_routes_2026_02")
    assert stored.rows(position) == [(13.0, 52.0)]


def test_a_reader_of_the_default_partition_holds_nobody_up(stored: Stored, monkeypatch: Any) -> None:
    monkeypatch.setattr(partitions, "_LOCK_TIMEOUT", "100ms")
    with stored.database.pool.connect() as reader:
        reader.execute(text("SELECT count(*) FROM health_compact_points_default"))
        stored.write(part(accepted(), [point()]))
        assert held(stored) == {"health_compact_points_default": 1}
    stored.write(part(accepted(), [point(1.0)]))
    assert held(stored) == {"health_compact_points_2026_02": 1}


def test_replicas_make_the_same_partitions_at_once(stored: Stored, closing: Any) -> None:
    stores = [closing(stored.another()) for _ in range(3)]
    failures: list[BaseException] = []

    def write(store: Store, user: int) -> None:
        try:
            store.write(many(accepted(user), 3000, step=timedelta(hours=6)), [])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(store, user)) for user, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(held(stored).values()) == 9000
    assert "health_compact_points_default" not in held(stored)


def test_each_partition_has_brin_on_time_its_unique_key_and_routes_have_gist(stored: Stored) -> None:
    stored.write(part(accepted(), [point(), series(), place(1.0, 2.0)]))
    for table in PARTITIONED:
        name = f"{table.name}_2026_02"
        found = stored.rows(text("SELECT indexdef FROM pg_indexes WHERE tablename = :name").bindparams(name=name))
        text_of = " ".join(row[0] for row in found)
        assert 'USING brin ("time")' in text_of
        assert "UNIQUE INDEX" in text_of
        assert ("USING gist" in text_of) is (table is routes)


def test_months_are_found_by_columns() -> None:
    of = accepted()
    [batch] = many(of, 100, start=NOON, step=timedelta(days=1))
    found = partitions.months([batch.column("time").drop_null()])
    assert [partitions.name_of(compact.points, month) for month in sorted(found)] == [
        f"health_compact_points_2026_0{month}" for month in range(2, 6)
    ]
    assert partitions.begin_of(found[0]) == at(2026, 3)


def test_points_of_many_months_are_all_found_again(stored: Stored) -> None:
    batches = many(accepted(), 5000, start=at(1990), step=timedelta(days=2))
    stored.write(*batches)
    [done] = stored.write(*many(accepted(), 5000, start=at(1990), step=timedelta(days=2)))
    assert done.counts.unchanged == 5000
    assert stored.rows(select(func.count()).select_from(points)) == [(5000,)]
