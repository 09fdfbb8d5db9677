"""Which position may be committed: the highest below which everything is acked."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

import msgspec

from .clock import Clock
from .delivery import Batch, Decoder, Delivery, Loan, Position
from .errors import ConfigError, PenstockError
from .metadata import Origin
from .statelog import StateLog

log = logging.getLogger("penstock")
_MAX_RETRY_INTERVAL = 5.0
FORMAT_KEY = "_format"
"""The key under which a store of positions says how it keeps them."""
FORMAT = "1"
"""How this version keeps positions."""
_T = TypeVar("_T")


def check_format(found: str | None, where: str) -> None:
    """Raise ConfigError if ``where`` keeps positions otherwise than this version; stores of old do not say how."""
    if found not in (None, FORMAT):
        raise ConfigError(
            f"{where}: its positions are in format {found}, this version knows format {FORMAT}: a later version of "
            "Penstock wrote them; nothing was changed"
        )


class CheckpointStore(Protocol):
    """Keeps positions by key. ``save`` keeps all that it is given, or nothing."""

    async def load(self, key: str) -> Position | None: ...

    async def save(self, positions: Mapping[str, Position]) -> None: ...


class Ledger:
    """Saves moved positions behind the flow, many at once, so that an ack never waits for a disk.

    What was acked but not yet saved is delivered again after a crash; nothing is skipped.
    """

    def __init__(
        self,
        save: Callable[[Mapping[str, Position]], Awaitable[None]],
        interval: float = 0.05,
        *,
        commits: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._save, self._interval, self._clock = save, interval, clock or Clock()
        self.commits = commits
        """Whether it commits a position to its source, which keeps it."""
        self._moved: dict[str, Position] = {}
        self._saved: dict[str, Position] = {}
        self._saving: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._hurry = asyncio.Event()
        self.failure: Exception | None = None
        """Why the last attempt to save failed; None once one succeeds."""
        self._is_taken_over = asyncio.Event()

    def move(self, key: str, position: Position) -> None:
        """Note that ``key`` may be resumed at ``position``."""
        self._moved[key] = position
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save_soon())

    async def _save_soon(self) -> None:
        pause = self._interval
        while self._moved and not self._hurry.is_set() and not self._is_taken_over.is_set():
            await self._clock.wait(self._hurry, pause)
            try:
                await self._save_moved()
                pause = self._interval
            except ConfigError:
                self._is_taken_over.set()
            except Exception as error:
                pause = min(max(pause, 0.05) * 2, _MAX_RETRY_INTERVAL)
                log.warning("positions could not be saved, trying again in %.1f s: %s", pause, error)

    async def _save_moved(self) -> None:
        # One at a time, and never abandoned half-way: an older save that finished last would move positions back.
        async with self._one_at_a_time:
            if not self._moved:
                return
            moved, self._moved = self._moved, {}
            try:
                await self._save(moved)
            except BaseException as error:
                self._moved = {**moved, **self._moved}
                self.failure = error if isinstance(error, Exception) else self.failure
                raise
            self._saved |= moved
            self.failure = None

    def saved(self, key: str) -> Position | None:
        """Return what was last saved of ``key`` in this run; None if nothing was."""
        return self._saved.get(key)

    async def taken_over(self) -> NoReturn:
        """Wait until another process has moved a position of this one; raises the ConfigError that says so."""
        await self._is_taken_over.wait()
        raise self.failure or ConfigError("another process has moved a position")

    async def flush(self) -> None:
        """Save what has moved and return once it is saved; raises what a save raised."""
        self._hurry.set()
        try:
            if self._saving is not None:
                await asyncio.wait({self._saving})
        finally:
            self._hurry.clear()
        await self._save_moved()

    async def restart(self, save: Callable[[Mapping[str, Position]], Awaitable[None]]) -> None:
        """Drop what an earlier run could not save, and save with ``save``; a save that is under way ends first."""
        async with self._one_at_a_time:
            self._moved.clear()
            self._save = save

    def rebind(self, save: Callable[[Mapping[str, Position]], Awaitable[None]]) -> None:
        """Save with ``save`` from now on, also what has moved already."""
        self._save = save

    async def forget(self, key: str) -> None:
        """Drop a position that has moved and is not saved; a save that is under way ends first."""
        async with self._one_at_a_time:
            self._moved.pop(key, None)


class Checkpoint:
    """Follows the deliveries of one input, or of one of its partitions, in read order.

    A position is where reading resumes *after* a delivery. Only a contiguous position is ever moved to: one
    below which every delivery was acked.
    """

    def __init__(
        self,
        key: str,
        saved: Mapping[str, Any] | None = None,
        move: Callable[[str, Mapping[str, Any]], None] = lambda key, saved: None,
        limit: int = 1024,
        *,
        counts: bool = True,
        run: str = "",
        last_saved: Callable[[str], Mapping[str, Any] | None] | None = None,
        states: StateLog | None = None,
    ) -> None:
        """``states`` orders the changes of keyed state that no position may pass before they are saved with it."""
        self._run, self._last_saved, self._states = run, last_saved, states
        saved = saved or {}
        self.key, self._move = key, move
        self.position: Position | None = saved.get("position")
        """Where reading is to go on: behind what was last delivered, at first behind what was last saved."""
        self.began_at: Position | None = self.position
        """Where reading began: behind what was last saved."""
        self.committed: Position | None = self.position
        """The position below which everything is acked."""
        self.rows: int = saved.get("rows", 0)
        """Rows delivered so far, across restarts."""
        self._put: int | None = saved.get("put")
        self.counts = counts
        """Whether ``rows`` goes on across restarts; not so where the source itself keeps the position."""
        self.moved: Position | None = None
        """What is to be saved of what was acked so far; None if nothing was acked."""
        self._lent = self._reached = 0  # numbers of loans
        self._pending: deque[Loan] = deque()
        self._limit, self._settled = limit, asyncio.Event()
        self.failure: Exception | None = None
        self.released = False
        """Whether its partition was given up: nothing moves any more."""

    def position_as(self, shape: type[_T]) -> _T | None:
        """Return where reading is to go on; raises ConfigError if what is saved has another shape."""
        if self.position is None:
            return None
        try:
            return msgspec.convert(self.position, shape)
        except msgspec.ValidationError as error:
            raise other_shape(self.key, str(error)) from error

    @property
    def durable(self) -> Position | None:
        """The committed position that is also saved: after a crash, reading resumes there or later."""
        if self._last_saved is None:
            return self.committed
        saved = self._last_saved(self.key)
        return self.began_at if saved is None else saved["position"]

    def release(self) -> None:
        """Forget what is in flight, so that settling it moves nothing."""
        self.released = True
        self._pending.clear()
        self._settled.set()

    async def deliver(
        self, batch: Batch, position: Position, origin: Origin | None = None, decoder: Decoder | None = None
    ) -> Delivery:
        """Lend ``batch``; waits while too many deliveries are unsettled."""
        await self.room()
        return Delivery(batch, (self.lend(position, batch.num_rows),), origin, decoder)

    async def room(self) -> None:
        """Wait while too many deliveries are unsettled; raises PenstockError once one was refused."""
        while len(self._pending) >= self._limit and self.failure is None:
            self._settled.clear()
            await self._settled.wait()
        if self.failure is not None:
            raise PenstockError(f"{self.key}: a batch was refused: {self.failure}") from self.failure

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in flight."""
        return not self._pending

    async def settled(self) -> None:
        """Wait until nothing is in flight, or until what is in flight was refused or given up."""
        while self._pending and self.failure is None:
            self._settled.clear()
            await self._settled.wait()

    def lend(self, position: Position, rows: int = 0) -> Loan:
        """Enter a loan of ``rows`` rows without waiting for room."""
        self.rows += rows
        self.position = position

        async def settle(error: Exception | None) -> None:
            if self.released:
                return
            if error is not None:
                self.failure = self.failure or error
            else:
                if self._states is not None:
                    self._states.advance()
                self.advance()
            self._settled.set()

        self._lent += 1
        loan = Loan(settle, tracker=self, position=position, rows_end=self.rows, number=self._lent)
        if not self.released:
            self._pending.append(loan)
        return loan

    def saved(self) -> Position:
        """Return what is saved of what was acked so far, while nothing else is on its way."""
        more = {"put": self._put, "run": self._run or None}
        told = {key: value for key, value in more.items() if value is not None}
        return {"position": self.committed, "rows": self.rows, **told}

    def advance(self) -> None:
        """Move to the last position below which everything is acked and every change of state is to be saved."""
        through = self._states.through if self._states is not None else 0
        done: Loan | None = None
        while self._pending and self._pending[0].held <= through and self._pending[0].is_acked({}):
            done = self._pending.popleft()
            self._put = _put_after(done, self._put)
        if done is not None:
            self.committed, self._reached = done.position, done.number
            self.moved = _saved(done, self._put, self._run)
            self._move(self.key, self.moved)

    def frontier(self, assumed: Mapping[Loan, int], through: int | None = None) -> Position | None:
        """Return what would be saved if ``assumed`` shares were acked too; None if nothing would move."""
        last: Loan | None = None
        put = self._put
        for last in self._passed(assumed, through):
            put = _put_after(last, put)
        return _saved(last, put, self._run) if last is not None else None

    def reach(self, assumed: Mapping[Loan, int], through: int) -> int:
        """Return the number of the last loan up to which reading could resume then."""
        if self.released:
            return self._lent
        reached = self._reached
        for loan in self._passed(assumed, through):
            reached = loan.number
        return reached

    def _passed(self, assumed: Mapping[Loan, int], through: int | None) -> Iterator[Loan]:
        for loan in self._pending:
            if not loan.is_acked(assumed) or (through is not None and loan.held > through):
                break
            yield loan


def other_shape(key: str, difference: str) -> ConfigError:
    """Return the error that says that a saved position is not understood."""
    return ConfigError(
        f"the position saved as {key!r} has another shape than this version and configuration save ({difference}): "
        "nothing was read or changed. Go on with what saved it, or give the stream another `id` to begin anew"
    )


def _put_after(loan: Loan, before: int | None) -> int | None:
    """How many rows a buffer has counted up to ``loan``; one that became no row never reached it."""
    return before if loan.put is None else loan.put


def _saved(loan: Loan, put: int | None, run: str) -> dict[str, Any]:
    saved = {"position": loan.position, "rows": loan.rows_end}
    if put is not None:
        saved["put"] = put
    if run:
        saved["run"] = run
    return saved
