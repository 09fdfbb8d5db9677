"""Exports such as a phone sends: made here, of the size and the mixture of a real one, values invented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

_MINUTES = {
    "active_energy": "kJ",
    "basal_energy_burned": "kJ",
    "physical_effort": "kcal/hr·kg",
    "step_count": "count",
    "walking_running_distance": "mi",
}
_HOURLY = {
    "apple_exercise_time": "min",
    "apple_stand_hour": "count",
    "apple_stand_time": "min",
    "blood_oxygen_saturation": "%",
    "environmental_audio_exposure": "dBASPL",
    "flights_climbed": "count",
    "headphone_audio_exposure": "dBASPL",
    "heart_rate_variability": "ms",
    "respiratory_rate": "count/min",
    "stair_speed_down": "ft/s",
    "stair_speed_up": "ft/s",
    "time_in_daylight": "min",
    "walking_asymmetry_percentage": "%",
    "walking_double_support_percentage": "%",
    "walking_speed": "mi/hr",
    "walking_step_length": "in",
}
_DAILY = {
    "resting_heart_rate": "count/min",
    "vo2_max": "mL/(kg·min)",
    "walking_heart_rate_average": "count/min",
    "weight_body_mass": "lb",
}
START = datetime(2025, 1, 1, tzinfo=UTC)


def export(days: int = 4, first_day: int = 0, seed: int = 1) -> dict[str, Any]:
    """Return an export of some days in the grouping by minutes: 4 days are 16 thousand points and 1.7 MB."""
    random = Random(seed)
    begin = START + timedelta(days=first_day)
    metrics = [_metric(name, unit, begin, days * 675, 2.13, random) for name, unit in _MINUTES.items()]
    metrics.append(_heart_rate(begin, days * 400, random))
    metrics += [_metric(name, unit, begin, days * 16, 90, random) for name, unit in _HOURLY.items()]
    metrics += [_metric(name, unit, begin, days, 1440, random) for name, unit in _DAILY.items()]
    metrics.append(_nights(begin, days))
    return {"data": {"metrics": metrics}}


def body(days: int = 4, first_day: int = 0, seed: int = 1) -> bytes:
    """Return an export as it is sent."""
    return json.dumps(export(days, first_day, seed), ensure_ascii=False, separators=(",", ":")).encode()


def count(export: dict[str, Any]) -> int:
    """Return how many points an export has."""
    return sum(len(metric["data"]) for metric in export["data"]["metrics"])


def points(name: str, unit: str, rows: int, first_minute: int = 0, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Yield points of one metric."""
    begin = START + timedelta(minutes=first_minute)
    yield from _metric(name, unit, begin, rows, 1.0, Random(seed))["data"]


def _metric(name: str, unit: str, begin: datetime, rows: int, minutes: float, random: Random) -> dict[str, Any]:
    source = random.choice(["Anna’s Apple Watch", "Anna’s Apple Watch|Anna’s iPhone", "iPhone"])
    data = [
        {"source": source, "date": _date(begin + timedelta(minutes=int(n * minutes))), "qty": random.uniform(0.1, 90)}
        for n in range(rows)
    ]
    return {"name": name, "units": unit, "data": data}


def _heart_rate(begin: datetime, rows: int, random: Random) -> dict[str, Any]:
    data = []
    for n in range(rows):
        low = random.randint(48, 120)
        date = _date(begin + timedelta(minutes=int(n * 3.6)))
        data.append({"Min": low, "date": date, "Avg": low + random.random() * 5, "Max": low + 5, "source": "Watch"})
    return {"name": "heart_rate", "units": "count/min", "data": data}


def _nights(begin: datetime, days: int) -> dict[str, Any]:
    data = []
    for day in range(days):
        night = begin + timedelta(days=day)
        start, end = _date(night + timedelta(hours=22)), _date(night + timedelta(hours=30))
        hours = {"totalSleep": 7.1, "asleep": 0, "awake": 0.4, "core": 4.0, "deep": 1.1, "rem": 2.0, "inBed": 8.0}
        dates = {"date": _date(night), "sleepStart": start, "sleepEnd": end, "inBedStart": start, "inBedEnd": end}
        data.append({**dates, **hours, "source": "Watch"})
    return {"name": "sleep_analysis", "units": "hr", "data": data}


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} -0400"
