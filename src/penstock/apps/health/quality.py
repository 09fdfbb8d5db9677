"""How good the data of each user is: whether it arrives, is complete, can be read and is likely.

The score of a user is 0 to 100: 40 points for days with data, 30 for metrics that are up to date, 20 for points that
could be read, and 10 for points within the range that is likely, each as a share of the last 30 days. Whoever has never
sent anything has 0. Whatever lowers a score is a finding. Days are those of UTC.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Text, case, delete, func, insert, literal, select

from ...platform.database import Database
from . import metrics
from .schema import ingests, points, quality, quarantine
from .schema import metrics as summaries
from .settings import DAY, Settings

log = logging.getLogger("penstock.health.quality")

WINDOW = timedelta(days=30)
"""What is looked at."""
RETENTION = timedelta(days=90)
"""How long the results are kept; of each day the last."""
REGULAR = 7
"""On how many days of the window a metric must have come to be expected again."""
LATE = 3.0
"""After how many of its usual intervals a metric is stale."""
BASIS = 10
"""From how many days the usual value of a metric is known."""
UNUSUAL = 5.0
"""From which robust z-score on the mean of a day is an anomaly."""
RECENT = timedelta(days=7)
"""How long an anomaly, or a body that could not be read, is a finding."""
REPEATED, REPEATS = 0.5, 10
"""From which share of identical bodies on, of how many at least, they are a finding."""
FLAGGED = 0.01
"""From which share of points outside of the likely range on they are a finding."""
MAX_FINDINGS = 20
"""How many findings of one kind are listed."""
FINDINGS = ("silence", "gaps", "stale", "anomaly", "out_of_range", "duplicates", "quarantined", "unreadable")
"""All kinds of findings."""

Finding = dict[str, Any]


class Look(NamedTuple):
    """What was found of a user."""

    score: float
    findings: list[Finding]


class _Sent(NamedTuple):
    """What a user sent within the window, and when first and last of all."""

    first: datetime | None
    last: datetime | None
    number: int
    repeated: int
    failed: int
    received: int
    unchanged: int
    quarantined: int


class _Day(NamedTuple):
    """The points of a metric on a day."""

    metric: str
    day: date
    points: int
    flagged: int
    mean: float | None
    first: datetime
    last: datetime


def look(
    database: Database,
    settings: Settings,
    now: datetime,
    users: Iterable[int],
    stopping: Callable[[], bool] = lambda: False,
) -> dict[int, Look]:
    """Look at the data of ``users``; write down the findings and show them as metrics.

    Ends early once ``stopping`` says so. Raises PenstockError.
    """
    found: dict[int, Look] = {}
    for user in users:
        if stopping():
            return found
        found[user] = seen = database.call(partial(_examine, user=user, settings=settings, now=now))
        database.call(partial(_keep, user=user, look=seen, now=now), changes=True)
    old = delete(quality).where(quality.c.time < now - RETENTION)
    database.call(lambda connection: connection.execute(old), changes=True)
    show(found.values())
    return found


def show(looks: Iterable[Look]) -> None:
    """Show as metrics how many users have which finding, and the lowest score."""
    users = dict.fromkeys(FINDINGS, 0)
    worst = 100.0
    for one in looks:
        worst = min(worst, one.score)
        for kind in {finding["finding"] for finding in one.findings}:
            users[kind] += 1
    metrics.quality(users, worst)


def last(connection: Connection, now: datetime) -> list[Look]:
    """Return what was last found of each user, by this process or another, within the window."""
    newest = (
        select(quality.c.user_id, func.max(quality.c.time).label("time"))
        .where(quality.c.time >= now - WINDOW)
        .group_by(quality.c.user_id)
        .subquery()
    )
    query = select(quality.c.score, quality.c.findings).join(
        newest, (quality.c.user_id == newest.c.user_id) & (quality.c.time == newest.c.time)
    )
    return [Look(row.score, json.loads(row.findings)) for row in connection.execute(query)]


def looked(connection: Connection) -> datetime | None:
    """Return when any process last wrote down what it found."""
    return connection.scalar(select(quality.c.time).order_by(quality.c.id.desc()).limit(1))


def _examine(connection: Connection, user: int, settings: Settings, now: datetime) -> Look:
    since = now - WINDOW
    sent = _sent(connection, user, since, now)
    if sent.last is None:
        found = Look(0.0, [_finding("silence", "nothing has ever arrived", since=None)])
    else:
        days = _days(connection, user, since, now)
        found = judge(sent, days, _open(connection, user, since), settings.silence, now)
    return found


def _keep(connection: Connection, user: int, look: Look, now: datetime) -> None:
    """Write down the look of the day, in place of an earlier one."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    connection.execute(delete(quality).where(quality.c.user_id == user, quality.c.time >= today))
    row = {"user_id": user, "time": now, "score": look.score, "findings": json.dumps(look.findings)}
    connection.execute(insert(quality).values(row))


def _sent(connection: Connection, user: int, since: datetime, now: datetime) -> _Sent:
    own = ingests.c.user_id == user
    ends = select(func.min(ingests.c.received_at), func.max(ingests.c.received_at)).where(own)
    first, latest = connection.execute(ends).one()
    failed = (ingests.c.state == "failed") & (ingests.c.received_at >= now - RECENT)
    sums = select(
        func.count(),
        *(
            func.coalesce(func.sum(value), 0)
            for value in (
                case((ingests.c.duplicate, 1), else_=0),
                case((failed, 1), else_=0),
                ingests.c.received,
                ingests.c.unchanged,
                ingests.c.quarantined,
            )
        ),
    ).where(own, ingests.c.received_at >= since)
    return _Sent(first, latest, *(int(value) for value in connection.execute(sums).one()))


def _open(connection: Connection, user: int, since: datetime) -> int:
    mine = (quarantine.c.user_id == user, quarantine.c.created_at >= since, quarantine.c.resolved_at.is_(None))
    return int(connection.execute(select(func.count()).select_from(quarantine).where(*mine)).scalar_one())


def _days(connection: Connection, user: int, since: datetime, now: datetime) -> list[_Day]:
    mine = (summaries.c.user_id == user, summaries.c.record == "point", summaries.c.last >= since)
    names = select(summaries.c.metric).where(*mine)  # So that only what is of these days is read of the index.
    time = points.c.time
    if connection.dialect.name == "postgresql":
        day = func.to_char(time, literal("YYYY-MM-DD", Text, literal_execute=True), type_=Text)
    else:
        day = func.substr(time, 1, 10, type_=Text)
    query = (
        select(
            points.c.metric,
            day.label("day"),
            func.count(),
            func.count(points.c.warnings),
            func.avg(points.c.value),
            func.min(time),
            func.max(time),
        )
        .where(points.c.user_id == user, points.c.metric.in_(names), time >= since, time <= now)
        .group_by(points.c.metric, day)
        .order_by(points.c.metric, day)
    )
    return [_Day(row[0], date.fromisoformat(row[1]), *row[2:]) for row in connection.execute(query)]


def judge(sent: _Sent, days: list[_Day], quarantined: int, silence: float, now: datetime) -> Look:
    """Return the score and the findings that follow from what a user sent."""
    assert sent.first is not None
    assert sent.last is not None
    by_metric: dict[str, list[_Day]] = defaultdict(list)
    for day in days:
        by_metric[day.metric].append(day)
    silent = _silence(sent.last, silence, now)
    missing, expected = _gaps(sent.first, {day.day for day in days}, now)
    late, regular = _stale(by_metric, silence, now)
    flagged, unlikely = _out_of_range(by_metric)
    unreadable = sent.quarantined / sent.received if sent.received else 0.0
    score = 100 * (
        0.4 * (1 - len(missing) / max(1, expected))
        + 0.3 * (0.0 if silent else 1 - len(late) / max(1, regular))
        + 0.2 * (1 - min(1.0, unreadable))
        + 0.1 * (1 - flagged)
    )
    gaps = _finding(
        "gaps",
        f"no data of {len(missing)} of {expected} days",
        missing=len(missing),
        of=expected,
        days=missing[:MAX_FINDINGS],
    )
    findings = [
        *silent,
        *([gaps] if missing else []),
        *([] if silent else late[:MAX_FINDINGS]),
        *_anomalies(by_metric, now),
        *unlikely[:MAX_FINDINGS],
        *_about_bodies(sent, quarantined, unreadable),
    ]
    return Look(round(score, 1), findings)


def _finding(kind: str, message: str, **details: Any) -> Finding:
    return {"finding": kind, "message": message, **details}


def _silence(latest: datetime, silence: float, now: datetime) -> list[Finding]:
    hours = (now - latest).total_seconds() / 3600
    if hours * 3600 <= silence:
        return []
    return [_finding("silence", f"nothing has arrived for {hours:.0f} h", since=latest.isoformat())]


def _gaps(first: datetime, seen: set[date], now: datetime) -> tuple[list[str], int]:
    """Return the days without data, from the first day of sending or of the window to yesterday, and their number."""
    start = max(first, now - WINDOW).astimezone(UTC).date()
    number = max(0, (now.astimezone(UTC).date() - start).days)
    expected = [start + timedelta(days=one) for one in range(number)]
    return [str(day) for day in expected if day not in seen], number


def _stale(by_metric: dict[str, list[_Day]], silence: float, now: datetime) -> tuple[list[Finding], int]:
    late, regular = [], 0
    for metric, days in by_metric.items():
        if len(days) < REGULAR:
            continue
        regular += 1
        first, latest = days[0].first, days[-1].last
        usual = (latest - first).total_seconds() / (len(days) - 1)
        age = (now - latest).total_seconds()
        if age > max(LATE * usual, silence):
            message = f"{metric} comes every {usual / DAY:.1f} days, but has not for {age / DAY:.1f}"
            late.append(_finding("stale", message, metric=metric, last=latest.isoformat()))
    return late, regular


def _anomalies(by_metric: dict[str, list[_Day]], now: datetime) -> list[Finding]:
    today, recent = now.astimezone(UTC).date(), (now - RECENT).astimezone(UTC).date()
    found: list[tuple[float, Finding]] = []
    for metric, days in by_metric.items():
        whole = [(day.day, day.mean) for day in days if day.day < today and day.mean is not None]
        if len(whole) < BASIS:
            continue
        means = np.array([mean for _, mean in whole])
        usual = float(np.median(means))
        distance = np.abs(means - usual)
        spread = float(np.median(distance)) / 0.6745 or float(np.mean(distance)) * 1.2533
        if spread <= abs(usual) * 1e-9:
            continue
        for (day, mean), score in zip(whole, distance / spread, strict=True):
            if day >= recent and score >= UNUSUAL:
                message = f"{metric} was {mean:.4g} on {day}, and usually is about {usual:.4g}"
                details = {"metric": metric, "day": str(day), "value": mean, "usual": usual, "score": round(score, 1)}
                found.append((float(score), _finding("anomaly", message, **details)))
    return [finding for _, finding in sorted(found, key=lambda one: -one[0])[:MAX_FINDINGS]]


def _out_of_range(by_metric: dict[str, list[_Day]]) -> tuple[float, list[Finding]]:
    """Return the share of points outside of the likely range, and the metrics that have many of them."""
    findings, all_points, all_flagged = [], 0, 0
    for metric, days in by_metric.items():
        number, flagged = sum(day.points for day in days), sum(day.flagged for day in days)
        all_points, all_flagged = all_points + number, all_flagged + flagged
        if flagged and flagged / number >= FLAGGED:
            message = f"{flagged} of {number} points of {metric} are unlikely"
            findings.append(_finding("out_of_range", message, metric=metric, share=round(flagged / number, 4)))
    return all_flagged / max(1, all_points), findings


def _about_bodies(sent: _Sent, quarantined: int, unreadable: float) -> list[Finding]:
    findings = []
    if sent.number >= REPEATS and sent.repeated / sent.number >= REPEATED:
        message = f"{sent.repeated} of {sent.number} bodies had been received before"
        unchanged = round(sent.unchanged / max(1, sent.received), 4)
        findings.append(_finding("duplicates", message, bodies=sent.repeated, of=sent.number, unchanged=unchanged))
    if quarantined or sent.quarantined:
        message = f"{quarantined} points are in quarantine"
        findings.append(_finding("quarantined", message, open=quarantined, share=round(unreadable, 4)))
    if sent.failed:
        message = f"{sent.failed} bodies of the last {RECENT.days} days could not be read"
        findings.append(_finding("unreadable", message, bodies=sent.failed))
    return findings
