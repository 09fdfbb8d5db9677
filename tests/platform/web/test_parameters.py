"""How parameters are read, and that a misspelt one is refused rather than ignored."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from litestar import Litestar, get
from litestar.params import FromQuery
from litestar.testing import AsyncTestClient

from penstock.platform.web import errors
from penstock.platform.web.errors import ApiError
from penstock.platform.web.parameters import known_parameters, moment, window, zone_of


@get("/points", before_request=known_parameters)
async def points(limit: FromQuery[int] = 10) -> int:
    return limit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-02-03T06:15:00Z", datetime(2026, 2, 3, 6, 15, tzinfo=UTC)),
        ("2026-02-03T06:15:00+01:00", datetime(2026, 2, 3, 5, 15, tzinfo=UTC)),
        ("2026-02-03T06:15:00 01:00", datetime(2026, 2, 3, 5, 15, tzinfo=UTC)),
        ("2026-02-03", datetime(2026, 2, 2, 23, tzinfo=UTC)),
        (None, None),
    ],
)
def test_a_time_is_read_in_its_zone(text: str | None, expected: datetime | None) -> None:
    assert moment("start", text, ZoneInfo("Europe/Berlin")) == expected


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ApiError, match="'end' is before 'start'"):
        window("2026-02-03", "2026-02-02")


def test_an_unknown_zone_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ApiError, match=r"did you mean 'Europe/Berlin'\?"):
        zone_of("Europe/Berln")


async def test_a_misspelt_parameter_is_refused() -> None:
    handlers = errors.HANDLERS
    app = Litestar([points], exception_handlers=handlers, openapi_config=None)  # type: ignore[arg-type]
    async with AsyncTestClient(app) as client:
        assert (await client.get("/points", params={"limit": 3})).json() == 3
        refused = await client.get("/points", params={"limt": 3})
    assert refused.status_code == 400
    assert refused.json()["error"] == "validation_error"
    assert "did you mean 'limit'?" in refused.json()["message"]
