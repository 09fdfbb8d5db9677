"""Long lists of like objects, read by columns: series of workouts, routes, voltages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from .catalogue import find
from .dates import Instants, instants
from .elements import number
from .metrics import objects
from .records import Records, encode_sorted
from .slices import Slice
from .sources import normalise
from .units import Floats, conversion, is_unit

Bounds: TypeAlias = tuple[float | None, float | None]


class Table:
    """The objects of a slice, by columns. What is not an object is in quarantine already; all are counted."""

    def __init__(self, slice: Slice, records: Records, type: str) -> None:
        self._slice, self._records, self._type = slice, records, type
        self.index, self.rows = objects(slice, records, type)
        self._faults: dict[int, str] = {}
        self._assumed: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, *keys: str) -> list[Any]:
        """Return what is under the first of ``keys`` that has a value, for each object."""
        first, *others = keys
        values = [row.get(first) for row in self.rows]
        for key in others:
            if None not in values:
                break
            values = [row.get(key) if value is None else value for value, row in zip(values, self.rows, strict=True)]
        return values

    def times(self, *keys: str) -> Instants:
        """Return the times under ``keys``; an object without one that can be read is at fault."""
        found = instants(self.column(*keys))
        self._assumed = found.assumed
        for place, reason in found.faults.items():
            self.fault(place, f"{keys[0]}: {reason}")
        return found

    def numbers(self, *keys: str) -> Floats:
        """Return the numbers under ``keys``; NaN where there is none."""
        values = self.column(*keys)
        if all(type(value) is float or type(value) is int for value in values):
            try:
                found = np.array(values, np.float64)
                return np.where(np.isfinite(found), found, np.nan)
            except OverflowError:
                pass  # whole numbers beyond what a float holds: one by one
        return np.array([math.nan if (one := number(value)) is None else one for value in values], np.float64)

    def sources(self) -> list[str]:
        """Return the normalised sources."""
        return [normalise(value) for value in self.column("source")]

    def originals(self) -> list[bytes]:
        """Return the JSON of each object, keys sorted."""
        return lines(self.rows)

    def fields(self, *without: str, names: Callable[[str], str] = str) -> list[bytes | None] | None:
        """Return the JSON of what each object says besides ``without``; None if none says more."""
        others = set().union(*self.rows) - set(without)
        if not others:
            return None
        named = {key: names(key) or key for key in others}
        if len(set(named.values())) < len(named):
            named = {key: key for key in others}
        texts = lines([{named[key]: value for key, value in row.items() if key in named} for row in self.rows])
        return [text if text != b"{}" else None for text in texts]

    def warnings(
        self,
        numbers: Mapping[str, Floats],
        plausible: Mapping[str, Bounds],
        units: Sequence[Any] = (),
        metric: str = "",
    ) -> list[bytes | None] | None:
        """Return the column of warnings of what is beyond plausible, or in a unit not known; None if there are none."""
        found: dict[int, list[dict[str, str]]] = {}
        for place in self._assumed:
            found[place] = [{"warning": "assumed_utc", "message": "the time says no offset; UTC was assumed"}]
        said = {unit for unit in units if isinstance(unit, str) and unit}
        strange = {unit for unit in said if not is_expected(unit, metric)}
        for place, unit in enumerate(units if strange else ()):
            if isinstance(unit, str) and unit in strange:
                found.setdefault(place, []).append(unknown_unit(unit))
        for name, (low, high) in plausible.items():
            values = numbers[name]
            beyond = (values < (-np.inf if low is None else low)) | (values > (np.inf if high is None else high))
            for place in np.flatnonzero(beyond).tolist():
                found.setdefault(place, []).append(suspicious(name, values[place], low, high))
        return [encode_sorted(found[at]) if at in found else None for at in range(len(self))] if found else None

    def fault(self, place: int, reason: str) -> None:
        """Say why the object at ``place`` cannot be stored; the first reason counts."""
        self._faults.setdefault(place, reason)

    def refuse(self, reason: str) -> None:
        """Quarantine all objects for one reason."""
        for index, row in zip(self.index, self.rows, strict=True):
            self._records.quarantine(self._slice, index, reason, row, type=self._type)

    def add(self, **columns: Any) -> None:
        """Add a row for each object, and those at fault to the quarantine."""
        columns = {"type": self._type, "index": self.index, **columns}
        for place, reason in sorted(self._faults.items()):
            self._records.quarantine(self._slice, self.index[place], reason, self.rows[place], type=self._type)
        if self._faults:
            good = [place for place in range(len(self)) if place not in self._faults]
            if not good:
                return
            columns = {name: _taken(values, good) for name, values in columns.items()}
            self._records.extend(len(good), columns)
        else:
            self._records.extend(len(self), columns)


def _taken(values: Any, places: Sequence[int]) -> Any:
    if isinstance(values, list):
        return [values[place] for place in places]
    if isinstance(values, np.ndarray):
        return values[np.array(places, np.int64)]
    return values.take(pa.array(places, pa.int64())) if isinstance(values, pa.Array) else values


def lines(values: Sequence[Any]) -> list[bytes]:
    """Return the JSON of each value, keys sorted."""
    return _encoder.encode_lines(values).split(b"\n")[:-1]


_encoder = msgspec.json.Encoder(order="sorted")


def nullable(numbers: Floats) -> pa.Array:
    """Return the numbers as a column, null where they are no finite number."""
    return pa.array(numbers, pa.float64(), mask=~np.isfinite(numbers))


CANONICAL = (
    *("kcal", "m", "kg", "degC", "m/s", "count/min", "s", "L", "mmHg", "mg/dL", "W", "%"),
    *("dBASPL", "mcV", "mL/(kg·min)", "kcal/hr·kg", "IU", "count", "deg"),
)
"""The unit of each quantity, where no metric says another."""


def canonical_unit(unit: str, metric: str = "") -> str:
    """Return the unit in which numbers in ``unit`` are kept: that of the metric, else that of the quantity.

    It is ``unit`` itself if nothing is known of it.
    """
    known = find(metric) if metric else None
    wanted = (known.unit, *CANONICAL) if known else CANONICAL
    return next((each for each in wanted if each and conversion(unit, each) is not None), unit)


def converted(units: Sequence[Any], metric: str, *columns: Floats) -> tuple[list[str | None], list[Floats]]:
    """Return the canonical unit of each row and the columns of numbers in it, by the ``units`` that were sent."""
    names = [unit if isinstance(unit, str) and unit else None for unit in units]
    wanted = {name: canonical_unit(name, metric) for name in set(names) if name}
    found = [column.copy() for column in columns]
    kept = np.zeros(len(names), np.bool_)
    for name, unit in wanted.items():
        convert = conversion(name, unit)
        if convert is not None and name != unit:
            at = np.array([each == name for each in names], np.bool_)
            for column in columns:
                kept |= at & np.isinf(convert.of_many(column))
            for column in found:
                column[at & ~kept] = convert.of_many(column[at & ~kept])
    said = [name if keep or not name else wanted[name] for name, keep in zip(names, kept.tolist(), strict=True)]
    return said, found


def is_expected(unit: str, metric: str) -> bool:
    """Tell whether a unit is known, and one of the metric, where that is known."""
    known = find(metric) if metric else None
    return conversion(unit, known.unit) is not None if known and known.unit else is_unit(unit)


def unknown_unit(unit: str) -> dict[str, str]:
    """Return the warning that a value is kept in a unit that cannot be converted."""
    return {"warning": "unknown_unit", "message": f"the unit {unit[:80]!r} is not known; the value is kept as it is"}


def suspicious(name: str, value: float, low: float | None, high: float | None) -> dict[str, str]:
    """Return the warning that ``value`` is kept, but lies beyond what is plausible."""
    bounds = f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
    return {"warning": "suspicious_value", "message": f"{name} is {value:g}, expected {bounds}"}
