"""The membership of an input in its consumer group, which a transactional output commits positions for."""

from __future__ import annotations

from typing import Any

from ...context import Context
from ...errors import TransientError


class Group:
    """A consumer that is a member of its group now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.metadata: Any = None
        """What tells the brokers whether this member may still commit; None before it has joined."""
        self.is_lost = False
        """Whether partitions were taken from it whose rows are in flight: nothing may be committed for it any more."""


class Groups:
    """The memberships of one process, by stream and group."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], Group] = {}

    @classmethod
    def of(cls, context: Context) -> Groups:
        """Return those of the engine that lends ``context``."""
        found: Groups = context.shared.get(cls.__qualname__, cls)
        return found

    def join(self, stream: str, group: Group) -> None:
        """Note the membership of the input of a stream."""
        self._members[stream, group.name] = group

    def leave(self, stream: str, group: Group) -> None:
        """Note that it has ended."""
        if self._members.get((stream, group.name)) is group:
            del self._members[stream, group.name]

    def find(self, stream: str, name: str) -> Group:
        """Return the membership of a stream's input in the group called ``name``; raises TransientError for none."""
        group = self._members.get((stream, name))
        if group is None or group.metadata is None:
            raise TransientError(f"kafka: the input is not a member of group {name!r} at the moment")
        return group
