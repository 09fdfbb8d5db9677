"""What the runner lends to a component while it is open."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from .checkpoint import Checkpoint, CheckpointStore, Ledger
from .clock import Clock
from .delivery import Position
from .serving.listener import Listeners


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
    columns: frozenset[str] | None = None
    """The only columns anything downstream reads; None when all may be read. A hint."""
    limit: int = 1024
    """How many deliveries of one checkpoint may be unsettled."""
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    """The checkpoints followed so far, by key."""
    ledgers: list[Ledger] = field(default_factory=list)
    """What saves their positions, to be flushed at the end."""
    clock: Clock = field(default_factory=Clock)
    """What time it is, and waiting; a test moves its time."""
    log: logging.Logger = logging.getLogger("penstock")  # noqa: RUF009

    async def checkpoint(
        self,
        partition: str = "",
        *,
        commit: Callable[[Position], Awaitable[None]] | None = None,
    ) -> Checkpoint:
        """Follow this component's deliveries, or those of one partition, from where they were last saved.

        Opened again within one run, reading goes on behind what was delivered, whether it is settled or not.
        With ``commit`` the position is kept by the source itself (a broker's consumer group) and passed to it.
        """
        key = f"{self.name}/{partition}" if partition else self.name
        if key not in self.checkpoints:
            saved = await self.store.load(key) if commit is None else None
            ledger = self.ledger if commit is None else Ledger(lambda moved: commit(moved[key]["position"]))
            self.ledgers.append(ledger)
            self.checkpoints[key] = Checkpoint(key, saved, ledger.move, self.limit, counts=commit is None)
        return self.checkpoints[key]
