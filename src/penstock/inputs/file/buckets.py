"""Where reading goes on in each file, kept so that no position grows with the number of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...checkpoint import Checkpoint, other_shape
from ...context import Context
from ...delivery import Delivery
from ...errors import PenstockError
from ...metadata import Origin
from .listing import Found
from .part import Part
from .place import Place

BUCKET_SIZE = 16
"""How many files share a checkpoint: a position tells of the files of its own bucket only."""
FIRST_BUCKETS = 32
"""How many checkpoints there are without an index that tells of more."""
_INDEX = "index"


class Buckets:
    """Where each file was left: spread among checkpoints, of which there are more when there are more files."""

    def __init__(self, context: Context, checkpoints: list[Checkpoint]) -> None:
        self._context = context
        self._checkpoints = checkpoints
        self._places: list[dict[str, Any]] = [
            {**(checkpoint.position_as(dict[str, list[Any]]) or {})} for checkpoint in checkpoints
        ]
        self._bucket_of = {key: number for number, places in enumerate(self._places) for key in places}
        self._lent: set[int] = set()
        """Those of which deliveries may be unsettled."""
        self._roomy = {number: None for number, places in enumerate(self._places) if len(places) < BUCKET_SIZE}

    @classmethod
    async def load(cls, context: Context) -> Buckets:
        """Load what was saved."""
        index = await context.checkpoint(_INDEX)
        count = (index.position_as(dict[str, int]) or {}).get("buckets", FIRST_BUCKETS)
        return cls(context, [await context.checkpoint(_name(number)) for number in range(count)])

    def places(self) -> Mapping[str, Place]:
        """Return where each file was left."""
        return {
            key: _loaded(checkpoint.key, saved)
            for checkpoint, places in zip(self._checkpoints, self._places, strict=True)
            for key, saved in places.items()
        }

    def raise_failure(self) -> None:
        """Raise PenstockError if a delivery was nacked: nothing behind it may be read."""
        for number in list(self._lent):
            checkpoint = self._checkpoints[number]
            if checkpoint.failure is not None:
                raise PenstockError(
                    f"{checkpoint.key}: a batch was refused: {checkpoint.failure}"
                ) from checkpoint.failure
            if checkpoint.committed is checkpoint.position:
                self._lent.discard(number)

    async def deliver(self, key: str, part: Part, origin: Origin) -> Delivery:
        """Lend the batch of a part; waits while too many deliveries are unsettled."""
        assert part.batch is not None
        number, position = await self._moved(key, part.place)
        self._lent.add(number)
        delivery = await self._checkpoints[number].deliver(part.batch, position, origin, part.decoder)
        self._places[number] = position
        delivery.error = part.error
        return delivery

    async def note(self, key: str, place: Place) -> None:
        """Move on behind what holds no rows."""
        number, position = await self._moved(key, place)
        self._places[number] = position
        await self._checkpoints[number].lend(position).release(None)

    async def keep(self, found: Found, place: Place, original: str | None) -> None:
        """Note where a file is, and return once that is saved if nothing of its bucket is on its way.

        A file that is not known yet is to be read on from ``place``; a copy shares the bucket of its original, so that
        its place is saved only after what was delivered of that.
        """
        number = self._bucket_of.get(found.key)
        if number is None and original in self._bucket_of:
            self._bucket_of[found.key] = self._bucket_of[original]
        place = Place.load(self._places[number][found.key]) if number is not None else place
        await self.note(found.key, replace(place, path=found.path, born=found.born or place.born))
        checkpoint = self._checkpoints[self._bucket_of[found.key]]
        if checkpoint.committed == checkpoint.position:
            await self._context.store.save({checkpoint.key: checkpoint.saved()})

    async def _moved(self, key: str, place: Place) -> tuple[int, dict[str, Any]]:
        if key not in self._bucket_of:
            if not self._roomy:
                await self._grow()
            number = self._bucket_of[key] = next(iter(self._roomy))
            if len(self._places[number]) + 1 >= BUCKET_SIZE:
                del self._roomy[number]
        number = self._bucket_of[key]
        return number, {**self._places[number], key: place.dump()}

    async def _grow(self) -> None:
        """Double the checkpoints, and note how many there are before any of the new ones is used."""
        count = len(self._checkpoints)
        index = await self._context.checkpoint(_INDEX)
        position = {"buckets": 2 * count}
        await index.lend(position).release(None)
        await self._context.store.save({index.key: index.saved()})
        for number in range(count, 2 * count):
            self._checkpoints.append(await self._context.checkpoint(_name(number)))
            self._places.append({})
        self._roomy = dict.fromkeys(range(count, 2 * count))

    async def forget(self, key: str) -> None:
        """Keep the place of a file no longer."""
        number = self._bucket_of.pop(key, None)
        if number is not None:
            kept = {other: saved for other, saved in self._places[number].items() if other != key}
            self._places[number] = kept
            if len(kept) < BUCKET_SIZE:
                self._roomy[number] = None
            await self._checkpoints[number].lend(kept).release(None)


def _loaded(key: str, saved: list[Any]) -> Place:
    """Return a saved place; raises ConfigError if another version has saved it."""
    try:
        return Place.load(saved)
    except TypeError as error:
        raise other_shape(key, str(error)) from error


def _name(number: int) -> str:
    return f"{number:02}"
