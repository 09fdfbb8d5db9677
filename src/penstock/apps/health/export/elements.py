"""The elements of a list of events or workouts: what they say under which key, and the rows they become."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from .dates import Instant, instant
from .dates import text as written
from .metrics import number as number_of
from .metrics import objects
from .records import Records, as_text, encode_sorted
from .slices import Slice


class Unreadable(ValueError):
    """An element that cannot be stored; the message is the reason."""


class Element:
    """One object of a list."""

    def __init__(self, value: Mapping[str, Any], index: int = 0) -> None:
        self.value = value
        self.index = index
        """Its place in its list."""
        self.flags: list[dict[str, str]] = []

    def get(self, key: str) -> Any:
        """Return what is under ``key``; None if there is nothing."""
        return self.value.get(key)

    def text(self, *keys: str) -> str:
        """Return the text under the first of ``keys`` that has one, else an empty one."""
        for key in keys:
            value = self.value.get(key)
            if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
                return str(value).strip()
        return ""

    def number(self, key: str) -> float | None:
        """Return the number under ``key``, also if it is a text or ``{"qty": ...}``; None if there is none."""
        return number(self.value.get(key))

    def moment(self, *keys: str) -> Instant | None:
        """Return the time under the first of ``keys`` that has a value; raises Unreadable if it is not a time."""
        for key in keys:
            value = self.value.get(key)
            if value is not None and value != "" and not isinstance(value, dict | list):
                try:
                    return instant(value)
                except ValueError as fault:
                    raise Unreadable(f"{key}: {fault}") from None
        return None

    def start(self, *keys: str) -> Instant:
        """Return the time under the first of ``keys`` that has a value; raises Unreadable if there is none."""
        found = self.moment(*keys)
        if found is None:
            raise Unreadable(f"no time: expected one under {', '.join(keys)}")
        if found.assumed:
            self.warn("assumed_utc", "the time says no offset; UTC was assumed")
        return found

    def end(self, start: Instant, *keys: str) -> Instant:
        """Return when it ended, else ``start``; warns of an end that is not a date or lies before the start."""
        try:
            found = self.moment(*keys) or start
        except Unreadable as reason:
            self.warn("unreadable_end", str(reason))
            return start
        if found.micros < start.micros:
            self.warn("end_before_start", f"ends at {written(found.micros)}, starts at {written(start.micros)}")
        return found

    def warn(self, warning: str, message: str) -> None:
        """Flag the element; it is kept."""
        self.flags.append({"warning": warning, "message": message})

    def warnings(self) -> bytes | None:
        """Return the JSON of the warnings, None if there are none."""
        return encode_sorted(self.flags) if self.flags else None

    def original(self) -> bytes:
        """Return the JSON of the element, keys sorted."""
        return encode_sorted(self.value)

    def fields(self, *without: str) -> dict[str, Any]:
        """Return what it says, keys in lower snake case; all but the keys ``without``."""
        found: dict[str, Any] = {}
        for key, value in self.value.items():
            if key not in without:
                name = snake(key) or key
                found[key if name in found else name] = value
        return found


class Rows:
    """Rows of equal columns that are added to the records at once."""

    def __init__(self, **constant: Any) -> None:
        self._constant = constant
        self._columns: dict[str, list[Any]] = {}
        self._count = 0

    def add(self, **values: Any) -> None:
        """Add one row; each has the same columns."""
        for name, value in values.items():
            self._columns.setdefault(name, []).append(value)
        self._count += 1

    def flush(self, records: Records) -> None:
        """Give the rows to the records."""
        records.extend(self._count, {**self._constant, **self._columns})


def elements(slice: Slice, records: Records, type: str) -> Iterator[Element]:
    """Count the elements of ``slice`` as received and yield those that are objects; the others go into quarantine."""
    for index, value in zip(*objects(slice, records, type), strict=True):
        yield Element(value, index)


def parent(slice: Slice) -> Element:
    """Return the workout or electrocardiogram that a list belongs to; raises Unreadable if it is not an object."""
    try:
        said = msgspec.json.decode(slice.parent or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"it cannot be read: {error}") from None
    if not isinstance(said, dict):
        raise Unreadable(f"expected an object, got {as_text(said):.80}")
    return Element(said)


def number(value: Any) -> float | None:
    """Return ``value`` as a finite number, also if it is a text or ``{"qty": ...}``; None if it is none."""
    return number_of(value.get("qty") if isinstance(value, dict) else value)


def finite(value: float) -> float | None:
    """Return ``value``; None for what no table can hold, such as a number that became infinite by its conversion."""
    return value if math.isfinite(value) else None


def snake(text: str) -> str:
    """Return ``text`` in lower snake case: ``heartRateData`` and ``Heart Rate Data`` as ``heart_rate_data``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    return re.sub(r"[\W_]+", "_", parted).strip("_").lower()
