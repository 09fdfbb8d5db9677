import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select

from penstock.apps.health import quality
from penstock.apps.health.quality import Look
from penstock.apps.health.schema import ingests, quarantine
from penstock.apps.health.schema import metrics as summaries
from penstock.apps.health.schema import quality as looks
from penstock.apps.health.settings import Settings
from penstock.apps.health.store.migrations import migrate
from penstock.identifiers import new_id
from penstock.observe.metrics import registry
from penstock.platform.access import schema as access
from penstock.platform.access.keys import users_holding
from penstock.platform.access.schema import keys, users
from penstock.platform.database import Database

from .inserting import insert_points

NOW = datetime(2026, 3, 31, 15, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_prefixes = itertools.count()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database with the tables of the service."""
    url = f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgis_database")
    database = Database.of(url)
    migrate(database)
    database.call(access.metadata.create_all)
    yield database
    database.close()


def senders(database: Database) -> list[int]:
    """Return the users who have a key to send with."""
    return database.call(lambda connection: users_holding(connection, "health.ingest"))


class Person:
    """A user with a key, whose data is made up."""

    def __init__(self, database: Database, name: str = "me", **key: Any) -> None:
        self._database = database
        self.id: int = database.call(lambda connection: self._create(connection, name, key))

    def _create(self, connection: Connection, name: str, key: dict[str, Any]) -> int:
        row = insert(users).values(name=name, created_at=NOW - 400 * DAY).returning(users.c.id)
        user = int(connection.execute(row).scalar_one())
        values = {
            "prefix": f"{next(_prefixes):08x}",
            "hash": "",
            "name": "phone",
            "scopes": '["health.ingest", "health.read"]',
        }
        given = {"id": new_id(), "user_id": user, "created_at": NOW - 400 * DAY, **values, **key}
        connection.execute(insert(keys).values(**given))
        return user

    def sent(self, at: datetime, **values: Any) -> str:
        """Have sent a body."""
        row = {
            "id": new_id(),
            "user_id": self.id,
            "received_at": at,
            "state": "processed",
            "attempt": 1,
            "form": "export",
            "bytes": 1,
            "sha256": "",
            "raw": "",
            **values,
        }
        self._database.call(lambda connection: connection.execute(insert(ingests).values(**row)))
        return str(row["id"])

    def has(self, metric: str, times: list[datetime], values: list[float], warned: int = 0) -> None:
        """Have points; the first ``warned`` of them are unlikely."""
        rows = [
            {
                "user_id": self.id,
                "metric": metric,
                "time": time,
                "end_time": time,
                "source": "",
                "kind": "",
                "ordinal": 0,
                "value": value,
                "original": "{}",
                "ingest_id": new_id(),
                "updated_at": time,
                "warnings": "[]" if place < warned else None,
            }
            for place, (time, value) in enumerate(zip(times, values, strict=True))
        ]
        known = {"user_id": self.id, "metric": metric, "source": "", "record": "point", "count": len(rows)}
        known |= {"first": min(times), "last": max(times)}

        def write(connection: Connection) -> None:
            insert_points(connection, rows)
            connection.execute(insert(summaries).values(**known))

        self._database.call(write)

    def found(self, now: datetime = NOW, **settings: Any) -> Look:
        """What a look finds."""
        return quality.look(self._database, Settings(**settings), now, [self.id])[self.id]


def every(step: timedelta, until: datetime = NOW, days: float = 30) -> list[datetime]:
    """Times at equal distances up to ``until``."""
    return [until - step * number for number in range(int(days * DAY / step))]


def regular(person: Person, until: datetime = NOW) -> None:
    """Have sent, every hour of the window, what is as it should be."""
    for at in every(6 * HOUR, until, 31):
        person.sent(at, received=100, stored=20, unchanged=80)
    times = every(2 * HOUR, until, 30)
    person.has("heart_rate", times, [70 + number % 5 for number in range(len(times))])


def kinds(found: Look) -> list[str]:
    return [finding["finding"] for finding in found.findings]


def test_regular_data_has_the_highest_score(database: Database) -> None:
    me = Person(database)
    regular(me)
    assert me.found() == Look(100.0, [])


def test_it_is_written_down_and_of_each_day_the_last_is_kept(database: Database) -> None:
    me = Person(database)
    regular(me)
    for now in (NOW - 100 * DAY, NOW - DAY, NOW - HOUR, NOW):
        me.found(now)
    rows = database.call(
        lambda connection: connection.execute(select(looks.c.time, looks.c.score, looks.c.findings)).fetchall()
    )
    assert [row.time for row in rows] == [NOW - DAY, NOW]
    assert (rows[-1].score, json.loads(rows[-1].findings)) == (100.0, [])
    assert database.call(quality.looked) == NOW
    assert database.call(lambda connection: quality.last(connection, NOW)) == [Look(100.0, [])]


def test_whoever_has_not_synced_is_silent(database: Database) -> None:
    me = Person(database)
    regular(me, NOW - 49 * HOUR)
    found = me.found()
    assert kinds(found) == ["silence", "gaps"]
    assert found.findings[0]["message"] == "nothing has arrived for 49 h"
    assert found.findings[1]["days"] == ["2026-03-30"]
    assert found.score == pytest.approx(100 - 30 - 40 / 30, abs=0.1)
    assert kinds(me.found(silence="50h")) == ["gaps"]


def test_whoever_never_synced_is_silent_too(database: Database) -> None:
    found = Person(database).found()
    assert (found.score, kinds(found)) == (0.0, ["silence"])
    assert found.findings[0]["since"] is None


def test_users_whose_keys_do_not_work_are_left_alone(database: Database) -> None:
    me = Person(database)
    Person(database, "revoked", revoked_at=NOW - DAY)
    Person(database, "expired", expires_at=NOW - DAY)
    Person(database, "reader", scopes='["health.read"]')
    assert list(quality.look(database, Settings(), NOW, senders(database))) == [me.id]


def test_a_metric_that_stops_is_stale(database: Database) -> None:
    me = Person(database)
    regular(me)
    stopped = NOW - 5 * DAY
    me.has("step_count", every(HOUR, stopped, 15), [1.0] * 360)
    weekly = every(3 * DAY, NOW - 6 * DAY, 24)
    me.has("weight_body_mass", weekly, [80.0] * len(weekly))
    me.has("symptoms", [NOW - 20 * DAY, NOW - 10 * DAY], [1.0, 1.0])
    found = me.found()
    assert [(one["finding"], one["metric"]) for one in found.findings] == [("stale", "step_count")]
    assert found.findings[0]["last"] == stopped.isoformat()
    assert found.findings[0]["message"] == "step_count comes every 1.0 days, but has not for 5.0"
    assert found.score == pytest.approx(100 - 30 / 3, abs=0.1)


def test_days_without_data_are_gaps(database: Database) -> None:
    me = Person(database)
    me.sent(NOW - 10 * DAY)
    me.sent(NOW)
    times = [time for time in every(2 * HOUR, NOW, 10) if time.day not in (25, 27)]
    me.has("heart_rate", times, [70.0] * len(times))
    found = me.found()
    assert found.findings == [
        {
            "finding": "gaps",
            "message": "no data of 2 of 10 days",
            "missing": 2,
            "of": 10,
            "days": ["2026-03-25", "2026-03-27"],
        }
    ]
    assert found.score == pytest.approx(100 - 40 * 2 / 10, abs=0.1)


def test_a_day_unlike_the_others_is_an_anomaly(database: Database) -> None:
    me = Person(database)
    regular(me)
    times = every(DAY, NOW - HOUR, 28)
    values = [60.0 + number % 3 for number in range(len(times))]
    values[2], values[20] = 110.0, 110.0
    me.has("resting_heart_rate", times, values)
    [finding] = me.found().findings
    assert (finding["finding"], finding["metric"], finding["day"]) == ("anomaly", "resting_heart_rate", "2026-03-29")
    assert finding["message"] == "resting_heart_rate was 110 on 2026-03-29, and usually is about 61"


@pytest.mark.parametrize("values", [[1.0] * 28, [0.0] * 27 + [5.0]])
def test_what_never_changes_has_no_anomalies(database: Database, values: list[float]) -> None:
    me = Person(database)
    regular(me)
    me.has("handwashing", every(DAY, NOW - HOUR, 28), values)
    assert me.found().findings == []


def test_unlikely_values_are_out_of_range(database: Database) -> None:
    me = Person(database)
    regular(me)
    me.has("body_temperature", every(HOUR, NOW, 10), [37.0] * 240, warned=60)
    found = me.found()
    assert kinds(found) == ["out_of_range"]
    assert (found.findings[0]["metric"], found.findings[0]["share"]) == ("body_temperature", 0.25)
    assert found.score == pytest.approx(100 - 10 * 60 / 600, abs=0.1)


def test_bodies_that_come_again_and_again_are_duplicates(database: Database) -> None:
    me = Person(database)
    regular(me)
    for number in range(200):
        me.sent(NOW - number * HOUR, duplicate=True, received=10, unchanged=10)
    [finding] = me.found().findings
    assert (finding["finding"], finding["bodies"]) == ("duplicates", 200)


def test_quarantined_points_and_unreadable_bodies_are_found(database: Database) -> None:
    me = Person(database)
    regular(me)
    ingest = me.sent(NOW, received=1000, stored=500, quarantined=500)
    row = {
        "user_id": me.id,
        "ingest_id": ingest,
        "attempt": 1,
        "type": "step_count",
        "path": "",
        "reason": "",
        "payload": "",
    }
    kept = [{**row, "created_at": NOW, "resolved_at": NOW if number < 2 else None} for number in range(5)]
    database.call(lambda connection: connection.execute(insert(quarantine), kept))
    me.sent(NOW - DAY, state="failed")
    me.sent(NOW - 8 * DAY, state="failed")
    found = me.found()
    assert kinds(found) == ["quarantined", "unreadable"]
    assert found.findings[0]["open"] == 3
    assert found.findings[0]["share"] == pytest.approx(500 / 13_000, abs=0.001)
    assert found.findings[1]["bodies"] == 1


def test_users_see_nothing_of_one_another(database: Database) -> None:
    me, other = Person(database), Person(database, "other")
    regular(me)
    found = quality.look(database, Settings(), NOW, senders(database))
    assert kinds(found[me.id]) == []
    assert kinds(found[other.id]) == ["silence"]


def test_findings_are_shown_as_numbers_of_users(database: Database) -> None:
    me = Person(database)
    regular(me)
    Person(database, "a")
    Person(database, "b")
    quality.look(database, Settings(), NOW, senders(database))

    def users_with(finding: str) -> float | None:
        return registry.get_sample_value("health_export_quality_users", {"finding": finding})

    assert {finding: users_with(finding) for finding in quality.FINDINGS} == dict.fromkeys(quality.FINDINGS, 0) | {
        "silence": 2
    }
    assert registry.get_sample_value("health_export_quality_worst_score") == 0
    quality.show([])
    assert users_with("silence") == 0
    assert registry.get_sample_value("health_export_quality_worst_score") == 100


def test_a_look_ends_early_when_it_is_to_stop(database: Database) -> None:
    for name in ("a", "b", "c"):
        Person(database, name)
    answers = iter([False, True])
    assert len(quality.look(database, Settings(), NOW, senders(database), lambda: next(answers))) == 1
    count = select(func.count()).select_from(looks)
    assert database.call(lambda connection: connection.scalar(count)) == 1
