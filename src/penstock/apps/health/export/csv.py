"""Parser of exports as CSV: one column for each metric, one row for each point, each workout or each event.

Where a column is a metric, each cell that is not empty is one received point; the columns of one metric (least, average
and greatest, or the stages of a night) are one point together. A row with more cells than the header counts as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import catalogue
from .dates import zone_of
from .elements import Element, Unreadable, snake
from .kinds import ACTIVITIES, NAMES, VALUES, Kind, kind_of
from .metrics import points
from .occurrences import occurrences
from .records import WORKOUT, Records, section
from .sheets import ENDS, SOURCES, TIMES, TYPE, Head, Sheet, sheet_of
from .sleep import sleep
from .slices import Slice
from .units import conversion
from .workouts import WORKOUTS, workout

_UNITS = ("units", "unit")
_KEYS = {
    **{"min": "Min", "avg": "Avg", "average": "Avg", "max": "Max", "systolic": "systolic", "diastolic": "diastolic"},
    **{"asleep": "asleep", "in_bed": "inBed", "core": "core", "deep": "deep", "rem": "rem", "awake": "awake"},
    **{"total": "totalSleep", "total_sleep": "totalSleep"},
}
"""What the app calls in JSON what it puts in brackets in CSV."""
_OF_WORKOUTS = {
    **{"active_energy": "active_energy_burned", "step_count": "step_count", "average_speed": "avg_speed"},
    **{"elevation_ascended": "elevation_up", "elevation_descended": "elevation_down"},
    **{"average_heart_rate": "avg_heart_rate", "maximum_heart_rate": "max_heart_rate", "maximum_speed": "max_speed"},
    **{"swim_stoke_cadence": "swim_cadence", "swim_stroke_cadence": "swim_cadence"},
    **{"indoor": "is_indoor", "average_intensity": "intensity"},
}
"""What workouts call in JSON what they call otherwise in CSV."""


@dataclass
class Group:
    """The columns of one metric, by the key under which JSON has them."""

    head: Head
    columns: dict[str, int] = field(default_factory=dict)


@section("csv")
def rows(slice: Slice, records: Records) -> None:
    """Make points, workouts or events of the rows; bad cells go into quarantine with their row and column."""
    records.format = records.format or "csv"
    sheet = sheet_of(slice, records, zone_of(records.accepted.headers.get("timezone")))
    start = sheet.find(TIMES)
    kind = kind_of(slice, sheet)
    if isinstance(kind, str):
        sheet.refuse(slice, records, kind)
    elif kind is Kind.WORKOUTS and start is not None:
        _workouts(slice, records, sheet, start)
    elif kind is not Kind.METRICS:
        occurrences(slice, records, sheet, kind)
    elif start is None:
        sheet.refuse(slice, records, f"no column of dates: expected one called {', '.join(TIMES)}")
    elif sheet.find(VALUES) is not None:
        _long(slice, records, sheet, start)
    else:
        _wide(slice, records, sheet, start)


def _wide(slice: Slice, records: Records, sheet: Sheet, start: int) -> None:
    """Read each column, or the columns of one metric together, as the ``data`` of a metric."""
    end, source = sheet.find(ENDS), sheet.find(SOURCES)
    shared = {"date": start, "end": end, "source": source}
    known = {key: column for key, column in shared.items() if column is not None}
    for group in _groups(sheet, set(known.values())):
        at = [
            row for row in range(len(sheet.rows)) if any(sheet.rows[row][col].strip() for col in group.columns.values())
        ]
        found = [{key: sheet.rows[row][column] for key, column in known.items()} for row in at]
        _metric(slice, records, sheet, group.head, group.columns, at, found)


def _groups(sheet: Sheet, without: set[int]) -> list[Group]:
    """Return the columns by metric; a column that is there twice is a metric of its own."""
    groups: dict[str, Group] = {}
    found: list[Group] = []
    for column, head in enumerate(sheet.heads):
        if column in without:
            continue
        key = _KEYS.get(snake(head.part), head.part) if head.part else "qty"
        group = groups.get(head.label)
        if group is None or key in group.columns or "qty" in (key, *group.columns):
            group = groups[head.label] = Group(head)
            found.append(group)
        group.columns[key] = column
    return found


def _metric(
    slice: Slice,
    records: Records,
    sheet: Sheet,
    head: Head,
    columns: Mapping[str, int],
    at: list[int],
    found: list[dict[str, Any]],
) -> None:
    """Read the cells of ``columns`` in the rows ``at`` into the elements ``found``, and make points of them."""
    type = catalogue.canonical(head.name)
    if not at:
        return
    own = Slice(section="metrics", name=head.name, units=head.unit, path=f"{slice.path}.{head.text}")
    records.received(type, len(at))
    good: list[int] = []
    for place, (row, element) in enumerate(zip(at, found, strict=True)):
        bad = ""
        for key, column in columns.items():
            cell = sheet.rows[row][column].strip()
            value = sheet.number(cell) if cell else None
            if value is not None:
                element[key] = value
            elif cell:
                bad = f"{sheet.heads[column].text}: expected a number, got {cell[:80]!r}"
        if bad:
            records.quarantine(own, sheet.places[row], bad, sheet.element(sheet.rows[row]), type=type)
        else:
            good.append(place)
    places, elements = [sheet.places[at[place]] for place in good], [found[place] for place in good]
    if type == "sleep_analysis":
        sleep(own, records, places, elements)
    else:
        points(own, records, type, places, elements)


def _long(slice: Slice, records: Records, sheet: Sheet, start: int) -> None:
    """Read each row as a point of the metric that it names, or else the file."""
    columns = {
        "date": start,
        "end": sheet.find(ENDS),
        "source": sheet.find(SOURCES),
        "units": sheet.find(_UNITS),
        "qty": sheet.find(VALUES[:2]),
        "value": sheet.find(VALUES[2:]),
    }
    name = sheet.find(NAMES)
    taken = {column: key for key, column in columns.items() if column is not None}
    by_name: dict[str, tuple[list[int], list[dict[str, Any]]]] = {}
    file = re.sub(r"\.csv$", "", slice.name.rpartition("/")[2], flags=re.IGNORECASE)
    for place, row in zip(sheet.places, sheet.rows, strict=True):
        metric = snake(row[name] if name is not None else file)
        if not metric:
            records.received(TYPE)
            records.quarantine(slice, place, "no metric is named", sheet.element(row), type=TYPE)
            continue
        element: dict[str, Any] = {}
        for column, cell in enumerate(row):
            if column != name and cell.strip():
                number = sheet.number(cell) if taken.get(column) not in ("date", "end", "source", "units") else None
                key = taken.get(column) or sheet.heads[column].text
                element[key] = cell.strip() if number is None else number
        places, found = by_name.setdefault(metric, ([], []))
        places.append(place)
        found.append(element)
    for metric, (places, found) in by_name.items():
        type = catalogue.canonical(metric)
        records.received(type, len(found))
        unit = next((sheet.heads[at].unit for at in (columns["qty"], columns["value"]) if at is not None), None)
        own = Slice(section="metrics", name=metric, units=unit, path=slice.path)
        if type == "sleep_analysis":
            sleep(own, records, places, found)
        else:
            points(own, records, type, places, found)


def _workouts(slice: Slice, records: Records, sheet: Sheet, start: int) -> None:
    """Read each row as a workout; what has a unit in the header is a quantity."""
    named = {start: "start", sheet.find(ENDS): "end", sheet.find(ACTIVITIES): "name", sheet.find(SOURCES): "source"}
    for place, row in zip(sheet.places, sheet.rows, strict=True):
        element: dict[str, Any] = {}
        for column, (head, cell) in enumerate(zip(sheet.heads, row, strict=True)):
            if not cell.strip():
                continue
            key = named.get(column) or snake(f"{head.label} {head.part}") or head.text
            key = _OF_WORKOUTS.get(key, key)
            plain = None if column in named else sheet.number(cell)
            value = cell.strip() if plain is None else {"qty": plain, "units": head.unit} if head.unit else plain
            element[head.text if key in element else key] = value
        _in_seconds(element)
        records.received(WORKOUTS)
        try:
            records.add(record=WORKOUT, type=WORKOUTS, unit="s", **workout(Element(element, place)))
        except Unreadable as reason:
            records.quarantine(slice, place, str(reason), sheet.element(row), type=WORKOUTS)


def _in_seconds(element: dict[str, Any]) -> None:
    """Let a duration be the number of seconds that it is in JSON, whatever unit its header says."""
    value = element.get("duration")
    if isinstance(value, dict) and (convert := conversion(value["units"], "s")) is not None:
        element["duration"] = convert(value["qty"])
