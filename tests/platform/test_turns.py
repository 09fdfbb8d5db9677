from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from penstock.platform.turns import LANES, Turns

PART = 1_000_000
SMALL = LANES[0][0]


@dataclass(eq=False)
class Body:
    user: int
    left: int
    announced: int = 0
    cut: int = 0

    @property
    def size(self) -> int:
        return max(self.announced, self.cut)


def serve(turns: Turns[Body]) -> Body | None:
    """Cut a part of the body whose turn it is, and return it; None if nothing waits."""
    opened = list(turns.open())
    assert len(opened) <= sum(most for _, most in LANES)
    body = turns.next(lambda _: True)
    if body is None:
        return None
    size = min(body.left, PART)
    body.left, body.cut = body.left - size, body.cut + size
    if body.left <= 0:
        turns.finish(body)
    else:
        turns.serve(body)
    return body


bodies = st.builds(
    lambda user, size, announced: Body(user, size, announced),
    st.integers(1, 5),
    st.sampled_from([1000, SMALL, 900_000, 5_000_000, 40_000_000]),
    st.sampled_from([0, 1000, 1_000_000, 50_000_000]),  # what a compressed body says of itself is no more than a guess
)


@given(st.lists(bodies, max_size=30), st.lists(bodies, max_size=30))
def test_every_body_comes_to_its_end(first: list[Body], later: list[Body]) -> None:
    turns: Turns[Body] = Turns()
    for body in first:
        turns.add(body)
    for body in later:
        serve(turns)
        turns.add(body)
    while serve(turns) is not None:
        pass
    assert len(turns) == 0
    assert all(body.left == 0 for body in first + later)
    assert (turns._served, turns._cut) == ({}, {})


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 20), st.booleans())
def test_a_small_body_waits_for_one_part_of_each_user(megabytes: list[int], before: int, is_known: bool) -> None:
    """However large what was sent before it is: from others, or from its own user."""
    turns: Turns[Body] = Turns()
    for user, size in enumerate(megabytes):
        turns.add(Body(user, size * 10 * PART, size * 10 * PART))
    for _ in range(before):
        serve(turns)
    small = Body(0 if is_known else 99, 1000)
    turns.add(small)
    opened = list(turns.open())
    waited = 0
    while serve(turns) is not small:
        waited += 1
    assert small in opened
    assert waited <= len(opened)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 200_000)), min_size=2, max_size=30))
def test_bodies_of_a_user_and_a_size_keep_their_order(sizes: list[tuple[int, int]]) -> None:
    turns: Turns[Body] = Turns()
    sent = [Body(user, size) for user, size in sizes]
    for body in sent:
        turns.add(body)
    served = [serve(turns) for _ in sent]
    for user in {body.user for body in sent}:
        assert [one for one in served if one is not None and one.user == user] == [
            one for one in sent if one.user == user
        ]


def test_users_take_turns() -> None:
    turns: Turns[Body] = Turns()
    for user in (1, 1, 1, 2):
        turns.add(Body(user, 5 * PART, 5 * PART))
    served = [serve(turns) for _ in range(8)]
    assert [body.user for body in served if body] == [1, 2, 1, 2, 1, 2, 1, 2]


def test_a_body_that_grows_makes_room_for_small_ones() -> None:
    turns: Turns[Body] = Turns()
    grown = [Body(user, 50 * PART) for user in range(20)]
    for body in grown:
        turns.add(body)
    for _ in range(40):
        serve(turns)
    turns.add(small := Body(99, 1000))
    assert small in list(turns.open())
