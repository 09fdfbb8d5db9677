"""Routes of workouts as GeoJSON (RFC 7946) and GPX 1.1, written piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

import msgspec
import numpy as np

from ....platform.database import Database
from ....platform.web.paging import Key
from ..schema import routes
from .workouts import route_question

CHUNK = 8192
_RADIUS = 6_371_008.8
"""Of the earth, in metres: the mean of IUGG."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GPX_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<gpx version="1.1" creator="Penstock" xmlns="http://www.topografix.com/GPX/1/1" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.topografix.com/GPX/1/1 http://www.topografix.com/GPX/1/1/gpx.xsd">\n'
)
Place = Sequence[Any]
Points = Sequence[Place]
"""Each a row of time, latitude, longitude, altitude."""


def chunks(database: Database, user: int, workout: str) -> Iterator[Points]:
    """Read the points of a route in the order of time; to be called in a thread."""
    question = route_question(user, workout)
    columns = [routes.c.time, routes.c.latitude, routes.c.longitude, routes.c.altitude]
    after: Key | None = None
    while True:
        rows, after = database.call(lambda connection: question.page(connection, columns, CHUNK, after))  # noqa: B023
        if rows:
            yield rows
        if after is None:
            return


def distance(points: Points, before: Place | None = None) -> float:
    """Return the length in metres of the way over the points, on a sphere (haversine)."""
    every = points if before is None else [before, *points]
    if len(every) < 2:
        return 0.0
    latitude, longitude = np.radians(np.array([(row[1], row[2]) for row in every])).T
    across = np.sin(np.diff(longitude) / 2) ** 2 * np.cos(latitude[:-1]) * np.cos(latitude[1:])
    haversine = np.sin(np.diff(latitude) / 2) ** 2 + across
    return float(2 * _RADIUS * np.arcsin(np.sqrt(np.clip(haversine, 0.0, 1.0))).sum())


def feature(points: Iterator[Points], properties: dict[str, Any]) -> Iterator[bytes]:
    """Write a GeoJSON feature: a line, or a point where the route has only one; its length goes in ``distance_m``."""
    first = next(points, [])
    if len(first) < 2:
        where = _positions(first)[1:-1] or b"null"
        shape = b'{"type":"Point","coordinates":' + where + b"}" if first else b"null"
        yield b'{"type":"Feature","geometry":' + shape
        length = 0.0
    else:
        yield b'{"type":"Feature","geometry":{"type":"LineString","coordinates":' + _positions(first)[:-1]
        length, last = distance(first), first[-1]
        for rows in points:
            yield b"," + _positions(rows)[1:-1]
            length, last = length + distance(rows, last), rows[-1]
        yield b"]}"
    yield b',"properties":' + msgspec.json.encode(properties | {"distance_m": round(length, 1)}) + b"}"


def _positions(rows: Points) -> bytes:
    return msgspec.json.encode([(row[2], row[1]) if row[3] is None else (row[2], row[1], row[3]) for row in rows])


def collection(features: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    """Write a GeoJSON collection of features."""
    yield b'{"type":"FeatureCollection","features":['
    for index, pieces in enumerate(features):
        if index:
            yield b","
        yield from pieces
    yield b"]}"


def gpx(points: Iterator[Points], name: str, kind: str) -> Iterator[bytes]:
    """Write a GPX file of one track with one segment."""
    title = f"  <trk>\n    <name>{_xml(name)}</name>\n    <type>{_xml(kind)}</type>\n    <trkseg>\n"
    yield (_GPX_HEAD + title).encode()
    for rows in points:
        yield "".join(map(_trackpoint, rows)).encode()
    yield b"    </trkseg>\n  </trk>\n</gpx>\n"


def _xml(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text))


def _trackpoint(row: Place) -> str:
    when: datetime = row[0]
    height = "" if row[3] is None else f"<ele>{_plain(row[3])}</ele>"
    stamp = when.isoformat().replace("+00:00", "Z")
    return f'      <trkpt lat="{_plain(row[1])}" lon="{_plain(row[2])}">{height}<time>{stamp}</time></trkpt>\n'


def _plain(degrees: float) -> str:
    """Return a decimal without an exponent, which XML Schema's decimal does not have."""
    return np.format_float_positional(degrees, trim="-")
