"""Routes are found by how near they come, and by boxes on the map."""

from __future__ import annotations

import pytest

from penstock.apps.health.store import places

from .conftest import Stored
from .factory import MINUTE, NOON, accepted, part, place

BERLIN = (52.5200, 13.4050)


@pytest.fixture
def stored(stored: Stored) -> Stored:
    spots = {
        "berlin": [(52.5200, 13.4060), (52.5300, 13.4050)],
        "potsdam": [(52.3906, 13.0645)],
        "fiji": [(-17.0, 179.9), (-17.0, -179.9)],
        "pole": [(89.9, 100.0)],
    }
    placed = [(parent, number, spot) for parent in spots for number, spot in enumerate(spots[parent])]
    rows = [place(*spot, NOON + number * MINUTE, parent) for parent, number, spot in placed]
    stored.write(part(accepted(), rows), part(accepted(user=2), [place(*BERLIN, parent="other")]))
    return stored


def within(stored: Stored, point: tuple[float, float], metres: float) -> dict[str, float]:
    return stored.database.call(lambda connection: places.within(connection, 1, point, metres))


def inside(stored: Stored, *bbox: float) -> list[str]:
    west, south, east, north = bbox
    return stored.database.call(lambda connection: places.inside(connection, 1, (west, south, east, north)))


def test_the_nearest_routes_come_first_with_their_distance(stored: Stored) -> None:
    found = within(stored, BERLIN, 30_000)
    assert list(found) == ["berlin", "potsdam"]
    assert found["berlin"] == pytest.approx(67.7, abs=0.5)
    assert found["potsdam"] == pytest.approx(27_200, rel=0.01)


def test_beyond_the_distance_there_is_nothing(stored: Stored) -> None:
    assert within(stored, BERLIN, 60) == {}
    assert list(within(stored, BERLIN, 70)) == ["berlin"]
    assert within(stored, (0.0, 0.0), 1000) == {}


def test_it_reaches_over_the_meridian_and_the_pole(stored: Stored) -> None:
    assert list(within(stored, (-17.0, -179.99), 15_000)) == ["fiji"]
    assert list(within(stored, (89.9, -80.0), 30_000)) == ["pole"]
    assert len(within(stored, (0.0, 0.0), 30_000_000)) == 4


def test_boxes(stored: Stored) -> None:
    assert inside(stored, 13.0, 52.0, 14.0, 53.0) == ["berlin", "potsdam"]
    assert inside(stored, 13.4, 52.0, 14.0, 53.0) == ["berlin"]
    assert inside(stored, 179.0, -18.0, -179.0, -16.0) == ["fiji"]
    assert inside(stored, -179.0, -18.0, 179.0, -16.0) == []
    assert inside(stored, -180.0, -90.0, 180.0, 90.0) == ["berlin", "fiji", "pole", "potsdam"]
    assert inside(stored, 0.0, 0.0, 0.0, 0.0) == []
