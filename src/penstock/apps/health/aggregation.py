"""How the values of a metric become one: added, or by their mean."""

from __future__ import annotations

import re

from .export import catalogue
from .export.units import conversion

_AMOUNTS = {
    "count": "",
    "kcal": "",
    "m": "distance",
    "min": r"(^|_)(minutes|duration|time_in)(_|$)|_time$",
    "g": "^dietary_|intake|consum",
    "mL": "^dietary_|intake|consum",
}
"""Of each unit, which names say that its values are amounts, to be added."""
SLEEP = "sleep_analysis"


def aggregation(name: str, unit: str | None = None) -> catalogue.Aggregation:
    """Return how values become one: as the catalogue says, else by their sum if they are counts, else by their mean."""
    known = catalogue.METRICS.get(name) or catalogue.METRICS.get(name.removeprefix("workout_"))
    if known is not None:
        return known.aggregation
    if name in ("workouts", "workout_route"):
        return "event"
    return "sum" if unit and _is_amount(name, unit) else "mean"


def _is_amount(name: str, unit: str) -> bool:
    """Tell whether what is not known adds up: counts and energy do, the others where their names say so."""
    if "rate" in name.split("_"):
        return False
    return any(
        re.search(words, name) is not None and conversion(unit, of) is not None for of, words in _AMOUNTS.items()
    )


def adds_up(name: str, unit: str | None = None) -> bool:
    """Tell whether values are added."""
    return aggregation(name, unit) == "sum"


def is_counted(name: str) -> bool:
    """Tell whether it is found out which points of a metric count; events all do."""
    return aggregation(name) != "event"


def canonical_unit(name: str) -> str | None:
    """Return the unit in which points of a metric are comparable; None where any will do."""
    known = catalogue.METRICS.get(name)
    return (known.unit or None) if known is not None else None
