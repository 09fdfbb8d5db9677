"""Ingests on their way: their ids, and which of them are under way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from penstock.apps.health.acceptance import Outcome, outcomes
from penstock.identifiers import new_id

ANN, BOB = 1, 2


def test_later_ids_are_greater() -> None:
    with ThreadPoolExecutor(4) as pool:
        of_threads = list(pool.map(lambda _: [new_id() for _ in range(2000)], range(4)))
    for ids in of_threads:
        assert ids == sorted(ids)
    assert len({one for ids in of_threads for one in ids}) == 8000


async def test_earlier_ingests_of_a_user_are_known_while_they_are_under_way() -> None:
    known = outcomes()
    first, others, last = known.begin(ANN), known.begin(BOB), known.begin(ANN)
    assert first < others < last
    assert known.before(ANN, first) is None
    assert (known.before(ANN, last), known.before(BOB, last)) == (first, others)
    known.settle(Outcome(id=first, state="processed"))
    assert known.before(ANN, last) is None
    assert known.begin(ANN, first) == first
    assert known.before(ANN, last) == first
    known.end(first)
    known.end(first)
    assert known.before(ANN, last) is None
