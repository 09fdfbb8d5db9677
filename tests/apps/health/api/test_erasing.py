from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from penstock.apps.health.schema import history, ingests, metrics, points, quarantine, quarters
from penstock.apps.health.settings import Settings

from ..inserting import insert_points


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The tables in each of the databases."""
    if request.param == "sqlite":
        return Settings(data=tmp_path, database_url=f"sqlite:///{tmp_path}/a.db", wait="2s")  # type: ignore[arg-type]
    url = request.getfixturevalue("postgis_database")
    return Settings(data=tmp_path, database_url=url, wait="2s")  # type: ignore[arg-type]


async def sent(served: Any, export: Any, count: int = 1) -> list[str]:
    return [(await served.client.post("/api/v1/ingest", json=export)).json()["id"] for _ in range(count)]


async def run(served: Any, statement: Any) -> Any:
    return await served.health.database.run(lambda connection: connection.execute(statement).scalar())


def point(user: int, ingest: str, qty: int) -> dict[str, Any]:
    moment = datetime(2026, 2, 3, 6, qty, tzinfo=UTC)
    key = {"user_id": user, "metric": "step_count", "time": moment, "end_time": moment, "source": "", "kind": ""}
    tracked = {"original": "{}", "ingest_id": ingest, "updated_at": moment}
    return {**key, **tracked, "ordinal": 0, "value": float(qty), "unit": "count"}


def quarter(user: int, minute: int, count: int, sum: float) -> dict[str, Any]:
    moment = datetime(2026, 2, 3, 6, minute, tzinfo=UTC)
    key = {"user_id": user, "metric": "step_count", "time": moment, "source": "", "first": moment, "last": moment}
    return {**key, "count": count, "measured": count, "sum": sum}


async def test_deleting_an_ingest_deletes_its_points_and_its_body(served: Any, export: Any) -> None:
    earlier, ingest, other = await sent(served, export, 3)
    replaced = {
        "user_id": 1,
        "record": "point",
        "metric": "step_count",
        "time": datetime(2026, 2, 3, tzinfo=UTC),
        "key": "{}",
        "original": "{}",
        "ingest_id": earlier,
        "replaced_by": ingest,
        "replaced_at": datetime.now(UTC),
    }

    def write(connection: Any) -> None:
        rows = [point(1, ingest, 1), point(1, ingest, 31), point(1, other, 3), point(2, ingest, 4)]
        insert_points(connection, rows)
        connection.execute(history.insert(), [replaced])
        connection.execute(quarters.insert(), [quarter(1, 0, 3, 6.0), quarter(1, 30, 1, 30.0), quarter(2, 0, 1, 4.0)])

    await served.health.database.run(write)
    served.stream.lazy = True
    answer = await served.client.delete(f"/api/v1/data/{ingest}")
    assert answer.status_code == 200
    assert answer.json()["data"] == {
        "deleted": {"point": 2, "workout": 0, "series": 0, "route": 0},
        "reprocessed": [earlier],
    }
    assert await run(served, select(func.count()).select_from(points)) == 2
    sums = select(quarters.c.user_id, quarters.c.time, quarters.c.count, quarters.c.sum).order_by(quarters.c.user_id)
    left = await served.health.database.run(lambda connection: [tuple(row) for row in connection.execute(sums)])
    assert left == [(1, datetime(2026, 2, 3, 6, tzinfo=UTC), 1, 3.0), (2, datetime(2026, 2, 3, 6, tzinfo=UTC), 1, 4.0)]
    assert await run(served, select(metrics.c.count).where(metrics.c.user_id == 1)) == 1
    assert await run(served, select(func.count()).select_from(history)) == 0
    assert await run(served, select(func.count()).select_from(ingests)) == 2
    assert await run(served, select(func.count()).where(quarantine.c.ingest_id == ingest)) == 0
    assert (await served.client.get(f"/api/v1/ingest/{ingest}")).status_code == 404
    assert (await served.client.get(f"/api/v1/ingest/{ingest}/raw")).status_code == 404
    assert [(accepted.id, accepted.attempt) for accepted in served.stream.taken[3:]] == [(earlier, 2)]
    assert (await served.client.delete(f"/api/v1/data/{ingest}")).status_code == 404


async def test_what_is_not_processed_yet_cannot_be_deleted(serve: Any, settings: Any, export: Any) -> None:
    async with serve(settings.model_copy(update={"wait_bytes": 0})) as served:
        served.stream.lazy = True
        (ingest,) = await sent(served, export)
        answer = await served.client.delete(f"/api/v1/data/{ingest}")
        assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
        assert (await served.client.get(f"/api/v1/ingest/{ingest}")).json()["state"] == "accepted"


@pytest.mark.parametrize("ingest", ["x", "019a9b00-0000-7000-8000-000000000000"])
async def test_what_never_was_cannot_be_deleted(served: Any, ingest: str) -> None:
    assert (await served.client.delete(f"/api/v1/data/{ingest}")).status_code == 404
