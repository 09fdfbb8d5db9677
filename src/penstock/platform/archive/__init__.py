"""The bodies that an application accepted, kept as they arrived: in a folder, or in an object store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from ...errors import PenstockError, PermanentError
from ...identifiers import parse_id
from .bucket import Bucket
from .folder import Folder, Spool
from .reception import Place, Reception

log = logging.getLogger("penstock")


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a body that is durable; an application adds what it has to know to process it."""

    id: str
    """A UUID of version 7, which is also the name of the body: it reveals nothing but when it came."""
    raw: str
    """Where the body is, for ``Archive.open``."""
    bytes: int
    sha256: str
    """Of the body as it arrived."""


R = TypeVar("R", bound=Receipt)


class Archive(Generic[R]):
    """Keep bodies verbatim as ``YYYY/MM/<id>``, each with its receipt in ``<id>.json`` beside it.

    With a ``url`` they go into that object store, and through the folder only on their way. The marks of what has
    not been handed on yet are always in the folder: they belong to the process, as its log does. Files are readable
    by their owner alone. What is written is durable when a call returns, and what is read or written passes through in
    pieces.

    What was accepted is handed on once: ``receive`` and ``Reception.keep``, hand over, ``settle``. Left unsettled by a
    process that died, it is found by ``recover``.
    """

    def __init__(self, folder: Path, receipt: type[R], url: str | None = None) -> None:
        """Describe an archive; raises ConfigError for a URL that names no object store. Nothing is opened yet."""
        self._spool, self._folder = Spool(folder / "arriving"), Folder(folder)
        self._bucket = Bucket(url, self._spool) if url else None
        self._decode = msgspec.json.Decoder(receipt).decode

    @asynccontextmanager
    async def receive(self, identifier: str) -> AsyncIterator[Reception[R]]:
        """Take the body called ``identifier``; what is not kept when this is left leaves nothing behind.

        Raises ValueError for an id that is not a UUID of version 7.
        """
        reception = Reception[R](parse_id(identifier), self._spool, self._place, self._discard)
        try:
            yield reception
        finally:
            await reception.close()

    def open(self, location: str) -> BinaryIO:
        """Open a body to be read, from its beginning; blocks. What the object store keeps is fetched into a file.

        Raises PermanentError if it is not there, TransientError if it cannot be read now.
        """
        head, _, name = location.rpartition("/")
        try:
            identifier = parse_id(name)
        except ValueError as error:
            raise PermanentError(f"{location!r} is not where a raw body is: {error}") from None
        if "://" not in head:
            return self._folder.open(identifier)
        return (self._bucket or Bucket(location.rpartition("/")[0], self._spool)).open(location)

    def receipt(self, identifier: str) -> R | None:
        """Return the receipt of a body, None if there is none; blocks.

        Raises TransientError if it cannot be read now, PermanentError if it is damaged.
        """
        try:
            identifier = parse_id(identifier)
        except ValueError:
            return None
        for place in self._places():
            if (found := place.read(identifier)) is not None:
                try:
                    return self._decode(found)
                except msgspec.MsgspecError as error:
                    raise PermanentError(f"the receipt of {identifier} cannot be read: {error}") from error
        return None

    def receipts(self) -> Iterator[R]:
        """Yield all receipts, the oldest first; blocks."""
        places = self._places()
        for month in sorted({month for place in places for month in place.months()}):
            for identifier in sorted({name for place in places for name in place.names(month)}):
                if (found := self.receipt(identifier)) is not None:
                    yield found

    def recover(self) -> Sequence[str]:
        """Return the ids of what is durable and was perhaps not handed on before the process died; blocks.

        To be called before anything is received. What a process that died left half-written is removed.
        """
        unsettled: list[str] = []
        for identifier in self._spool.marked():
            try:
                if self.receipt(identifier) is not None:
                    unsettled.append(identifier)
                elif self._spool.is_abandoned(identifier):
                    self._discard(identifier)
            except PermanentError as error:  # The others are handed on all the same.
                log.error("the body %s is not handed on: %s", identifier, error)
        self._spool.clean()
        return unsettled

    async def replay(self, identifiers: Sequence[str], hand_over: Callable[[R], Awaitable[None]]) -> None:
        """Hand over what ``recover`` found, in order; what is refused stays for the next start."""
        for identifier in identifiers:
            receipt = await asyncio.to_thread(self.receipt, identifier)
            if receipt is None:  # It was removed meanwhile.
                continue
            try:
                await hand_over(receipt)
            except PenstockError as error:
                log.warning("the body %s stays for the next start: %s", identifier, error)
            else:
                await self.settle(identifier)

    async def settle(self, identifier: str) -> None:
        """Note that a body was handed on, durably: it is not handed on again after a crash."""
        await asyncio.to_thread(self._spool.unmark, identifier)

    async def renew(self, receipt: R) -> None:
        """Replace the receipt of a body that is to be handed on once more; durable. Raises TransientError."""
        await asyncio.to_thread(self._renew, receipt)

    async def remove(self, identifier: str) -> None:
        """Remove a body and its receipt; raises TransientError if that is not possible now."""
        await asyncio.to_thread(self._discard, parse_id(identifier))

    def _discard(self, identifier: str) -> None:
        """Remove a body, its receipt, and its mark last: by it the rest is found if this fails half-way."""
        for place in self._places():
            place.remove(identifier)
        self._spool.unmark(identifier)

    def _renew(self, receipt: R) -> None:
        self._spool.mark(receipt.id)
        place = self._bucket if self._bucket is not None and "://" in receipt.raw else self._folder
        place.write(receipt.id, msgspec.json.encode(receipt))

    @property
    def _place(self) -> Place:
        return self._folder if self._bucket is None else self._bucket

    def _places(self) -> list[Place]:
        """Return where bodies may be: also in the folder, from before there was an object store."""
        return [self._folder] if self._bucket is None else [self._folder, self._bucket]
