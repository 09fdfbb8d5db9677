"""How a stream is: what stands in its way, by part, and what a person should know besides."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable

from ..clock import Clock

log = logging.getLogger("penstock")

STALL_TIMEOUT = 10.0
"""Seconds after which a part that waits for an answer stands still."""
REFUSALS_WINDOW = 60.0
"""For how many seconds a refused row is shown."""
REFUSALS_LOG_INTERVAL = 10.0
"""Seconds from one line of the log about refused rows to the next."""
MIN_ALL_REFUSED = 20
"""How many rows are refused in a row before that is trouble."""
MAX_REASON_SHOWN = 200
"""Characters of the reason of a row that are shown."""


class Condition:
    """The troubles of one stream, each of one part: what ends in one part says nothing of the others."""

    def __init__(
        self,
        stream: str,
        changed: Callable[[], None] = lambda: None,
        stall_timeout: float = STALL_TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        self._stream, self._stall_timeout, self._clock = stream, stall_timeout, clock or Clock()
        self._troubles: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._told: set[str] = set()
        self._changed = changed
        self.refusals = Refusals(stream, self._clock)
        self._gaps, self._last_gap = 0, ""
        self.notice: str | None = None
        """What a person should know of where positions are kept."""

    def report_gap(self, reason: str) -> None:
        """Note that rows of the source may be missing: shown until the process ends, since nothing mends it."""
        self._gaps, self._last_gap = self._gaps + 1, _shortened(reason)

    def report(self, part: str, reason: str) -> None:
        """Note what stands in the way of ``part``."""
        self._troubles[part] = reason
        self._changed()

    def clear(self, part: str) -> None:
        """Note that nothing stands in the way of ``part`` any more."""
        if self._troubles.pop(part, None) is not None:
            self._changed()

    def clear_all(self) -> None:
        """Note that the stream begins anew."""
        self._troubles.clear()
        self._begun.clear()
        self._changed()

    def begin(self, part: str) -> None:
        """Note that ``part`` begins to wait for an answer: without one in time it stands still."""
        self._begun[part] = self._clock.monotonic()

    def end(self, part: str) -> None:
        """Note that ``part`` got its answer."""
        self._begun.pop(part, None)

    def look(self) -> None:
        """Say in the log which parts stand still, and which go on; to be called now and then."""
        stalled = self._stalled()
        for part, reason in stalled.items():
            if part not in self._told:
                log.warning("%s: %s", self._stream, reason)
        for part in self._told - stalled.keys():
            log.info("%s: the %s goes on", self._stream, _named(part))
        if self._told != stalled.keys():
            self._told = set(stalled)
            self._changed()

    def _stalled(self) -> dict[str, str]:
        now = self._clock.monotonic()
        waits = {part: now - begun for part, begun in self._begun.items() if now - begun >= self._stall_timeout}
        return {part: f"no answer from the {_named(part)} for {waited:.0f} s" for part, waited in waits.items()}

    @property
    def trouble(self) -> str | None:
        """Return what stands in the way, of all parts; None if nothing does."""
        troubles = self._stalled() | self._troubles
        if (refused := self.refusals.trouble) is not None:
            troubles["rows"] = refused
        if len(troubles) < 2:
            return next(iter(troubles.values()), None)
        return "; ".join(f"{part}: {reason}" for part, reason in troubles.items())

    @property
    def note(self) -> str | None:
        """Return what a person should know though nothing stands in the way."""
        gaps = f"{self._gaps} gaps, rows may be missing, the last: {self._last_gap}" if self._gaps else None
        return "; ".join(note for note in (self.refusals.note, gaps, self.notice) if note is not None) or None


class Refusals:
    """The rows that were refused lately: a warning with a rate, and trouble once nothing else comes."""

    def __init__(self, stream: str, clock: Clock) -> None:
        self._stream, self._clock = stream, clock
        self._seconds: deque[tuple[int, Counter[str]]] = deque()
        self._last_reason = ""
        self._unlogged, self._logged_at = 0, float("-inf")
        self._in_a_row = 0

    def add(self, stage: str, rows: int, reason: str) -> None:
        """Count refused rows, and say so in the log, at most once in an interval."""
        now = self._clock.monotonic()
        if not self._seconds or self._seconds[-1][0] != int(now):
            self._seconds.append((int(now), Counter()))
        self._seconds[-1][1][stage] += rows
        self._last_reason = _shortened(reason)
        self._in_a_row += rows
        self._unlogged += rows
        waited = now - self._logged_at
        if waited >= REFUSALS_LOG_INTERVAL:
            rate = "" if waited > REFUSALS_WINDOW else f" ({self._unlogged / waited:.1f} a second)"
            rows, self._unlogged, self._logged_at = self._unlogged, 0, now
            log.warning("%s: %d rows refused%s, the last by %s: %s", self._stream, rows, rate, stage, self._last_reason)

    def end_run(self) -> bool:
        """Note that a row was written; returns whether that ends a trouble."""
        was_trouble, self._in_a_row = self._in_a_row >= MIN_ALL_REFUSED, 0
        return was_trouble

    @property
    def note(self) -> str | None:
        """Return how many rows were refused in the last minute, by stage; None for none."""
        stages = self._lately()
        if not stages:
            return None
        parts = ", ".join(f"{rows} by {stage}" for stage, rows in sorted(stages.items()))
        return f"rows refused in the last {REFUSALS_WINDOW:.0f} s: {parts}"

    @property
    def trouble(self) -> str | None:
        """Return that all rows are refused, while they are."""
        if self._in_a_row < MIN_ALL_REFUSED or not self._lately():
            return None
        return f"the last {self._in_a_row} rows were all refused, the last: {self._last_reason}"

    def _lately(self) -> Counter[str]:
        oldest = self._clock.monotonic() - REFUSALS_WINDOW
        while self._seconds and self._seconds[0][0] < oldest:
            self._seconds.popleft()
        return sum((stages for _, stages in self._seconds), Counter())


def _named(part: str) -> str:
    return part.replace("_", " ")


def _shortened(reason: str) -> str:
    """Return the first line of a reason: a database tells the row itself in the next."""
    first = reason.partition("\n")[0]
    return first if len(first) <= MAX_REASON_SHOWN else f"{first[:MAX_REASON_SHOWN]}..."
