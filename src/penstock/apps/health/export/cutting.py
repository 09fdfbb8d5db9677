"""Cut the JSON of an export into slices: where each is in the text, found in one pass that also checks all of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .plans import MAX_BYTES, MAX_ELEMENTS, Boundaries, Cut, Facts, Plan
from .structure import (
    CLOSE_LIST,
    MAX_VALUE_BYTES,
    OPEN_LIST,
    OPEN_OBJECT,
    Structure,
    check,
)
from .walking import Walk
from .workouts import END, NAME, START, is_series

_TELLING = frozenset((*START, *END, *NAME, "id", "uuid", "source"))
"""What tells a workout or an ECG from others: its lists are handed out with that, again and again."""
MAX_LISTS = 100
"""How many lists of one workout are cut out of it; further ones stay in it."""
MAX_KEPT_BYTES = 250_000
"""How many bytes a list has at most that stays in its workout because it holds no points."""
_FACT = 1000
"""A fact about a workout that is longer stays with the workout."""
_RICH = {"workouts": None, "ecg": {"voltageMeasurements"}}
"""Sections whose elements hold lists of their own: which of them are cut out, None for all."""
_LISTS = {"metrics", "workouts", "ecg", "symptoms", "cycleTracking", "stateOfMind", "medications"}
_LISTS |= {"heartRateNotifications"}
_NEW = {"stateOfMind", "symptoms", "cycleTracking", "ecg", "medications", "heartRateNotifications"}


class Cutter(Walk):
    """Walks through one JSON body, and notes where its slices are."""

    def __init__(self, structure: Structure, plan: Plan, prefix: str = "", domain: bool = False) -> None:
        super().__init__(structure)
        self._plan, self._prefix, self._domain = plan, prefix, domain
        self._looked_at: bytes | None = None
        """The first elements of the list that is taken."""

    def cut(self) -> Plan:
        """Return all slices of the body; raises Malformed if it is not JSON, or not of the form of an export."""
        text = self.text
        start, kind = text.take("a JSON object")
        if self._domain and kind == OPEN_LIST:
            self._list("domain", "", self._prefix, "")
        elif kind != OPEN_OBJECT or text.text(0, start).strip():
            text.fail(0, "a JSON object")
        elif self._domain:
            self._body(start)
        else:
            self._envelope(self._prefix)
        text.finish()
        return self._plan

    # What an export is made of

    def _envelope(self, prefix: str) -> None:
        for key in self.members():
            path = f"{prefix}{key}"
            kind = self.begin()
            if key == "data" and kind == OPEN_OBJECT and prefix == self._prefix:
                self._envelope(f"{path}.")
            elif key == "metrics" and kind in (OPEN_LIST, OPEN_OBJECT):
                self._metrics(path, kind)
            elif key in _RICH and kind == OPEN_LIST:
                for index in self.items():
                    self._rich(key, path, index, self.begin())
            elif key in _RICH and kind == OPEN_OBJECT:
                self._rich(key, path, 0, kind)
            elif kind == OPEN_LIST:
                self._list(key, key, path)
            elif kind == OPEN_OBJECT:
                self._whole(key, path, name=key)
            else:
                self._scalar(key, path, wanted=key in _LISTS or key == "data")
            if key in _NEW and kind == OPEN_LIST:
                self._plan.format = "v2"

    def _scalar(self, key: str, path: str, wanted: bool) -> None:
        """Pass a value that is not a list: it says something about the export, unless a list was due."""
        start, value = self.value()
        if wanted and value is not None:
            self._plan.add(Cut(key, path, start, self.text.at, name=key, reason="expected a list or an object"))

    def _metrics(self, path: str, kind: int) -> None:
        if kind == OPEN_LIST:
            for index in self.items():
                self._metric(f"{path}[{index}]", path, index, None)
            return
        for key in self.members():
            here = f"{path}.{key}"
            if self.text.peek("a value")[1] == OPEN_LIST and self.begin() == OPEN_LIST:
                self._list("metrics", None, here, about=Facts({"name": key}))
            else:
                self._metric(here, here, 0, key)

    def _metric(self, path: str, parent: str, index: int, key: str | None) -> None:
        """Take one of the metrics: with a list ``data``, or with its values in itself."""
        text = self.text
        kind = self.begin()
        if kind != OPEN_OBJECT:
            start, value = self.value() if kind is None else self.skip()
            if value is not None or key is None:
                reason = "expected an object with name, units and data"
                self._plan.add(Cut("metrics", parent, start, text.at, index, name=key or "metrics", reason=reason))
            return
        start, before = text.at - 1, len(self._plan.cuts)
        facts = Facts({} if key is None else {"name": key})
        has_data = has_values = False
        for name in self.members():
            kind = self.begin()
            if name == "data":
                has_data = True
                self._data(kind, f"{path}.data", facts)
            elif kind is None and name in ("name", "units", "unit"):
                facts.values[name] = self.value()[1]
            else:
                has_values = True
                _ = self.value() if kind is None else self.skip()
        if has_values and not has_data and key is not None:
            self._plan.add(Cut("metrics", path, start, text.at, about=facts))
        elif has_values and not has_data:
            self._plan.format = "internal"
            self._element("internal", parent, start, index)
        elif facts.text("name") is None:
            for cut in self._plan.cuts[before:]:
                cut.name, cut.reason = "metrics", cut.reason or "the metric has no name"

    def _data(self, kind: int | None, path: str, facts: Facts) -> None:
        if kind == OPEN_LIST:
            self._list("metrics", None, path, about=facts)
            return
        start, value = self.value() if kind is None else self.skip()
        if value is not None:
            self._plan.add(Cut("metrics", path, start, self.text.at, about=facts, reason="expected a list of points"))

    def _element(self, section: str, path: str, start: int, index: int) -> None:
        """Note an element that is not a list of its own; it joins those before it."""
        end = self.text.at
        last = self._plan.cuts[-1] if self._plan.cuts else None
        joins = last is not None and last.section == section and last.path == path and last.reason is None
        if end - start > MAX_VALUE_BYTES:
            self._plan.add(Cut(section, path, start, end, index, reason=too_large(end - start)))
        elif last is not None and joins and last.first + last.count == index and last.count < MAX_ELEMENTS:
            if end - last.start <= MAX_BYTES:
                last.end, last.count = end, last.count + 1
                return
            self._plan.add(Cut(section, path, start, end, index))
        else:
            self._plan.add(Cut(section, path, start, end, index))

    def _rich(self, section: str, path: str, index: int, kind: int | None) -> None:
        """Take a workout or an ECG: its lists are slices of their own."""
        text = self.text
        if kind != OPEN_OBJECT:
            start, _ = self.value() if kind is None else self.skip()
            self._plan.add(Cut(section, path, start, text.at, index, name=section))
            return
        start, facts, chosen = text.at - 1, Facts({}), _RICH[section]
        whole = Cut(section, path, start, 0, index, name=section, holes=[])
        for key in self.members():
            kind = self.begin()
            if kind is None:
                value = self.value()[1]
                if key in _TELLING and len(str(value)) <= _FACT:
                    facts.values[key] = value
            elif kind == OPEN_LIST and _is_cut(key, whole, chosen) and self._holds_objects():
                self._nested(key, whole, facts)
            else:
                self.skip()
        whole.end = text.at
        if section == "workouts" and self._plan.format is None:
            self._plan.format = "v2" if "id" in facts.values else "v1"
        if whole.end - start - sum(end - begin for _, begin, end in whole.holes) > MAX_VALUE_BYTES:
            whole.reason, whole.holes = too_large(whole.end - start), []
        last = self._plan.cuts[-1] if self._plan.cuts else None
        if last is not None and _is_one_slice(last, whole):
            last.end, last.count = whole.end, last.count + 1
        else:
            self._plan.add(whole)

    def _nested(self, key: str, whole: Cut, facts: Facts) -> None:
        """Take a list of a workout or ECG: cut out if it holds points, else it stays where it is."""
        hole, before = self.text.at - 1, len(self._plan.cuts)
        child = "ecg_voltages" if whole.section == "ecg" else "workout_route" if key == "route" else "workout_series"
        self._looked_at = None
        self._list(child, key, f"{whole.path}[{whole.first}].{key}", parent=facts, parent_index=whole.first)
        size = self.text.at - hole
        if child == "workout_series" and size <= MAX_KEPT_BYTES and not is_series(key, self._looked_at):
            del self._plan.cuts[before:]
        else:
            whole.holes.append((key, hole, self.text.at))

    def _holds_objects(self) -> bool:
        position, kind = self.text.peek("the end of a list")
        before = self.text.text(self.text.at, position).strip()
        return kind == OPEN_OBJECT or before == b"null"

    def _body(self, start: int) -> None:
        """Take the body of one domain: its lists, or itself as one element."""
        found = False
        text, facts = self.text, len(self._plan.cuts)
        for key in self.members():
            kind = self.begin()
            if kind == OPEN_LIST:
                self._list("domain", key, f"{self._prefix}{key}")
                found = True
            elif kind == OPEN_OBJECT:
                self._whole("domain", f"{self._prefix}{key}", name=key)
                found = True
            else:
                self.value()
        if not found and text.at - start > 2 and len(self._plan.cuts) == facts:
            self._plan.add(Cut("domain", self._prefix, start, text.at, name=""))

    def _whole(self, section: str, path: str, name: str) -> None:
        """Take an object where a list was due: as the only element of one."""
        start, _ = self.skip()
        end = self.text.at
        reason = too_large(end - start) if end - start > MAX_VALUE_BYTES else None
        if end - start > 2 or section in _LISTS:
            self._plan.add(Cut(section, path, start, end, name=name, reason=reason))

    def _list(
        self,
        section: str,
        name: str | None,
        path: str,
        about: Any = None,
        parent: Facts | None = None,
        parent_index: int | None = None,
    ) -> None:
        """Take the elements of a list that was opened, in slices."""
        text = self.text
        depth, bounds = text.depth, Boundaries(text.at)
        empty, closing = True, None
        about = about or None

        def cut(start: int, end: int, first: int, count: int, reason: str | None = None) -> None:
            self._plan.add(
                Cut(section, path, start, end, first, count, name, about, parent, parent_index, reason=reason)
            )

        oversized: int | None = None
        while closing is None:
            text.kept = bounds.start if oversized is None else None
            commas, closing = text.run(depth)
            bounds.found(commas)
            if closing is not None:
                self.closes(closing, CLOSE_LIST)
                empty = not len(commas) and bounds.first == 0 and oversized is None and not bounds.pending
                if empty and not text.text(bounds.start, closing).strip():
                    break
                bounds.found(np.array([closing], np.int64))
            for start, end, first, count in bounds.groups(text.at, closing is not None):
                if oversized == start or (count == 1 and end - start > MAX_VALUE_BYTES):
                    cut(start, end, first, 1, too_large(end - start))
                    oversized = None
                else:
                    content = text.text(start, end)
                    if not content.strip():
                        text.fail(end, "an element")
                    check(b"[" + content + b"]", start - 1)
                    self._looked_at = self._looked_at or content
                    cut(start, end, first, count)
            if closing is None and not bounds.pending and text.at - bounds.start > MAX_VALUE_BYTES:
                oversized = bounds.start
        text.kept = None


def _is_cut(key: str, whole: Cut, chosen: set[str] | None) -> bool:
    """Whether a list under ``key`` is cut out of its workout or ECG."""
    return len(whole.holes) < MAX_LISTS and (chosen is None or key in chosen)


def _is_one_slice(before: Cut, whole: Cut) -> bool:
    """Whether a workout or ECG without lists can be in one slice with the one before it."""
    if (before.section, before.path) != (whole.section, whole.path) or before.first + before.count != whole.first:
        return False
    is_plain = not (before.holes or whole.holes or before.reason or whole.reason)
    return is_plain and before.count < MAX_ELEMENTS and whole.end - before.start <= MAX_BYTES


def too_large(size: int) -> str:
    """Return why an element that is larger than may be is not stored."""
    return f"the element has {size} bytes; expected at most {MAX_VALUE_BYTES}"
