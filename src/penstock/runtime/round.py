"""A round of an input: read from its beginning to its end, with as many stops between as there are."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

from ..checkpoint import CheckpointStore, other_shape
from ..context import Context
from ..stream import Stream


class Round:
    """Knows how often an input was read to its end, and says where reading begins."""

    def __init__(self, stream: Stream, stop: asyncio.Event) -> None:
        self._stream, self._stop = stream, stop
        self._number = 0  # of a stream without id: how often its input was begun anew
        self._has_said_where = False

    async def begin(self, context: Context, store: CheckpointStore) -> Context:
        """Tell the positions of this run from those of one that has read the input to its end.

        Only a stream that was named by a person goes on behind what such a run has read.
        """
        if not self._stream.identity:
            return context
        key = f"{context.kept_as}/run"
        saved: Any = await store.load(key)
        if saved is not None and not (isinstance(saved, dict) and isinstance(saved.get("ended"), int)):
            raise other_shape(key, "expected how many runs have ended")
        self._number = saved["ended"] + 1 if saved else 1
        options = hashlib.sha256(self._stream.input.model_dump_json(fallback=str).encode()).hexdigest()[:10]
        return replace(context, run=f"{self._number}-{options}")

    async def end(self, context: Context, store: CheckpointStore) -> None:
        """Note that the input was read to its end, and all of it was written."""
        if self._number and not self._stop.is_set():
            await store.save({f"{context.kept_as}/run": {"ended": self._number}})

    def say_where(self, context: Context, *, has_rows: bool) -> None:
        """Say once where reading began, and why there."""
        if self._has_said_where:
            return
        own = [one for key, one in context.checkpoints.items() if not key.endswith("/wal")]
        if not own:
            return
        self._has_said_where = True
        name = self._stream.id
        if any(one.began_at is not None for one in own):
            why = (
                "behind what earlier runs have written"
                if not context.run
                else "behind what was written before it was stopped"
            )
            where = f"{name}: reads on {why}"
        elif self._number > 1:
            where = f"{name}: reads from the beginning: a run has read it to the end, and without `id` it is read anew"
        else:
            where = f"{name}: reads from the beginning: nothing that was read is noted"
        nothing = "" if has_rows or self._stop.is_set() else "; there is nothing new"
        context.log.info("%s%s", where, nothing)
