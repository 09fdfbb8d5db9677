"""Parser of exports as CSV: one column for each metric, one row for each point, or one row for each workout.

Where a column is a metric, each cell that is not empty is one received point; the columns of one metric (least, average
and greatest, or the stages of a night) are one point together. A row with more cells than the header counts as one.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import catalogue
from .elements import Element, Unreadable, snake
from .metrics import points
from .records import WORKOUT, Records, section
from .sleep import sleep
from .slices import Slice
from .workouts import WORKOUTS, workout

_TIMES = ("date", "date_time", "datetime", "start", "start_date", "start_time", "time", "timestamp", "recorded_at")
_ENDS = ("end", "end_date", "end_time")
_SOURCES = ("source", "sources", "source_name", "source_device")
_NAMES = ("name", "metric", "metric_name", "type")
_ACTIVITIES = ("workout_type", "workout", "workout_name", "activity", "name", "type")
_VALUES = ("qty", "quantity", "value")
_UNITS = ("units", "unit")
_KEYS = {
    **{"min": "Min", "avg": "Avg", "average": "Avg", "max": "Max", "systolic": "systolic", "diastolic": "diastolic"},
    **{"asleep": "asleep", "in_bed": "inBed", "core": "core", "deep": "deep", "rem": "rem", "awake": "awake"},
    **{"total": "totalSleep", "total_sleep": "totalSleep"},
}
"""What the app calls in JSON what it puts in brackets in CSV."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
TYPE = "csv"
"""As what a row is counted of which it is not known what it holds."""


@dataclass
class Head:
    """One column as its header says it: ``Heart Rate [Min] (count/min)``."""

    text: str
    label: str
    part: str
    unit: str | None

    @property
    def name(self) -> str:
        return snake(self.label)


@dataclass
class Group:
    """The columns of one metric, by the key under which JSON has them."""

    head: Head
    columns: dict[str, int] = field(default_factory=dict)


@dataclass
class Sheet:
    """A header and the rows under it that have cells."""

    heads: list[Head]
    rows: list[list[str]]
    places: list[int]
    """The place of each row among all lines under the header, blank ones too."""
    comma: bool
    """Whether numbers may have a decimal comma, since cells are not separated by commas."""

    def find(self, names: Sequence[str]) -> int | None:
        """Return the first column that is called one of ``names``."""
        return next((place for place, head in enumerate(self.heads) if head.name in names and not head.part), None)

    def number(self, cell: str) -> int | float | None:
        """Return the number in a cell; None if there is none."""
        text = cell.strip()
        if self.comma and "," in text:
            text = text.replace(".", "").replace(",", ".")
        if not _NUMBER.fullmatch(text):
            return None
        found = float(text)
        if not math.isfinite(found):
            return None
        return int(text) if re.fullmatch(r"[+-]?\d{1,15}", text) else found


@section("csv")
def rows(slice: Slice, records: Records) -> None:
    """Make points or workouts of the rows; bad cells go into quarantine with their row and column."""
    records.format = records.format or "csv"
    sheet = _sheet(slice, records)
    start = sheet.find(_TIMES)
    if start is None:
        _refuse(slice, records, sheet, f"no column of dates: expected one called {', '.join(_TIMES)}")
    elif sheet.find(_VALUES) is not None:
        _long(slice, records, sheet, start)
    elif sheet.find(_ACTIVITIES) is not None:
        _workouts(slice, records, sheet, start)
    else:
        _wide(slice, records, sheet, start)


def _sheet(slice: Slice, records: Records) -> Sheet:
    text = slice.payload.decode("utf-8-sig", "replace")
    line = text.partition("\n")[0]
    separator = max(",;\t", key=lambda each: _outside_quotes(line).count(each))
    lines = _read(text, separator)
    heads = [_head(cell) for cell in lines[0]] if lines and isinstance(lines[0], list) else []
    sheet = Sheet(heads, [], [], separator != ",")
    for place, row in enumerate(lines[1:], slice.first):
        if isinstance(row, str):
            records.received(TYPE)
            records.quarantine(slice, place, "expected CSV, found a quote that is not closed", row, type=TYPE)
            continue
        while row and not row[-1].strip():
            row.pop()
        if len(row) > len(heads):
            records.received(TYPE)
            reason = f"expected {len(heads)} cells as in the header, got {len(row)}"
            records.quarantine(slice, place, reason, separator.join(row), type=TYPE)
        elif row:
            sheet.rows.append(row + [""] * (len(heads) - len(row)))
            sheet.places.append(place)
    return sheet


def _read(text: str, separator: str) -> list[list[str] | str]:
    """Return the cells of all rows, or the line where it is none.

    A quote that is not closed would swallow all that follows: where one may have, each line is read by itself.
    """
    options: Any = {"delimiter": separator, "skipinitialspace": True, "strict": True}
    try:
        found = list(csv.reader(io.StringIO(text, newline=""), **options))
        if not any(len(row) != len(found[0]) and any("\n" in cell for cell in row) for row in found):
            return list(found)
    except csv.Error:
        pass
    rows: list[list[str] | str] = []
    for line in text.splitlines():
        try:
            rows += list(csv.reader([line], **options)) or [[]]
        except csv.Error:
            rows.append(line)
    return rows


def _outside_quotes(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _head(cell: str) -> Head:
    """Return what a header says: a label, a part in brackets, and a unit in the last parentheses."""
    text = cell.strip()
    label, unit = text, None
    if text.endswith(")"):
        depth = 0
        for place in range(len(text) - 1, -1, -1):
            depth += {")": 1, "(": -1}.get(text[place], 0)
            if depth == 0:
                label, unit = text[:place].strip(), text[place + 1 : -1].strip()
                break
    part = ""
    if label.endswith("]") and "[" in label:
        label, _, part = label[:-1].rpartition("[")
    return Head(text, label.strip(), part.strip(), unit or None)


def _refuse(slice: Slice, records: Records, sheet: Sheet, reason: str) -> None:
    for place, row in zip(sheet.places, sheet.rows, strict=True):
        records.received(TYPE)
        records.quarantine(slice, place, reason, _cells(sheet, row), type=TYPE)


def _cells(sheet: Sheet, row: Sequence[str]) -> dict[str, str]:
    return {head.text: cell for head, cell in zip(sheet.heads, row, strict=True) if cell}


def _wide(slice: Slice, records: Records, sheet: Sheet, start: int) -> None:
    """Read each column, or the columns of one metric together, as the ``data`` of a metric."""
    end, source = sheet.find(_ENDS), sheet.find(_SOURCES)
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
            records.quarantine(own, sheet.places[row], bad, _cells(sheet, sheet.rows[row]), type=type)
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
        "end": sheet.find(_ENDS),
        "source": sheet.find(_SOURCES),
        "units": sheet.find(_UNITS),
        "qty": sheet.find(_VALUES[:2]),
        "value": sheet.find(_VALUES[2:]),
    }
    name = sheet.find(_NAMES)
    taken = {column: key for key, column in columns.items() if column is not None}
    by_name: dict[str, tuple[list[int], list[dict[str, Any]]]] = {}
    file = re.sub(r"\.csv$", "", slice.name.rpartition("/")[2], flags=re.IGNORECASE)
    for place, row in zip(sheet.places, sheet.rows, strict=True):
        metric = snake(row[name] if name is not None else file)
        if not metric:
            records.received(TYPE)
            records.quarantine(slice, place, "no metric is named", _cells(sheet, row), type=TYPE)
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
    named = {start: "start", sheet.find(_ENDS): "end", sheet.find(_ACTIVITIES): "name", sheet.find(_SOURCES): "source"}
    for place, row in zip(sheet.places, sheet.rows, strict=True):
        element: dict[str, Any] = {}
        for column, (head, cell) in enumerate(zip(sheet.heads, row, strict=True)):
            if not cell.strip():
                continue
            key = named.get(column) or snake(f"{head.label} {head.part}") or head.text
            number = None if column in named else sheet.number(cell)
            value = cell.strip() if number is None else {"qty": number, "units": head.unit} if head.unit else number
            element[head.text if key in element else key] = value
        records.received(WORKOUTS)
        try:
            records.add(record=WORKOUT, type=WORKOUTS, unit="s", **workout(Element(element, place)))
        except Unreadable as reason:
            records.quarantine(slice, place, str(reason), _cells(sheet, row), type=WORKOUTS)
