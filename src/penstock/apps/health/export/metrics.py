"""The points of metrics, in all the shapes in which the app sends them, as rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from . import catalogue, periods
from .catalogue import Metric
from .dates import LAST, Instants, instants, text
from .records import POINT, Records, as_text, encode_sorted, section
from .slices import Slice, Unreadable, elements, vanishes
from .sources import normalise
from .units import SAME, Conversion, conversion

_STARTS = ("date", "startDate", "start", "timestamp", "time", "dateTime", "recorded_at")
_ENDS = ("end", "endDate")
_VALUES = ("qty", "Avg", "avg", "average", "value")
_LOW, _HIGH = ("Min", "min", "minimum"), ("Max", "max", "maximum")
_UNITS = ("units", "unit")
_EXACT = 2**53
_PRESSURES = ("systolic", "diastolic")
_SEXUAL = ("Unspecified", "Protection Used", "Protection Not Used")
_IN_COLUMNS = frozenset((*_STARTS, *_ENDS, *_VALUES, *_LOW, *_HIGH, *_UNITS, "source"))
_TRANSLATIONS = {
    "meal_time": {"before meal": "before_meal", "after meal": "after_meal", "unspecified": "unspecified"},
    "reason": {"bolus": "bolus", "basal": "basal"},
    "value": {"complete": "complete", "incomplete": "incomplete"},
}
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Elements = Sequence[dict[str, Any]]


@section("metrics")
def metrics(slice: Slice, records: Records) -> None:
    """Make a row of each point of a metric."""
    from .sleep import sleep

    type = catalogue.canonical(slice.name)
    places, found = objects(slice, records, type)
    if type == "sleep_analysis":
        sleep(slice, records, places, found)
    else:
        points(slice, records, type, places, found)


def unknown(slice: Slice, records: Records) -> None:
    """Make a row of each element of a list that no other parser knows, under the name of the list."""
    type = catalogue.canonical(catalogue.snake(slice.name or slice.section))
    places, found = objects(slice, records, type)
    kinds = [next((str(one[key]) for key in ("id", "name", "kind") if one.get(key) is not None), "") for one in found]
    points(slice, records, type, places, found, kinds)


def objects(slice: Slice, records: Records, type: str) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the places and the elements that are objects; the others go into quarantine. All are counted."""
    every = elements(slice.payload)
    records.received(type, len(every))
    if all(one.__class__ is dict for one in every):
        return list(range(slice.first, slice.first + len(every))), every
    places, found = [], []
    for place, one in enumerate(every, slice.first):
        if isinstance(one, dict):
            places.append(place)
            found.append(one)
        else:
            reason = one.reason if isinstance(one, Unreadable) else f"expected an object, got {as_text(one):.80}"
            payload = one if isinstance(one, Unreadable) else as_text(one)
            records.quarantine(slice, place, reason, payload, type=type)
    return places, found


def points(
    slice: Slice,
    records: Records,
    type: str,
    places: list[int],
    found: _Elements,
    kinds: list[str] | None = None,
) -> None:
    """Make rows of points that hold a number, or several; one without any goes into quarantine."""
    if not found:
        return
    batch = _Points(slice, records, catalogue.find(slice.name) if slice.section == "metrics" else None, found)
    for index, reason in sorted(batch.faults.items()):
        records.quarantine(slice, places[index], reason, found[index], type=type)
    good = [index for index in range(len(found)) if index not in batch.faults] if batch.faults else None
    if good == []:
        return
    columns = batch.columns() | {"index": places, "kind": kinds if kinds is not None else ""}
    if good is not None:
        columns = {name: _taken(values, good) for name, values in columns.items()}
    count = len(found) if good is None else len(good)
    records.extend(count, {"record": POINT, "type": type, "metric": type, **columns})


def _taken(values: Any, rows: list[int]) -> Any:
    if isinstance(values, np.ndarray):
        return values[rows]
    if isinstance(values, list):
        return [values[row] for row in rows]
    return values.take(pa.array(rows, pa.int64())) if isinstance(values, pa.Array) else values


class _Points:
    """The columns of points of one metric."""

    def __init__(self, slice: Slice, records: Records, metric: Metric | None, found: _Elements) -> None:
        self._slice, self._metric, self._found = slice, metric, found
        self._keys = frozenset().union(*set(map(tuple, found)))
        self.faults: dict[int, str] = {}
        self._warnings: dict[int, list[dict[str, str]]] = {}
        self._stated = periods.stated(records.accepted.headers)
        self._starts = self._times(_STARTS)
        self.faults |= self._starts.faults
        for index in self._starts.assumed:
            self._warn(index, "assumed_utc", "the time says no offset; UTC was assumed")
        self._read_values()
        self._read_fields()
        self._refuse_empty()
        self._convert()

    def _column(self, *names: str) -> list[Any]:
        """The first of the values under ``names`` that is there, of each point."""
        known = [name for name in names if name in self._keys]
        if not known:
            return [None] * len(self._found)
        first, *others = known
        column = [one.get(first) for one in self._found]
        if others and None in column:
            for index, value in enumerate(column):
                if value is None:
                    one = self._found[index]
                    column[index] = next((one[name] for name in others if one.get(name) is not None), None)
        return column

    def _times(self, names: tuple[str, ...]) -> Instants:
        return instants(self._column(*names))

    def _read_values(self) -> None:
        self._value = self._numbers("qty", "Avg", "avg", "average")
        if "value" in self._keys:
            for index in np.flatnonzero(np.isnan(self._value)).tolist():
                value = number(self._found[index].get("value"))
                if value is not None:
                    self._value[index] = value
        self._minimum, self._maximum = self._numbers(*_LOW), self._numbers(*_HIGH)
        self._pressures = {name: self._numbers(name) for name in _PRESSURES if name in self._keys}
        if self._metric is not None and self._metric.name == "sexual_activity":
            counts = np.stack([self._numbers(name) for name in _SEXUAL])
            given = np.isnan(self._value) & ~np.isnan(counts).all(0)
            self._value[given] = np.nansum(counts[:, given], axis=0)

    def _numbers(self, *names: str) -> _Floats:
        """The numbers under the first of ``names`` that is there, of each point; NaN where none is."""
        if not self._keys.intersection(names):
            return np.full(len(self._found), np.nan)
        column = self._column(*names)
        if set(map(type, column)) <= {int, float, _NONE}:
            try:
                numbers = np.array(column, np.float64)  # None becomes NaN
                if not np.isinf(numbers).any():
                    self._warn_of_rounding(column, numbers)
                    return numbers
            except OverflowError:
                pass
        numbers = np.full(len(column), np.nan)
        for index, value in enumerate(column):
            read = number(value)
            if read is not None:
                numbers[index] = read
            elif value is not None:
                named = next(name for name in names if self._found[index].get(name) is not None)
                self.faults.setdefault(index, f"{named}: expected a number, got {as_text(value):.80}")
        return numbers

    def _warn_of_rounding(self, column: list[Any], numbers: _Floats) -> None:
        """Flag integers that are not what they were: a float has 53 bits for their digits."""
        for index in np.flatnonzero(np.abs(numbers) >= _EXACT).tolist():
            value = column[index]
            if isinstance(value, int) and int(numbers[index]) != value:
                message = f"{str(value)[:40]} is kept as {int(numbers[index])}; what was received has all digits"
                self._warn(index, "rounded_value", message)

    def _read_fields(self) -> None:
        """What is in no column of its own."""
        extra = self._keys - _IN_COLUMNS
        self._fields: list[dict[str, Any] | None] = [None] * len(self._found)
        if not extra and "value" not in self._keys and not self._pressures:
            return
        plain = {name: catalogue.plain(name) or name for name in sorted(extra)}
        if len(set(plain.values())) < len(plain):
            plain = {name: name for name in extra}
        for index, one in enumerate(self._found):
            fields = {plain[name]: one[name] for name in one if name in extra and one[name] is not None}
            if "value" in one and one["value"] is not None and one["value"] != self._value[index]:
                fields["value"] = one["value"]
            for name, table in _TRANSLATIONS.items():
                said = fields.get(name)
                if isinstance(said, str) and (code := table.get(said.strip().lower())) is not None:
                    fields[f"{name}_code"] = code
            if fields:
                self._fields[index] = fields

    def _refuse_empty(self) -> None:
        empty = np.isnan(self._value) & np.isnan(self._minimum) & np.isnan(self._maximum)
        for index in np.flatnonzero(empty).tolist():
            if self._fields[index] is None:
                self.faults.setdefault(index, "no value: expected a number under qty, or another value")

    def _convert(self) -> None:
        """Bring all numbers into the unit of the metric."""
        count = len(self._found)
        self._sent: list[str | None] = [self._slice.units] * count
        if self._keys.intersection(_UNITS):
            own = self._column(*_UNITS)
            self._sent = [unit if isinstance(unit, str) else self._slice.units for unit in own]
        self._unit: list[str | None] = list(self._sent)
        distinct: dict[str | None, list[int]] = {}
        for index, unit in enumerate(self._sent):
            distinct.setdefault(unit, []).append(index)
        for unit in sorted(distinct, key=lambda unit: unit or ""):
            self._convert_from(unit, slice(None) if len(distinct) == 1 else np.array(distinct[unit]))

    def _convert_from(self, unit: str | None, rows: Any) -> None:
        metric = self._metric
        if metric is None or not metric.unit:
            return
        convert = conversion(unit, metric.unit) if unit else None
        indexes = np.arange(len(self._found))[rows].tolist()
        if convert is None:
            message = f"expected a unit that becomes {metric.unit}, got {unit!r}; the value is kept as it is"
            for index in indexes:
                self._warn(index, "unknown_unit", message)
            return
        if len(indexes) == len(self._found):
            self._unit = [metric.unit] * len(indexes)
        for index in indexes if self._unit[indexes[0]] != metric.unit else ():
            self._unit[index] = metric.unit
        for values in (self._value, self._minimum, self._maximum):
            self._refuse_lost(values.copy(), _apply(convert, values, rows), convert, f"{unit} as {metric.unit}")
            if metric.fraction:
                part = values[rows]
                values[rows] = np.where((part > 0) & (part <= 1), part * 100, part)
        self._flag(metric, (self._value, self._minimum, self._maximum), rows, metric.name)
        for name, values in self._pressures.items():
            self._refuse_lost(values.copy(), _apply(convert, values, rows), convert, f"{unit} as {metric.unit}")
            own = catalogue.METRICS[f"blood_pressure_{name}"]
            self._flag(own, (values,), rows, name)
            for index in indexes:
                fields = self._fields[index]
                if fields is not None and not math.isnan(values[index]):
                    fields[name] = float(values[index])
        if len(self._pressures) == 2:
            high, low = (self._pressures[name] for name in _PRESSURES)
            for index in np.flatnonzero(high <= low).tolist():
                if self._unit[index] == metric.unit:
                    self._warn(index, "suspicious_value", "the systolic pressure is not above the diastolic")

    def _refuse_lost(self, sent: _Floats, values: _Floats, convert: Conversion, units: str) -> None:
        """Refuse numbers that are too large, or too near to zero, to be kept in another unit."""
        lost = np.isinf(values) | ((values == 0) & (sent != 0) & (convert.shift == 0) & ~np.isnan(sent))
        for index in np.flatnonzero(lost).tolist():
            self.faults.setdefault(index, f"no computer can hold {sent[index]:g} {units}")

    def _flag(self, metric: Metric, columns: Sequence[_Floats], rows: Any, name: str) -> None:
        low = -math.inf if metric.low is None else metric.low
        high = math.inf if metric.high is None else metric.high
        chosen = np.zeros(len(self._found), np.bool_)
        chosen[rows] = True
        for values in columns:
            for index in np.flatnonzero(chosen & ((values < low) | (values > high))).tolist():
                message = f"{name} is {values[index]:g} {metric.unit}, expected {metric.plausible()}"
                self._warn(index, "suspicious_value", message)

    def _warn(self, index: int, warning: str, message: str) -> None:
        found = {"warning": warning, "message": message}
        known = self._warnings.setdefault(index, [])
        if found not in known:
            known.append(found)

    def columns(self) -> dict[str, Any]:
        period, ends = self._reach()
        units: Any = self._unit
        sent: Any = self._sent
        return {
            "time": self._starts.micros,
            "end_time": ends,
            "period": period or None,
            "source": [normalise(source) for source in self._column("source")],
            "value": self._value,
            "minimum": self._minimum,
            "maximum": self._maximum,
            "unit": units[0] if len(set(units)) == 1 else units,
            "fields": [None if fields is None else encode_sorted(fields) for fields in self._fields],
            "original": list(map(encode_sorted, self._found)),
            "original_unit": sent[0] if len(set(sent)) == 1 else sent,
            "offset_minutes": self._starts.offset_minutes(),
            "warnings": self._warned(),
        }

    def _warned(self) -> list[bytes | None] | None:
        if not self._warnings:
            return None
        warned = (self._warnings.get(index) for index in range(len(self._found)))
        return [None if found is None else encode_sorted(found) for found in warned]

    def _reach(self) -> tuple[int, Any]:
        """The period of buckets, 0 for samples, and the ends, which tell points apart.

        A bucket is the same bucket however far it says that it reaches: its period says its end.
        """
        said = self._ends()
        period, starts, offsets = self._stated, self._starts.micros, self._starts.offsets
        if period is None:
            period = 0 if said is not None or self._slice.section != "metrics" else self._inferred()
        if not period:
            return 0, said
        for index in np.flatnonzero(said != starts).tolist() if said is not None else ():
            fields = self._fields[index] or {}
            self._fields[index] = fields | {"end": text(int(said[index]), int(offsets[index]) or None)}
        return period, np.minimum(periods.ends(starts, offsets, period), LAST)

    def _inferred(self) -> int:
        """The period that the list tells."""
        joined = "source" in self._keys and any("|" in str(source) for source in self._column("source"))
        measured = self._metric is not None and self._metric.name in catalogue.MEASURED
        period = periods.infer(*self._list_times(), joined=joined, measured=measured)
        is_rest = self._slice.first and len(self._found) == 1  # The last of a long list, not a day or an hour.
        return 0 if is_rest and period >= periods.HOUR else period

    def _list_times(self) -> tuple[Any, Any]:
        """The times that could be read, and their offsets."""
        good = np.ones(len(self._found), np.bool_)
        good[list(self._starts.faults)] = False
        return self._starts.micros[good], self._starts.offsets[good]

    def _ends(self) -> Any:
        """The ends as they were sent; None where none was."""
        if not self._keys.intersection(_ENDS):
            return None
        column = self._column(*_ENDS)
        ends = instants(column)
        found = ends.micros.copy()
        for index, reason in ends.faults.items():
            found[index] = self._starts.micros[index]
            if column[index] is not None and column[index] != "":
                self._warn(index, "unreadable_end", reason)
        return found


def _apply(convert: Conversion, values: _Floats, rows: Any) -> _Floats:
    if convert != SAME:
        values[rows] = convert.of_many(values[rows])
    return values


_NONE = type(None)


def number(value: Any) -> float | None:
    """Return the finite number that is meant, also by a text such as "12"; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    if isinstance(value, str) and ("_" in value or (read == 0 and vanishes(value))):
        return None
    return read if math.isfinite(read) else None
