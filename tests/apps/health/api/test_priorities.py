"""A person chooses which source counts first, and what adds up shows the total of the day."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.apps.health.schema import points
from penstock.apps.health.settings import Settings

from .conftest import serving
from .reader import MODULES, Reader, at, point

PRIORITY = "/api/v1/metrics/step_count/priority"


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[Reader]:
    async with serving(settings, (*MODULES, "priorities")) as served:
        reader = Reader(served)
        rows = [
            point("step_count", at(minute), value, source=source, unit="count")
            for minute, source, value in ((0, "Watch", 100.0), (0, "iPhone", 90.0), (5, "iPhone", 7.0))
        ]
        await reader.store((points, rows))
        yield reader


async def test_the_source_that_a_person_chose_counts_first(reader: Reader) -> None:
    assert await reader.data(PRIORITY) == {"sources": ["Watch", "iPhone"], "chosen": False}
    for order, total in ((["iPhone"], 97), (["Watch", "iPhone"], 107), ([], 107)):
        answer = await reader.served.client.put(PRIORITY, json={"sources": order})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["chosen"] == bool(order)
        [day] = await reader.data("/api/v1/metrics/step_count/aggregate")
        assert day["sum"] == total
        [metric] = await reader.data("/api/v1/metrics")
        assert metric["latest"]["value"] == total
        latest = await reader.data("/api/v1/metrics/step_count/latest")
        assert (latest["value"], latest["day_total"]) == (7, total)
    counted = [row.get("counted") for row in await reader.data("/api/v1/metrics/step_count")]
    assert counted == [None, 0, None]


@pytest.mark.parametrize("order", [["Watch", "Watch"], ["Phone|Watch"], [""], ["x" * 256], [3], "Watch", ["a"] * 101])
async def test_what_is_not_an_order_of_sources_is_refused(reader: Reader, order: object) -> None:
    answer = await reader.served.client.put(PRIORITY, json={"sources": order})
    assert answer.status_code == 400
    assert await reader.data(PRIORITY) == {"sources": ["Watch", "iPhone"], "chosen": False}


async def test_a_priority_is_of_one_person(reader: Reader) -> None:
    client, stranger = reader.served.client, reader.served.stranger
    assert (await client.put(PRIORITY, json={"sources": ["iPhone"]}, headers=stranger)).status_code == 404
    assert (await client.put(PRIORITY.replace("step_count", "nothing"), json={"sources": []})).status_code == 404
