from __future__ import annotations

import asyncio
from collections.abc import Callable

import pyarrow as pa
import pytest

from penstock.checkpoint import Checkpoint
from penstock.delivery import Delivery, Loan, merge
from penstock.errors import ConnectionLost, PermanentError

BATCH = pa.record_batch({"n": [1, 2, 3]})


class Settled(list[Exception | None]):
    """What a loan was settled with."""

    def lend(self) -> Delivery:
        async def settle(error: Exception | None) -> None:
            self.append(error)

        return Delivery.settled_by(BATCH, settle)


async def test_ack_settles_once_without_an_error() -> None:
    settled = Settled()
    await settled.lend().ack()
    assert settled == [None]


async def test_nack_settles_with_the_error() -> None:
    settled, error = Settled(), PermanentError("no")
    await settled.lend().nack(error)
    assert settled == [error]


async def test_settling_twice_is_a_fault() -> None:
    settled = Settled()
    delivery = settled.lend()
    await delivery.ack()
    with pytest.raises(RuntimeError, match="twice"):
        await delivery.ack()
    with pytest.raises(RuntimeError, match="twice"):
        await delivery.nack(PermanentError("no"))
    assert settled == [None]


async def test_a_split_settles_when_its_last_part_has() -> None:
    settled = Settled()
    first, second, third = settled.lend().split([BATCH, BATCH, BATCH])
    await second.ack()
    fourth, fifth = third.split([BATCH, BATCH])
    await fifth.ack()
    await first.ack()
    assert settled == []
    await fourth.ack()
    assert settled == [None]


async def test_a_split_settles_with_the_first_error() -> None:
    settled, error = Settled(), PermanentError("first")
    parts = settled.lend().split([BATCH, BATCH, BATCH])
    await parts[0].ack()
    await parts[1].nack(error)
    assert settled == []
    await parts[2].nack(PermanentError("second"))
    assert settled == [error]


def test_nothing_cannot_be_a_split() -> None:
    with pytest.raises(ValueError, match="ack it instead"):
        Settled().lend().split([])


@pytest.mark.parametrize("settle", [Delivery.ack, lambda delivery: delivery.nack(PermanentError("no"))])
async def test_a_merge_settles_all(settle: Callable[[Delivery], object]) -> None:
    settled = Settled()
    merged = merge(BATCH, [settled.lend(), settled.lend()])
    await settle(merged)  # type: ignore[misc]
    assert len(settled) == 2


async def test_parts_of_one_loan_may_be_merged_again() -> None:
    settled = Settled()
    one, two, three = settled.lend().split([BATCH, BATCH, BATCH])
    merged = merge(BATCH, [one, three])
    await merged.ack()
    assert settled == []
    await two.ack()
    assert settled == [None]


async def test_one_source_that_is_gone_does_not_keep_the_others_from_being_settled() -> None:
    settled = Settled()

    async def gone(error: Exception | None) -> None:
        raise ConnectionLost("gone")

    merged = merge(BATCH, [settled.lend(), Delivery.settled_by(BATCH, gone), settled.lend()])
    with pytest.raises(ConnectionLost):
        await merged.ack()
    assert settled == [None, None]


async def test_another_form_of_the_batch_is_the_same_loan() -> None:
    settled = Settled()
    delivery = settled.lend().with_batch(BATCH.slice(1))
    assert delivery.batch.num_rows == 2
    await delivery.ack()
    assert settled == [None]


async def test_a_delivery_without_a_loan_settles_nothing() -> None:
    delivery = Delivery(BATCH)
    await delivery.ack()
    assert delivery.positions() == {}
    assert Delivery(BATCH, [Loan()]).positions() == {}


async def test_positions_are_those_of_all_sources() -> None:
    one, other = Checkpoint("one"), Checkpoint("other")
    merged = merge(BATCH, [await one.deliver(BATCH, "a"), await other.deliver(BATCH, "b")])
    assert merged.positions() == {
        "one": {"position": "a", "rows": 3},
        "other": {"position": "b", "rows": 3},
    }


async def test_positions_wait_for_earlier_deliveries_and_other_parts() -> None:
    checkpoint = Checkpoint("one")
    first, second = await checkpoint.deliver(BATCH, 1), await checkpoint.deliver(BATCH, 2)
    assert second.positions() == {}
    left, right = first.split([BATCH, BATCH])
    assert left.positions() == right.positions() == {}
    await left.ack()
    assert right.positions() == {"one": {"position": 1, "rows": 3}}
    assert merge(BATCH, [second, right]).positions() == {"one": {"position": 2, "rows": 6}}


async def test_a_reader_waits_while_too_much_is_unsettled() -> None:
    checkpoint = Checkpoint("one", limit=2)
    first, _ = [await checkpoint.deliver(BATCH, position) for position in (1, 2)]
    third = asyncio.ensure_future(checkpoint.deliver(BATCH, 3))
    await asyncio.sleep(0.01)
    assert not third.done()
    await first.ack()
    assert (await asyncio.wait_for(third, 60)).batch is BATCH


async def test_parts_are_lent_one_by_one_and_settle_with_the_rest() -> None:
    settled = Settled()
    whole = settled.lend()
    first, second = whole.part(BATCH.slice(0, 1)), whole.part(BATCH.slice(1, 1))
    await first.ack()
    await whole.ack()
    assert settled == []
    await second.nack(PermanentError("no"))
    assert [str(error) for error in settled] == ["no"]
