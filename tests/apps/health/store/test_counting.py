"""What several exports say of the same time is stored and counts once, from the body to the sums."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from penstock.apps.health import nights
from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.export.points import parse
from penstock.apps.health.export.slices import Part, Slice, pack
from penstock.apps.health.priority import Priority, load, save
from penstock.apps.health.reading import overview, summaries
from penstock.apps.health.reading.domains import Asked
from penstock.apps.health.schema import points, quarters
from penstock.apps.health.store import rollups
from penstock.apps.health.store.recounting import recount_metric, recount_user
from penstock.identifiers import new_id
from penstock.platform.web.paging import Window

from .conftest import Stored
from .factory import MINUTE, NOON, accepted, part, series, workout

BERLIN = "Europe/Berlin"


def body(name: str, unit: str, found: Sequence[dict[str, Any]], grouping: str | None = None) -> Any:
    """Return the part of an export of one metric."""
    headers = {} if grouping is None else {"automation-aggregation": grouping}
    id = new_id()
    accepted = Accepted(id=id, user=1, received_at=datetime.now(UTC), raw=id, bytes=1, sha256=id, headers=headers)
    slice = Slice(section="metrics", name=name, units=unit, payload=json.dumps(found).encode(), path="data")
    return parse(pack(Part(accepted=accepted, number=0, last=True, slices=[slice])))


def send(stored: Stored, name: str, unit: str, *found: dict[str, Any], grouping: str | None = None) -> Any:
    [outcome] = stored.write(body(name, unit, found, grouping))
    return outcome


def days(stored: Stored, metric: str, zone: str = BERLIN, **more: Any) -> dict[str, float | None]:
    found = stored.database.call(lambda connection: rollups.aggregate(connection, 1, metric, "day", zone, **more))
    return {str(day.time.date()): None if day.sum is None else round(day.sum, 6) for day in found}


def summary(stored: Stored, kind: str, metric: str, first: str, last: str) -> dict[str, Any]:
    window = Window(datetime.fromisoformat(first), datetime.fromisoformat(last))
    asked = Asked(1, kind, window)
    found = stored.database.call(lambda connection: summaries.summary(connection, asked, [metric]))
    return dict(found.get(metric, {}))


def test_a_bucket_whose_list_of_sources_grew_is_not_added(stored: Stored) -> None:
    few = {"date": "2025-05-01 00:00:00 +0200", "qty": 3, "source": "Watch"}
    more = {"date": "2025-05-01 00:00:00 +0200", "qty": 9, "source": "Watch|Phone"}
    for found in ([few], [more], [few]):
        send(stored, "flights_climbed", "count", *found)
    assert days(stored, "flights_climbed") == {"2025-05-01": 9}
    assert days(stored, "flights_climbed", "America/New_York") == {"2025-05-01": 9}
    assert stored.rows(select(points.c.value, points.c.counted).order_by(points.c.value)) == [(3, 0), (9, None)]


@pytest.mark.parametrize("zones", [("+0200", "+0530"), ("+0530", "+0200"), ("-0500", "+0100")])
def test_a_day_sent_again_from_another_zone_counts_once_though_one_device_sent_it(
    stored: Stored, zones: tuple[str, str]
) -> None:
    for zone in zones:
        found = {"date": f"2025-05-15 00:00:00 {zone}", "qty": 1000, "source": "iPhone"}
        send(stored, "step_count", "count", found, grouping="Days")
    assert days(stored, "step_count") == {"2025-05-15": 1000}
    stored.database.call(lambda connection: recount_user(connection, 1), changes=True)
    assert days(stored, "step_count") == {"2025-05-15": 1000}


def test_hours_of_one_device_that_begin_at_other_minutes_count_once(stored: Stored) -> None:
    """In a zone of half an hour: what nothing shorter tells is divided in proportion to time, the later one first."""
    here = [{"date": f"2025-05-15 {hour}:00:00 +0200", "qty": 600, "source": "iPhone"} for hour in (10, 11)]
    there = [{"date": f"2025-05-15 {hour}:00:00 +0530", "qty": 600, "source": "iPhone"} for hour in (13, 14, 15)]
    send(stored, "step_count", "count", *here, grouping="Hours")
    assert days(stored, "step_count") == {"2025-05-15": 1200}
    send(stored, "step_count", "count", *there, grouping="Hours")
    assert days(stored, "step_count") == {"2025-05-15": 1800}
    assert sum(share or 0 for _, share in stored.rows(select(points.c.time, points.c.counted))) <= 3


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("days_first", [True, False])
def test_minutes_and_the_day_that_they_are_of_are_not_added(stored: Stored, header: bool, days_first: bool) -> None:
    minutes = [{"date": f"2025-05-02 10:0{n}:00 +0200", "qty": 0.1, "source": "Watch"} for n in range(10)]
    day = [{"date": "2025-05-02 00:00:00 +0200", "qty": 1.0, "source": "Watch"}]
    sent = [(minutes, "Minutes"), (day, "Days")]
    for found, grouping in reversed(sent) if days_first else sent:
        send(stored, "walking_running_distance", "km", *found, grouping=grouping if header else None)
    assert days(stored, "walking_running_distance") == {"2025-05-02": 1000}
    assert summary(stored, "activity", "walking_running_distance", "2025-05-01T00:00Z", "2025-05-04T00:00Z")[
        "sum"
    ] == pytest.approx(1000)


def test_samples_of_watch_and_phone_are_merged_by_priority(stored: Stored) -> None:
    span = {
        "date": "2025-05-04 10:00:00 +0200",
        "start": "2025-05-04 10:00:00 +0200",
        "end": "2025-05-04 10:10:00 +0200",
    }
    send(stored, "step_count", "count", span | {"qty": 1000, "source": "Watch"}, span | {"qty": 980, "source": "Phone"})
    hour = {"date": "2025-05-10 10:00:00 +0000"}
    send(
        stored, "step_count", "count", hour | {"qty": 6000, "source": "Watch"}, hour | {"qty": 5800, "source": "Phone"}
    )
    assert days(stored, "step_count") == {"2025-05-04": 1000, "2025-05-10": 6000}
    assert days(stored, "step_count", source="Phone") == {"2025-05-04": 980, "2025-05-10": 5800}

    def prefer_phone(connection: Any) -> None:
        save(connection, 1, "step_count", ["Phone"])
        recount_metric(connection, 1, "step_count")

    stored.database.call(prefer_phone, changes=True)
    assert days(stored, "step_count") == {"2025-05-04": 980, "2025-05-10": 5800}
    assert stored.database.call(lambda c: load(c, 1, "step_count").chosen) == ("Phone",)


def test_a_source_finds_what_it_took_part_in(stored: Stored) -> None:
    send(stored, "step_count", "count", {"date": "2025-05-08 10:00:00 +0200", "qty": 6000, "source": "Watch|Phone"})
    for source in ("Watch", "Phone", "Phone|Watch"):
        assert days(stored, "step_count", source=source) == {"2025-05-08": 6000}
    for source in ("watch", "Wat", "%", "Pad"):
        assert days(stored, "step_count", source=source) == {}


def test_a_night_with_a_source_more_is_one_night(stored: Stored) -> None:
    night = {
        "date": "2025-05-06 00:00:00 +0200", "totalSleep": 7, "core": 4, "deep": 1, "rem": 2, "awake": 0.1,
        "inBed": 7.2,
        "sleepStart": "2025-05-05 23:00:00 +0200", "sleepEnd": "2025-05-06 06:00:00 +0200",
        "inBedStart": "2025-05-05 22:55:00 +0200", "inBedEnd": "2025-05-06 06:05:00 +0200",
    }  # fmt: skip
    send(stored, "sleep_analysis", "hr", night | {"source": "Watch"})
    send(stored, "sleep_analysis", "hr", night | {"source": "Watch|Phone"})
    assert days(stored, "sleep_analysis") == {"2025-05-06": 420}
    assert summary(stored, "sleep", "sleep_analysis", "2025-05-05T00:00Z", "2025-05-07T00:00Z")["sum"] == 420
    [found] = slept(stored)
    assert (str(found["night"]), found["totals"]["asleep"]) == ("2025-05-06", 420)


def slept(stored: Stored) -> list[dict[str, Any]]:
    first, after = date(2025, 5, 1), date(2025, 5, 20)
    return stored.database.call(
        lambda connection: nights.nights(connection, 1, first, after, ZoneInfo(BERLIN), Priority())
    )


def stage(value: str, start: str, end: str, source: str = "Watch") -> dict[str, Any]:
    return {
        "startDate": f"2025-05-{start}:00 +0200",
        "endDate": f"2025-05-{end}:00 +0200",
        "value": value,
        "source": source,
    }


def test_time_in_bed_and_stages_are_not_added_to_sleep(stored: Stored) -> None:
    """In bed, asleep of unknown stage, and the stages of two sources: the chart shows what the night says."""
    found = [
        stage("In Bed", "05 22:00", "06 06:30", "iPhone"), stage("Asleep", "05 22:30", "06 06:00", "Ring"),
        stage("Core", "05 23:00", "06 02:00"), stage("Deep", "06 02:00", "06 03:00"),
        stage("Awake", "06 03:00", "06 03:30"), stage("REM", "06 03:30", "06 05:00"),
    ]  # fmt: skip
    send(stored, "sleep_analysis", "hr", *found)
    send(
        stored, "sleep_analysis", "hr", *found[2:], stage("Deep", "06 01:00", "06 02:30")
    )  # Sent again, and corrected.
    [night] = slept(stored)
    assert night["totals"] == {
        "core": 120, "deep": 120, "rem": 90, "awake": 30, "in_bed": 510, "unspecified": 90, "asleep": 420,
    }  # fmt: skip
    assert days(stored, "sleep_analysis") == {"2025-05-06": 420}
    hours = stored.database.call(lambda c: rollups.aggregate(c, 1, "sleep_analysis", "hour", BERLIN))
    assert sum(hour.sum or 0.0 for hour in hours) == pytest.approx(420)
    assert summary(stored, "sleep", "sleep_analysis", "2025-05-01T00:00Z", "2025-05-20T00:00Z")["sum"] == 420


def test_a_night_that_cannot_be_hides_nothing(stored: Stored) -> None:
    night = {"sleepStart": "2025-05-05 23:00:00 +0200", "sleepEnd": "2025-05-06 06:00:00 +0200", "source": "Watch"}
    send(stored, "sleep_analysis", "hr", night | {"totalSleep": 7, "inBed": 808742334249947})
    send(stored, "sleep_analysis", "hr", night | {"totalSleep": 808742334249947, "source": "Other"})
    send(stored, "sleep_analysis", "hr", stage("Core", "01 23:00", "06 23:00"), stage("Core", "19 23:00", "20 05:00"))
    [found] = [one for one in slept(stored) if one["totals"]["asleep"]]
    assert (found["totals"]["asleep"], found["totals"]["in_bed"]) == (420, 0)


def test_a_value_in_a_unit_that_is_not_known_is_kept_out_of_sums(stored: Stored) -> None:
    send(stored, "walking_speed", "m/s", {"date": "2025-05-01 10:00:00 +0200", "qty": 1.5, "source": "Watch"})
    strange = send(
        stored, "walking_speed", "furlong", {"date": "2025-05-01 11:00:00 +0200", "qty": 900, "source": "Watch"}
    )
    assert [warning["warning"] for warning in strange.warnings] == ["unknown_unit"]
    [day] = stored.database.call(lambda c: rollups.aggregate(c, 1, "walking_speed", "day", BERLIN))
    assert (day.count, day.mean, day.maximum) == (1, 1.5, 1.5)
    assert stored.rows(select(quarters.c.count, quarters.c.reduced).order_by(quarters.c.time)) == [(1, 0), (0, 1)]


def test_a_series_of_a_workout_in_a_unit_that_is_not_known_is_kept_out_of_means(stored: Stored) -> None:
    metres = [
        series(2.5, NOON + n * MINUTE) | {"metric": "speed", "type": "workout_speed", "unit": "m/s"} for n in (0, 1)
    ]
    strange = series(900.0, NOON + 2 * MINUTE) | {"metric": "speed", "type": "workout_speed", "unit": "furlong"}
    strange["warnings"] = '[{"message":"...","warning":"unknown_unit"}]'
    stored.write(part(accepted(), [workout(), *metres, strange]))
    [hour] = stored.database.call(lambda c: rollups.aggregate(c, 1, "workout_speed", "hour", BERLIN))
    assert (hour.count, hour.mean, hour.maximum) == (2, 2.5, 2.5)


def test_counts_that_nobody_knows_are_added(stored: Stored) -> None:
    laps = [{"date": f"2025-05-01 {hour}:00:00 +0200", "qty": qty} for hour, qty in ((10, 20), (18, 40))]
    send(stored, "wheelchair_laps", "count", *laps)
    send(stored, "wheelchair_laps", "count", {"date": "2025-05-01 00:00:00 +0200", "qty": 60}, grouping="Days")
    assert days(stored, "wheelchair_laps") == {"2025-05-01": 60}
    [found] = stored.database.call(lambda connection: overview.metrics(connection, 1))
    assert found["aggregation"] == "sum"


def test_a_date_that_cannot_be_right_is_flagged_and_hides_nothing(stored: Stored) -> None:
    good = {"date": "2025-05-01 10:00:00 +0200", "qty": 70}
    outcome = send(
        stored,
        "weight_body_mass",
        "kg",
        good,
        {"date": "2205-05-01 10:00:00 +0200", "qty": 71},
        {"date": "0020-05-01", "qty": 72},
        {"date": "1970-01-01 00:00:00 -0500", "qty": 73},
        {"date": f"{datetime.now(UTC) + timedelta(hours=30):%Y-%m-%d %H:%M:%S} +0000", "qty": 74},
    )
    assert [warning["warning"] for warning in outcome.warnings].count("suspicious_time") == 4
    [found] = stored.database.call(lambda connection: overview.metrics(connection, 1))
    assert (found["count"], found["first"].year, found["last"].year, found["latest"]["value"]) == (5, 2025, 2025, 70)


def test_weeks_count_what_days_do_not_say(stored: Stored) -> None:
    send(
        stored,
        "step_count",
        "count",
        {"date": "2025-05-05 00:00:00 +0200", "qty": 70_000, "source": "Watch"},
        grouping="Weeks",
    )
    assert days(stored, "step_count") == {"2025-05-08": 70_000}
    send(
        stored,
        "step_count",
        "count",
        {"date": "2025-05-06 00:00:00 +0200", "qty": 9000, "source": "Watch"},
        grouping="Days",
    )
    assert days(stored, "step_count") == {"2025-05-06": 9000, "2025-05-08": 61_000}


def minute(begin: datetime, number: int) -> datetime:
    return begin + timedelta(minutes=number)


def exports(seed: int, begin: datetime, length: int) -> tuple[list[tuple[str, list[dict[str, Any]]]], dict[str, float]]:
    """Return exports of some days of steps in random groupings, windows, lists of sources and order, and the truth."""
    chance = random.Random(seed)
    zone = ZoneInfo(BERLIN)
    devices = ("Apple Watch", "iPhone")
    said: list[dict[int, int]] = [{}, {}]
    for device, ends in enumerate(said):
        for _ in range(length * 6):
            first = chance.randrange(length * 1440)
            ends |= {
                first + n: chance.randint(50, 99) for n in range(chance.randint(1, 90)) if first + n < length * 1440
            }
        assert device < 2

    def buckets(grouping: str, first: int, last: int, known: tuple[int, ...]) -> list[dict[str, Any]]:
        totals: dict[datetime, float] = defaultdict(float)
        names: dict[datetime, set[str]] = defaultdict(set)
        for number in range(first, last):
            local = minute(begin, number).astimezone(zone)
            at = {"Minutes": local, "Hours": local.replace(minute=0)}.get(
                grouping, datetime.combine(local.date(), datetime.min.time(), zone)
            )
            found = [(said[device][number], devices[device]) for device in known if number in said[device]]
            if found:
                totals[at] += found[0][0]  # The watch comes first.
                names[at] |= {name for _, name in found}
        return [
            {"date": f"{at:%Y-%m-%d %H:%M:%S %z}", "qty": total, "source": "|".join(sorted(names[at]))}
            for at, total in totals.items()
        ]

    sent = []
    for _ in range(length * 2):
        first, grouping = chance.randrange(length), chance.choice(["Minutes", "Hours", "Days"])
        last = min(length, first + chance.randint(1, 3))
        sent.append((grouping, buckets(grouping, first * 1440, last * 1440, chance.choice([(0,), (1,), (0, 1)]))))
    for day in range(length):
        grouping = chance.choice(["Minutes", "Hours", "Days"])
        sent.append((grouping, buckets(grouping, day * 1440, (day + 1) * 1440, (0, 1))))
    truth: dict[str, float] = defaultdict(float)
    for number in range(length * 1440):
        value = said[0].get(number, said[1].get(number))
        if value is not None:
            truth[str(minute(begin, number).astimezone(zone).date())] += value
    sent += chance.sample(sent, len(sent) // 3)
    chance.shuffle(sent)
    return [(grouping, found) for grouping, found in sent if found], dict(truth)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_days_of_random_exports_have_the_totals_of_the_truth(stored: Stored, seed: int) -> None:
    """Sums by hour, day and week, the summary, and what is counted anew from nothing are all the same."""
    begin = datetime(2025, 6, 1, tzinfo=ZoneInfo(BERLIN)).astimezone(UTC)
    sent, truth = exports(seed, begin, 5)
    for grouping, found in sent:
        send(stored, "step_count", "count", *found, grouping=grouping)
    assert days(stored, "step_count") == pytest.approx(truth)
    for by in ("hour", "week"):
        sums = stored.database.call(lambda c, by=by: rollups.aggregate(c, 1, "step_count", by, BERLIN))
        assert sum(one.sum or 0.0 for one in sums) == pytest.approx(sum(truth.values()))
    whole = summary(stored, "activity", "step_count", "2025-05-31T22:00:00Z", "2025-06-30T22:00:00Z")
    assert whole["sum"] == pytest.approx(sum(truth.values()))
    kept = stored.dump()
    stored.database.call(lambda connection: recount_user(connection, 1), changes=True)
    assert days(stored, "step_count") == pytest.approx(truth)
    assert stored.dump()["health_metrics"] == kept["health_metrics"]


MINUTE_BY_MINUTE = [{"date": f"2025-05-04 10:0{m}:00 +0200", "qty": 100, "source": "Watch"} for m in range(10)]
SAMPLE = {"date": "2025-05-04 10:00:00 +0200", "start": "2025-05-04 10:00:00 +0200", "qty": 1000, "source": "Watch"}
SAMPLE |= {"end": "2025-05-04 10:10:00 +0200"}


@pytest.mark.parametrize(
    "grouped",
    [
        MINUTE_BY_MINUTE,
        [{"date": "2025-05-04 10:00:00 +0200", "qty": 1000, "source": "Watch"}],
        [{"date": "2025-05-04 10:00:00 +0200", "qty": 1000, "source": "Phone|Watch"}],
        [{"date": "2025-05-04 00:00:00 +0200", "qty": 1000, "source": "Watch"}],
    ],
    ids=["minutes", "an hour", "an hour of two devices", "a day"],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_groupings_that_no_header_says_are_not_added_to_samples(
    stored: Stored, grouped: list[dict[str, Any]], reverse: bool
) -> None:
    for sent in [grouped, [SAMPLE]] if reverse else [[SAMPLE], grouped]:
        send(stored, "step_count", "count", *sent)
    assert days(stored, "step_count") == {"2025-05-04": 1000}
