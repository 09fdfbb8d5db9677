from __future__ import annotations

from datetime import UTC, datetime

import pytest

from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.export.slices import SCHEMA, Part, Slice, Unreadable, elements, pack, unpack

ACCEPTED = Accepted(
    id="0190d5a0-0000-7000-8000-000000000000",
    user=7,
    received_at=datetime(2026, 2, 3, tzinfo=UTC),
    raw="2026/02/x",
    bytes=1,
    sha256="",
    headers={"session-id": "S"},
)
FULL = Slice(
    section="workout_route",
    name="route",
    units="m",
    first=8192,
    path="data.workouts[0].route",
    payload=b"[{}]",
    parent=b'{"id":"W"}',
    parent_index=0,
    count=1,
    reason="because",
)


@pytest.mark.parametrize("slices", [[], [Slice(section="metrics")], [FULL, Slice(section="symptoms", payload=b"[1]")]])
def test_a_part_survives_the_way_through_the_stream(slices: list[Slice]) -> None:
    part = Part(accepted=ACCEPTED, number=3, last=False, slices=slices, error=None, format="v2", canonical="abc")
    batch = pack(part)
    assert batch.schema == SCHEMA
    assert unpack(batch) == part


def test_a_part_may_say_why_there_is_nothing() -> None:
    part = Part(accepted=ACCEPTED, number=0, last=True, error="at byte 5: expected a value")
    assert unpack(pack(part)) == part


def test_elements_are_read_one_by_one_where_one_is_no_json() -> None:
    assert elements(b'[1,{"a":"b"},null]') == [1, {"a": "b"}, None]
    found = elements(b'[{"a":1},{"a":NaN},[Infinity],"\\ud800",{"\\udfff":1},{"a":{"b":[1e999]}}]')
    assert found[0] == {"a": 1}
    assert all(isinstance(element, Unreadable) for element in found[1:])
    assert "nan" in found[1].reason


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1", b"5", b"[" * 5000])
def test_what_is_no_list_has_no_elements(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        elements(payload)
