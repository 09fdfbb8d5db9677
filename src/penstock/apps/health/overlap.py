"""Interval arithmetic over overlapping points: which share of each point counts, so that nothing counts twice.

A point is a sample of one source, or a bucket: the sum or the mean of an hour, a day ..., over some sources.

1. Of buckets of the same period and the same beginning one counts: that of most sources, else that of the first source
   by priority, else the one that was received last. Buckets of days are the same if their local dates are.
2. Of samples of several sources that overlap, the first source by priority counts; another counts for the time that
   remains (as HealthKit's statistics do). Samples of one source do not overlap: all count.
3. A bucket contains what is shorter and lies within it. Where it knows all the sources of that, its total is right: it
   counts what is missing, and if there is too much, the shorter ones count in proportion. Where they know more sources,
   they are right, and it counts what they are far from having.

The result does not depend on the order in which points arrive. Times are microseconds since 1970 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .priority import Priority, split

HOUR, DAY = 3_600_000_000, 86_400_000_000
UNKNOWN = -(2**62)
"""The offset of a local time that is not known."""
_DST = 2 * HOUR
"""By how much the days of one zone are longer or shorter than a day, and the offsets of one zone differ, at most."""
_PARTS, _DENSE = 24, 6
"""In how many of the parts of a bucket there are shorter points, if they tell its mean better than it does."""
_NOISE = 1e-9
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Points(NamedTuple):
    """Points of one metric and one kind, by columns."""

    start: _Ints
    end: _Ints
    value: _Floats
    """NaN where there is none."""
    period: _Ints
    """How long a bucket is; 0 for a sample."""
    source: _Ints
    """Which of the sources."""
    offset: _Ints
    """Of the local time, or UNKNOWN."""
    received: _Ints
    """When it was received: a bucket says nothing about a later time."""

    def take(self, rows: Any) -> Points:
        """Return some of the points."""
        return Points(*(column[rows] for column in self))


class _Pieces(NamedTuple):
    """Parts of points: the time, and the share of the value of its owner that counts."""

    owner: _Ints
    start: _Ints
    end: _Ints
    share: _Floats

    def of(self, rows: Any) -> _Pieces:
        return _Pieces(*(column[rows] for column in self))

    def plus(self, other: _Pieces) -> _Pieces:
        return _Pieces(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def count_shares(points: Points, sources: Sequence[str], priority: Priority, *, adds_up: bool) -> _Floats:
    """Return the share of each point that counts, from 0 to 1.

    ``adds_up``: the values are amounts, which are added; else a share is 0 or 1, and the points with 1 make the mean.
    """
    names = [split(source) for source in sources]
    shares = np.ones(len(points.start))
    shares[_repeated(points, names, priority)] = 0.0
    if adds_up:
        return _add_up(points, shares > 0, _masks(names)[points.source], names, priority)
    counting = np.flatnonzero(shares > 0)
    _choose_for_mean(points.take(counting), shares, counting)
    return shares


def _masks(names: Sequence[frozenset[str]]) -> _Ints:
    """Return each set of names as bits."""
    every = sorted(frozenset().union(*names)) if names else []
    bits = {name: 1 << min(place, 61) for place, name in enumerate(every)}
    return np.array([sum({bits[name] for name in one}) for one in names] or [0], np.int64)


def local_dates(points: Points) -> _Ints:
    """Return the local date of the middle of each point, as a number of days."""
    offset = np.where(points.offset == UNKNOWN, 0, points.offset)
    return (points.start + points.period // 2 + offset) // DAY


def _repeated(points: Points, names: Sequence[frozenset[str]], priority: Priority) -> list[int]:
    """Return the buckets of which another says the same time."""
    rows = np.flatnonzero(points.period > 0)
    if len(rows) < 2:
        return []
    buckets = points.take(rows)
    slot = np.where(buckets.period >= DAY, local_dates(buckets), buckets.start)
    order = np.lexsort((slot, buckets.period))
    slot, period = slot[order], buckets.period[order]
    borders = np.flatnonzero(np.append(True, (slot[1:] != slot[:-1]) | (period[1:] != period[:-1])))
    sizes = np.diff(np.append(borders, len(order)))
    losers: list[int] = []
    for first, size in zip(borders[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        group = rows[order[first : first + size]].tolist()
        losers += _losers(points, group, names, priority)
    return losers


def _losers(points: Points, group: list[int], names: Sequence[frozenset[str]], priority: Priority) -> list[int]:
    sets = {row: names[points.source[row]] for row in group}
    fullest = [row for row in group if not any(sets[row] < other for other in sets.values())]
    best = min(
        fullest,
        key=lambda row: (priority.best(sets[row]), -len(sets[row]), -points.received[row], sorted(sets[row])),
    )
    same = (points.source[best], points.start[best])  # Two values of one key are two samples of the same time.
    return [row for row in group if (points.source[row], points.start[row]) != same]


def _add_up(
    points: Points, counting: _Bools, masks: _Ints, names: Sequence[frozenset[str]], priority: Priority
) -> _Floats:
    """Return the shares of amounts; those of ``points`` that are not ``counting`` only tell which sources are known."""
    value = np.nan_to_num(points.value)
    pieces = _samples(points, names, priority)
    for period, rows in _levels(points):
        counted = rows[counting[rows]]
        pieces = _Buckets(points, value, masks, counted, period).reconcile(pieces, points, value, masks)
        others = rows[~counting[rows]]
        pieces = pieces.plus(_Pieces(others, points.start[others], points.end[others], np.zeros(len(others))))
    shares: _Floats = np.bincount(pieces.owner, pieces.share, minlength=len(points.start)).astype(np.float64)
    return shares


def _levels(points: Points) -> Iterator[tuple[int, _Ints]]:
    """Yield the periods of buckets, the shortest first, and the buckets of each by their beginnings."""
    for period in np.unique(points.period[points.period > 0]).tolist():
        rows = np.flatnonzero(points.period == period)
        yield period, rows[np.argsort(points.start[rows], kind="stable")]


def _samples(points: Points, names: Sequence[frozenset[str]], priority: Priority) -> _Pieces:
    """Return the pieces of samples; those which a source of a higher priority covers have no share."""
    samples = np.flatnonzero(points.period == 0)
    present = np.unique(points.source[samples]).tolist()
    whole = _Pieces(samples, points.start[samples], points.end[samples], np.ones(len(samples)))
    if len(present) < 2:
        return whole
    # A list of several sources has been merged by priority already.
    present.sort(key=lambda code: (-len(names[code]), priority.best(names[code]), sorted(names[code])))
    covered, instants = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    found: list[_Pieces] = []
    for code in present:
        rows = points.source[samples] == code
        mine = whole.of(rows)
        lasting = mine.end > mine.start
        found.append(_cover(mine.of(lasting), covered))
        moments = mine.of(~lasting)
        free = ~np.isin(moments.start, instants) & ~_is_within(moments.start, covered)
        found.append(moments._replace(share=np.where(free, moments.share, 0.0)))
        instants = np.union1d(instants, moments.start)
        spans = np.stack([mine.start[lasting], mine.end[lasting]], axis=1)
        covered = _union(np.concatenate([covered, spans]))
    return _Pieces(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _union(spans: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return spans, one to a row, in order and joined where they overlap or touch."""
    if len(spans) < 2:
        return spans
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.flatnonzero(np.append(True, spans[1:, 0] > reach[:-1]))
    return np.stack([spans[first, 0], reach[np.append(first[1:] - 1, len(spans) - 1)]], axis=1)


def _is_within(moments: _Ints, covered: np.ndarray[Any, np.dtype[np.int64]]) -> _Bools:
    if not len(covered):
        return np.zeros(len(moments), np.bool_)
    place = np.searchsorted(covered[:, 0], moments, "right") - 1
    within: _Bools = (place >= 0) & (moments < covered[np.maximum(place, 0), 1])
    return within


def _cover(pieces: _Pieces, covered: np.ndarray[Any, np.dtype[np.int64]]) -> _Pieces:
    if not len(covered) or not len(pieces.owner):
        return pieces
    parts = _split(pieces, np.unique(covered))
    return parts._replace(share=np.where(_is_within(parts.start, covered), 0.0, parts.share))


def _split(pieces: _Pieces, edges: _Ints) -> _Pieces:
    """Cut pieces at edges, their shares in proportion to time."""
    first = np.searchsorted(edges, pieces.start, "right")
    cuts = np.maximum(np.searchsorted(edges, pieces.end, "left") - first, 0)
    if not cuts.any():
        return pieces
    rows = np.repeat(np.arange(len(cuts)), cuts + 1)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(cuts + 1) - (cuts + 1), cuts + 1)
    last = len(edges) - 1
    start = np.where(number == 0, pieces.start[rows], edges[np.clip(first[rows] + number - 1, 0, last)])
    end = np.where(number == cuts[rows], pieces.end[rows], edges[np.clip(first[rows] + number, 0, last)])
    length = (pieces.end - pieces.start)[rows]
    share = np.where(cuts[rows] > 0, pieces.share[rows] * (end - start) / np.maximum(length, 1), pieces.share[rows])
    return _Pieces(pieces.owner[rows], start, end, share)


class _Buckets:
    """The buckets of one period, none of which overlaps another."""

    def __init__(self, points: Points, value: _Floats, masks: _Ints, rows: _Ints, period: int) -> None:
        self._rows, self._days = rows, period >= DAY
        starts = points.start[rows]
        first = np.flatnonzero(np.append(True, starts[1:] != starts[:-1]))
        self._which = np.cumsum(np.append(True, starts[1:] != starts[:-1])) - 1
        self.start, self.end = starts[first], np.maximum.reduceat(points.end[rows], first)
        self.end = np.maximum(self.end, self.start + (0 if self._days else period))
        self.value = np.bincount(self._which, value[rows])
        self.mask = np.bitwise_or.reduceat(masks[rows], first)
        self.received = np.maximum.reduceat(points.received[rows], first)
        self.offset = points.offset[rows][first]
        self.date = local_dates(points.take(rows[first]))
        self.kept = np.ones(len(first))
        """The share of the value of each that no neighbour takes."""
        self._parted: _Bools = np.zeros(len(first), np.bool_)
        if self._days:  # A day may be of 23 or 25 hours.
            over = self.end[:-1] - self.start[1:]
            near = np.flatnonzero((over != 0) & (np.abs(over) <= _DST))
            self.end[near] = self.start[near + 1]
        self.open = (self.received > self.start) & (self.received < self.end)
        """Which were received before they ended, and say nothing about the time after."""
        self.end = np.where(self.open, self.received, self.end)
        self._whole = self.start.copy(), self.end.copy()
        self._part_neighbours()

    def _part_neighbours(self) -> None:
        """Where two overlap, let the one that was received later have the time.

        The value goes with the time, but not that of days: what is near midnight is little of it.
        """
        over = self.end[:-1] - self.start[1:]
        for place in np.flatnonzero(over > 0).tolist():
            length = float(self.end[place] - self.start[place])
            loser = place if self.received[place] <= self.received[place + 1] else place + 1
            self._parted[loser] = True
            if not self._days:
                self.kept[loser] = max(0.0, self.kept[loser] - float(over[place]) / max(length, 1.0))
            if loser == place:
                self.end[place] = self.start[place + 1]
            else:
                self.start[place + 1] = self.end[place]

    def reconcile(self, pieces: _Pieces, points: Points, value: _Floats, masks: _Ints) -> _Pieces:
        """Return the pieces of shorter points, and those of these buckets, so that their sums agree."""
        edges = np.unique(self.start if self._days else np.concatenate([self.start, self.end[~self.open]]))
        pieces = _split(pieces, edges)
        within = self._places(pieces, points)
        inside = np.flatnonzero(within >= 0)
        place = within[inside]
        amount = pieces.share[inside] * value[pieces.owner[inside]]
        size = len(self.start)
        number = np.bincount(place, minlength=size)
        total = self._within_whole(np.bincount(place, amount, minlength=size).astype(np.float64), pieces, value)
        known: _Ints = np.zeros(size, np.int64)
        np.bitwise_or.at(known, place, masks[pieces.owner[inside]])
        wanted = self.value
        rest = wanted - total
        # How much of what goes on after a bucket was received is before that, nobody knows: as much as makes it right.
        going_on = self.open[place] & (pieces.end[inside] > self.end[place])
        before = np.bincount(place[going_on], amount[going_on], minlength=size)
        rest = np.where(rest < 0, np.minimum(rest + before, 0.0), rest)
        rest[np.abs(rest) <= _NOISE * np.maximum(np.abs(wanted), np.abs(total))] = 0.0
        knows_all, knows_less = known & ~self.mask == 0, (known & self.mask == self.mask) & (known != self.mask)
        scale = np.ones(size)
        too_much = knows_all & (rest < 0) & (number > 0)
        scale[too_much] = wanted[too_much] / total[too_much]
        pieces.share[inside] *= scale[place]
        rest[knows_less & (number > 0) & (total * 2 >= wanted)] = 0.0
        left = self.kept * np.where(number == 0, 1.0, np.maximum(rest, 0.0) / np.where(wanted == 0, 1.0, wanted))
        owners = _Pieces(self._rows, self.start[self._which], self.end[self._which], left[self._which])
        return pieces.plus(owners)

    def _within_whole(self, total: _Floats, pieces: _Pieces, value: _Floats) -> _Floats:
        """Return what there is in each bucket; in those that a neighbour takes time of, in all of their time."""
        if not self._parted.any():
            return total
        order = np.argsort(pieces.start, kind="stable")
        sums = np.append(0.0, np.cumsum((pieces.share * value[pieces.owner])[order]))
        first, after = (sums[np.searchsorted(pieces.start[order], edge, "left")] for edge in self._whole)
        return np.where(self._parted, after - first, total)

    def _places(self, pieces: _Pieces, points: Points) -> _Ints:
        """Return in which bucket each piece is, -1 if in none."""
        place = np.searchsorted(self.start, pieces.start, "right") - 1
        place = np.where((place >= 0) & (pieces.start < self.end[np.maximum(place, 0)]), place, -1)
        if not self._days:
            return place
        # Where the clock changes within a day, its end has another offset: the local date says what is of the day.
        offset = points.offset[pieces.owner]
        date = (pieces.start + offset) // DAY
        over = self._is_turned(offset, np.maximum(place, 0)) & (self.date[np.maximum(place, 0)] != date)
        place = np.where(over, -1, place)
        order = np.argsort(self.date, kind="stable")
        same = order[np.minimum(np.searchsorted(self.date[order], date), len(order) - 1)]
        open = (self.received[same] > self.start[same]) & (self.received[same] <= pieces.start)
        return np.where(self._is_turned(offset, same) & (self.date[same] == date) & ~open, same, place)

    def _is_turned(self, offset: _Ints, place: _Ints) -> _Bools:
        """Tell whether an offset is that of a bucket after, or before, the clock was changed."""
        turned = np.abs(offset - self.offset[place])
        known = (offset != UNKNOWN) & (self.offset[place] != UNKNOWN)
        is_turned: _Bools = known & (turned > 0) & (turned <= _DST)
        return is_turned


def _choose_for_mean(points: Points, shares: _Floats, rows: _Ints) -> None:
    """Let a bucket or what is within it make the mean: what is within, unless it tells of a small part of the time."""
    counting = np.ones(len(points.start), np.bool_)
    for period, buckets in _levels(points):
        start = points.start[buckets]
        end = np.maximum(points.end[buckets], start + 1)
        shorter = np.flatnonzero(counting & (points.period < period))
        place = np.searchsorted(start, points.start[shorter], "right") - 1
        inside = (place >= 0) & (points.start[shorter] < end[np.maximum(place, 0)])
        shorter, place = shorter[inside], place[inside]
        if not len(shorter):
            continue
        part = (points.start[shorter] - start[place]) * _PARTS // (end - start)[place]
        pairs = np.unique(place * _PARTS + part) // _PARTS
        number = np.bincount(pairs, minlength=len(buckets))
        counting[buckets[number >= _DENSE]] = False
        counting[shorter[number[place] < _DENSE]] = False
    shares[rows[~counting]] = 0.0
