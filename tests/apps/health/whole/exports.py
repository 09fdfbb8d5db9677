"""Exports to send, and what of them has to be found again: said by the exports themselves, not by the service."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

SAMPLES = Path(__file__).parents[1] / "samples"
NESTED = ("workouts", "ecg")
"""Sections of which the lists within an element are points of their own."""
COUNTED = ("stored", "updated", "unchanged", "quarantined")


def shapes() -> Any:
    """Return the export with all shapes."""
    return json.loads((SAMPLES / "own-synthetic" / "hae_all_shapes.json").read_text())


def edge_cases() -> list[tuple[str, Any]]:
    """Return the edge cases with their names, in their order."""
    lines = (SAMPLES / "own-synthetic" / "hae_edge_cases.jsonl").read_text().splitlines()
    return [(case["case"], case["body"]) for line in lines if line.strip() for case in [json.loads(line)]]


def steps(*points: tuple[str, float], name: str = "step_count", units: str = "count", source: str = "Watch") -> Any:
    """Return an export of one metric."""
    data = [{"date": date, "qty": qty, "source": source} for date, qty in points]
    return {"data": {"metrics": [{"name": name, "units": units, "data": data}]}}


def minutes(first: int, count: int, qty: float | None = None, **more: Any) -> Any:
    """Return an export of one value a minute; without ``qty`` it is the number of the minute."""
    return steps(*((date(minute), minute if qty is None else qty) for minute in range(first, first + count)), **more)


def date(minute: int) -> str:
    """Return the date of a minute from the first of February 2026 on, as the app writes it."""
    day, rest = divmod(minute, 1440)
    assert day < 28
    return f"2026-02-{day + 1:02} {rest // 60:02}:{rest % 60:02}:00 +0100"


def elements(export: Any) -> Iterator[tuple[str, Any]]:
    """Yield the elements of an export, each with the name of its metric or section."""
    sections = {name: value for name, value in export.items() if name != "data"}
    sections |= export.get("data") or {}
    for name, found in sections.items():
        for element in found or []:
            if name == "metrics":
                yield from ((element["name"], point) for point in element.get("data") or [])
            elif name in NESTED:
                lists = {key for key, value in element.items() if isinstance(value, list)}
                yield name, {key: value for key, value in element.items() if key not in lists}
                yield from ((f"{name}.{key}", point) for key in sorted(lists) for point in element[key])
            else:
                yield name, element


def canonical(value: Any) -> str:
    """Return a text that is the same for what is the same."""
    return json.dumps(value, sort_keys=True)


def tally(values: Iterable[Any]) -> Counter[str]:
    """Count what is the same."""
    return Counter(map(canonical, values))


def conserved(told: Any) -> dict[str, int]:
    """Return the counts of an answer, after a check that they add up, of all and of each type."""
    assert told["received"] == sum(told[name] for name in COUNTED), told
    for name in ("received", *COUNTED):
        assert sum(counts[name] for counts in told["types"].values()) == told[name], (name, told)
    for name, counts in told["types"].items():
        assert counts["received"] == sum(counts[each] for each in COUNTED), (name, counts)
    return {name: told[name] for name in ("received", *COUNTED)}


def shuffled(value: Any, seed: int = 1) -> Any:
    """Return the same with the keys of all objects in another order."""
    random = Random(seed)

    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: other(value[key]) for key in random.sample(list(value), len(value))}
        return [other(each) for each in value] if isinstance(value, list) else value

    return other(value)
