"""Parsers of workouts, of the series in them, and of their routes: version 1 and 2 of the app's export."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from .catalogue import find
from .dates import Instant
from .elements import Element, Rows, Unreadable, elements, finite, number, parent, snake
from .lists import Bounds, Table, canonical_unit, converted, nullable, suspicious, unknown_unit
from .records import ROUTE, SERIES, WORKOUT, Records, encode_sorted, says_anything, section
from .slices import Slice
from .slices import elements as listed
from .sources import normalise
from .units import Floats, conversion, is_unit

WORKOUTS = "workouts"
NAMESPACE = uuid.UUID("6f0ce0a5-8a43-5f0e-9f5e-0a3a3b6e7f11")
"""Of the ids that are made where none is sent."""
START = ("start", "startDate", "started_at", "date")
END = ("end", "endDate", "ended_at")
NAME = ("name", "workoutActivityType", "workout_type", "type")
_ABOUT = frozenset((*START, *END, "id", "name", "source", "user_id", "created_at"))
_DAY = 86_400.0
_HEART = find("heart_rate")
_SPELLINGS = {"intesity": "intensity"}
_WITH_UNIT = {"_kcal": "kcal", "_meters": "m", "_kg": "kg", "_celsius": "degC", "_minutes": "min", "_seconds": "s"}
_SERIES = re.compile(
    r".*Data|.*Recovery|activeEnergy|basalEnergy|stepCount|(walking|running|cycling|swim|wheelchair|distance)\w*",
    re.IGNORECASE,
)
"""The lists of points that the app is known to send, by their names."""
_NUMBERS = ("qty", "Avg", "avg", "Min", "min", "Max", "max")
_TIMES = ("date", "start", "startDate", "timestamp")
_PLAUSIBLE: Mapping[str, Bounds] = {
    "active_energy": (0.0, 20_000.0),
    "active_energy_burned": (0.0, 20_000.0),
    "total_energy": (0.0, 20_000.0),
    "distance": (0.0, 500_000.0),
    "avg_heart_rate": (15.0, 300.0),
    "max_heart_rate": (15.0, 300.0),
}
_PLAUSIBLE_ROUTE: Mapping[str, Bounds] = {
    "latitude": (-90.0, 90.0),
    "longitude": (-180.0, 180.0),
    "altitude": (-500.0, 9000.0),
    "speed": (0.0, 150.0),
    "horizontalAccuracy": (0.0, 1000.0),
    "verticalAccuracy": (0.0, 1000.0),
}


@section("workouts")
def workouts(slice: Slice, records: Records) -> None:
    """Make each workout of ``slice`` a row; one without a start goes into quarantine."""
    rows = Rows(record=WORKOUT, type=WORKOUTS, unit="s")
    for element in elements(slice, records, WORKOUTS):
        try:
            rows.add(**workout(element))
        except Unreadable as reason:
            records.quarantine(slice, element.index, str(reason), element.value, type=WORKOUTS)
    rows.flush(records)


def workout(element: Element) -> dict[str, Any]:
    """Return the columns of a workout; raises Unreadable if it has no start."""
    start, end = _span(element)
    seconds = (end.micros - start.micros) / 1e6
    if seconds > _DAY:
        element.warn("suspicious_value", f"lasts {seconds / 3600:g} h, expected at most 24 h")
    fields = _fields(element)
    return {
        "index": element.index,
        "metric": element.text(*NAME),
        "time": start.micros,
        "end_time": end.micros,
        "source": normalise(element.get("source") or element.get("source_device")),
        "parent": _identity(element, start, end),
        "value": _duration(element, seconds),
        "fields": encode_sorted(fields),
        "original": element.original(),
        "offset_minutes": start.offset_minutes,
        "warnings": element.warnings(),
    }


def _span(element: Element) -> tuple[Instant, Instant]:
    start = element.start(*START)
    return start, element.end(start, *END)


def _identity(element: Element, start: Instant, end: Instant) -> str:
    """Return the id that was sent, else one made of name, start and end: the same whatever offset they are said in."""
    sent = element.text("id", "uuid")
    if sent:
        return sent
    return _id_of(element.text(*NAME), start.micros, end.micros)


def make_id(name: str, start: datetime, end: datetime) -> str:
    """Return the id of a workout that was sent without one."""
    epoch, micro = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)
    return _id_of(name, (start - epoch) // micro, (end - epoch) // micro)


def _id_of(name: str, start: int, end: int) -> str:
    return str(uuid.uuid5(NAMESPACE, encode_sorted([name, start, end]).decode()))


def _duration(element: Element, seconds: float) -> float | None:
    value = element.get("duration")
    found = number(value)
    if found is not None:
        units = value.get("units") if isinstance(value, dict) else None
        convert = conversion(units, "s") if isinstance(units, str) else None
        return finite(convert(found) if convert else found)
    clocked = _clocked(value)
    return clocked if clocked is not None else seconds if seconds > 0 else None


def _clocked(value: Any) -> float | None:
    """Return the seconds of a duration such as 0:30:00, as CSV has it."""
    parts = value.strip().split(":") if isinstance(value, str) else []
    if 2 <= len(parts) <= 3 and all(part.replace(".", "", 1).isdecimal() for part in parts):
        return sum(float(part) * (1, 60, 3600)[place] for place, part in enumerate(reversed(parts)))
    return None


def _fields(element: Element) -> dict[str, Any]:
    """Return what the workout says, numbers with a unit as ``{"value": ..., "unit": ...}`` in canonical units."""
    found: dict[str, Any] = {}
    for key, value in element.value.items():
        if key in _ABOUT or value is None:
            continue
        name = _SPELLINGS.get(key, key)
        ending = next((each for each in _WITH_UNIT if key.endswith(each)), "")
        if ending and not isinstance(value, dict):
            name, value = key.removesuffix(ending), {"qty": value, "units": _WITH_UNIT[ending]}
        name = snake(name) or key
        if name == "duration" and (seconds := _clocked(value)) is not None:
            value = seconds
        said = {} if isinstance(value, dict) and not says_anything(value) else measured(value)
        found[key if name in found else name] = said
        for unit in sorted(set(_strange_units(value))):
            warning = unknown_unit(unit)
            element.warn(warning["warning"], f"{name}: {warning['message']}")
        low, high = _PLAUSIBLE.get(name, (None, None))
        plain = said.get("value") if isinstance(said, dict) else said
        if low is not None and high is not None and isinstance(plain, int | float) and not low <= plain <= high:
            warning = suspicious(name, plain, low, high)
            element.warn(warning["warning"], warning["message"])
    return found


def _strange_units(value: Any) -> Iterator[str]:
    """Yield the units in ``value`` that are not known, wherever they stand in it."""
    if isinstance(value, dict):
        units = value.get("units")
        if isinstance(units, str) and units and not is_unit(units):
            yield units
        for each in value.values():
            yield from _strange_units(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strange_units(each)


def measured(value: Any, units: Any = None) -> Any:
    """Return ``{qty, units}`` as ``{"value", "unit"}`` in the canonical unit, wherever it stands in ``value``."""
    if isinstance(value, list):
        return [measured(each) for each in value]
    if not isinstance(value, dict):
        return value
    units = value.get("units")
    if number(value.get("qty")) is not None:
        others = {snake(key) or key: each for key, each in value.items() if key not in ("qty", "units")}
        return others | _quantity(value["qty"], units)
    named = {snake(key) or key: each for key, each in value.items()}
    if not isinstance(units, str) or len(named) < len(value):
        return {key: measured(each) for key, each in value.items()}
    return {
        key: _quantity(each, units) if number(each) is not None and not isinstance(each, dict) else measured(each)
        for key, each in named.items()
        if key != "units"
    }


def _quantity(value: Any, units: Any) -> dict[str, Any]:
    plain = number(value)
    if plain is None or not isinstance(units, str):
        return {"value": plain, "unit": units}
    unit = canonical_unit(units)
    convert = conversion(units, unit)
    said = finite(convert(plain) if convert else plain)
    return {"value": said, "unit": unit} if said is not None else {"value": plain, "unit": units}


def _parent(slice: Slice) -> str:
    """Return the id of the workout of a list; raises Unreadable if the workout cannot be stored."""
    try:
        element = parent(slice)
        return _identity(element, *_span(element))
    except Unreadable as reason:
        raise Unreadable(f"its workout cannot be stored: {reason}") from None


def is_series(key: str, content: bytes | None) -> bool:
    """Tell whether a list of a workout holds points: by its name, else by its first elements.

    ``content`` is the JSON of these without the brackets. What holds none, such as its activities and segments, says
    something of the workout itself.
    """
    if content is None or _SERIES.fullmatch(key):
        return True
    first = next((one for one in listed(b"[" + content + b"]") if isinstance(one, dict)), {})
    return any(number(first.get(name)) is not None for name in _NUMBERS) and any(first.get(name) for name in _TIMES)


def series_name(key: str) -> str:
    """Return what the series under ``key`` of a workout is called: ``heartRateData`` is ``heart_rate``."""
    name = snake(key).removesuffix("_data")
    return name or "unnamed"


@section("workout_series")
def series(slice: Slice, records: Records) -> None:
    """Make each point of a list of a workout a row; those of a workout that cannot be stored go into quarantine."""
    metric = series_name(slice.name)
    table = Table(slice, records, f"workout_{metric}")
    try:
        identity = _parent(slice)
    except Unreadable as reason:
        table.refuse(str(reason))
        return
    times = table.times(*_TIMES)
    middle, low, high = table.numbers("Avg", "avg", "qty"), table.numbers("Min", "min"), table.numbers("Max", "max")
    fields = table.fields(*_TIMES[:1], *_NUMBERS, "units", "source", names=snake)
    known_one = _SERIES.fullmatch(slice.name) is not None
    for place in np.flatnonzero(np.isnan(middle) & np.isnan(low) & np.isnan(high)).tolist():
        if known_one or fields is None or fields[place] is None:
            table.fault(place, "no value: expected a number under qty, or under Min, Avg or Max")
    sent = table.column("units") if slice.units is None else [slice.units] * len(table)
    units, (middle, low, high) = converted(sent, metric, middle, low, high)
    known = _HEART if metric.startswith("heart_rate") else find(metric)
    plausible = {metric: (known.low, known.high)} if known else {}
    table.add(
        record=SERIES,
        parent=identity,
        metric=metric,
        time=times.micros,
        source=table.sources(),
        value=nullable(middle),
        minimum=nullable(low),
        maximum=nullable(high),
        unit=units,
        fields=fields,
        original=table.originals(),
        original_unit=[unit if isinstance(unit, str) else None for unit in sent],
        offset_minutes=times.offset_minutes(),
        warnings=_flag_recovery(
            slice,
            metric,
            times.micros,
            table.warnings({metric: middle}, plausible, sent, "heart_rate" if known is _HEART else metric),
        ),
    )


def _flag_recovery(
    slice: Slice, metric: str, times: Any, warnings: list[bytes | None] | None
) -> list[bytes | None] | None:
    """Flag a heart rate that begins when its workout is over: the app sends that of the recovery under this name."""
    start, end = _span(parent(slice))
    if metric != "heart_rate" or len(times) < 2 or end.micros <= start.micros or times.min() < end.micros:
        return warnings
    message = "all of it is after the end of the workout: it may be the recovery"
    flagged = warnings if warnings is not None else [None] * len(times)
    known = msgspec.json.decode(flagged[0]) if flagged[0] is not None else []
    return [encode_sorted([*known, {"warning": "suspicious_series", "message": message}]), *flagged[1:]]


@section("workout_route")
def route(slice: Slice, records: Records) -> None:
    """Make each place of a route a row; one without a position or a time goes into quarantine."""
    table = Table(slice, records, "workout_route")
    try:
        identity = _parent(slice)
    except Unreadable as reason:
        table.refuse(str(reason))
        return
    times = table.times("timestamp", "date", "time")
    numbers: dict[str, Floats] = {
        "latitude": table.numbers("latitude", "lat"),
        "longitude": table.numbers("longitude", "lon", "lng"),
        "altitude": table.numbers("altitude"),
        **{name: table.numbers(name) for name in ("speed", "horizontalAccuracy", "verticalAccuracy")},
    }
    for place in np.flatnonzero(np.isnan(numbers["latitude"]) | np.isnan(numbers["longitude"])):
        table.fault(int(place), "no position: expected numbers under latitude and longitude, or lat and lon")
    table.add(
        record=ROUTE,
        parent=identity,
        metric="route",
        time=times.micros,
        source=table.sources(),
        latitude=nullable(numbers["latitude"]),
        longitude=nullable(numbers["longitude"]),
        altitude=nullable(numbers["altitude"]),
        fields=table.fields("timestamp", "latitude", "lat", "longitude", "lon", "lng", "altitude", names=snake),
        original=table.originals(),
        offset_minutes=times.offset_minutes(),
        warnings=table.warnings(numbers, _PLAUSIBLE_ROUTE),
    )
