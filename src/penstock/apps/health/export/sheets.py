"""The rows of a CSV text under what its header says of each column."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from .dates import in_zone
from .elements import snake
from .records import Records
from .slices import Slice, vanishes

TIMES = ("date", "date_time", "datetime", "start", "start_date", "start_time", "time", "timestamp", "recorded_at")
ENDS = ("end", "end_date", "end_time")
SOURCES = ("source", "sources", "source_name", "source_device")
_MORE_TIMES = ("scheduled_date", "scheduled_time", "sleep_start", "sleep_end", "in_bed_start", "in_bed_end")
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
        if not math.isfinite(found) or vanishes(text):
            return None
        return int(text) if re.fullmatch(r"[+-]?\d{1,15}", text) else found

    def element(self, row: Sequence[str]) -> dict[str, str]:
        """Return the cells of a row that are not empty, by their header."""
        return {head.text: cell for head, cell in zip(self.heads, row, strict=True) if cell}

    def refuse(self, slice: Slice, records: Records, reason: str, type: str = TYPE) -> None:
        """Quarantine all rows for one reason."""
        for place, row in zip(self.places, self.rows, strict=True):
            records.received(type)
            records.quarantine(slice, place, reason, self.element(row), type=type)


def sheet_of(slice: Slice, records: Records, zone: tzinfo | None) -> Sheet:
    """Return the rows of a slice; times that say no offset are given that of ``zone``. Bad rows go into quarantine."""
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
    if zone is not None:
        _place(sheet, zone)
    return sheet


def _place(sheet: Sheet, zone: tzinfo) -> None:
    times = [at for at, head in enumerate(sheet.heads) if head.name in (*TIMES, *ENDS, *_MORE_TIMES)]
    for row in sheet.rows:
        for column in times:
            row[column] = in_zone(row[column], zone)


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
