"""Parts are stored once, and every point of them is accounted for."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import func, select, text

from penstock.apps.health.acceptance import OTHERS, Counts, Outcome, outcomes_of
from penstock.apps.health.rows import ROWS
from penstock.apps.health.schema import history, ingests, parts, points, quarantine, quarters, routes, series, workouts
from penstock.apps.health.store import accounting
from penstock.apps.health.store.output import Health, Store
from penstock.apps.health.store.rebuild import forget
from penstock.apps.health.store.session import lock
from penstock.component import Output
from penstock.errors import ConnectionLost, PenstockError, PermanentError, TransientError
from penstock.identifiers import new_id
from penstock.testing.contexts import lend_context

from .conftest import Stored, values
from .factory import MINUTE, NOON, accepted, many, part, place, point, refused, stable_id, workout
from .factory import series as series_point


def counts(outcome: Outcome) -> tuple[int, ...]:
    c = outcome.counts
    return c.received, c.stored, c.updated, c.unchanged, c.quarantined


def test_each_kind_of_record_is_stored_in_full(stored: Stored) -> None:
    of = accepted()
    stage = point(
        30.0,
        metric="sleep_analysis",
        kind="deep",
        end_time=NOON + 30 * MINUTE,
        minimum=1.0,
        maximum=2.0,
        fields={"a": 'x "y", z\n'},
        warnings='[{"warning": "suspicious_value", "message": "high"}]',
    )
    [done] = stored.write(part(of, [stage, workout(), series_point(), place(52.5, 13.4), refused('no date, "x"\n')]))
    assert done.state == "processed"
    assert counts(done) == (5, 4, 0, 0, 1)
    assert done.types["workouts"] == Counts(received=1, stored=1)
    assert done.warnings == [{"type": "sleep_analysis", "index": 0, "warning": "suspicious_value", "message": "high"}]
    assert [(one.type, one.path, one.reason) for one in done.quarantined] == [
        ("heart_rate", "data.metrics[0].data[0]", 'no date, "x"\n')
    ]
    [row] = stored.database.call(lambda connection: connection.execute(select(points)).mappings().all())
    expected = {name: stage[name] for name in stage if name not in ("record", "type")}
    documents = {name: msgspec.json.decode(row[name]) for name in ("fields", "warnings")}
    assert documents == {name: msgspec.json.decode(expected.pop(name)) for name in documents}
    assert {name: row[name] for name in expected} == expected
    assert (row["ingest_id"], row["user_id"]) == (of.id, 1)
    assert values(stored.rows(select(workouts.c.end_time))) == [NOON + 30 * MINUTE]
    assert values(stored.rows(select(series.c.value))) == [120.0]
    assert stored.rows(select(routes.c.latitude, routes.c.altitude)) == [(52.5, 34.5)]


def test_l1_received_is_the_sum_of_what_became_of_the_points(stored: Stored) -> None:
    first, second = accepted(), accepted()
    stored.write(part(first, [point(value, NOON + number * MINUTE) for number, value in enumerate([60.0, 61.0, 62.0])]))
    rows = [point(60.0), point(99.0, NOON + MINUTE), point(1.0, NOON + 9 * MINUTE), point(60.0), refused()]
    [done] = stored.write(part(second, rows))
    assert counts(done) == (5, 1, 1, 2, 1)
    for outcome in stored.database.call(lambda c: [accounting.outcome(c, 1, one.id) for one in (first, second)]):
        assert outcome is not None
        for each in (outcome.counts, *outcome.types.values()):
            assert each.received == each.stored + each.updated + each.unchanged + each.quarantined


def test_a_part_that_does_not_add_up_is_refused_by_name(stored: Stored) -> None:
    of = accepted()
    with pytest.raises(PermanentError, match=rf"part 0 of ingest {of.id}.*heart_rate"):
        stored.write(part(of, [point()], received={"heart_rate": 2}))
    assert stored.rows(select(points)) == []


@pytest.mark.parametrize("spoil", ["no part", "part first", "two", "not json", "another ingest", "another user"])
def test_what_is_no_part_is_refused(stored: Stored, spoil: str) -> None:
    of = accepted()
    batch = part(of, [point()])
    rows = batch.to_pylist()
    spoilt: dict[str, Any] = {
        "no part": rows[:1],
        "part first": rows[::-1],
        "two": [*rows, rows[1]],
        "not json": [rows[0], rows[1] | {"fields": "{"}],
        "another ingest": [rows[0] | {"ingest": new_id()}, rows[1]],
        "another user": [rows[0] | {"user": 2}, rows[1]],
    }
    with pytest.raises(PermanentError):
        stored.write(batch.from_pylist(spoilt[spoil], schema=ROWS))
    assert stored.rows(select(points)) == []


def test_a_part_with_other_columns_is_refused(stored: Stored) -> None:
    with pytest.raises(PermanentError, match="columns"):
        stored.write(part(accepted(), [point()]).drop_columns(["value"]))


def test_a_part_that_comes_again_is_counted_once_and_settled_again(stored: Stored) -> None:
    of = accepted()
    first, last = part(of, [point()], last=False), part(of, [point(5.0, NOON + MINUTE)], number=1)
    assert stored.write(first) == []
    [done] = stored.write(first, last)
    assert counts(done) == (2, 2, 0, 0, 0)
    before = stored.dump()
    [again] = stored.write(last)
    assert again == done
    assert stored.dump() == before


def test_an_ingest_is_not_processed_while_a_part_is_missing(stored: Stored) -> None:
    of = accepted()
    assert stored.write(part(of, [point()], number=1, last=True)) == []
    assert values(stored.rows(select(ingests.c.state))) == ["processing"]
    [done] = stored.write(part(of, [point(1.0, NOON + MINUTE)], number=0, last=False))
    assert (done.state, done.counts.received) == ("processed", 2)


@pytest.mark.slow
def test_l2_two_hundred_thousand_points_of_one_type_are_all_stored(stored: Stored) -> None:
    of = accepted()
    batches = many(of, 200_000, step=timedelta(seconds=1))
    done = [outcome for index in range(0, len(batches), 8) for outcome in stored.write(*batches[index : index + 8])]
    assert [counts(outcome) for outcome in done] == [(200_000, 200_000, 0, 0, 0)]
    assert stored.rows(select(func.count()).select_from(points)) == [(200_000,)]


def test_l3_an_ingest_whose_part_fails_in_the_database_is_not_processed(stored: Stored, monkeypatch: Any) -> None:
    of = accepted()
    stored.write(part(of, [point()], last=False))
    load = stored.store._session.load

    def fail(table: str, rows: Any) -> None:
        load(table, rows)
        stored.store._session.connection.execute(text("no_such_statement"))

    monkeypatch.setattr(stored.store._session, "load", fail)
    with pytest.raises(PermanentError, match="no_such_statement"):
        stored.write(part(of, [point(2.0, NOON + MINUTE)], number=1))
    monkeypatch.undo()
    outcome = stored.database.call(lambda connection: accounting.outcome(connection, 1, of.id))
    assert outcome is not None
    assert (outcome.state, outcome.counts.stored) == ("failed", 1)
    assert "no_such_statement" in (outcome.error or "")
    [done] = stored.write(part(of, [point(2.0, NOON + MINUTE)], number=1))
    assert (done.state, done.error, done.counts.stored) == ("processed", None, 2)


async def test_l3_a_session_that_is_cut_while_a_part_is_written_leaves_nothing_and_is_opened_again(
    postgis_database: str, tmp_path: Path
) -> None:
    output = Output.parse({"type": "health", "url": postgis_database})
    of = accepted()
    batches = many(of, 20_000)
    async with lend_context(tmp_path) as context:
        async with output.open(context) as writer:
            writing = asyncio.create_task(writer.write(batches))
            await asyncio.to_thread(_cut, postgis_database)
            with pytest.raises(ConnectionLost):
                await writing
        rows, states = await asyncio.to_thread(_left, postgis_database)
        assert (rows, states) == (0, [])
        with outcomes_of(context).expect(of.id) as expected:
            async with output.open(context) as writer:
                await writer.write(batches)
            outcome = await expected.wait(20)
        assert outcome is not None
        assert outcome.counts == Counts(received=20_000, stored=20_000)


def _cut(url: str) -> None:
    """End the session that writes, once it has begun to write points."""
    find = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND classid = %s"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        found = None
        while found is None:
            found = connection.execute(find, (0x6865616C,)).fetchone()
        connection.execute("SELECT pg_terminate_backend(%s)", found)


def _left(url: str) -> tuple[int, list[str]]:
    with psycopg.connect(url) as connection:
        [rows] = connection.execute("SELECT count(*) FROM health_points").fetchone() or (0,)
        return rows, [state for (state,) in connection.execute("SELECT state FROM health_ingests")]


def test_l12_duplicates_in_one_payload_are_counted_once(stored: Stored) -> None:
    rows = [point(), point(), point(7.0, ordinal=1), point(7.0, ordinal=1), point()]
    [done] = stored.write(part(accepted(), rows))
    assert counts(done) == (5, 2, 0, 3, 0)
    assert sorted(values(stored.rows(select(points.c.value)))) == [7.0, 61.0]
    assert stored.rows(select(history)) == []


def test_l12_two_uploads_of_one_window_in_parallel_lose_nothing(stored: Stored, closing: Any) -> None:
    """Both send 20,000 points of the same window, in parts that cross; the values of the later one stay."""
    stores = [stored.store, closing(stored.another())]
    uploads = [many(accepted(), 20_000, offset=offset, size=1000) for offset in (0.0, 1000.0)]
    uploads[1].reverse()
    settled: list[Outcome] = []
    failures: list[BaseException] = []

    def upload(store: Store, batches: list[Any]) -> None:
        try:
            for index in range(0, len(batches), 3):
                _persist(store, batches[index : index + 3], settled)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=upload, args=pair) for pair in zip(stores, uploads, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [outcome.counts.received for outcome in settled] == [20_000, 20_000]
    assert stored.rows(select(func.count(), func.min(points.c.value))) == [(20_000, 1000.0)]
    assert stored.rows(select(func.count(), func.max(history.c.value))) == [(20_000, 96.0)]
    assert sum(outcome.counts.stored for outcome in settled) == 20_000


def _persist(store: Store, batches: list[Any], settled: list[Outcome]) -> None:
    while True:
        try:
            store.write(batches, settled)
        except TransientError:
            continue
        return


def test_different_values_of_one_key_and_ordinal_are_not_lost(stored: Stored) -> None:
    [done] = stored.write(part(accepted(), [point(1.0), point(2.0), workout(), workout(duration=60.0)]))
    assert counts(done) == (4, 2, 2, 0, 0)
    assert values(stored.rows(select(points.c.value))) == [2.0]
    assert sorted(values(stored.rows(select(history.c.value)))) == [1.0, 1800.0]


def test_l16_overlapping_windows_sent_again_store_each_point_once(stored: Stored) -> None:
    for offset in range(0, 50, 10):
        rows = [point(float(number), NOON + number * MINUTE) for number in range(offset, offset + 60)]
        [done] = stored.write(part(accepted(), rows))
    assert counts(done) == (60, 10, 0, 50, 0)
    assert stored.rows(select(func.count()).select_from(points)) == [(100,)]


def test_the_same_bytes_again_change_no_row_and_are_a_duplicate(stored: Stored) -> None:
    [first] = stored.write(part(accepted(body="x"), [point(), workout(), place(1.0, 2.0)]))
    before = stored.dump()
    [again] = stored.write(part(accepted(body="x"), [point(), workout(), place(1.0, 2.0)]))
    after = stored.dump()
    assert (first.duplicate, again.duplicate) == (False, True)
    assert counts(again) == (3, 0, 0, 3, 0)
    assert {name for name in after if after[name] != before[name]} == {"health_ingests", "health_parts"}
    [other] = stored.write(part(accepted(user=2, body="x"), [point()]))
    assert (other.duplicate, other.counts.stored) == (False, 1)


def test_l20_two_sources_in_one_second_are_both_kept(stored: Stored) -> None:
    stored.write(part(accepted(), [point(60.0, source="Watch"), point(70.0, source="Phone"), point(65.0, source="")]))
    [done] = stored.write(part(accepted(), [point(71.0, source="Phone")]))
    assert counts(done) == (1, 0, 1, 0, 0)
    assert sorted(stored.rows(select(points.c.source, points.c.value))) == [
        ("", 65.0),
        ("Phone", 71.0),
        ("Watch", 60.0),
    ]


def test_l22_a_half_filled_bucket_is_replaced_and_its_value_kept(stored: Stored) -> None:
    first, second = accepted(), accepted()
    stored.write(part(first, [point(4000.0, metric="step_count")]))
    [done] = stored.write(part(second, [point(9000.0, metric="step_count")]))
    assert counts(done) == (1, 0, 1, 0, 0)
    assert values(stored.rows(select(points.c.value))) == [9000.0]
    [kept] = stored.database.call(lambda connection: connection.execute(select(history)).mappings().all())
    assert (kept["value"], kept["metric"], kept["time"], kept["record"]) == (4000.0, "step_count", NOON, "point")
    assert (kept["ingest_id"], kept["replaced_by"]) == (first.id, second.id)
    assert values(stored.rows(select(quarters.c.sum))) == [9000.0]


def test_the_tables_are_the_same_in_whichever_order_ingests_are_written(stored: Stored, closing: Any) -> None:
    ids = [stable_id(number) for number in range(3)]
    batches = [
        part(accepted(id=ids[0]), [point(1.0), workout()]),
        part(accepted(id=ids[1]), [point(2.0), workout(duration=60.0), place(1.0, 1.0)]),
        part(accepted(id=ids[2]), [point(3.0), place(2.0, 2.0)]),
    ]
    for batch in batches:
        stored.write(batch)
    in_order = stored.dump()
    assert values(stored.rows(select(points.c.value))) == [3.0]
    stored.database.call(forget)
    for batch in (batches[2], batches[0], batches[1]):
        stored.write(batch)
    late = stored.dump()
    names = ("health_points", "health_workouts", "health_routes", "health_quarters", "health_metrics")
    assert {name: late[name] for name in names} == {name: in_order[name] for name in names}
    kept = [{(row["record"], row["original"], row["ingest_id"]) for row in _history(dump)} for dump in (in_order, late)]
    assert kept[0] == kept[1]


def _history(dump: dict[str, Any]) -> list[dict[str, Any]]:
    names = [column.name for column in history.columns if column.name not in ("id", "replaced_at")]
    return [dict(zip(names, row, strict=True)) for row in dump["health_history"]]


def test_a_value_that_was_confirmed_is_not_replaced_by_what_was_in_quarantine(stored: Stored) -> None:
    """The second of three ingests is in quarantine; processed again, it is older than the third."""
    second = accepted(id=stable_id(2))
    stored.write(part(accepted(id=stable_id(1)), [point(1.0)]))
    stored.write(part(second, [refused()]))
    [third] = stored.write(part(accepted(id=stable_id(3)), [point(1.0)]))
    assert counts(third) == (1, 0, 0, 1, 0)
    [again] = stored.write(part(accepted(id=stable_id(2), attempt=2), [point(2.0)]))
    assert counts(again) == (1, 0, 0, 1, 0)
    assert values(stored.rows(select(points.c.value))) == [1.0]
    assert values(stored.rows(select(history.c.value))) == [2.0]


def test_another_attempt_counts_anew_and_resolves_what_was_in_quarantine(stored: Stored) -> None:
    of = accepted()
    stored.write(part(of, [point(), refused("no date"), refused("no number", 1)]))
    again = accepted(id=of.id, attempt=2)
    assert stored.write(part(again, [point()], last=False)) == []
    assert values(stored.rows(select(quarantine.c.resolved_at))) == [None, None]
    [done] = stored.write(part(again, [point(5.0, NOON + MINUTE), refused("no number", 1)], number=1))
    assert (done.attempt, counts(done)) == (2, (3, 1, 0, 1, 1))
    assert [one.reason for one in done.quarantined] == ["no number"]
    left = stored.rows(select(quarantine.c.reason).where(quarantine.c.resolved_at.is_(None)))
    assert left == [("no number",)]
    assert stored.rows(select(func.count()).select_from(quarantine)) == [(3,)]


def test_another_attempt_that_reads_a_value_better_replaces_it(stored: Stored) -> None:
    of = accepted()
    wrong = point(61.0) | {"value": 6100.0}
    stored.write(part(of, [wrong]))
    [same] = stored.write(part(accepted(), [point(61.0)]))
    [better] = stored.write(part(accepted(id=of.id, attempt=2), [point(61.0)]))
    assert (counts(same), counts(better)) == ((1, 0, 0, 1, 0), (1, 0, 1, 0, 0))
    assert values(stored.rows(select(points.c.value))) == [61.0]


def test_parts_of_an_attempt_that_is_not_the_latest_are_stored_and_not_counted(stored: Stored) -> None:
    of = accepted()
    stored.write(part(accepted(id=of.id, attempt=2), [point()]))
    stored.write(part(of, [point(5.0, NOON + MINUTE)]))
    outcome = stored.database.call(lambda connection: accounting.outcome(connection, 1, of.id))
    assert outcome is not None
    assert (outcome.attempt, outcome.counts.received) == (2, 1)
    assert stored.rows(select(func.count()).select_from(points)) == [(2,)]


def test_a_body_that_cannot_be_read_fails_with_its_reason(stored: Stored) -> None:
    of = accepted()
    [done] = stored.write(part(of, error="line 1: unexpected end"))
    assert (done.state, done.error, done.counts.received) == ("failed", "line 1: unexpected end", 0)


def test_an_empty_body_is_processed_and_changes_nothing(stored: Stored) -> None:
    [done] = stored.write(part(accepted()))
    assert (done.state, counts(done)) == ("processed", (0, 0, 0, 0, 0))
    assert stored.rows(select(points)) == []


def test_ingests_of_several_users_in_one_call_are_apart(stored: Stored) -> None:
    done = stored.write(*(part(accepted(user=user), [point(float(user))]) for user in (3, 1, 2, 1)))
    assert [counts(outcome)[:3] for outcome in done] == [(1, 1, 0), (1, 1, 0), (1, 1, 0), (1, 0, 0)]
    assert sorted(stored.rows(select(points.c.user_id, points.c.value))) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert stored.database.call(lambda connection: accounting.outcome(connection, 2, done[0].id)) is None


def test_an_announced_ingest_is_accepted_until_its_parts_come(stored: Stored) -> None:
    of = accepted()
    for _ in range(2):
        stored.database.call(lambda connection: accounting.announce(connection, of))
    outcome = stored.database.call(lambda connection: accounting.outcome(connection, 1, of.id))
    assert outcome is not None
    assert (outcome.state, outcome.received_at, outcome.sha256) == ("accepted", NOON, of.sha256)
    [done] = stored.write(part(of, [point()]))
    stored.database.call(lambda connection: accounting.announce(connection, of))
    assert stored.database.call(lambda connection: accounting.outcome(connection, 1, of.id)) == done


def test_an_ingest_that_nobody_knows_has_no_outcome(stored: Stored) -> None:
    for unknown in (new_id(), "x", "", "0" * 500, "\0"):
        assert stored.database.call(lambda connection, id=unknown: accounting.outcome(connection, 1, id)) is None


def test_replacing_very_many_values_in_one_call_takes_no_longer_than_storing_them(stored: Stored) -> None:
    """The database guesses wrongly how many rows there are: one look into the index for each row all the same."""
    for offset in (0.0, 1000.0):
        done = stored.write(*many(accepted(), 40_000, step=timedelta(seconds=1), offset=offset))
    assert [counts(outcome) for outcome in done] == [(40_000, 0, 40_000, 0, 0)]
    assert stored.rows(select(func.count()).select_from(history)) == [(40_000,)]


def test_of_very_many_types_the_rest_are_counted_together(stored: Stored) -> None:
    """What is written down of an ingest stays small, and is written as often as it has parts."""
    said = accepted()
    for number in range(3):
        rows = [point(1.0, NOON, f"k{number}-{each}") for each in range(400)]
        settled = stored.write(part(said, rows, number=number, last=number == 2))
    [outcome] = settled
    assert (outcome.counts.received, outcome.counts.stored) == (1200, 1200)
    assert len(outcome.types) == accounting.MAX_TYPES + 1
    assert outcome.types[OTHERS] == Counts(received=700, stored=700)


@pytest.mark.parametrize("url", ["duckdb:///x.duckdb", "mysql://x", "x"])
def test_another_database_is_refused_when_it_is_loaded(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite"):
        Health.model_validate({"url": url})


async def test_a_database_that_is_not_there_is_lost_without_its_password(tmp_path: Path) -> None:
    output = Output.parse({"type": "health", "url": "postgresql://user:verysecret@127.0.0.1:1/x"})
    async with lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost) as failure:
            async with output.open(context):
                pass
    assert "verysecret" not in str(failure.value) + repr(output)


def test_another_writer_makes_it_try_again(stored: Stored, closing: Any) -> None:
    """Held for longer than it waits, SQLite or the user of PostgreSQL is busy: the call comes again."""
    driver = stored.store._session._driver
    driver.execute("SET lock_timeout = '50ms'" if stored.database.is_postgres else "PRAGMA busy_timeout = 50")
    driver.commit()
    other = closing(stored.another())
    batch = part(accepted(), [point()])
    with other._session.transaction() as connection:
        lock(connection, [1])
        with pytest.raises(TransientError):
            stored.write(batch)
    assert counts(stored.write(batch)[0])[1] == 1


def test_the_parts_of_a_failed_call_are_not_there(stored: Stored) -> None:
    good, bad = accepted(), accepted()
    broken = part(bad, [point() | {"original": None}])
    with pytest.raises(PenstockError):
        stored.write(part(good, [point()]), broken)
    assert stored.rows(select(parts)) == stored.rows(select(points)) == stored.rows(select(ingests)) == []
