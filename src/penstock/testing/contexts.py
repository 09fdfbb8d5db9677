"""A context in which a component can be opened by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ..checkpoint import CheckpointStore, Ledger
from ..context import Context
from ..state.memory import MemoryStore


@asynccontextmanager
async def lend_context(
    directory: Path, store: CheckpointStore | None = None, name: str = "test", **options: Any
) -> AsyncIterator[Context]:
    """Yield a context that saves positions to ``store`` and, on a clean exit, has saved all of them."""
    store = store or MemoryStore()
    ledger = Ledger(store.save, interval=0)
    context = Context(name, store, ledger, directory, **options)
    await ledger.restart(context.states.log.save)
    yield context
    for each in {id(each): each for each in (ledger, *context.ledgers)}.values():
        await each.flush()
