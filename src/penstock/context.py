"""What the runner lends to a component while it is open."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .checkpoint import Checkpoint, CheckpointStore, Ledger, other_shape
from .clock import Clock
from .delivery import Position
from .keyedstate import KeyedState
from .serving.listener import Listeners
from .statelog import ComponentState, StateLog

if TYPE_CHECKING:
    from .supervision import SupervisedStream

T = TypeVar("T")


class Shared:
    """What components and services of one engine have in common, each made when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is called ``key``, which ``make`` makes the first time."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made


@dataclass(frozen=True)
class Context:
    """What the runner lends to a component while it is open."""

    name: str
    """The stream and, within it, the component: prefixes checkpoints and logs."""
    store: CheckpointStore
    """Where positions are loaded from."""
    ledger: Ledger
    """What saves moved positions."""
    directory: Path = Path("penstock-data")
    """Where the component may keep files of its own."""
    listeners: Listeners = field(default_factory=Listeners)
    """The HTTP listeners of this process, one for each address."""
    shared: Shared = field(default_factory=Shared)
    """What the components and services of this engine have in common."""
    columns: frozenset[str] | None = None
    """The only columns anything downstream reads; None when all may be read. A hint."""
    limit: int = 1024
    """How many deliveries of one checkpoint may be unsettled."""
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    """The checkpoints followed so far, by key."""
    kept_by: dict[str, Ledger] = field(default_factory=dict)
    """The ledger of each checkpoint, by key."""
    ledgers: list[Ledger] = field(default_factory=list)
    """What saves their positions, to be flushed at the end."""
    identity: str = ""
    """What tells the stream apart from others of its name; empty if it was named."""
    run: str = ""
    """Which run of the stream the positions of the input are of; empty if they are of all runs."""
    states: ComponentState = None  # type: ignore[assignment]
    """The keyed state of the component, for what it hands out itself: ``states.enter(delivery)``."""
    seen: dict[str, str | None] = field(default_factory=dict)
    """The positions that an output keeps, encoded, as this run last saw them: another process may move them."""
    clock: Clock = field(default_factory=Clock)
    """What time it is, and waiting; a test moves its time."""
    log: logging.Logger = logging.getLogger("penstock")  # noqa: RUF009
    streams: Callable[[], Sequence[SupervisedStream]] = tuple
    """The streams of this process, for services that show them or pause them."""
    lookups: Mapping[str, Any] = field(default_factory=dict)
    """The temporary tables of the stream, by name; each is a ``component.Lookup``."""
    sources: Sequence[str] = ()
    """The inputs of the stream, by the names under which their positions are kept, where it has several."""
    is_stopping: Callable[[], bool] = lambda: False
    """Tells, at the end of what is read, whether that is a stop after which the stream goes on."""
    note_gap: Callable[[str], None] = lambda reason: None
    """What counts and shows that rows of a source may be missing; ``report_gap`` also logs it."""
    rewound: dict[str, Position | None] = field(default_factory=dict)
    """Where reading begins in place of what is saved, by key of the checkpoint; each is used once."""
    positions_with_rows: bool = False
    """Whether the output keeps the positions of the input, in the transaction of the rows; else the source may."""

    def __post_init__(self) -> None:
        if self.states is None:
            log = StateLog(self.name, self.store, self.store, clock=self.clock, move=self.ledger.move)
            object.__setattr__(self, "states", log.component(""))

    async def state(self, name: str = "", *, ttl: float | None = None, max_entries: int = 100_000) -> KeyedState:
        """Return what this component remembers by key, as it was when the positions of the stream were saved.

        To be called while it is opened. After a crash, state and positions agree: the changes that a row has made are
        there if, and only if, that row is not read again (and, for an input that keeps its position with a broker,
        perhaps if it is). At most ``max_entries`` keys are held, in memory and in the store: the oldest are forgotten,
        and with ``ttl`` also those that were put that many seconds ago.

        A processor changes its state only while it processes a batch. It is called with one batch at a time, in the
        order of reading, and a call that raises has changed nothing. A buffer changes its state in ``put`` and
        ``get``, and calls ``context.states.enter(delivery)`` with what it hands out before ``get`` returns it.
        """
        state = await self.states.open(name, ttl, max_entries)
        if self.states.log.is_lost:
            self.report_gap("what it remembers by key is not what its positions go with: the state is lost or replaced")
        return state

    def report_gap(self, reason: str) -> None:
        """Tell that rows may be missing that the source held: in the log, on the health page and in a metric."""
        reason = reason.encode("utf-8", "backslashreplace").decode()  # it may name a file whose name is no text
        self.log.warning("%s: rows may be missing: %s", self.name, reason)
        self.note_gap(reason)

    async def checkpoint(
        self,
        partition: str = "",
        *,
        commit: Callable[[Position], Awaitable[None]] | None = None,
    ) -> Checkpoint:
        """Follow this component's deliveries, or those of one partition, from where they were last saved.

        Opened again within one run, reading goes on behind what was delivered, whether it is settled or not.
        With ``commit`` the position is kept by the source itself (a broker's consumer group) and passed to it; the
        ``commit`` of the last call is used, so that a source that is opened again gets what its connection before did
        not.
        """
        key = self._key(partition)

        async def save(moved: Mapping[str, Position]) -> None:
            if commit is not None:
                if self.states.log.is_used:  # first, since what was committed never comes again
                    await self.ledger.flush()
                await commit(moved[key]["position"])

        if key not in self.checkpoints:
            saved = await self.store.load(key) if commit is None else None
            if saved is not None and not (isinstance(saved, Mapping) and {"position", "rows"} <= saved.keys()):
                raise other_shape(key, "expected a position and a number of rows")
            if saved is not None and saved.get("run", "") != self.run:
                saved = None  # It is of a run that has ended, or of another input.
            if key in self.rewound:
                saved = {"rows": 0, **(saved or {}), "position": self.rewound.pop(key)}
            ledger = self.ledger if commit is None else Ledger(save, commits=True, clock=self.clock)
            self.ledgers.append(ledger)
            self.checkpoints[key] = Checkpoint(
                key,
                saved,
                ledger.move,
                self.limit,
                counts=commit is None,
                run=self.run,
                last_saved=ledger.saved,
                states=self.states.log,
            )
            self.kept_by[key] = ledger
        elif commit is not None:
            self.kept_by[key].rebind(save)
        return self.checkpoints[key]

    async def release(self, partition: str = "") -> None:
        """Give up a partition that was revoked: save what is acked, and commit nothing of it afterwards.

        What is in flight is delivered again by whoever reads the partition next. Followed again, it starts from where
        it was last saved.
        """
        key = self._key(partition)
        checkpoint = self.checkpoints.pop(key, None)
        if checkpoint is None:
            return
        checkpoint.release()
        ledger = self.kept_by.pop(key)
        try:
            await ledger.flush()
        except Exception as error:  # whoever reads the partition next reads a little more than once
            self.log.warning("%s: its position could not be saved before it was released: %s", key, error)
        await ledger.forget(key)
        if ledger is not self.ledger:
            self.ledgers.remove(ledger)

    def committing(self) -> list[tuple[str, Ledger]]:
        """Return the checkpoints of this input whose positions the source itself keeps, with what commits them."""
        own = (self.kept_as, f"{self.kept_as}/")
        return [
            (key, ledger)
            for key, ledger in self.kept_by.items()
            if ledger.commits and (key == own[0] or key.startswith(own[1]))
        ]

    def _key(self, partition: str) -> str:
        return f"{self.kept_as}/{partition}" if partition else self.kept_as

    @property
    def kept_as(self) -> str:
        """The name under which positions and files are kept."""
        stream, slash, rest = self.name.partition("/")
        return f"{stream}{self.identity}{slash}{rest}"
