"""What a phone sends, with something for each view, and names that would do harm if they became markup."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

HOSTILE = "<img src=x onerror=window.hacked=true>"
HOSTILE_UNKNOWN = f"odd metric {HOSTILE}"
HERE = timezone(timedelta(hours=1))
FIRST = datetime(2026, 1, 20, tzinfo=HERE)
DAYS = 12
WORKOUT = "0F3C9A52-6B1D-4E7E-9C56-2F0A77B1E001"
BROKEN = {"date": f"no date {HOSTILE}", "qty": 12, "source": HOSTILE}


def said(moment: datetime) -> str:
    """Write a time as the app does."""
    return moment.strftime("%Y-%m-%d %H:%M:%S %z")


def body() -> dict[str, Any]:
    """Return one export."""
    return {"data": {"metrics": [*_metrics(), _sleep()], "workouts": [_workout()]}}


def _metrics() -> list[dict[str, Any]]:
    hours = [FIRST + timedelta(hours=hour) for hour in range(24 * DAYS)]
    awake = [hour for hour in hours if 7 <= hour.hour < 23]
    beats = [
        (hour, 58 + 22 * math.sin(hour.hour / 24 * math.tau - 2) + (hour.day * 7 + hour.hour * 3) % 9) for hour in hours
    ]
    return [
        {
            "name": "heart_rate",
            "units": "count/min",
            "data": [
                {
                    "date": said(at),
                    "Min": round(beat - 6),
                    "Avg": round(beat, 1),
                    "Max": round(beat + 9),
                    "source": "Watch",
                }
                for at, beat in beats
            ],
        },
        {
            "name": "step_count",
            "units": "count",
            "data": [
                *({"date": said(at), "qty": 100 + at.day * at.hour * 7 % 900, "source": "Watch|Phone"} for at in awake),
                BROKEN,
            ],
        },
        {
            "name": "weight_body_mass",
            "units": "kg",
            "data": [
                {"date": said(FIRST + timedelta(days=day, hours=7)), "qty": 71.5 - day / 10, "source": "Scale"}
                for day in range(0, DAYS, 3)
            ],
        },
        {
            "name": "blood_pressure",
            "units": "mmHg",
            "data": [
                {
                    "date": said(FIRST + timedelta(days=day, hours=8)),
                    "systolic": 118 + day % 5,
                    "diastolic": 76 + day % 3,
                    "source": "Cuff",
                }
                for day in range(DAYS)
            ],
        },
        {"name": HOSTILE_UNKNOWN, "units": HOSTILE, "data": [{"date": said(FIRST), "qty": 3, "source": HOSTILE}]},
    ]


def _sleep() -> dict[str, Any]:
    data = []
    for day in range(1, 4):
        at = FIRST + timedelta(days=day, hours=-1, minutes=7 * day)
        for stage, minutes in (
            *(("Core", 48), ("Deep", 42), ("Core", 25), ("REM", 18), ("Awake", 6), ("Core", 62), ("Deep", 24)),
            *(("REM", 31), ("Core", 55), ("Awake", 9), ("REM", 44), ("Core", 28)),
        ):
            end = at + timedelta(minutes=minutes)
            data.append(
                {"startDate": said(at), "endDate": said(end), "value": stage, "qty": minutes / 60, "source": "Watch"}
            )
            at = end
    return {"name": "sleep_analysis", "units": "hr", "data": data}


def _workout() -> dict[str, Any]:
    start = FIRST + timedelta(days=5, hours=17, minutes=30)
    seconds = range(0, 1800, 10)
    return {
        "id": WORKOUT,
        "name": "Outdoor Run",
        "start": said(start),
        "end": said(start + timedelta(seconds=1800)),
        "duration": 1800,
        "distance": {"qty": 5.02, "units": "km"},
        "activeEnergyBurned": {"qty": 412.3, "units": "kcal"},
        "avgHeartRate": {"qty": 148, "units": "bpm"},
        "location": "Outdoor",
        "heartRateData": [
            {
                "date": said(start + timedelta(seconds=at)),
                "Min": 92 + at // 40,
                "Avg": 100 + at // 40 + 6 * math.sin(at / 90),
                "Max": 108 + at // 40,
                "units": "bpm",
                "source": "Watch",
            }
            for at in seconds
        ],
        "route": [
            {
                "timestamp": said(start + timedelta(seconds=at)),
                "latitude": 52.5145 + 0.006 * math.sin(at / 1800 * math.tau) + 0.0006 * math.sin(at / 60),
                "longitude": 13.3501 + 0.012 * (1 - math.cos(at / 1800 * math.tau)) + 0.0005 * math.cos(at / 75),
                "altitude": 34.0 + at / 300,
                "speed": 2.8,
            }
            for at in seconds
        ],
    }
