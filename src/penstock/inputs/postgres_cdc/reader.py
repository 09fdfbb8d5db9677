"""The live input: the snapshot, then changes as they come, each confirmed to the server once it is durable."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ...checkpoint import Checkpoint
from ...clients.deadline import Deadline
from ...component import Progress
from ...context import Context
from ...delivery import Batch, Delivery
from ...errors import ConnectionLost
from ...metadata import Origin
from ...runtime.threads import Workers
from .beginning import Beginning
from .catalogue import Catalogue, SlotState, classifying
from .protocol import Place, Protocol
from .rows import read_rows, rows_of
from .session import Session
from .snapshot import Spool
from .values import Column

if TYPE_CHECKING:
    from . import PostgresCdc

MAX_READY = 4
"""Batches that wait to be read at most, beyond those that came with them."""
TICK_INTERVAL = 0.25
"""Seconds from one look at what is durable to the next."""
STATE_INTERVAL = 10.0
"""Seconds from one look at the slot to the next."""
CLOSE_TIMEOUT = 2.0


class Ready(NamedTuple):
    """Rows that wait to be read, and the place behind them."""

    batch: Batch
    origin: Origin
    place: Place


class ChangesReader:
    """Reads changes. What was taken from the server stays here until it is read."""

    def __init__(
        self,
        config: PostgresCdc,
        session: Session,
        catalogue: Catalogue,
        calls: Deadline,
        watching: Workers,
        checkpoint: Checkpoint,
        context: Context,
    ) -> None:
        self._config, self._session, self._catalogue = config, session, catalogue
        self._calls, self._watching, self._checkpoint, self._context = calls, watching, checkpoint, context
        self._spool = Spool(context.directory / "snapshots" / context.kept_as)
        self._saved = checkpoint.position_as(Place)
        self._protocol: Protocol | None = None
        self._place: Place | None = None
        """The place behind what was read last."""
        self._ready: deque[Ready] = deque()
        self._beginning: asyncio.Task[Place] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._failure: Exception | None = None
        self._confirmed = 0
        self._told_at = self._advanced_at = self._looked_at = 0.0
        self._state: SlotState | None = None
        self._began = 0
        interval = session.sender_timeout / 3 or config.status_interval
        self._interval = min(config.status_interval, interval)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read until the end, then tell the server what is durable by then."""
        try:
            yield
        finally:
            tasks = [task for task in (self._beginning, *self._tasks) if task is not None]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            if self._place is not None and self._failure is None:
                with suppress(Exception):
                    async with asyncio.timeout(CLOSE_TIMEOUT):
                        await self._context.ledger.flush()
                        await self._confirm(asks=False)

    def progress(self) -> Progress:
        """Return how far it is in the WAL, and how much of it the slot keeps at the server."""
        done = max(0, self._place.lsn - self._began) if self._place is not None else 0
        state = self._state
        if state is None:
            return Progress(done, None, "bytes")
        kept = {f"{self._config.slot} (WAL kept)": state.kept}
        return Progress(done, max(done, state.current - self._began), "bytes", kept, self._trouble(state))

    def _trouble(self, state: SlotState) -> str | None:
        slot = f"the slot {self._config.slot!r}"
        if state.status in ("unreserved", "lost"):
            return f"{slot} is {state.status}: the server removes WAL that was not read (max_slot_wal_keep_size)"
        if state.kept > self._config.max_kept_wal:
            return f"{slot} keeps {state.kept >> 20} MB of WAL at the server, which fills its disk"
        return None

    async def read(self) -> Delivery:
        """Wait for rows and return those that came."""
        if self._place is None:
            await self._begin()
        assert self._place is not None
        while (at := self._place.snapshot) is not None:
            found = await asyncio.to_thread(self._spool.read, *at)
            if found is None:
                await self._next_table(at[0])
                continue
            return await self._deliver(await asyncio.to_thread(self._snapshot_rows, at, *found))
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        delivery = await self._deliver(self._ready[0])
        self._ready.popleft()
        self._room.set()
        return delivery

    async def _deliver(self, ready: Ready) -> Delivery:
        delivery = await self._checkpoint.deliver(ready.batch, msgspec.to_builtins(ready.place), ready.origin)
        self._place = ready.place
        return delivery

    async def _begin(self) -> None:
        """Find where to begin, once; a read that is cancelled meanwhile leaves it to the next one."""
        if self._beginning is None:
            self._beginning = asyncio.create_task(self._calls.run(self._find_place))
        try:
            place = await asyncio.shield(self._beginning)
        except Exception:
            self._beginning = None
            raise
        self._place, self._confirmed, self._began = place, place.lsn, place.lsn
        start = msgspec.structs.replace(place, snapshot=None)
        self._protocol = Protocol(start, self._config.batch_size, self._catalogue.kind)
        self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._watch())]

    def _find_place(self) -> Place:
        beginning = Beginning(self._config, self._session, self._catalogue, self._spool, self._context.report_gap)
        database = self._config.database()
        return classifying(database, lambda: beginning.find(self._saved), has_worked=self._saved is not None)

    async def _next_table(self, index: int) -> None:
        assert self._place is not None
        manifest = await asyncio.to_thread(self._spool.manifest)
        following = [index + 1, 0] if manifest is not None and index + 1 < len(manifest.tables) else None
        self._place = msgspec.structs.replace(self._place, snapshot=following)
        if following is None:  # said by itself, since the next change may be far away
            await self._advance(self._place.lsn)

    def _snapshot_rows(self, at: Sequence[int], columns: Sequence[Column], values: Batch) -> Ready:
        manifest = self._spool.manifest()
        assert manifest is not None
        assert self._place is not None
        table = manifest.tables[at[0]]
        batch = read_rows(columns, table, values, self._session.database, self._place.lsn)
        place = msgspec.structs.replace(self._place, snapshot=[at[0], at[1] + 1])
        return Ready(batch, Origin("postgres_cdc", ext={"schema": table[0], "table": table[1]}), place)

    async def _pump(self) -> None:
        """Take what the server sends, and tell it what is durable."""
        try:
            while True:
                if len(self._ready) > MAX_READY:
                    self._room.clear()
                    await self._context.clock.wait(self._room, TICK_INTERVAL)
                elif await self._is_readable():
                    self._ready += await self._calls.run(self._receive)
                    if self._ready:
                        self._arrived.set()
                await self._tell()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failure = error
            self._arrived.set()

    async def _is_readable(self) -> bool:
        """Wait a while for something to come; what is held already counts."""
        if self._session.may_hold_more:
            return True
        loop, come = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._session.fileno, come.set)
        try:
            return await self._context.clock.wait(come, TICK_INTERVAL)
        finally:
            loop.remove_reader(self._session.fileno)

    def _receive(self) -> list[Ready]:
        protocol = self._protocol
        assert protocol is not None

        def receive() -> list[Ready]:
            self._session.receive(protocol, self._config.linger)
            return [Ready(*rows_of(run, self._session.database), place) for run, place in protocol.take()]

        return classifying(self._config.database(), receive, has_worked=True)

    async def _tell(self) -> None:
        """Tell the server what is durable when that has moved, when it asks, and every now and then."""
        now = time.monotonic()
        silent = now - self._session.heard
        if silent > self._interval + self._config.timeout:
            raise ConnectionLost(f"postgres: nothing heard for {silent:.0f} s: the connection is given up")
        if self._session.is_asked or now - self._advanced_at > self._interval:
            self._advanced_at = now
            await self._advance_idle()
        if self._session.is_asked or self._durable() > self._confirmed or now - self._told_at > self._interval:
            await self._confirm(asks=silent > self._interval)

    async def _confirm(self, *, asks: bool) -> None:
        durable = max(self._durable(), self._confirmed)
        report = lambda: self._session.report(durable, asks=asks)  # noqa: E731
        await self._calls.run(classifying, self._config.database(), report, has_worked=True)
        self._confirmed, self._told_at = durable, time.monotonic()

    def _durable(self) -> int:
        position = self._checkpoint.durable
        place = msgspec.convert(position, Place) if position is not None else None
        if place is None or place.slot != self._config.slot:
            return 0
        return place.lsn

    async def _advance_idle(self) -> None:
        """Move on to where the server is, if nothing of what is before concerns us."""
        place, protocol = self._place, self._protocol
        if place is None or protocol is None or place.snapshot is not None or self._ready:
            return
        if protocol.is_between and protocol.reached > place.lsn and self._checkpoint.is_settled:
            await self._advance(protocol.reached)

    async def _advance(self, lsn: int) -> None:
        """Save a place though there are no rows before it; nothing is read meanwhile."""
        assert self._place is not None
        self._place = msgspec.structs.replace(self._place, lsn=lsn, commit=0, rows=0)
        loan = self._checkpoint.lend(msgspec.to_builtins(self._place))
        await loan.release(None)
        if self._context.positions_with_rows and self._checkpoint.is_settled:
            await self._context.store.save({self._checkpoint.key: self._checkpoint.saved()})

    def _look_at_slot(self) -> SlotState | None:
        with closing(Catalogue(self._config.database())) as catalogue:
            return catalogue.slot(self._config.slot)

    async def _watch(self) -> None:
        """Look at the slot every now and then, and delete the snapshot once it is delivered."""
        while True:
            try:
                self._state = await self._watching.call(self._look_at_slot)
                position = self._checkpoint.durable
                if position is not None and msgspec.convert(position, Place).snapshot is None:
                    await asyncio.to_thread(self._spool.remove)
            except Exception as error:
                self._context.log.debug("%s: the slot cannot be looked at: %s", self._context.name, error)
            await self._context.clock.sleep(STATE_INTERVAL)
