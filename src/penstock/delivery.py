"""A delivery is a batch on loan from an input; every loan is settled once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import pyarrow as pa

from .metadata import Origin

Batch: TypeAlias = pa.RecordBatch
Position: TypeAlias = Any
"""Where reading resumes: JSON-serialisable, understood by its input alone."""
Settle: TypeAlias = Callable[[Exception | None], Awaitable[None]]
Decoder: TypeAlias = Callable[[pa.BinaryArray], Batch]
"""A live codec's decoding: payloads in, the batch of their rows out. Runs in a thread, several at once."""


@runtime_checkable
class Learning(Protocol):
    """A decoder that goes by what it has decoded before."""

    def __call__(self, payloads: pa.BinaryArray, /) -> Batch: ...

    def apart(self, destination: Hashable) -> Decoder:
        """Return the decoder for one destination, which learns nothing from the rows of others."""
        ...


def learns(decoder: Decoder) -> TypeGuard[Learning]:
    """Tell whether it is a Learning decoder; asked for each batch, where isinstance takes as long as a small query."""
    kind: type = type(decoder)
    return _is_learning(kind)


@lru_cache(maxsize=64)
def _is_learning(kind: type) -> bool:
    return issubclass(kind, Learning)


class Tracker(Protocol):
    """What a loan is entered in: knows how far everything is settled."""

    @property
    def key(self) -> str: ...

    @property
    def moved(self) -> Position | None:
        """What is to be saved of what was acked so far; None if nothing was."""
        ...

    def frontier(self, assumed: Mapping[Loan, int], through: int | None = None) -> Position | None:
        """Return where reading could resume if ``assumed`` shares were acked too; None if that moves nothing.

        ``through`` is the number of the last change of keyed state that would be saved with it.
        """
        ...

    def reach(self, assumed: Mapping[Loan, int], through: int) -> int:
        """Return the number of the last loan up to which it could resume then."""
        ...

    def advance(self) -> None:
        """Move on as far as everything is acked, and the changes of keyed state are to be saved."""
        ...


async def _settle_nothing(_: Exception | None) -> None: ...


class Loan:
    """One read of an input, held in shares: settled when the last share is released."""

    __slots__ = ("error", "held", "number", "position", "put", "rows_end", "settle", "shares", "tracker")

    def __init__(
        self,
        settle: Settle = _settle_nothing,
        *,
        tracker: Tracker | None = None,
        position: Position = None,
        rows_end: int = 0,
        number: int = 0,
    ) -> None:
        self.settle, self.tracker, self.position = settle, tracker, position
        self.rows_end = rows_end
        """Rows read from this tracker up to and including this loan, counted across restarts."""
        self.number = number
        """Counts the loans of its tracker."""
        self.held = 0
        """The number of the last change of keyed state that its rows made; 0 for none."""
        self.put: int | None = None
        """Rows of this tracker put into the buffer up to and including this loan; None where nobody counted them."""
        self.shares = 1
        self.error: Exception | None = None

    def is_acked(self, assumed: Mapping[Loan, int]) -> bool:
        """Tell whether all of it is acked once ``assumed`` shares are."""
        return self.error is None and self.shares <= assumed.get(self, 0)

    async def release(self, error: Exception | None) -> None:
        """Give back one share; the last one settles, with the first error if there was any."""
        if self.shares <= 0:
            raise RuntimeError("a delivery was settled twice")
        self.shares -= 1
        self.error = self.error or error
        if self.shares == 0:
            await self.settle(self.error)


class Delivery:
    """A batch on loan, to be settled once: acked or nacked."""

    __slots__ = ("batch", "decoder", "error", "loans", "origin", "trace")

    def __init__(
        self,
        batch: Batch,
        loans: Sequence[Loan] = (),
        origin: Origin | None = None,
        decoder: Decoder | None = None,
        error: Exception | None = None,
    ) -> None:
        self.batch, self.loans, self.origin = batch, loans, origin
        self.decoder = decoder
        """How the runner decodes ``__value__`` of this batch, where that differs between deliveries of an input."""
        self.error = error
        """Why these rows are refused already: they go to the error output as they are."""
        self.trace: Any = None
        """The trace of what happens to it, where somebody traces."""

    @classmethod
    def settled_by(cls, batch: Batch, settle: Settle, origin: Origin | None = None) -> Delivery:
        """Lend ``batch``; ``settle`` is awaited once, with None or the error. For queue-like inputs."""
        return cls(batch, (Loan(settle),), origin)

    async def ack(self) -> None:
        """Report that all of it is durable downstream, was refused with a reason, or was filtered on purpose."""
        await self._release(None)

    async def nack(self, error: Exception) -> None:
        """Report that it could neither be written nor refused: the input is to deliver it again or to stop."""
        await self._release(error)

    async def _release(self, error: Exception | None) -> None:
        failure: Exception | None = None
        for loan in self.loans:
            try:
                await loan.release(error)
            except Exception as raised:  # one source that is gone must not keep the others from being settled
                failure = failure or raised
        if failure is not None:
            raise failure

    def with_batch(self, batch: Batch) -> Delivery:
        """Return the same loan over another form of the batch."""
        same = Delivery(batch, self.loans, self.origin, self.decoder)
        same.trace = self.trace
        return same

    def split(self, batches: Sequence[Batch]) -> list[Delivery]:
        """Return several batches out of one: its loans settle when all of them have."""
        if not batches:
            raise ValueError("a delivery cannot be split into nothing: ack it instead")
        for loan in self.loans:
            loan.shares += len(batches) - 1
        parts = [Delivery(batch, self.loans, self.origin) for batch in batches]
        for part in parts:
            part.trace = self.trace
        return parts

    def part(self, batch: Batch) -> Delivery:
        """Lend one more batch out of this delivery, before it is settled itself: its loans settle when all have."""
        return self.split([batch, self.batch])[0]

    def positions(self, through: int | None = None) -> dict[str, Position]:
        """Return what may be saved once this delivery is acked, given all that was acked before: by tracker key.

        ``through`` is the number of the last change of keyed state that is saved with it.
        """
        assumed = Counter(self.loans)
        trackers = {id(loan.tracker): loan.tracker for loan in self.loans if loan.tracker is not None}
        found = ((tracker.key, tracker.frontier(assumed, through)) for tracker in trackers.values())
        return {key: position for key, position in found if position is not None}


def merge(batch: Batch, deliveries: Iterable[Delivery]) -> Delivery:
    """Return one batch out of several deliveries, which settles all of them alike."""
    return Delivery(batch, [loan for delivery in deliveries for loan in delivery.loans])
