"""Parses slices as the processor does, for the tests of the parsers."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.export.points import parse
from penstock.apps.health.export.slices import Part, Slice, pack

SAMPLES = Path(__file__).parents[1] / "samples"
ALL_SHAPES: dict[str, Any] = json.loads((SAMPLES / "own-synthetic" / "hae_all_shapes.json").read_text())["data"]
JSON_COLUMNS = ("fields", "original", "warnings")


class Parsed:
    """The rows of one part; every test that makes one also tests that nothing was lost."""

    def __init__(self, *slices: Slice, form: str = "export", headers: dict[str, str] | None = None) -> None:
        accepted = Accepted(
            id="0190d5a0-0000-7000-8000-000000000000",
            user=1,
            received_at=datetime(2026, 2, 3, tzinfo=UTC),
            raw="raw",
            bytes=1,
            sha256="",
            form=form,
            headers=headers or {},
        )
        batch = parse(pack(Part(accepted=accepted, number=0, last=True, slices=list(slices))))
        rows = batch.to_pylist()
        for row in rows:
            row |= {name: json.loads(row[name]) for name in JSON_COLUMNS if row[name] is not None}
        self.part = rows.pop()["fields"]
        self.rows = rows
        assert Counter(row["type"] for row in rows) == Counter(self.received)
        defects = [row["reason"] for row in self.quarantined if row["reason"].startswith("could not be read")]
        assert not defects, "a parser raised"

    @property
    def received(self) -> dict[str, int]:
        return dict(self.part["received"])

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["record"] == "quarantined"]

    def of(self, type: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["type"] == type and row["record"] != "quarantined"]

    def warnings(self) -> list[str]:
        return [each["warning"] for row in self.rows for each in row["warnings"] or []]


def listed(section: str, elements: Any, **values: Any) -> Slice:
    """Return a slice of ``elements``."""
    return Slice(section=section, path=f"data.{section}", payload=json.dumps(elements).encode(), **values)


def cut(workouts: list[dict[str, Any]]) -> list[Slice]:
    """Return the slices of workouts: their shells, and the lists in them."""
    slices: list[Slice] = []
    for index, workout in enumerate(workouts):
        shell = {key: value for key, value in workout.items() if not isinstance(value, list)}
        about = {key: value for key, value in shell.items() if not isinstance(value, dict)}
        slices.append(listed("workouts", [shell], first=index))
        for key, value in workout.items():
            if isinstance(value, list):
                section = "workout_route" if key == "route" else "workout_series"
                parent = json.dumps(about).encode()
                slices.append(listed(section, value, name=key, parent=parent, parent_index=index))
    return slices
