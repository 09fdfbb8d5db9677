"""Whose body is cut next: in turn between users, and between the small and the large bodies of a user."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

LANES = ((256_000, 3), (8_000_000, 2), (math.inf, 2))
"""Up to how many bytes a body belongs to a lane, and how many of a lane are open at once, one of each user."""

MAX_OPEN = sum(most for _, most in LANES)
"""How many bodies are open at once, in all lanes."""


class Waiting(Protocol):
    """A body with a user and a size."""

    @property
    def user(self) -> int: ...

    @property
    def size(self) -> int:
        """How many bytes it has, as far as that is known; it may grow while it is cut."""
        ...


B = TypeVar("B", bound=Waiting)


class Turns(Generic[B]):
    """The bodies that wait and those that are open.

    A body waits behind those of its user in its lane, and for no others: small ones pass large ones, and no user waits
    for all bodies of another. One that turns out larger than its lane allows moves on to the next lane.
    """

    def __init__(self) -> None:
        self._waiting: tuple[dict[int, deque[B]], ...] = tuple({} for _ in LANES)
        self._open: dict[B, int] = {}
        self._turn = 0
        self._served: dict[int, int] = {}
        self._cut: dict[B, int] = {}

    def __len__(self) -> int:
        return len(self._open) + self.waiting

    @property
    def max_open(self) -> int:
        """How many may be open at once."""
        return MAX_OPEN

    @property
    def waiting(self) -> int:
        """How many bodies wait to be opened."""
        return sum(len(bodies) for lane in self._waiting for bodies in lane.values())

    def add(self, body: B) -> None:
        """Let a body wait for its turn."""
        self._waiting[_lane(body)].setdefault(body.user, deque()).append(body)

    def open(self) -> Iterator[B]:
        """Open as many as may be open, of the users that were served least lately; yield all that are open."""
        for lane, (_, most) in enumerate(LANES):
            waiting = self._waiting[lane]
            busy = {body.user for body, where in self._open.items() if where == lane}
            while len(busy) < most and (users := waiting.keys() - busy):
                user = min(users, key=lambda one: (self._served.get(one, 0), one))
                self._open[waiting[user].popleft()] = lane
                busy.add(user)
                if not waiting[user]:
                    del waiting[user]
        yield from list(self._open)

    def next(self, is_ready: Callable[[B], bool]) -> B | None:
        """Return the open body that is ready and whose turn it is; None if none is ready."""
        ready = (body for body in self._open if is_ready(body))
        return min(ready, key=lambda body: (self._served.get(body.user, 0), self._cut.get(body, 0)), default=None)

    def serve(self, body: B) -> bool:
        """Note that a part of an open body was handed out; return whether it stays open.

        One that has become too large for its lane waits in the next one, unless there is room at once.
        """
        self._turn += 1
        self._served[body.user] = self._cut[body] = self._turn
        lane = _lane(body)
        if lane == self._open[body]:
            return True
        others = [other.user for other, where in self._open.items() if where == lane]
        if len(others) < LANES[lane][1] and body.user not in others:
            self._open[body] = lane
            return True
        del self._open[body]
        self._waiting[lane].setdefault(body.user, deque()).appendleft(body)
        return False

    def finish(self, body: B) -> None:
        """Forget a body of which everything was handed out."""
        del self._open[body]
        self._cut.pop(body, None)
        users = {one.user for one in self._open} | {user for lane in self._waiting for user in lane}
        if body.user not in users:
            self._served.pop(body.user, None)


def _lane(body: Waiting) -> int:
    return next(lane for lane, (most, _) in enumerate(LANES) if body.size <= most)
