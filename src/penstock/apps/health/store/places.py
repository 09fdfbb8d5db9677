"""The routes that pass a place, or through a box on the map."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from sqlalchemy import ColumnElement, Connection, and_, or_, select, text

from ..schema import routes

RADIUS = 6_371_008.7714
"""Of the earth taken as a sphere, in metres, as PostGIS takes it."""
_c = routes.c


def within(connection: Connection, user: int, point: tuple[float, float], metres: float) -> dict[str, float]:
    """Return the parents of the routes that come within ``metres`` of ``point`` (latitude, longitude), the nearest
    first, each with how near it comes.
    """
    if connection.dialect.name == "postgresql":
        found = connection.execute(
            text(
                "SELECT parent_id, min(ST_Distance(position, p, false)) AS nearest FROM health_routes, "
                "(SELECT ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography AS p) place "
                "WHERE user_id = :user AND ST_DWithin(position, p, :metres, false) GROUP BY parent_id"
            ),
            {"longitude": point[1], "latitude": point[0], "metres": metres, "user": user},
        )
        nearest = {row.parent_id: row.nearest for row in found}
    else:
        nearest = _near(connection, user, point, metres)
    return dict(sorted(nearest.items(), key=lambda pair: (pair[1], pair[0])))


def inside(connection: Connection, user: int, bbox: tuple[float, float, float, float]) -> list[str]:
    """Return the parents of the routes that have a point within west, south, east, north, in order.

    ``west`` is greater than ``east`` where the box reaches over the 180th meridian.
    """
    west, south, east, north = bbox
    statement = select(_c.parent_id).distinct().where(_c.user_id == user, _in_box(west, south, east, north))
    if connection.dialect.name == "postgresql" and (circle := _around(west, south, east, north)):
        near = text("ST_DWithin(position, ST_SetSRID(ST_MakePoint(:x, :y), 4326)::geography, :radius, false)")
        statement = statement.where(near.bindparams(x=circle[1], y=circle[0], radius=circle[2]))
    return sorted(connection.scalars(statement))


def _near(connection: Connection, user: int, point: tuple[float, float], metres: float) -> dict[str, float]:
    """Take the points of a box around the place from the index, and measure those."""
    latitude, longitude = point
    height = math.degrees(metres / RADIUS) * 1.001 + 1e-9
    south, north = latitude - height, latitude + height
    box: ColumnElement[bool] = _c.latitude.between(south, north)
    if south > -90 and north < 90:
        spread = math.sin(min(metres / RADIUS, math.pi / 2)) / math.cos(math.radians(latitude))
        if spread < 1:
            width = math.degrees(math.asin(spread)) * 1.001 + 1e-9
            box = and_(_in_box(_turned(longitude - width), south, _turned(longitude + width), north))
    rows = connection.execute(select(_c.parent_id, _c.latitude, _c.longitude).where(_c.user_id == user, box)).all()
    if not rows:
        return {}
    parents, latitudes, longitudes = zip(*rows, strict=True)
    nearest: dict[str, float] = {}
    for parent, distance in zip(parents, _distances(point, latitudes, longitudes), strict=True):
        if distance <= metres and distance < nearest.get(parent, math.inf):
            nearest[parent] = distance
    return nearest


def _in_box(west: float, south: float, east: float, north: float) -> ColumnElement[bool]:
    across = _c.longitude.between(west, east) if west <= east else or_(_c.longitude >= west, _c.longitude <= east)
    return and_(_c.latitude.between(south, north), across)


def _around(west: float, south: float, east: float, north: float) -> tuple[float, float, float] | None:
    """Return latitude, longitude and radius of a circle around a box; None if the box is too large to gain by it."""
    width = east - west if west <= east else east - west + 360
    if width > 90:
        return None
    centre = ((south + north) / 2, _turned(west + width / 2))
    edge = np.linspace(south, north, 33)
    return *centre, 1.02 * max(_distances(centre, edge, np.full(33, west))) + 1.0


def _distances(point: tuple[float, float], latitudes: Iterable[float], longitudes: Iterable[float]) -> list[float]:
    """Return the distances from ``point`` along great circles, in metres."""
    here, there = math.radians(point[0]), np.radians(np.asarray(latitudes))
    across = np.radians(np.asarray(longitudes) - point[1])
    half = np.sin((there - here) / 2) ** 2 + math.cos(here) * np.cos(there) * np.sin(across / 2) ** 2
    return list((2 * RADIUS * np.arcsin(np.minimum(1.0, np.sqrt(half)))).tolist())


def _turned(longitude: float) -> float:
    """Return a longitude between -180 and 180."""
    return (longitude + 180) % 360 - 180
