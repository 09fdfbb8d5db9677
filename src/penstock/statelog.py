"""Order the changes of keyed state, and save each with the positions of the rows that made it.

Changes and positions are saved so that they never disagree, wherever the positions are kept. The changes come first,
under a new version number (``KeyedStore.save_state``); then the number is saved among the positions, in the call that
moves them. After a crash between the two, the positions name the version before, and the changes do not count.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from .clock import Clock
from .delivery import Delivery, Loan, Position, Tracker
from .errors import ConfigError
from .keyedstate import Entry, KeyedState, KeyedStore, Place, Prune, Version

_MAX_STEP = 1 << 24
"""Version numbers grow by a random step, so that two processes of one stream never write under the same number."""
_MAX_SLEW = 1.0
"""By how many seconds the clock may fall behind and still not count as put back."""

_MARK: Place = ("", "")
"""A place that every version changes, to be found by."""


class _Record(msgspec.Struct):
    """What is saved among the positions."""

    version: int = 0
    base: int = 0
    run: str = ""


@dataclass(slots=True)
class _Change:
    """What one delivery has changed, and what must be settled before it may be saved."""

    number: int
    entries: dict[Place, Entry | None]
    reaches: dict[Tracker, int]
    """The last of its loans, by tracker."""
    others: list[Loan]
    """Its loans that no tracker follows."""


class Unsaved:
    """The changes that are saved with certain positions, under a number of their own."""

    def __init__(
        self,
        number: int,
        entries: dict[Place, Entry | None],
        positions: dict[str, Position],
        through: int,
        keep: Callable[[], Awaitable[None]],
    ) -> None:
        self.number, self.entries, self.through, self._keep = number, entries, through, keep
        self.positions = positions
        """What is to be saved with them: the number, and the positions of their rows as far as they have moved."""
        self._is_kept = not entries

    async def keep(self) -> None:
        """Have the changes durable, so that the positions may be saved."""
        if not self._is_kept:
            await self._keep()
            self._is_kept = True


class StateLog:
    """The changes of all keyed state of a stream, in the order in which its deliveries made them."""

    def __init__(
        self,
        key: str,
        positions: Any,
        store: Any,
        *,
        run: str = "",
        clock: Clock | None = None,
        move: Callable[[str, Position], None] = lambda key, position: None,
    ) -> None:
        """``positions`` is the CheckpointStore that keeps the positions, ``store`` a KeyedStore for the changes.

        ``move`` is told that there are changes to be saved.
        """
        self._stream, self.key = key, f"{key}/state"
        self._positions, self._store, self._run, self._move = positions, store, run, move
        self._clock = clock or Clock()
        self._names: set[str] = set()
        self._version: Version | None = None
        """What was last saved, as far as is known; None until it was asked for."""
        self._is_certain = False
        """Whether this run has saved it, and tried to save nothing since."""
        self.is_lost = False
        """Whether the store does not have the changes that the positions name: it was deleted, or replaced."""
        self._has_void = True
        """Whether there may be changes under numbers that never came to count."""
        self._last = 0
        """The number that was last given."""
        self._replaced: list[Place] = []
        """Where the version that was last saved has replaced something."""
        self._count = 0
        self._waiting: deque[_Change] = deque()
        self._settled: dict[Place, Entry | None] = {}
        """Changes whose rows are settled, to be saved."""
        self._trackers: dict[str, Tracker] = {}
        """Those whose positions are to be saved with them."""
        self._covered = 0
        """The number of the last change that is saved or in ``_settled``."""
        self._ahead = 0.0
        """How many seconds the clock was put back since this began."""
        self._told: tuple[float, float] | None = None
        """The time as it was last told, and the monotonic time then."""
        self.through = 0
        """The number of the last change of which positions may be saved."""

    @property
    def is_used(self) -> bool:
        """Whether any component keeps state."""
        return bool(self._names)

    def time(self) -> float:
        """Return the time in seconds since 1970; where the clock is put back, it goes on from what it was."""
        wall, monotonic = self._clock.time(), self._clock.monotonic()
        if self._told is not None:
            lost = self._told[0] + monotonic - self._told[1] - (wall + self._ahead)
            self._ahead += lost if lost > _MAX_SLEW else 0.0
        self._told = wall + self._ahead, monotonic
        return self._told[0]

    def component(self, name: str) -> ComponentState:
        """Return the part of one component."""
        return ComponentState(self, name)

    async def open(self, name: str, ttl: float | None, max_entries: int) -> KeyedState:
        """Return the state ``name`` as it was when the positions were saved."""
        if not isinstance(self._store, KeyedStore):
            raise ConfigError(f"{name}: the store of positions keeps no state")
        if self._version is None:
            self._version = await self._load_version()
            self._last = self._version.number
            marks = await self._store.load_state(self._stream, _MARK[0], self._version)
            mark = marks.get(_MARK[1])
            self.is_lost = bool(self._last) and (mark is None or mark.value != str(self._last).encode())
        if name in self._names:
            raise ConfigError(f"{self._stream}: two components keep the state {name!r}; give them names")
        self._names.add(name)
        entries = await self._store.load_state(self._stream, name, self._version)
        return KeyedState(name, entries, ttl=ttl, max_entries=max_entries, now=self.time())

    async def _load_version(self) -> Version:
        saved = await self._positions.load(self.key)
        try:
            record = msgspec.convert(saved, _Record) if saved is not None else _Record()
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"what is saved as {self.key!r} is of another shape than this version saves: {error}; nothing changed"
            ) from error
        return Version(record.version, record.base) if record.run == self._run else Version()

    # -- order -----------------------------------------------------------------------------------------------------

    def enter(self, delivery: Delivery, entries: dict[Place, Entry | None]) -> None:
        """Note what a delivery has changed, before it is settled; called in the order of the changes."""
        if not entries:
            return
        self._count += 1
        change = _Change(self._count, entries, {}, [])
        for loan in delivery.loans:
            if loan.tracker is None:
                loan.settle = self._noted(loan.settle)
                change.others.append(loan)
            else:
                loan.held = self._count
                change.reaches[loan.tracker] = max(loan.number, change.reaches.get(loan.tracker, 0))
        self._waiting.append(change)
        if not delivery.loans:
            self.advance()

    def _noted(self, settle: Callable[[Exception | None], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def settle_and_advance(error: Exception | None) -> None:
            try:
                await settle(error)
            finally:
                self.advance()

        return settle_and_advance

    def cut(self, assumed: Mapping[Loan, int]) -> int:
        """Return the number of the last change that may be saved if ``assumed`` shares were acked too.

        It is the largest prefix of the changes that is settled, with nothing missing in front of the rows that made
        it: positions up to there, and no further, belong to the state up to there.
        """
        last = self._count
        while True:
            reaches: dict[Tracker, int] = {}
            for change in self._waiting:
                if change.number > last or not self._is_reached(change, last, assumed, reaches):
                    end = change.number - 1
                    break
            else:
                end = self._count
            if end >= last:
                return end
            last = end

    @staticmethod
    def _is_reached(change: _Change, last: int, assumed: Mapping[Loan, int], reaches: dict[Tracker, int]) -> bool:
        if not all(loan.is_acked(assumed) for loan in change.others):
            return False
        for tracker, number in change.reaches.items():
            if tracker not in reaches:
                reaches[tracker] = tracker.reach(assumed, last)
            if reaches[tracker] < number:
                return False
        return True

    def advance(self) -> None:
        """Let positions move over the changes that are settled by now, and have those saved."""
        if not self._waiting:
            return
        self.through = self.cut({})
        trackers: dict[Tracker, None] = {}
        for change in self._pop(self.through):
            trackers |= dict.fromkeys(change.reaches)
            if change.number > self._covered:
                self._settled |= change.entries
                self._trackers |= {tracker.key: tracker for tracker in change.reaches}
        self._covered = max(self._covered, self.through)
        for tracker in trackers:
            tracker.advance()
        if self._settled:
            self._move(self.key, None)

    def _pop(self, through: int) -> Iterator[_Change]:
        while self._waiting and self._waiting[0].number <= through:
            yield self._waiting.popleft()

    # -- saving ----------------------------------------------------------------------------------------------------

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Save positions where positions are kept, with the changes that belong to them."""
        if self.key not in positions:
            await self._positions.save(positions)
            return
        settled, self._settled = self._settled, {}
        unsaved = self._number(settled, {}, self.through)
        try:
            await unsaved.keep()
            others = {key: position for key, position in positions.items() if key != self.key}
            await self._positions.save(others | unsaved.positions)
        except BaseException:
            self._settled = {**settled, **self._settled}
            raise
        self._note_saved(unsaved)

    def prepare(self, delivery: Delivery) -> Unsaved:
        """Return what a writer is to save that writes a delivery and saves positions with its rows."""
        assumed = Counter(delivery.loans)
        through = self.cut(assumed)
        entries, trackers = dict(self._settled), dict(self._trackers)
        for change in self._waiting:
            if change.number <= through:
                entries |= change.entries
                trackers |= {tracker.key: tracker for tracker in change.reaches}
        found = {key: tracker.frontier(assumed, through) or tracker.moved for key, tracker in trackers.items()}
        moved = {key: position for key, position in found.items() if position is not None}
        return self._number(entries, moved | delivery.positions(through), through)

    def note_written(self, unsaved: Unsaved) -> None:
        """Note that a writer has saved what ``prepare`` has returned."""
        self._settled = {
            place: entry for place, entry in self._settled.items() if unsaved.entries.get(place, ()) is not entry
        }
        self._trackers.clear()
        self._covered = max(self._covered, unsaved.through)
        self._note_saved(unsaved)

    def _note_saved(self, unsaved: Unsaved) -> None:
        if unsaved.entries:
            assert self._version is not None
            self._version = Version(unsaved.number, self._version.number)
            self._is_certain, self._replaced = True, list(unsaved.entries)

    def _number(self, entries: dict[Place, Entry | None], moved: dict[str, Position], through: int) -> Unsaved:
        """Give changes a number; none without changes."""
        assert self._version is not None
        if not entries:
            return Unsaved(0, entries, moved, through, _keep_nothing)
        self._last += random.randrange(1, _MAX_STEP)
        number, now = self._last, self.time()
        entries[_MARK] = Entry(str(number).encode(), None)
        record = {"version": number, "base": self._version.number, **({"run": self._run} if self._run else {})}
        self._has_void = self._has_void or not self._is_certain
        prune = Prune(now, self._version, self._replaced, self._has_void, self._is_certain)

        async def keep() -> None:
            await self._store.save_state(self._stream, number, entries, prune)
            self._has_void = self._has_void and not prune.is_certain

        self._is_certain = False
        return Unsaved(number, entries, moved | {self.key: record}, through, keep)


async def _keep_nothing() -> None: ...


class ComponentState:
    """The keyed state of one component."""

    def __init__(self, log: StateLog, name: str) -> None:
        self.log, self._name = log, name
        self.opened: list[KeyedState] = []

    async def open(self, name: str, ttl: float | None, max_entries: int) -> KeyedState:
        """Return one of its states, loaded."""
        state = await self.log.open("/".join(part for part in (self._name, name) if part), ttl, max_entries)
        self.opened.append(state)
        return state

    def part(self, name: str) -> ComponentState:
        """Return what a component within this one is lent: its state is kept, undone and saved with this one's."""
        inner = ComponentState(self.log, "/".join(part for part in (self._name, name) if part))
        inner.opened = self.opened
        return inner

    def begin(self) -> None:
        """Begin a call, at this moment; called on the event loop."""
        for state in self.opened:
            state.begin(self.log.time())

    def keep(self) -> None:
        """Keep what a call has changed."""
        for state in self.opened:
            state.keep()

    def roll_back(self) -> None:
        """Undo what a call has changed that failed."""
        for state in self.opened:
            state.roll_back()

    def enter(self, delivery: Delivery) -> None:
        """Have what was changed since the last call saved with the positions of ``delivery``."""
        entries: dict[Place, Entry | None] = {}
        for state in self.opened:
            entries |= state.take()
        self.log.enter(delivery, entries)
