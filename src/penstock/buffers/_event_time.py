"""Read the time of each row from a column, and tell how far the time of all rows has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
Micros: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

_TIMES = {"s": 1_000_000, "ms": 1_000, "us": 1}
_FURTHEST = 1 << 60
"""Micros since 1970 that are taken for a time: 36 000 years, so that no sum of two overflows."""
_ISO = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"([T ]([01]\d|2[0-3])(:?[0-5]\d(:?[0-5]\d(\.\d{1,6})?)?)?(Z|[+-]\d\d(:?[0-5]\d)?)?)?$"
)
_WITH_ZONE = r"[T ].*(Z|[+-]\d\d(:?\d\d)?)$"


class Unreadable(ValueError):
    """No row of a column can be read as a time: the column is missing or of another type."""


def micros(batch: pa.RecordBatch, column: str, unit: Unit = "ms") -> tuple[Micros, Mask | None]:
    """Return the time of each row in µs since 1970 UTC, and which rows have one; None when all do.

    ``unit`` is that of integers; floats are seconds, texts ISO 8601, UTC where they name no zone.
    Raises Unreadable when the column is missing or of another type.
    """
    if column not in batch.schema.names:
        raise Unreadable(f"there is no column {column!r}")
    array = batch.column(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _scaled(_parsed(array), "us")
    if pa.types.is_timestamp(kind):
        return _scaled(array, kind.unit)
    if pa.types.is_date(kind):
        return _scaled(array.cast(pa.timestamp("s")), "s")
    if pa.types.is_integer(kind):
        return _scaled(array, unit)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _rounded(array)
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_)
    raise Unreadable(f"column {column!r} is of type {kind}, not a time, a number or a text")


def _scaled(array: pa.Array, unit: Unit) -> tuple[Micros, Mask | None]:
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    if valid is not None:
        array = array.fill_null(pa.scalar(0, pa.int64()).cast(array.type))
    if pa.types.is_uint64(array.type):
        array = pc.min_element_wise(array, pa.scalar((1 << 63) - 1, pa.uint64()))
    ticks: Micros = array.cast(pa.int64()).to_numpy()
    if not len(ticks):
        return ticks, None
    if unit == "ns":
        return ticks // 1_000, valid
    furthest = _FURTHEST // _TIMES[unit]
    if ticks.max() > furthest or ticks.min() < -furthest:
        near: Mask = (ticks <= furthest) & (ticks >= -furthest)
        valid = near if valid is None else valid & near
        ticks = np.where(near, ticks, 0)
    return (ticks if unit == "us" else ticks * _TIMES[unit]), valid


def _rounded(array: pa.Array) -> tuple[Micros, Mask | None]:
    numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = numbers * 1e6
        valid: Mask = np.abs(scaled) <= _FURTHEST  # false for NaN, which is what a null becomes
        times: Micros = np.floor(np.where(valid, scaled, 0)).astype(np.int64)
    return times, None if valid.all() else valid


def _parsed(texts: pa.Array) -> pa.Array:
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return texts.cast(kind)
        except pa.ArrowException:
            continue
    texts = pc.utf8_upper(pc.utf8_trim_whitespace(texts.cast(pa.large_string())))  # RFC 3339 allows t and z too
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")
    texts = pc.if_else(pc.match_substring_regex(texts, _ISO), texts, None)
    zoned = pc.match_substring_regex(texts, _WITH_ZONE)
    with_zone = _cast_what_can_be(pc.if_else(zoned, texts, None), pa.timestamp("us", "UTC"))
    without = _cast_what_can_be(pc.if_else(zoned, None, texts), pa.timestamp("us"))
    return pc.coalesce(with_zone.cast(pa.int64()), without.cast(pa.int64()))


def _cast_what_can_be(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Null for a text that looks like a time and is none: the 30th of February, found by halving."""
    try:
        return texts.cast(kind)
    except pa.ArrowException:
        half = len(texts) // 2
        if not half:
            return pa.nulls(len(texts), kind)
        halves = (_cast_what_can_be(texts.slice(0, half), kind), _cast_what_can_be(texts.slice(half), kind))
        return pa.concat_arrays(halves)


@dataclass(slots=True)
class _Source:
    newest: int
    heard: float


_SHORT_WORK = 0.1
"""The share of the idle timeout that work on rows may take and still be too short to hold a source back."""


class Watermark:
    """The time before which no row is expected any more: it lags behind the newest by a fixed time, and never falls.

    With an idle timeout it follows the slowest source (partition) that is not idle; without one, since a source
    that has nothing to send would hold it for ever, the newest row of all.
    """

    def __init__(
        self,
        lag: int,
        idle_timeout: float | None = None,
        value: int | None = None,
        expected: Sequence[str] = (),
        now: float = 0.0,
    ) -> None:
        """``expected`` are inputs from which nothing came yet at ``now``: they are waited for like any source."""
        self._lag, self._idle_timeout = lag, idle_timeout
        self.value = value
        self._expected = dict.fromkeys(expected, now)
        """Inputs of which no source was heard, each with the time from which it is silent."""
        self._sources: dict[str | None, _Source] = {}

    def observe(self, source: str | None, newest: int, now: float) -> None:
        """Note that a row of time ``newest`` came from ``source``."""
        if self._expected and source is not None:
            for name in [name for name in self._expected if source == name or source.startswith(f"{name}/")]:
                del self._expected[name]
        known = self._sources.get(source)
        if known is None:
            self._sources[source] = _Source(newest, now)
        else:
            known.newest, known.heard = max(known.newest, newest), now
        self.follow(now)

    def follow(self, now: float) -> None:
        """Move on as far as the sources allow that are not idle."""
        if self._idle_timeout is None:
            reached = max((source.newest for source in self._sources.values()), default=None)
        elif self._awaited(now):
            return
        else:
            reached = min((source.newest for source in self._active(now)), default=None)
        if reached is not None:
            self.raise_to(reached - self._lag)

    def raise_to(self, value: int) -> None:
        """Move on to ``value`` whatever the rows say."""
        self.value = value if self.value is None else max(self.value, value)

    def _active(self, now: float) -> list[_Source]:
        timeout = self._idle_timeout
        return [source for source in self._sources.values() if timeout is None or now < source.heard + timeout]

    def _awaited(self, now: float) -> list[float]:
        """Return since when inputs are silent that are waited for and have not sent anything yet."""
        timeout = self._idle_timeout
        return [since for since in self._expected.values() if timeout is not None and now < since + timeout]

    def is_idle(self, now: float) -> bool:
        """Tell whether no source has sent anything for the idle timeout."""
        return bool(self._sources) and self.is_silent(now)

    def is_silent(self, now: float) -> bool:
        """Tell whether every source is idle, and none is waited for that has not sent anything yet."""
        return self._idle_timeout is not None and not self._active(now) and not self._awaited(now)

    def idle_at(self, now: float) -> float | None:
        """Return when the next source becomes idle if none sends anything; None without an idle timeout."""
        timeout = self._idle_timeout
        if timeout is None:
            return None
        heard = [*(source.heard for source in self._active(now)), *self._awaited(now)]
        return min((since + timeout for since in heard), default=now)

    def excuse_work(self, took: float) -> None:
        """Do not count long work on rows as silence of the sources: what they send meanwhile has to wait.

        Short work is not excused: it holds a source back for no longer, while excusing all of it would keep a silent
        source from ever being idle beside one that always has more.
        """
        if self._idle_timeout is not None and took > self._idle_timeout * _SHORT_WORK:
            self.excuse(took)

    def excuse(self, waited: float) -> None:
        """Do not count a time in which nobody listened as silence of the sources."""
        if waited <= 0:
            return
        for source in self._sources.values():
            source.heard += waited
        self._expected = {name: since + waited for name, since in self._expected.items()}
