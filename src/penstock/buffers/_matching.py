"""How rows of two inputs find each other: within an interval of time, or a row the version that held at its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..delivery import Batch
from ..errors import PermanentError
from ._joined_side import JoinedSide
from ._kept import Kept
from ._pairing import Indices, find_ranges, number_keys

How: TypeAlias = Literal["inner", "left", "right", "full"]
Unmatched: TypeAlias = Literal["route", "drop"]
Watermarks: TypeAlias = tuple[int | None, int | None]
RESULT_ROWS = 65_536
"""Rows of a batch of results at most."""


class Result(NamedTuple):
    """Rows of the result; or rows that are refused, with the reason."""

    batch: Batch
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Matching:
    """What is joined, and what becomes of rows that nothing matches; times in µs."""

    keys: tuple[Sequence[str], Sequence[str]]
    """The columns of the key, on the left and on the right."""
    how: How
    unmatched: Unmatched
    ttl: int | None
    lower: int = 0
    upper: int = 0

    def keeps(self, side: int) -> bool:
        """Tell whether rows of a side (0 is the left) are in the result though nothing matches them."""
        return self.how == "full" or self.how == ("left", "right")[side]


class Matcher(Protocol):
    """Joins what came with what is held."""

    sides: tuple[JoinedSide, JoinedSide]
    dropped: int
    """How many rows were dropped since nothing matched them."""

    def match(self, watermarks: Watermarks, released: int | None, *, is_over: bool) -> list[Result]:
        """Join the rows that came; let go of those that nothing can match any more.

        Rows before ``released`` go out as they are; all do once it ``is_over``.
        """
        ...

    def save(self, **note: Any) -> None:
        """Put what is held into the state."""
        ...


def key_columns(matching: Matching, sides: Sequence[JoinedSide]) -> list[Indices]:
    """Return the number of the key of each row, on both sides."""
    columns = []
    for left, right in zip(*matching.keys, strict=True):
        pair = [side.rows.select([name]) for side, name in zip(sides, (left, right), strict=True)]
        whole = pa.concat_tables([pair[0].rename_columns(["k"]), pair[1].rename_columns(["k"])], **_PERMISSIVE)
        columns.append(whole.column("k"))
    numbers = number_keys(columns)
    rows = sides[0].rows.num_rows
    return [numbers[:rows], numbers[rows:]]


_PERMISSIVE = {"promote_options": "permissive"}


def check_keys(matching: Matching, schemas: Sequence[pa.Schema], names: Sequence[str]) -> None:
    """Raise PermanentError if a key has types on both sides that cannot be compared."""
    for left, right in zip(*matching.keys, strict=True):
        fields = [
            schema.field(name) for schema, name in zip(schemas, (left, right), strict=True) if name in schema.names
        ]
        if len(fields) < 2 or any(pa.types.is_null(field.type) for field in fields):
            continue
        kinds = [field.type for field in fields]
        try:
            whole = pa.unify_schemas([pa.schema([("k", kind)]) for kind in kinds], **_PERMISSIVE).field("k").type
        except pa.ArrowException:
            whole = None
        if whole is None or len({pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in kinds}) > 1:
            raise PermanentError(
                f"`{left}` of {names[0]} is {kinds[0]}, `{right}` of {names[1]} is {kinds[1]}: these are never equal"
            )


class _Joined:
    """What both ways of matching have in common: the columns of the result, and rows that nothing matches."""

    def __init__(self, matching: Matching, sides: tuple[JoinedSide, JoinedSide]) -> None:
        self._matching, self.sides = matching, sides
        self.dropped = 0

    def _take(self) -> None:
        for side, names in zip(self.sides, self._matching.keys, strict=True):
            side.take_pending()
            for name in names:
                if name not in side.rows.column_names:  # no row came yet
                    side.rows = side.rows.append_column(name, pa.nulls(side.rows.num_rows))

    def _joined(self, left: pa.Table | None, right: pa.Table | None) -> pa.Table:
        """Return rows of the result, of which one side may be missing."""
        mine, other = self.sides
        keys = dict(zip(*self._matching.keys, strict=True))
        rows = (left if left is not None else right).num_rows  # type: ignore[union-attr]
        columns: dict[str, Any] = {}
        for field in mine.schema:
            if left is not None:
                columns[field.name] = left.column(field.name)
            elif field.name in keys and right is not None:
                columns[field.name] = right.column(keys[field.name])
            else:
                columns[field.name] = pa.nulls(rows, field.type)
        for key, its in keys.items():  # the left side never had a row
            if key not in columns and right is not None:
                columns[key] = right.column(its)
        for field in other.schema:
            if field.name in keys.values():
                continue
            column = right.column(field.name) if right is not None else pa.nulls(rows, field.type)
            columns[f"{other.name}_{field.name}"] = column
        return pa.table(columns)

    def _pairs(self, left: Indices, right: Indices) -> Iterator[Result]:
        for start in range(0, len(left), RESULT_ROWS):
            chosen = [
                side.rows.take(pa.array(indices[start : start + RESULT_ROWS]))
                for side, indices in zip(self.sides, (left, right), strict=True)
            ]
            yield from _batches(self._joined(*chosen))

    def _without_match(self, side: int, rows: pa.Table | None, why: str) -> Iterator[Result]:
        if rows is None or not rows.num_rows:
            return
        if self._matching.keeps(side):
            yield from _batches(self._joined(*((rows, None) if side == 0 else (None, rows))))
        elif self._matching.unmatched == "drop":
            self.dropped += rows.num_rows
        else:
            mine, other = self.sides[side].name, self.sides[1 - side].name
            told = "`how` keeps such rows in the result, `unmatched: drop` leaves them out"
            reason = f"unmatched: no row of {other} matches this row of {mine}{why}; {told}"
            yield from (Result(one.batch, reason) for one in _batches(self.sides[side].plain(rows)))


class IntervalMatcher(_Joined):
    """Joins rows of the same key whose times differ by no less than ``lower`` and no more than ``upper``."""

    def __init__(self, matching: Matching, sides: tuple[JoinedSide, JoinedSide], matched: Kept) -> None:
        super().__init__(matching, sides)
        self._kept = matched
        numbers = [table.column("number").to_numpy() for table, _ in matched.load() if table is not None]
        known = np.concatenate(numbers) if numbers else np.zeros(0, np.int64)
        for side in sides:
            side.mark(side.matched | np.isin(side.numbers, known))
        self._newly: list[Indices] = []

    def match(self, watermarks: Watermarks, released: int | None, *, is_over: bool) -> list[Result]:
        """Join the rows that came; let go of those that nothing can match any more."""
        before = [side.rows.num_rows for side in self.sides]
        self._take()
        found = list(self._match(*before))
        gone = self._gone(watermarks, released)
        for at, side in enumerate(self.sides):
            rows = side.drop_before(gone[at] if not is_over else 1 << 62)
            if is_over:
                side.gone = None
            if rows is not None:
                lonely = rows.filter(pc.invert(rows.column("@matched")))
                found += self._without_match(at, lonely, " within the interval")
        return found

    def _match(self, old_left: int, old_right: int) -> Iterator[Result]:
        left, right = self.sides
        if not left.rows.num_rows or not right.rows.num_rows:
            return
        keys, times = key_columns(self._matching, self.sides), (left.times, right.times)
        lower, upper = self._matching.lower, self._matching.upper
        pairs = []
        if left.rows.num_rows > old_left:
            new = times[0][old_left:]
            mine, theirs = find_ranges(keys[0][old_left:], new + lower, new + upper, keys[1], times[1]).pairs()
            pairs.append((mine + old_left, theirs))
        if right.rows.num_rows > old_right and old_left:
            new = times[1][old_right:]
            old = slice(0, old_left)
            theirs, mine = find_ranges(
                keys[1][old_right:], new - upper, new - lower, keys[0][old], times[0][old]
            ).pairs()
            pairs.append((mine, theirs + old_right))
        for at, old_rows in enumerate((old_left, old_right)):
            self._note_matched(self.sides[at], old_rows, [pair[at] for pair in pairs])
        for mine, theirs in pairs:
            yield from self._pairs(mine, theirs)

    def _note_matched(self, side: JoinedSide, old_rows: int, indices: Sequence[Indices]) -> None:
        was = side.matched
        matched = was.copy()
        for found in indices:
            matched[found] = True
        self._newly.append(side.numbers[:old_rows][(matched & ~was)[:old_rows]])
        side.mark(matched)

    def _gone(self, watermarks: Watermarks, released: int | None) -> tuple[int | None, int | None]:
        left, right = watermarks
        ttl, lower, upper = self._matching.ttl, self._matching.lower, self._matching.upper
        of_left = _latest(_shift(right, -upper), _shift(left, -ttl) if ttl is not None else None, released)
        of_right = _latest(_shift(left, lower), _shift(right, -ttl) if ttl is not None else None, released)
        return of_left, of_right

    def save(self, **note: Any) -> None:
        """Put what is held into the state."""
        newly, self._newly = self._newly, []
        change = pa.table({"number": np.concatenate(newly) if newly else np.zeros(0, np.int64)})
        for side in self.sides:
            side.save(**note)
        whole = np.concatenate([side.numbers[side.matched] for side in self.sides])
        self._kept.add(change, {})
        self._kept.rewrite(pa.table({"number": whole}), {})


class VersionMatcher(_Joined):
    """Joins each row of the left side with the version of its key, on the right, that held at its time."""

    def __init__(self, matching: Matching, sides: tuple[JoinedSide, JoinedSide]) -> None:
        super().__init__(matching, sides)
        self._look_at = 0
        """From how many versions on those are looked for that no row can need any more."""

    def match(self, watermarks: Watermarks, released: int | None, *, is_over: bool) -> list[Result]:
        """Join the rows whose version is certain by now; forget versions that no row can need any more."""
        self._take()
        left, right = watermarks
        side, versions = self.sides
        certain = _latest(
            right, _shift(left, -self._matching.ttl) if self._matching.ttl is not None else None, released
        )
        rows = side.drop_before((1 << 62) if is_over else certain)
        if is_over:
            side.gone = None
        found = list(self._match(rows)) if rows is not None else []
        needed = min(
            (time for time in (left, *([int(side.times.min())] if side.rows.num_rows else [])) if time is not None),
            default=None,
        )
        if needed is not None and versions.rows.num_rows > self._look_at:
            self._forget(versions, needed)
            self._look_at = 2 * versions.rows.num_rows
        return found

    def _match(self, rows: pa.Table) -> Iterator[Result]:
        _, versions = self.sides
        held, self.sides[0].rows = self.sides[0].rows, rows
        try:
            keys, times = key_columns(self._matching, self.sides), rows.column("@time").to_numpy()
            oldest = times - self._matching.lower if self._matching.lower else np.full(len(times), -(1 << 62))
            ranges = find_ranges(keys[0], oldest, times, keys[1], versions.times)
            has = ranges.last > ranges.first
            mine = np.flatnonzero(has)
            yield from self._pairs(mine, ranges.order[ranges.last[has] - 1])
            yield from self._without_match(0, rows.filter(pa.array(~has)), " at its time")
        finally:
            self.sides[0].rows = held

    def _forget(self, versions: JoinedSide, needed: int) -> None:
        """Drop the versions that were replaced before ``needed``, and those that hold no longer then."""
        times = versions.times
        keys = number_keys([versions.rows.column(name) for name in self._matching.keys[1]])
        order = np.lexsort((times, keys))
        is_last = np.ones(len(order), np.bool_)
        is_last[:-1] = (keys[order][1:] != keys[order][:-1]) | (times[order][1:] > needed)
        keep = np.empty(len(order), np.bool_)
        keep[order] = is_last
        keep &= keys >= 0
        if self._matching.lower:
            keep &= times + self._matching.lower >= needed
        if not keep.all():
            versions.keep(keep)

    def save(self, **note: Any) -> None:
        """Put what is held into the state."""
        for side in self.sides:
            side.save(**note)


def _shift(time: int | None, by: int) -> int | None:
    return None if time is None else time + by


def _latest(*times: int | None) -> int | None:
    return max((time for time in times if time is not None), default=None)


def _batches(table: pa.Table) -> Iterator[Result]:
    for start in range(0, table.num_rows, RESULT_ROWS):
        whole = table.slice(start, RESULT_ROWS).combine_chunks().to_batches()
        yield from (Result(batch) for batch in whole)
