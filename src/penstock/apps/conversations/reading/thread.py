"""A session as it was spoken: its lines in order, tools beside what they answered, sub-agents below their calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from ....surrogates import mask_unpaired
from ..lines import BOM, Kind
from ..schema import lines
from ..transcripts.adapter import translate


class Part(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A piece of an entry: text, thinking, an image, or a tool with what it answered."""

    type: str
    text: str = ""
    name: str = ""
    """The tool that was called."""
    input: Any = None
    id: str = ""
    result: str | None = None
    """What the tool answered; None as long as it did not."""
    is_error: bool = False
    seconds: float | None = None
    """From the call to its result."""
    agent: str = ""
    """The sub-agent that the call started."""


class Entry(msgspec.Struct, kw_only=True):
    """A line of a conversation that is shown."""

    id: int
    uuid: str | None
    kind: str
    type: str
    at: datetime
    is_at_given: bool
    model: str | None
    parts: list[Part]
    branch: int = 0
    """0 for the conversation as it went on; higher for what was taken back, and said in another way."""


class Thread(msgspec.Struct, kw_only=True):
    """The lines of a session and, by the id of each sub-agent, those of its own conversation."""

    entries: list[Entry]
    agents: dict[str, list[Entry]]


class _Said(msgspec.Struct):
    row: Any
    found: Mapping[str, Any]


def read_thread(connection: Connection, session: str) -> Thread:
    """Return the conversation of a session; empty for one that is not there."""
    statement = select(lines).where(lines.c.session == session).order_by(lines.c.at, lines.c.id)
    said = [_Said(row, translate(decode(row.line))) for row in _once(connection.execute(statement))]
    answers = _answers(said)
    by_agent: dict[str, list[_Said]] = defaultdict(list)
    for one in said:
        by_agent[one.row.agent or ("sidechain" if one.row.is_sidechain else "")].append(one)
    entries = {agent: list(_entries(of_agent, answers)) for agent, of_agent in by_agent.items()}
    return Thread(entries=entries.pop("", []), agents=entries)


def order(parents: Sequence[tuple[str | None, str | None]]) -> list[tuple[int, int]]:
    """Return the places of lines in the order in which they were said, each with its branch.

    ``parents`` has the uuid of each line and that of the line before it, in the order of time. A line whose parent is
    not there begins anew. Of several lines after the same one the latest goes on, and the others are branches. What
    is its own ancestor, by a fault of the log, is taken in the order of time.
    """
    places = {uuid: place for place, (uuid, _) in enumerate(parents) if uuid is not None}
    children: dict[int, list[int]] = defaultdict(list)
    roots: list[int] = []
    for place, (_, parent) in enumerate(parents):
        before = places.get(parent) if parent is not None else None
        if before is None or before == place:
            roots.append(place)
        else:
            children[before].append(place)
    found: list[tuple[int, int]] = []
    seen: set[int] = set()
    branches = 0
    for first in [*roots, *range(len(parents))]:  # behind the roots only circles are left
        waiting = [(first, 0)]
        while waiting:
            place, branch = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            found.append((place, branch))
            following = children.get(place, ())
            for number, child in enumerate(following):
                is_last = number == len(following) - 1
                if not is_last:
                    branches += 1
                waiting.append((child, branch if is_last else branches))
            if len(following) > 1:  # what was taken back stands before what went on
                waiting[-len(following) :] = reversed(waiting[-len(following) :])
    return found


def _once(rows: Iterable[Any]) -> Iterator[Any]:
    """Yield each line once: a session that is resumed or forked begins with a copy of the one before."""
    seen: set[str] = set()
    for row in rows:
        if row.uuid is None or row.uuid not in seen:
            seen.add(row.uuid or "")
            yield row


def _entries(said: Sequence[_Said], answers: Mapping[str, tuple[_Said, Mapping[str, Any]]]) -> Iterator[Entry]:
    for place, branch in order([(one.row.uuid, one.row.parent) for one in said]):
        row = said[place].row
        parts = list(_parts(said[place], answers))
        if not parts or row.kind == Kind.RESULT:
            continue
        yield Entry(
            id=row.id,
            uuid=row.uuid,
            kind=row.kind,
            type=row.type,
            at=row.at,
            is_at_given=row.is_at_given,
            model=row.model,
            parts=parts,
            branch=branch,
        )


def _parts(one: _Said, answers: Mapping[str, tuple[_Said, Mapping[str, Any]]]) -> Iterator[Part]:
    found = one.found
    if one.row.kind == Kind.EVENT:
        if one.row.type == "system" and (text := _text(found.get("content"))):
            yield Part(type="text", text=text)
        return
    for block in blocks_of(found):
        type = block.get("type")
        if type == "text":
            yield Part(type="text", text=_text(block.get("text")))
        elif type == "thinking":
            yield Part(type="thinking", text=_text(block.get("thinking")))
        elif type in ("tool_use", "server_tool_use"):
            yield _call(one, block, answers)
        elif type == "image":
            yield Part(type="image", input=block.get("source"))
        elif type != "tool_result":
            yield Part(type=str(type)[:100], input=dict(block))


def _call(one: _Said, block: Mapping[str, Any], answers: Mapping[str, tuple[_Said, Mapping[str, Any]]]) -> Part:
    part = Part(type="tool", name=_text(block.get("name")), input=block.get("input"), id=_text(block.get("id")))
    if (answer := answers.get(part.id)) is not None:
        by, result = answer
        part.result = text_of(result.get("content"))
        part.is_error = result.get("is_error") is True
        if by.row.is_at_given and one.row.is_at_given:
            part.seconds = (by.row.at - one.row.at).total_seconds()
        told = by.found.get("toolUseResult")
        part.agent = _text(told.get("agentId")) if isinstance(told, dict) else ""
    return part


def _answers(said: Iterable[_Said]) -> dict[str, tuple[_Said, Mapping[str, Any]]]:
    """Return what tools answered, by the id of the call."""
    found: dict[str, tuple[_Said, Mapping[str, Any]]] = {}
    for one in said:
        for block in blocks_of(one.found):
            if block.get("type") == "tool_result" and isinstance(id := block.get("tool_use_id"), str):
                found.setdefault(id, (one, block))
    return found


def blocks_of(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the blocks of a line; a text alone is one of them."""
    message = found.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    given = content if isinstance(content, list) else []
    return [
        {"type": "text", "text": one} if isinstance(one, str) else one for one in given if isinstance(one, str | dict)
    ]


def text_of(content: Any) -> str:
    """Return what a tool answered as text; an image in it is named."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(
        part if isinstance(part, str) else _text(part.get("text")) or f"[{_text(part.get('type')) or 'unknown'}]"
        for part in parts
        if isinstance(part, str | dict)
    )


def decode(line: bytes) -> Mapping[str, Any]:
    """Return the object that a stored line is."""
    found: Mapping[str, Any] = msgspec.json.decode(mask_unpaired(bytes(line).removeprefix(BOM)))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
