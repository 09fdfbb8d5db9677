"""What was received of points, parted into what many of them share and what their columns say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..compact import END, MAXIMUM, MINIMUM, START, VALUE

_MAX_FORMS = 16
"""How many forms one load may bring; what is in none of them is kept as it was received."""
_MAX_LENGTH = 500
_LEAST, _MOST = 1e-4, 1e14
"""Between these PostgreSQL, JSON and Arrow write a number alike."""
_NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?"
_TOKENS = re.compile(
    r'"(?:(?P<time>date|startDate|start|endDate|end)":"(?P<said>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?= [+-]\d{4}")|'
    rf'(?P<number>qty|Avg|Min|Max)":(?P<digits>{_NUMBER})(?=[,}}]))'
)
_SLOTS = {"qty": VALUE, "Avg": VALUE, "Min": MINIMUM, "Max": MAXIMUM}
_TIMES = {"date": START, "start": START, "startDate": START, "end": END, "endDate": END}
_COLUMNS = {START: "time", END: "end_time"} | {
    slot: name for slots, name in ((VALUE, "value"), (MINIMUM, "minimum"), (MAXIMUM, "maximum")) for slot in slots
}
_FRACTIONS = (VALUE[1], MINIMUM[1], MAXIMUM[1])
_CONTROL = re.compile(r"[\x00-\x1f]")
_PARTS = re.compile(f"([{''.join(_COLUMNS)}])")
_FIRST, _LAST = (np.datetime64(day, "us").astype(np.int64) for day in ("1900-01-01", "2200-01-01"))
_TIME_LENGTH = 19


@dataclass(frozen=True)
class Formed:
    """The columns that say what was received."""

    form: pa.Array
    """Empty where ``original`` has it."""
    shift: pa.Array
    sent: pa.Array
    original: pa.Array


def form(rows: pa.RecordBatch) -> Formed:
    """Find the forms of rows that say nothing besides their times, their source and their numbers."""
    columns = _Columns(rows)
    forms, sent = np.full(rows.num_rows, "", object), np.full(rows.num_rows, np.nan)
    left = _plain(rows)
    for _ in range(_MAX_FORMS):
        if not len(left):
            break
        found = _form_of(columns.original[int(left[0])].as_py())
        right = np.zeros(len(left), np.bool_)
        if found is not None:
            right, numbers = columns.agree(left, found)
            forms[left[right]], sent[left[right]] = found, numbers[right]
        right[0] = True  # It is done, in this form or in none.
        left = left[~right]
    told = pa.array(forms, pa.string())
    formed = pc.not_equal(told, "")
    return Formed(
        told,
        pc.if_else(formed, columns.shift.cast(pa.int16()), pa.scalar(0, pa.int16())),
        pa.array(sent, pa.float64(), from_pandas=True),
        pc.if_else(formed, pa.scalar(None, pa.string()), columns.original),
    )


def _plain(rows: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the rows whose columns say all there is to say, at times that have nothing unusual."""
    short = pc.less(pc.binary_length(rows.column("original")), _MAX_LENGTH)
    plain: Any = pc.and_(short, pc.is_null(rows.column("fields"))).to_numpy(zero_copy_only=False)
    for name in ("time", "end_time"):
        micros = rows.column(name).cast(pa.int64()).to_numpy()
        plain = plain & (micros >= _FIRST) & (micros < _LAST)
    return np.flatnonzero(plain)


def _form_of(text: str) -> str | None:
    """Return the form of an element; None if its columns do not say when it was, or say its value twice."""
    if _CONTROL.search(text):
        return None
    form, done = "", 0
    for token in _TOKENS.finditer(text):
        name = "said" if token["time"] else "digits"
        slot = _TIMES[token["time"]] if token["time"] else _SLOTS[token["number"]]["." in token["digits"]]
        form += text[done : token.start(name)] + slot
        done = token.end(name)
    form += text[done:]
    return form if START in form and sum(slot in form for slot in VALUE) < 2 else None


class _Columns:
    """What the columns say of rows, as it is written in what was received."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._rows = rows
        self.original = rows.column("original")
        self.shift = rows.column("offset_minutes").fill_null(0)
        self._written: dict[str, pa.Array] = {}

    def agree(self, rows: Any, form: str) -> tuple[Any, Any]:
        """Tell which of ``rows`` the form says, and which number was received where the value is another."""
        taken, sent = pa.array(rows), np.full(len(rows), np.nan)
        pieces, told = _PARTS.split(form), self.original.take(taken)
        written = {slot: self._write(slot).take(taken) for slot in pieces[1::2]}
        [*numbers] = {slot for slot in written if slot not in (START, END)}
        if len(numbers) == 1 and pieces.count(numbers[0]) == 1 and numbers[0] in VALUE:
            written[numbers[0]], sent = self._received(numbers[0], pieces, told, taken)
        parts = [pa.scalar(part) if part not in written else written[part] for part in pieces if part]
        right = pc.fill_null(pc.equal(pc.binary_join_element_wise(*parts, ""), told), False)
        return right.to_numpy(zero_copy_only=False), sent

    def _received(self, slot: str, pieces: Sequence[str], told: pa.Array, rows: pa.Array) -> tuple[pa.Array, Any]:
        """Return the value as it was received, where it can be written so, and as a number where it is another."""
        place = pieces.index(slot)
        before, behind = (_length(some) for some in (pieces[:place], pieces[place + 1 :]))
        digits = pc.utf8_slice_codeunits(told, before, -behind or None)
        digits = pc.if_else(pc.match_substring_regex(digits, f"^{_NUMBER}$"), digits, pa.scalar(None, pa.string()))
        numbers = digits.cast(pa.float64())
        value = self._rows.column("value").take(rows)
        same = pc.fill_null(pc.equal(numbers, value), False)
        return _written(numbers, slot), pc.if_else(same, pa.scalar(None, pa.float64()), numbers).to_numpy(
            zero_copy_only=False
        )

    def _write(self, slot: str) -> pa.Array:
        if slot not in self._written:
            column = self._rows.column(_COLUMNS[slot])
            self._written[slot] = self._local(column) if slot in (START, END) else _written(column, slot)
        return self._written[slot]

    def _local(self, times: pa.Array) -> pa.Array:
        seconds = pc.divide(times.cast(pa.int64()), 1_000_000)
        local = pc.add(seconds, pc.multiply(self.shift.cast(pa.int64()), 60))
        return local.cast(pa.timestamp("s")).cast(pa.string())


def _length(pieces: Sequence[str]) -> int:
    return sum(_TIME_LENGTH if piece in (START, END) else len(piece) for piece in pieces)


def _written(numbers: pa.Array, slot: str) -> pa.Array:
    """Return numbers as JSON has them; null where PostgreSQL writes them otherwise."""
    size = pc.abs(numbers)
    usual = pc.and_(pc.greater_equal(size, _LEAST), pc.less(size, _MOST))
    zero = pc.and_(pc.equal(numbers, 0.0), pc.invert(_is_signed(numbers)))
    written = pc.if_else(pc.or_(usual, zero), numbers.cast(pa.string()), pa.scalar(None, pa.string()))
    if slot not in _FRACTIONS:
        return written
    return pc.if_else(pc.match_substring(written, "."), written, pc.binary_join_element_wise(written, ".0", ""))


def _is_signed(numbers: pa.Array) -> pa.Array:
    """Tell which are below zero, or a zero with a sign."""
    return pa.array(np.signbit(numbers.to_numpy(zero_copy_only=False)))
