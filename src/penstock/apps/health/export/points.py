"""Make rows of the parts of an export: the processor of the health stream."""

from __future__ import annotations

import importlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pyarrow as pa

from ....component import Process, Processor
from ....context import Context
from . import catalogue
from .metrics import unknown
from .records import SECTIONS, Parser, Records
from .slices import Part, Slice, Unreadable, elements, unpack

_MODULES = {
    "metrics": "metrics",
    "internal": "internal",
    "domain": "domains",
    "csv": "csv",
    "workouts": "workouts",
    "workout_route": "workouts",
    "workout_series": "workouts",
    "ecg": "ecg",
    "ecg_voltages": "ecg",
    "symptoms": "events",
    "cycleTracking": "events",
    "stateOfMind": "events",
    "medications": "events",
    "heartRateNotifications": "events",
}
"""Where the parser of each section is found."""
logger = logging.getLogger(__name__)


class HealthPoints(Processor, type="health_points"):
    """Read the points of the parts of a health export, and quarantine with its reason what cannot be read.

    The buffer `health_parts` makes the parts. Each becomes one batch: a row for each element that arrived, and a last
    one that counts them.

    Example::

        type: health_points
    """

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Begin; there is nothing to open."""
        yield lambda batch: [parse(batch)] if batch.num_rows else []


def parse(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows of a part; what cannot be read is among them, with the reason."""
    part = unpack(batch)
    try:
        return _records(part, flushed=False).batch()
    except Exception:  # whose rows they are that no column can hold, is found out slice by slice
        logger.exception("part %d of ingest %s has rows that cannot be columns", part.number, part.accepted.id)
        return _records(part, flushed=True).batch()


def _records(part: Part, flushed: bool) -> Records:
    records = Records(part)
    for slice in part.slices:
        _parse(slice, records, flushed)
    return records


def _parse(slice: Slice, records: Records, flushed: bool) -> None:
    if slice.reason is not None:
        _refuse(slice, records, slice.reason)
        return
    mark = records.mark()
    try:
        _parser(slice.section)(slice, records)
        if flushed:
            records.flush()
        missing = records.missing()
        if not missing:
            return
        fault = f"elements were received and not stored: {missing}"
        logger.error("the parser of %r lost elements at %s: %s", slice.section, slice.path, missing)
    except Exception as error:  # a defect of a parser must not cost anything else of the body
        fault = f"{type(error).__name__}: {error}"
        logger.exception("the parser of %r failed at %s", slice.section, slice.path)
    records.rewind(mark)
    _refuse(slice, records, f"could not be read: {fault}")


def _parser(section: str) -> Parser:
    module = _MODULES.get(section)
    if module is None:
        return unknown
    if section not in SECTIONS:
        importlib.import_module(f".{module}", __package__)
    return SECTIONS[section]


def _refuse(slice: Slice, records: Records, reason: str) -> None:
    """Quarantine all elements of a slice."""
    type = _type(slice)
    for index, (payload, why) in enumerate(_contents(slice), slice.first):
        records.received(type)
        records.quarantine(slice, index, why or reason, payload, type=type)


def _type(slice: Slice) -> str:
    """As what the elements of a slice are counted, as far as that can be told without reading them."""
    if slice.section == "workout_series":
        return f"workout_{catalogue.plain(slice.name).removesuffix('_data')}"
    if slice.section in _COUNTED:
        return _COUNTED[slice.section]
    listed = slice.section in ("metrics", "domain") or slice.section not in _MODULES
    return catalogue.canonical(slice.name if slice.name and listed else catalogue.snake(slice.section))


_COUNTED = {
    "workouts": "workouts",
    "workout_route": "workout_route",
    "ecg_voltages": "ecg_voltage",
    "internal": "internal",
    "csv": "csv",
}


def _contents(slice: Slice) -> list[tuple[object, str | None]]:
    """The elements of a slice, as far as they can be told apart, each with a reason of its own if it has one."""
    if slice.section == "csv":
        header, _, lines = slice.payload.partition(b"\n")
        return [(header + b"\n" + line, None) for line in lines.splitlines() if line.strip()]
    if slice.count == 1:
        return [(slice.payload, None)]
    try:
        found = elements(slice.payload)
    except ValueError:
        return [(slice.payload, None)] * (slice.count or 1)
    return [(one, one.reason if isinstance(one, Unreadable) else None) for one in found]
