from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from penstock.apps.health.export import catalogue
from penstock.apps.health.reading import person
from penstock.apps.health.schema import points
from penstock.apps.health.settings import Settings

from .reader import Reader, at, point, reading

PATH = "/api/v1/user/characteristics"
WHOLE: dict[str, Any] = {
    "biological_sex": "female",
    "date_of_birth": "1986-02-03",
    "blood_type": "AB_negative",
    "fitzpatrick_skin_type": "type_2",
    "wheelchair_use": False,
    "activity_move_mode": "move_time",
    "emergency_contact_info": {"name": "Ada", "phone": "+49 30 1234"},
    "medical_conditions": ["asthma"],
    "medications": ["salbutamol", "\u0000"],
    "data_sharing_preferences": {"emergency_sharing": True},
}


@pytest.fixture(params=["sqlite", "postgres"])
async def reader(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Reader]:
    """The API on each database."""
    if request.param == "postgres":
        settings = settings.model_copy(update={"database_url": SecretStr(request.getfixturevalue("postgis_database"))})
    async with reading(settings) as found:
        yield found


async def send(reader: Reader, method: str, body: Any = None, path: str = PATH, **more: Any) -> httpx.Response:
    """Send a request with a body."""
    return await reader.served.client.request(method, path, **({"json": body} if body is not None else {}), **more)


async def test_characteristics_are_given_changed_confirmed_and_deleted(reader: Reader) -> None:
    assert await reader.data(PATH) is None
    given = await send(reader, "POST", WHOLE)
    assert given.status_code == 200, given.text
    shown = await reader.data(PATH)
    assert {name: shown[name] for name in WHOLE} == WHOLE
    today = datetime.now(UTC).date()
    assert shown["age"] == today.year - 1986 - ((today.month, today.day) < (2, 3))
    assert shown["verified_at"] is None
    verified = (await send(reader, "POST", path=f"{PATH}/verify")).json()["data"]
    assert verified["verified_at"] is not None
    changed = (await send(reader, "PATCH", {"blood_type": "O_positive"})).json()["data"]
    assert changed["blood_type"] == "O_positive"
    assert changed["date_of_birth"] == "1986-02-03"
    assert changed["verified_at"] is None
    replaced = (await send(reader, "PUT", {"wheelchair_use": True})).json()["data"]
    assert replaced["wheelchair_use"] is True
    assert replaced["date_of_birth"] is None
    assert (await send(reader, "DELETE")).json()["data"] == {"deleted": True}
    assert (await send(reader, "DELETE")).json()["data"] == {"deleted": False}
    assert await reader.data(PATH) is None
    assert (await send(reader, "POST", path=f"{PATH}/verify")).status_code == 404


async def test_changes_at_once_lose_nothing(reader: Reader) -> None:
    await send(reader, "POST", {})
    changes = [{name: WHOLE[name]} for name in WHOLE]
    answers = await asyncio.gather(*(send(reader, "PATCH", change) for change in changes))
    assert {answer.status_code for answer in answers} == {200}
    shown = await reader.data(PATH)
    assert {name: shown[name] for name in WHOLE} == WHOLE


async def test_what_is_no_characteristic_is_refused_by_name(reader: Reader) -> None:
    wrong: list[tuple[Any, str]] = [
        ({"blod_type": "A_positive"}, "did you mean 'blood_type'?"),
        ({"blood_type": "C"}, "blood_type"),
        ({"date_of_birth": "1899-12-31"}, "date_of_birth"),
        ({"date_of_birth": (date.today() + timedelta(days=3)).isoformat()}, "date_of_birth"),
        ({"date_of_birth": "2026-02-30"}, "date_of_birth"),
        ({"wheelchair_use": None}, "wheelchair_use"),
        ({"wheelchair_use": 0}, "wheelchair_use"),
        ({"data_sharing_preferences": {"a": 1}}, "data_sharing_preferences"),
        ({"medications": ["x" * 501]}, "medications"),
        ({"medications": ["x"] * 101}, "medications"),
        ({"emergency_contact_info": {"a": {"b": 1}}}, "emergency_contact_info"),
        ([], "object"),
        ("x", "object"),
    ]
    for body, said in wrong:
        for method in ("POST", "PUT", "PATCH"):
            answer = await send(reader, method, body)
            assert answer.status_code == 400, (body, answer.text)
            assert said in answer.text, answer.text
    for content in (b"", b"{", b'{"medications":["\\ud800"]}', b"\xff", b"[" * 10_000):
        answer = await send(reader, "PUT", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
    large = await send(reader, "PUT", content=b" " * 200_000, headers={"content-type": "application/json"})
    assert large.status_code == 413
    assert await reader.data(PATH) is None


async def test_a_range_is_the_catalogues_and_what_is_expected_is_personal(reader: Reader) -> None:
    before = await reader.data(f"{PATH}/validation/heart_rate")
    known = catalogue.METRICS["heart_rate"]
    assert (before["minimum"], before["maximum"], before["unit"]) == (known.low, known.high, known.unit)
    assert before["expected"] is None
    await send(reader, "PUT", WHOLE)
    shown = await reader.data(PATH)
    after = await reader.data(f"{PATH}/validation/heart_rate")
    assert after["expected"] == {"maximum": 220 - shown["age"], "basis": "220 - age"}
    answer = await reader.get(f"{PATH}/validation/hart_rate")
    assert answer.status_code == 404
    assert "heart_rate" in answer.json()["message"]


async def test_zones_follow_from_age_and_rest(reader: Reader) -> None:
    assert (await reader.get(f"{PATH}/heart-rate-zones")).status_code == 404
    await send(reader, "PUT", WHOLE)
    age = (await reader.data(PATH))["age"]
    plain = await reader.data(f"{PATH}/heart-rate-zones")
    assert plain["method"] == "percentage of maximum"
    assert plain["zones"][-1]["to"] == 220 - age
    karvonen = await reader.data(f"{PATH}/heart-rate-zones", resting_hr=60)
    assert karvonen["method"] == "Karvonen"
    assert karvonen["zones"][0]["from"] == round(60 + 0.5 * (220 - age - 60))
    await reader.store((points, [point("resting_heart_rate", at(0), 52.0)]))
    assert (await reader.data(f"{PATH}/heart-rate-zones"))["resting"] == 52
    for wrong in ("19", "151", "x", "1e400"):
        answer = await reader.get(f"{PATH}/heart-rate-zones", resting_hr=wrong)
        assert answer.status_code == 400
        assert answer.json()["details"][0]["key"] == "resting_hr"


async def test_nobody_who_may_only_read_changes_anything(reader: Reader) -> None:
    only_read = await reader.served.key("read")
    for method, path in (("POST", PATH), ("PUT", PATH), ("PATCH", PATH), ("DELETE", PATH), ("POST", f"{PATH}/verify")):
        answer = await send(
            reader, method, {} if path == PATH and method != "DELETE" else None, path, headers=only_read
        )
        assert answer.status_code == 403
    await send(reader, "PUT", WHOLE)
    assert (await reader.get(PATH, stranger=True)).json()["data"] is None
    await send(reader, "DELETE", headers=reader.served.stranger)
    assert (await reader.data(PATH))["blood_type"] == "AB_negative"


async def test_sun_activity_and_emergency(reader: Reader) -> None:
    assert await reader.data(f"{PATH}/emergency-info") is None
    assert (await reader.data(f"{PATH}/uv-recommendations"))["assumed_skin_type"] == "type_1"
    await send(reader, "PUT", WHOLE | {"wheelchair_use": True})
    emergency = await reader.data(f"{PATH}/emergency-info")
    assert emergency["medications"] == WHOLE["medications"]
    assert emergency["emergency_contact_info"]["phone"] == "+49 30 1234"
    sun = await reader.data(f"{PATH}/uv-recommendations")
    minutes = [row["minutes_to_erythema"] for row in sun["by_uv_index"]]
    assert minutes == sorted(minutes, reverse=True)
    assert minutes[0] == round(250 / 1.5)
    activity = await reader.data(f"{PATH}/activity-personalization")
    assert activity["movement_metric"] == "wheelchair_push_count"
    assert activity["move_metric"] == "apple_move_time"


def test_formulas() -> None:
    assert person.greatest_heart_rate(40) == 180
    zones = person.heart_rate_zones(40, 60)
    assert [(zone["from"], zone["to"]) for zone in zones] == [
        (120, 132),
        (132, 144),
        (144, 156),
        (156, 168),
        (168, 180),
    ]
    assert [zone["from"] for zone in person.heart_rate_zones(40, None)] == [90, 108, 126, 144, 162]
    born = person.Characteristics(date_of_birth=date(2000, 2, 29))
    assert born.age(date(2026, 2, 28)) == 25
    assert born.age(date(2026, 3, 1)) == 26
    young = person.Characteristics(date_of_birth=date(2015, 1, 1))
    assert person.activity(young, date(2026, 1, 1))["moderate_minutes_a_week"] == {"from": 420, "to": None}
