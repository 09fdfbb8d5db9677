"""A person's own facts, and what follows from them: ranges, heart-rate zones, sun and activity."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..compact import of_metric
from ..export import catalogue
from ..schema import characteristics, points

Line = Annotated[str, Meta(max_length=500)]
Word = Annotated[str, Meta(max_length=100)]
EARLIEST = date(1900, 1, 1)


class Characteristics(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a person says of themselves."""

    biological_sex: Literal["male", "female", "not_set"] = "not_set"
    date_of_birth: date | None = None
    blood_type: Literal[
        "A_positive",
        "A_negative",
        "B_positive",
        "B_negative",
        "AB_positive",
        "AB_negative",
        "O_positive",
        "O_negative",
        "not_set",
    ] = "not_set"
    fitzpatrick_skin_type: Literal["type_1", "type_2", "type_3", "type_4", "type_5", "type_6", "not_set"] = "not_set"
    wheelchair_use: bool = False
    activity_move_mode: Literal["active_energy", "move_time", "not_set"] = "not_set"
    emergency_contact_info: Annotated[dict[Word, Line], Meta(max_length=20)] = {}
    medical_conditions: Annotated[list[Line], Meta(max_length=100)] = []
    medications: Annotated[list[Line], Meta(max_length=100)] = []
    data_sharing_preferences: Annotated[dict[Word, bool], Meta(max_length=20)] = {}
    timezone: Word | None = None
    """Of times in CSV that say no offset."""

    def age(self, today: date) -> int | None:
        """Return the age in years; None without a date of birth."""
        born = self.date_of_birth
        if born is None:
            return None
        return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


class Kept(msgspec.Struct):
    """The characteristics of a user as they are stored."""

    values: Characteristics
    updated_at: datetime
    verified_at: datetime | None

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON shows them."""
        return {
            **msgspec.to_builtins(self.values),
            "age": self.values.age(datetime.now(UTC).date()),
            "updated_at": self.updated_at,
            "verified_at": self.verified_at,
        }


def load(connection: Connection, user: int, *, to_change: bool = False) -> Kept | None:
    """Return the characteristics of a user; None if none were given. ``to_change`` holds others off until the end."""
    statement = select(characteristics).where(characteristics.c.user_id == user)
    row: Row[Any] | None = connection.execute(statement.with_for_update() if to_change else statement).first()
    if row is None:
        return None
    return Kept(msgspec.json.decode(row.values, type=Characteristics), row.updated_at, row.verified_at)


def save(connection: Connection, user: int, values: Characteristics) -> Kept:
    """Store the characteristics of a user, in place of those before; what was verified has to be verified again."""
    now = datetime.now(UTC)
    row = {"values": msgspec.json.encode(values).decode(), "updated_at": now, "verified_at": None}
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(characteristics).values(user_id=user, **row)
    connection.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=row))
    return Kept(values, now, None)


def verify(connection: Connection, user: int) -> Kept | None:
    """Note that the characteristics are right as of now."""
    now = datetime.now(UTC)
    connection.execute(update(characteristics).where(characteristics.c.user_id == user).values(verified_at=now))
    return load(connection, user)


def forget(connection: Connection, user: int) -> bool:
    """Delete the characteristics of a user; say whether there were any."""
    return connection.execute(delete(characteristics).where(characteristics.c.user_id == user)).rowcount > 0


def resting_heart_rate(connection: Connection, user: int) -> float | None:
    """Return the newest resting heart rate."""
    c = points.c
    statement = select(c.value).where(of_metric(user, "resting_heart_rate"), c.value.is_not(None))
    return connection.scalar(statement.order_by(c.time.desc()).limit(1))


def greatest_heart_rate(age: int) -> int:
    """Return 220 less the age in years (Fox, Naughton and Haskell 1971): a mean of adults, give or take 10 to 12."""
    return 220 - age


_ZONES = (("very_light", 50), ("light", 60), ("moderate", 70), ("hard", 80), ("maximum", 90))


def heart_rate_zones(age: int, resting: float | None) -> list[dict[str, Any]]:
    """Return five zones of 50 to 100 percent.

    With a heart rate at rest they are percentages of the reserve above it (Karvonen, Kentala and Mustala 1957):
    rest + share * (greatest - rest). Without one they are percentages of the greatest heart rate.
    """
    greatest = greatest_heart_rate(age)
    rest = resting or 0.0

    def at(percent: int) -> int:
        return round(rest + percent / 100 * (greatest - rest))

    return [
        {"zone": place, "name": name, "from": at(percent), "to": at(percent + 10)}
        for place, (name, percent) in enumerate(_ZONES, start=1)
    ]


_HEART_RATES = {"heart_rate", "walking_heart_rate_average"}


def plausible(metric: catalogue.Metric, values: Characteristics | None, today: date) -> dict[str, Any]:
    """Return between which values a metric is plausible, and what is expected of this person where that is known."""
    age = values.age(today) if values else None
    expected = None
    if metric.name in _HEART_RATES and age is not None:
        expected = {"maximum": greatest_heart_rate(age), "basis": "220 - age"}
    return {
        "metric_type": metric.name,
        "label": metric.label,
        "unit": metric.unit,
        "minimum": metric.low,
        "maximum": metric.high,
        "expected": expected,
        "beyond": "kept, with the warning suspicious_value",
    }


_DOSES = {"type_1": 150, "type_2": 250, "type_3": 300, "type_4": 450, "type_5": 600, "type_6": 900}
"""The least erythemal dose of each skin type in J/m², the lower end of its range (Fitzpatrick 1988)."""
_PROTECTION = (
    (3, "low", "none is needed"),
    (6, "moderate", "shade at midday, shirt, sunscreen and hat"),
    (8, "high", "shade at midday, shirt, sunscreen and hat"),
    (11, "very_high", "stay inside at midday; shirt, sunscreen and hat are a must"),
)


def sun(values: Characteristics | None) -> dict[str, Any]:
    """Return after how many minutes unprotected skin burns, by UV index.

    An index of 1 is 0.025 W/m² of erythemal radiation (WHO, Global Solar UV Index 2002), so it takes
    dose / (0.025 * index * 60) minutes. Who has not said their skin type is taken for the most sensitive.
    """
    given = values.fitzpatrick_skin_type if values else "not_set"
    assumed = "type_1" if given == "not_set" else given
    dose = _DOSES[assumed]
    return {
        "fitzpatrick_skin_type": given,
        "assumed_skin_type": assumed,
        "minimal_erythemal_dose_j_m2": dose,
        "by_uv_index": [_exposure(index, dose) for index in range(1, 13)],
    }


def _exposure(index: int, dose: int) -> dict[str, Any]:
    extreme = ("extreme", "stay inside at midday; shirt, sunscreen and hat are a must")
    category, protection = next(((name, text) for below, name, text in _PROTECTION if index < below), extreme)
    return {
        "uv_index": index,
        "category": category,
        "protection": protection,
        "minutes_to_erythema": round(dose / (0.025 * index * 60)),
    }


def activity(values: Characteristics | None, today: date) -> dict[str, Any]:
    """Return which metrics count for this person, and how much activity is recommended (WHO guidelines 2020).

    Adults: 150 to 300 minutes of moderate activity a week. From 5 to 17 years: 60 minutes on each day.
    """
    own = values or Characteristics()
    age = own.age(today)
    young = age is not None and 5 <= age <= 17
    return {
        "wheelchair_use": own.wheelchair_use,
        "movement_metric": "wheelchair_push_count" if own.wheelchair_use else "step_count",
        "distance_metric": "wheelchair_distance" if own.wheelchair_use else "walking_running_distance",
        "move_metric": "apple_move_time" if own.activity_move_mode == "move_time" else "active_energy",
        "age": age,
        "moderate_minutes_a_week": {"from": 420, "to": None} if young else {"from": 150, "to": 300},
    }


def emergency(kept: Kept | None) -> dict[str, Any] | None:
    """Return what helps in an emergency."""
    if kept is None:
        return None
    own = kept.values
    return {
        "blood_type": own.blood_type,
        "biological_sex": own.biological_sex,
        "date_of_birth": own.date_of_birth,
        "age": own.age(datetime.now(UTC).date()),
        "medical_conditions": own.medical_conditions,
        "medications": own.medications,
        "emergency_contact_info": own.emergency_contact_info,
        "verified_at": kept.verified_at,
    }
