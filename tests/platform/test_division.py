"""What deliveries name is divided into parts: in turn, bounded, and settled once all parts are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from penstock.delivery import Batch, Delivery
from penstock.errors import EndOfInput, PermanentError, TransientError
from penstock.platform.division import Divided, DividingQueue
from penstock.platform.turns import Turns


class Text(Divided):
    """A text whose parts are its letters; `?` cannot be read the first time."""

    def __init__(self, delivery: Delivery, user: int, text: str) -> None:
        super().__init__(delivery)
        self._user, self._text, self._at = user, text, 0
        self._has_failed = False

    @property
    def user(self) -> int:
        return self._user

    @property
    def size(self) -> int:
        return len(self._text)

    def next(self) -> tuple[Batch, bool]:
        letter = self._text[self._at]
        if letter == "?" and not self._has_failed:
            self._has_failed = True
            raise TransientError("away")
        self._at += 1
        return Batch.from_pydict({"letter": [letter]}), self._at == len(self._text)

    def close(self) -> None: ...


def unpack(delivery: Delivery) -> list[Text]:
    texts = delivery.batch.column("text").to_pylist()
    if "" in texts:
        raise PermanentError("an empty text")
    return [Text(delivery, user, text) for user, text in enumerate(texts)]


@asynccontextmanager
async def opened(size: int = 100) -> AsyncIterator[DividingQueue[Text]]:
    queue = DividingQueue("test", unpack, Turns[Text](), size=size)
    try:
        yield queue
    finally:
        await queue.close()


def delivery(settled: list[Exception | None], *texts: str) -> Delivery:
    async def settle(error: Exception | None) -> None:
        settled.append(error)

    return Delivery.settled_by(Batch.from_pydict({"text": list(texts)}), settle)


async def drain(queue: DividingQueue[Text]) -> list[Delivery]:
    queue.end()
    found: list[Delivery] = []
    while True:
        try:
            found.append(await queue.get())
        except TransientError:
            continue
        except EndOfInput:
            return found


def letters(found: list[Delivery]) -> str:
    return "".join(one.batch.column("letter")[0].as_py() for one in found if one.error is None)


async def test_all_parts_of_all_come_in_turn_and_settle_their_delivery_at_the_end() -> None:
    settled: list[Exception | None] = []
    async with opened() as queue:
        await queue.put(delivery(settled, "abcd", "xyz"))
        found = await drain(queue)
        for part in found[:-1]:
            await part.ack()
        assert settled == []
        await found[-1].ack()
    assert settled == [None]
    assert sorted(letters(found)) == sorted("abcdxyz")
    assert [letter for letter in letters(found) if letter in "abcd"] == list("abcd")
    assert letters(found)[:4] not in ("abcd", "xyza")  # neither waits for all of the other


async def test_a_part_that_cannot_be_made_now_is_made_later() -> None:
    async with opened() as queue:
        await queue.put(delivery([], "a?b"))
        with pytest.raises(TransientError):
            [await queue.get() for _ in range(3)]
        assert letters(await drain(queue)) == "?b"


async def test_what_cannot_be_unpacked_goes_on_as_refused_and_nothing_is_settled_at_once() -> None:
    settled: list[Exception | None] = []
    async with opened() as queue:
        await queue.put(delivery(settled, ""))
        await queue.put(delivery(settled))
        assert settled == [None]
        [refused] = await drain(queue)
    assert isinstance(refused.error, PermanentError)


async def test_putting_waits_while_much_waits() -> None:
    async with opened(size=2) as queue:
        more = [asyncio.create_task(queue.put(delivery([], "a", "b", "c"))) for _ in range(5)]
        await asyncio.sleep(0)
        assert sum(task.done() for task in more) < 5
        assert letters([await queue.get() for _ in range(15)]).count("a") == 5
        await asyncio.gather(*more)
        queue.end()
        with pytest.raises(EndOfInput):
            await queue.get()


async def test_a_get_that_is_cancelled_loses_nothing() -> None:
    async with opened() as queue:
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await queue.put(delivery([], "ab"))
        assert letters(await drain(queue)) == "ab"
