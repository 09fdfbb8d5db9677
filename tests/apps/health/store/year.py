"""A year of a person with several devices, as a phone sends it: again and again, in random groupings, and its truth.

The truth is known by the minute. Of each minute the first device that says something is right, as on the phone.
"""

from __future__ import annotations

import json
import random
import secrets
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa

from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.export.points import parse
from penstock.apps.health.export.slices import Part, Slice, pack

HOME = ZoneInfo("Europe/Berlin")
DEVICES = ("Apple Watch", "iPhone", "Ring")
"""The first counts first."""
GROUPINGS = ("Minutes", "Hours", "Days", "None")
STAGES = ("Core", "Deep", "REM", "Awake")
_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_SYNCED = 4
"""How many days an export goes back at most."""


class Trip(NamedTuple):
    """Days away from home, and the hours of UTC that are of one date here and there."""

    first: date
    last: date
    zone: ZoneInfo
    begin: int
    end: int


TRIPS = (
    Trip(date(2025, 3, 5), date(2025, 3, 20), ZoneInfo("America/New_York"), 13, 21),  # its clock changes on March 9
    Trip(date(2025, 5, 10), date(2025, 5, 16), ZoneInfo("Asia/Kolkata"), 4, 18),
    Trip(date(2025, 9, 10), date(2025, 9, 24), ZoneInfo("Asia/Tokyo"), 5, 14),
    Trip(date(2025, 10, 20), date(2025, 11, 6), ZoneInfo("America/New_York"), 13, 20),  # both clocks change
)
"""Where the clock of Berlin changes, March 30, the person is at home."""


Stretch = tuple[int, str, datetime, datetime]
"""A stage of sleep: of which device, and from when to when."""


class Segment(NamedTuple):
    """What a device has counted from one minute to another, the same in each minute."""

    device: int
    start: datetime
    minutes: int
    each: int

    @property
    def end(self) -> datetime:
        """When it ends."""
        return self.start + self.minutes * _MINUTE


class Export(NamedTuple):
    """What one upload says: a metric, a grouping, and the elements."""

    at: datetime
    name: str
    units: str
    grouping: str
    found: list[dict[str, Any]]


@dataclass
class Year:
    """What a person did from one day to another, and what the phone sends of it."""

    first: date
    last: date
    chance: random.Random
    steps: dict[date, list[Segment]] = field(default_factory=dict)
    nights: dict[date, list[Stretch]] = field(default_factory=dict)
    heart: dict[date, dict[datetime, int]] = field(default_factory=dict)

    corrected: dict[date, str] = field(default_factory=dict)
    """Days whose numbers are too low at first, and in which grouping they are sent."""
    settled: dict[date, datetime] = field(default_factory=dict)
    """When all of a day was sent."""

    def __post_init__(self) -> None:
        for day in self.days():
            begin, end = self._awake(day)
            self.steps[day] = list(self._walks(begin, end))
            self.nights[day] = list(self._sleeps(day))
            if self.chance.random() < 0.1:
                self.corrected[day] = self.chance.choice(_groupings(_midnight(day)))
            # At the same minutes of each hour, so that the mean of a day is that of its hours.
            hours = [begin + timedelta(hours=n) for n in range(int((end - begin) / timedelta(hours=1)))]
            self.heart[day] = {hour: self.chance.randint(50, 150) for hour in hours}

    def days(self) -> list[date]:
        """Return all days."""
        return [self.first + n * _DAY for n in range((self.last - self.first).days + 1)]

    def exports(self) -> list[Export]:
        """Return what is sent: some of the days again and again, and all of each day once in one grouping."""
        sent: list[Export] = []
        days = self.days()
        for begin in range(0, len(days), 3):
            some = days[begin : begin + 3]
            later = _midnight(some[-1]) + timedelta(days=self.chance.randint(1, _SYNCED - 1), hours=12)
            self.settled |= dict.fromkeys(some, later)
            for _ in range(self.chance.choice((0, 1, 1, 2))):
                now = _midnight(some[0]) + self.chance.randint(9 * 60, 78 * 60) * _MINUTE
                known = self.chance.choice(((0,), (1,), (0, 1), (0, 1, 2), (1, 2)))
                sent += self._sync(now, self.chance.randint(0, _SYNCED - 1), known)
            sent += self._whole(some, later)
        sent += self.chance.sample(sent, len(sent) // 5)
        self.chance.shuffle(sent)
        return [one for one in sent if one.found]

    def true_steps(self) -> dict[str, float]:
        """Return the steps of each day."""
        return {str(day): sum(_merged(found, DEVICES_ALL).values()) for day, found in self.steps.items() if found}

    def true_sleep(self) -> dict[str, float]:
        """Return the minutes slept in each night."""
        return {str(day): float(_asleep(found)) for day, found in self.nights.items()}

    def true_heart(self) -> dict[str, tuple[float, float, float]]:
        """Return mean, minimum and maximum of each day."""
        return {
            str(day): (sum(found.values()) / len(found), min(found.values()) - 3.0, max(found.values()) + 3.0)
            for day, found in self.heart.items()
        }

    def _sync(self, now: datetime, back: int, known: tuple[int, ...]) -> Iterator[Export]:
        """Yield what the phone, where it is now, says of some days until now, knowing some of the devices."""
        zone = _zone_at(now)
        today = now.astimezone(zone).date()
        begin = datetime.combine(today - back * _DAY, time(), zone).astimezone(UTC)
        found = {day: [one for one in own if begin <= one.start and one.start < now] for day, own in self.steps.items()}
        for day in sorted(found.keys() & self.corrected.keys()):
            grouping, told = self.corrected[day], found.pop(day)
            if now < self.settled.get(day, now + _DAY):
                told = [one._replace(each=one.each // 2) for one in told]
            yield Export(now, "step_count", "count", grouping, _steps(told, DEVICES_ALL, grouping, zone, now))
        grouping, segments = self.chance.choice(GROUPINGS), [one for own in found.values() for one in own]
        yield Export(now, "step_count", "count", grouping, _steps(segments, known, grouping, zone, now))
        nights = [found for day, found in self.nights.items() if begin <= _midnight(day) and found[-1][3] < now]
        yield from _nights(
            [[one for one in found if one[0] in known] for found in nights], zone, now, self.chance.random() < 0.3
        )

    def _whole(self, days: list[date], now: datetime) -> Iterator[Export]:
        """Yield all of some days."""
        zone = _zone_at(now)
        grouping = self.chance.choice(_groupings(now))
        for day in days:
            chosen = self.corrected.get(day, grouping)
            yield Export(now, "step_count", "count", chosen, _steps(self.steps[day], DEVICES_ALL, chosen, zone, now))
        yield from _nights([self.nights[day] for day in days], zone, now, self.chance.random() < 0.3)
        found = {at: value for day in days for at, value in self.heart[day].items()}
        for grouping in self.chance.sample(("Minutes", "Hours", "Days"), self.chance.randint(1, 2)):
            yield Export(now, "heart_rate", "count/min", grouping, _heart(found, grouping, zone))

    def _awake(self, day: date) -> tuple[datetime, datetime]:
        """Return from when to when something is done: of one date wherever it is sent from."""
        begin, end = (datetime.combine(day, time(hour), HOME).astimezone(UTC) for hour in (7, 22))
        for trip in TRIPS:
            if trip.first - 2 * _SYNCED * _DAY <= day <= trip.last + 2 * _SYNCED * _DAY:
                begin, end = (datetime.combine(day, time(hour), UTC) for hour in (trip.begin, trip.end))
        return begin, end

    def _walks(self, begin: datetime, end: datetime) -> Iterator[Segment]:
        length = int((end - begin) / _MINUTE)
        for device in self.chance.sample(range(len(DEVICES)), self.chance.randint(0, 3)):
            at = 0
            for _ in range(self.chance.randint(1, 3)):
                at += self.chance.randint(0, length // 3)
                minutes = self.chance.randint(1, 25)
                if at + minutes <= length:
                    yield Segment(device, begin + at * _MINUTE, minutes, self.chance.randint(50, 99))
                at += minutes

    def _sleeps(self, day: date) -> Iterator[Stretch]:
        at = _midnight(day) - self.chance.randint(0, 90) * _MINUTE
        if day.day % 3 == 0:
            yield 2, "Asleep", at - 20 * _MINUTE, at + 200 * _MINUTE
        for number in range(self.chance.randint(4, 8)):
            until = at + self.chance.randint(20, 70) * _MINUTE
            yield 0, STAGES[(number + day.day) % len(STAGES)], at, until
            at = until


DEVICES_ALL = tuple(range(len(DEVICES)))


def part_of(one: Export, user: int = 1) -> pa.RecordBatch:
    """Return an export as a part that the store takes; its id is of the time when it was sent."""
    id = str(uuid.UUID(int=int(one.at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | secrets.randbits(60)))
    headers = {"automation-aggregation": one.grouping}
    accepted = Accepted(id=id, user=user, received_at=one.at, raw=id, bytes=1, sha256=id, headers=headers)
    payload = json.dumps(one.found).encode()
    slice = Slice(section="metrics", name=one.name, units=one.units, payload=payload, path="data")
    return parse(pack(Part(accepted=accepted, number=0, last=True, slices=[slice])))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), HOME).astimezone(UTC)


def _zone_at(now: datetime) -> ZoneInfo:
    return next((trip.zone for trip in TRIPS if trip.first <= now.date() <= trip.last), HOME)


def _groupings(now: datetime) -> tuple[str, ...]:
    """Return the groupings that say all of some days; hours do not near a zone where they begin at another minute."""
    fit = all(_zone_at(now + n * _DAY).key != "Asia/Kolkata" for n in range(-2 * _SYNCED, 2 * _SYNCED + 1))
    return GROUPINGS if fit else tuple(one for one in GROUPINGS if one != "Hours")


def _told(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S %z}"


def _merged(found: list[Segment], known: tuple[int, ...]) -> dict[datetime, int]:
    said: dict[datetime, int] = {}
    for one in sorted(found, key=lambda one: -one.device):
        if one.device in known:
            said |= {one.start + n * _MINUTE: one.each for n in range(one.minutes)}
    return said


def _begin(at: datetime, grouping: str, zone: ZoneInfo) -> datetime:
    local = at.astimezone(zone)
    if grouping == "Hours":  # Not by the wall clock: an hour comes twice in autumn.
        return at - timedelta(minutes=local.minute)
    return datetime.combine(local.date(), time(), zone) if grouping == "Days" else at


def _steps(
    found: list[Segment], known: tuple[int, ...], grouping: str, zone: ZoneInfo, now: datetime
) -> list[dict[str, Any]]:
    own = [one for one in found if one.device in known]
    if grouping == "None":
        return [
            {"date": _told(one.start, zone), "start": _told(one.start, zone), "end": _told(one.end, zone)}
            | {"qty": one.minutes * one.each, "source": DEVICES[one.device]}
            for one in own
            if one.end <= now
        ]
    totals: dict[datetime, float] = defaultdict(float)
    names: dict[datetime, set[str]] = defaultdict(set)
    for at, value in _merged(own, known).items():
        if at < now:
            totals[_begin(at, grouping, zone)] += value
    for one in own:
        for number in range(one.minutes):
            if (at := one.start + number * _MINUTE) < now:
                names[_begin(at, grouping, zone)].add(DEVICES[one.device])
    return [
        {"date": _told(at, zone), "qty": total, "source": "|".join(sorted(names[at]))} for at, total in totals.items()
    ]


def _heart(found: dict[datetime, int], grouping: str, zone: ZoneInfo) -> list[dict[str, Any]]:
    if grouping == "Minutes":
        times = {hour + 5 * n * _MINUTE: [value] for hour, value in found.items() for n in range(12)}
    else:
        times = defaultdict(list)
        for hour, value in found.items():
            times[_begin(hour, grouping, zone)].append(value)
    return [
        {"date": _told(at, zone), "Avg": sum(each) / len(each), "Min": min(each) - 3, "Max": max(each) + 3}
        | {"source": DEVICES[0]}
        for at, each in times.items()
    ]


def _stages(found: list[Stretch]) -> dict[datetime, str]:
    said: dict[datetime, str] = {}
    for _, stage, start, end in sorted(found, key=lambda one: -one[0]):
        said |= {start + n * _MINUTE: stage for n in range(int((end - start) / _MINUTE))}
    return said


def _asleep(found: list[Stretch]) -> int:
    return sum(stage != "Awake" for stage in _stages(found).values())


def _nights(nights: list[list[Stretch]], zone: ZoneInfo, now: datetime, is_summed: bool) -> Iterator[Export]:
    """Yield nights by their stages, and some added up as the phone does it."""
    told = [
        {"startDate": _told(start, zone), "endDate": _told(end, zone), "value": stage, "source": DEVICES[device]}
        for found in nights
        for device, stage, start, end in found
    ]
    summed = [_summed_up(found, zone) for found in nights if found]
    yield Export(now, "sleep_analysis", "hr", *(("Days", summed) if is_summed else ("None", told)))


def _summed_up(found: list[Stretch], zone: ZoneInfo) -> dict[str, Any]:
    """Return a night as the phone adds it up."""
    stages = list(_stages(found).values())
    totals = {stage.lower(): stages.count(stage) / 60 for stage in STAGES}
    start, end = min(one[2] for one in found), max(one[3] for one in found)
    day = datetime.combine(end.astimezone(zone).date(), time(), zone)
    return {
        **{"date": _told(day, zone), "totalSleep": _asleep(found) / 60, **totals},
        **{"sleepStart": _told(start, zone), "sleepEnd": _told(end, zone)},
        "source": "|".join(sorted({DEVICES[one[0]] for one in found})),
    }
