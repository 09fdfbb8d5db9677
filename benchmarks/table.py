"""The figures as a table, for a terminal and for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .case import Case, Sample
from .machine import Company
from .peers import KNOWN

HEADINGS = ("what", "median", "min - max", "reach", "reached", "CPU s", "peak MB", "also", "disturbed by")


@dataclass
class Row:
    """A case with all its samples, or why there are none."""

    case: Case
    samples: list[Sample]
    company: list[Company]
    missing: str = ""

    @property
    def median(self) -> float:
        """The median of the samples."""
        return statistics.median(sample.value for sample in self.samples)

    def notes(self) -> dict[str, float]:
        """The median of each note."""
        names = dict.fromkeys(name for sample in self.samples for name in sample.notes)
        return {name: statistics.median(one.notes[name] for one in self.samples if name in one.notes) for name in names}

    def reached(self) -> bool | None:
        """Whether all that is to be reached is; None where nothing is."""
        case, notes = self.case, self.notes()
        if case.reach is None:
            return None
        enough = self.median >= case.reach if case.more_is_better else self.median <= case.reach
        return enough and all(notes[name] <= most for name, most in case.limits.items())

    def warning(self) -> str:
        """Why the figures are not to be trusted; empty if they are."""
        return next((one.warning for one in sorted(self.company, key=lambda one: -one.others) if one.warning), "")

    def cells(self) -> tuple[str, ...]:
        """The row as texts, one for each heading."""
        if not self.samples:
            return (self.case.what, self.missing, "", "", "", "", "", "", "")
        values = [sample.value for sample in self.samples]
        unit, reached = self.case.unit, self.reached()
        limits = "".join(f", {name} <= {_short(most)}" for name, most in self.case.limits.items())
        sign = ">=" if self.case.more_is_better else "<="
        cpu = [sample.cpu for sample in self.samples if sample.cpu is not None]
        peak = [sample.rss for sample in self.samples if sample.rss is not None]
        return (
            self.case.what,
            f"{_short(self.median)} {unit}",
            f"{_short(min(values))} - {_short(max(values))}" if len(values) > 1 else "one run",
            f"{sign} {_short(self.case.reach)}{limits}" if self.case.reach is not None else "",
            "" if reached is None else "yes" if reached else "no",
            f"{statistics.median(cpu):.2f}" if cpu else "",
            f"{statistics.median(peak):.0f}" if peak else "",
            ", ".join(f"{name} {_short(value)}" for name, value in self.notes().items()),
            self.warning(),
        )


def known(group: str) -> Iterator[str]:
    """What is known of systems that are not measured here."""
    if group in KNOWN:
        figures = ", ".join(f"{name} {figure} M rows/s" for name, figure in KNOWN[group].items())
        yield f"{group}, measured elsewhere on 2 cores, not in this run: {figures}"


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:.2f} M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.0f} k"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_text(rows: Sequence[Row]) -> str:
    """Return the table with aligned columns."""
    table = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown; what is ours stands out."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    for row in rows:
        what, median, *rest = row.cells()
        strong = "**" if row.case.role == "penstock" and row.samples else ""
        lines.append("| " + " | ".join([what, f"{strong}{median}{strong}", *rest]) + " |")
    return "\n".join(lines)
