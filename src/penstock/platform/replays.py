"""Replay many dead letters at once: try, send or drop them one after the other, and tell how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import msgspec

from ..context import Context
from ..errors import PenstockError, PermanentError
from ..identifiers import new_id
from ..stream import Stream
from .cache import Cache, SingleFlight
from .letters import Address, Cursor, Letter, Place
from .mending import Rule
from .resending import Again, content_of

Action = Literal["try", "send", "drop"]
PAGE_SIZE = 100
MAX_RUNNING = 4
"""How many replays run at once."""
KEPT = 50
"""How many replays are remembered."""
KEPT_TTL = 86_400.0
MAX_REASONS = 20
MAX_REASON_SIZE = 500


class Replay(msgspec.Struct, kw_only=True):
    """A replay of dead letters; ``done`` is the sum of the four counts behind it."""

    id: str
    user: int
    action: Action
    wanted: dict[str, str]
    started_at: datetime
    total: int = 0
    done: int = 0
    settled: int = 0
    """Sent, dropped, or, of a try, those that would be written."""
    refused: int = 0
    """Refused once more: they stay."""
    gone: int = 0
    """Not there any more when it was their turn."""
    state: Literal["running", "finished", "cancelled", "failed"] = "running"
    trouble: str | None = None
    reasons: dict[str, int] = {}
    """Why they were refused, and how many for each reason; the first twenty."""


@dataclass
class Replays:
    """The replays of this process."""

    context: Context
    stream: Callable[[str], Stream]
    """Returns the stream of an id; raises an error that is answered."""
    _runs: Cache[str, Replay] = field(default_factory=lambda: Cache(ttl=KEPT_TTL, size=KEPT))
    _running: SingleFlight[str, None] = field(default_factory=lambda: SingleFlight(size=MAX_RUNNING))
    _ids: list[str] = field(default_factory=list)

    def find(self, id: str) -> Replay | None:
        """Return a replay; None if there is none, or it is forgotten."""
        return self._runs.get(id)

    def all(self) -> list[Replay]:
        """Return the replays that are remembered, the newest first."""
        self._ids = [id for id in self._ids if self._runs.get(id) is not None]
        return [run for id in reversed(self._ids) if (run := self._runs.get(id)) is not None]

    def cancel(self, run: Replay) -> None:
        """End a replay behind the dead letter it is at."""
        if run.state == "running":
            run.state = "cancelled"

    def start(
        self,
        places: Mapping[str, Place],
        action: Action,
        wanted: dict[str, str],
        rule: Rule | None,
        user: int,
        ended: Callable[[Replay], Awaitable[None]],
    ) -> Replay:
        """Begin a replay of all dead letters that are ``wanted``; raises TransientError if too many run."""
        run = Replay(id=new_id(), user=user, action=action, wanted=wanted, started_at=datetime.now(UTC))
        self._running.start(run.id, partial(self._run, run, places, rule, ended))
        self._runs.put(run.id, run)
        self._ids.append(run.id)
        return run

    async def close(self) -> None:
        """End all replays."""
        for run in self.all():
            self.cancel(run)
        await self._running.close()

    async def _run(
        self, run: Replay, places: Mapping[str, Place], rule: Rule | None, ended: Callable[[Replay], Awaitable[None]]
    ) -> None:
        opened: dict[str, Again] = {}
        try:
            counts = [await place.count(run.wanted) for place in places.values()]
            run.total = sum(counts)
            async with AsyncExitStack() as stack:
                for place in places.values():
                    await self._replay(run, place, rule, opened, stack)
            if run.state == "running":
                run.gone += max(0, run.total - run.done)
                run.done = run.total = max(run.total, run.done)
                run.state = "finished"
        except Exception as error:
            run.state, run.trouble = "failed", str(error) if isinstance(error, PenstockError) else "the log says why"
            if not isinstance(error, PenstockError):
                raise
        finally:
            await ended(run)

    async def _replay(
        self, run: Replay, place: Place, rule: Rule | None, opened: dict[str, Again], stack: AsyncExitStack
    ) -> None:
        after: Cursor | None = None
        while run.state == "running":
            letters = await place.page(run.wanted, after, PAGE_SIZE)
            for letter, address in _addresses(letters):
                if run.state != "running" or run.done >= run.total:
                    return
                row = await place.find(address)
                if row is None:
                    run.gone += 1
                else:
                    await self._settle(run, place, address, row, rule, opened, stack)
                run.done += 1
                after = Cursor(letter.time, address.row)
            if len(letters) < PAGE_SIZE:
                return

    async def _settle(
        self,
        run: Replay,
        place: Place,
        address: Address,
        row: Mapping[str, Any],
        rule: Rule | None,
        opened: dict[str, Again],
        stack: AsyncExitStack,
    ) -> None:
        try:
            if run.action != "drop":
                payload = rule.mend(content_of(row).decode("utf-8", "strict")) if rule is not None else None
                id = row["stream"] or ""
                if id not in opened:
                    opened[id] = await stack.enter_async_context(Again.open(self.stream(id), self.context))
                await (opened[id].attempt if run.action == "try" else opened[id].send)(row, payload)
            if run.action != "try":
                await place.drop(address)
            run.settled += 1
        except (PermanentError, UnicodeDecodeError) as error:
            run.refused += 1
            reason = str(error)[:MAX_REASON_SIZE]
            if reason in run.reasons or len(run.reasons) < MAX_REASONS:
                run.reasons = dict(Counter(run.reasons) + Counter([reason]))


def _addresses(letters: list[Letter]) -> Iterator[tuple[Letter, Address]]:
    for letter in letters:
        address = Address.read(letter.id)
        assert address is not None
        yield letter, address
