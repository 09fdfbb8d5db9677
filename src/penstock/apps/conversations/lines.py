"""One line of an agent's log: what it is, whose it is, and what of it is searched and counted.

The format is not published. Nothing here fails for a type, a field or a value that is not known: the line is kept, and
what cannot be told stays empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from ...surrogates import mask_unpaired
from .changes import Changes, estimate_changes, read_patch
from .drift import find_unknown
from .transcripts.adapter import translate

MAX_TEXT_LENGTH = 1_000_000
"""How many characters of a line are searched."""
BOM = b"\xef\xbb\xbf"
SYNTHETIC = "<synthetic>"
"""The model of answers that no model gave."""

_MARKUP = re.compile(
    r"\s*(?:Caveat: The messages below|<(?:command-(?:name|message|args)|local-command-std(?:out|err)"
    r"|local-command-caveat|task-notification|system-reminder|bash-(?:input|stdout|stderr)|user-memory-input)>)"
)
"""How the text of a user's line begins that no person wrote."""

_PATHS = ("file_path", "notebook_path", "path")
"""The arguments by which tools name a file."""
_COMMAND = re.compile(r"<command-name>([^<]{1,200})</command-name>")
_ARGUMENTS = re.compile(r"<command-args>([^<]{1,500})</command-args>")


class Kind(StrEnum):
    """Who speaks in a line."""

    PROMPT = "prompt"
    """A person."""
    ANSWER = "answer"
    """The agent."""
    RESULT = "result"
    """A tool."""
    COMMAND = "command"
    """The program: the expansion of a command, its output, a reminder, a summary of what was compacted."""
    EVENT = "event"
    """Nobody: titles, snapshots, progress, and whatever comes next."""


class Usage(msgspec.Struct, frozen=True):
    """The tokens of one response of a model, and what it cost if the log says so."""

    input: int = 0
    output: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    cost_usd: float | None = None


class Call(msgspec.Struct, frozen=True):
    """A tool that the agent called."""

    id: str
    name: str
    path: str | None = None
    """The file that it reads or changes."""
    changes: Changes | None = None
    """What its arguments would change."""


class Result(msgspec.Struct, frozen=True):
    """What a tool answered."""

    id: str
    is_error: bool
    changes: Changes | None = None
    """What it says that it has changed."""


class Title(msgspec.Struct, frozen=True):
    """What a session may be called; the lowest rank wins, and of one rank the latest, of prompts the first."""

    rank: int
    text: str


PROMPT_RANK = 4
COMMAND_RANK = 5
"""Titles of these ranks are what a person typed: the first one names the session."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a line."""

    type: str = ""
    subtype: str = ""
    kind: Kind = Kind.EVENT
    uuid: str | None = None
    parent: str | None = None
    session: str | None = None
    agent: str | None = None
    """The id of the sub-agent whose line it is."""
    is_sidechain: bool = False
    at: datetime | None = None
    cwd: str | None = None
    branch: str | None = None
    version: str | None = None
    model: str | None = None
    message: str | None = None
    """The id of the response of the model, which is written as several lines."""
    request: str | None = None
    usage: Usage | None = None
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()
    title: Title | None = None
    leaf: str | None = None
    """The line whose session a summary names."""
    text: str = ""
    """What is searched."""
    project: str | None = None
    """The project, where the place of the file does not name it."""
    unknown: tuple[tuple[str, str], ...] = ()
    """What of it is not known here: a type, a field, a block or a tool, and its name."""


class NoLine(ValueError):
    """The bytes are no line of a log; the text says why."""


def parse(line: bytes) -> Line:
    """Return what is known of a line; raises NoLine for bytes that are not one JSON object.

    Agents cut texts between the halves of a character: such a half is read as letters, and kept as it came.
    """
    try:
        found = msgspec.json.decode(mask_unpaired(line.removeprefix(BOM)))
    except msgspec.DecodeError as error:
        raise NoLine(f"not JSON: {error}") from None
    except RecursionError:
        raise NoLine("not JSON: nested too deeply") from None
    if not isinstance(found, dict):
        raise NoLine(f"expected an object, not {_name_of(found)}")
    return _line(translate(found))


def _line(found: Mapping[str, Any]) -> Line:
    message = _mapping(found.get("message"))
    type = _text(found.get("type")) or ""
    blocks = list(_blocks(message.get("content")))
    text = _clean("\n".join(_searched(found, blocks)))
    kind = _kind(type, found, blocks)
    model = _text(message.get("model"))
    calls = tuple(_calls(blocks))
    return Line(
        type=type,
        subtype=_text(found.get("subtype")) or "",
        kind=kind,
        uuid=_text(found.get("uuid")),
        parent=_text(found.get("parentUuid")) or _text(found.get("logicalParentUuid")),
        session=_text(found.get("sessionId")),
        agent=_text(found.get("agentId")),
        is_sidechain=found.get("isSidechain") is True,
        at=_moment(found.get("timestamp")) or _moment(_mapping(found.get("snapshot")).get("timestamp")),
        cwd=_text(found.get("cwd")),
        branch=_text(found.get("gitBranch")),
        version=_text(found.get("version")),
        model=model,
        message=_text(message.get("id")),
        request=_text(found.get("requestId")),
        usage=None if model == SYNTHETIC else _usage(found, _mapping(message.get("usage"))),
        calls=calls,
        results=tuple(_results(blocks, found)),
        title=_title(type, found, kind, text),
        leaf=_text(found.get("leafUuid")) if type == "summary" else None,
        text=text,
        project=_text(found.get("project")) if type == "session_meta" else None,
        unknown=find_unknown(found, blocks, [call.name for call in calls]),
    )


def _kind(type: str, found: Mapping[str, Any], blocks: list[Mapping[str, Any]]) -> Kind:
    if type == "assistant" or (not type and _mapping(found.get("message")).get("role") == "assistant"):
        return Kind.ANSWER
    if type != "user":
        return Kind.EVENT
    if blocks and all(block.get("type") == "tool_result" for block in blocks):
        return Kind.RESULT
    if found.get("isMeta") is True or found.get("isCompactSummary") is True:
        return Kind.COMMAND
    said = [text for block in blocks if block.get("type") == "text" and (text := _text(block.get("text")))]
    if said and all(_MARKUP.match(text) for text in said):
        return Kind.COMMAND
    return Kind.PROMPT


def _title(type: str, found: Mapping[str, Any], kind: Kind, text: str) -> Title | None:
    named = {"custom-title": (0, "customTitle"), "ai-title": (1, "aiTitle"), "agent-name": (2, "agentName")}
    rank, field = named.get(type, (3, "summary"))
    if type in named or type == "summary":
        title = _text(found.get(field))
    elif kind is Kind.PROMPT and found.get("isSidechain") is not True:
        rank, title = PROMPT_RANK, text
    elif kind is Kind.COMMAND and (command := _COMMAND.search(text)):
        arguments = _ARGUMENTS.search(text)
        rank, title = COMMAND_RANK, f"{command[1]} {arguments[1] if arguments else ''}"
    else:
        return None
    shown = _clean(" ".join((title or "").split())[:200])
    return Title(rank, shown) if shown else None


def _usage(found: Mapping[str, Any], usage: Mapping[str, Any]) -> Usage | None:
    cost = found.get("costUSD")
    cost = float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None
    if not usage and cost is None:
        return None
    divided = _mapping(usage.get("cache_creation"))
    long = _count(divided.get("ephemeral_1h_input_tokens"))
    short = _count(divided.get("ephemeral_5m_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    return Usage(
        input=_count(usage.get("input_tokens")),
        output=_count(usage.get("output_tokens")),
        cache_write_5m=max(short, written - long),
        cache_write_1h=long,
        cache_read=_count(usage.get("cache_read_input_tokens")),
        cost_usd=cost,
    )


def _calls(blocks: list[Mapping[str, Any]]) -> Iterator[Call]:
    for block in blocks:
        if block.get("type") in ("tool_use", "server_tool_use") and (id := _text(block.get("id"))):
            given = _mapping(block.get("input"))
            path = next((path for field in _PATHS if (path := _text(given.get(field)))), None)
            yield Call(id, _text(block.get("name")) or "unknown", path, estimate_changes(given))


def _results(blocks: list[Mapping[str, Any]], found: Mapping[str, Any]) -> Iterator[Result]:
    changes = read_patch(found.get("toolUseResult"))
    for block in blocks:
        if block.get("type") == "tool_result" and (id := _text(block.get("tool_use_id"))):
            yield Result(id, block.get("is_error") is True, changes)


def _blocks(content: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, list):
        yield from (
            {"type": "text", "text": block} if isinstance(block, str) else block
            for block in content
            if isinstance(block, str | dict)
        )


def _searched(found: Mapping[str, Any], blocks: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the texts that a person may look for."""
    for field in ("content", "summary", "customTitle", "aiTitle", "agentName", "lastPrompt", "prUrl"):
        if isinstance(text := found.get(field), str):
            yield text
    for block in blocks:
        yield from _texts_of(block)


def _texts_of(block: Mapping[str, Any]) -> Iterator[str]:
    for field in ("text", "thinking", "name"):
        if isinstance(text := block.get(field), str):
            yield text
    if isinstance(given := block.get("input"), dict):
        yield from _strings(given)
    content = block.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(text := part.get("text"), str):
                yield text


def _strings(value: Any) -> Iterator[str]:
    """Yield all texts in a value, without recursion: how deep it is nested is not ours to say."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)


def _clean(text: str) -> str:
    """Cut a text to what is searched; PostgreSQL has no text with a NUL."""
    return text[:MAX_TEXT_LENGTH].replace("\0", " ")


def _text(value: Any) -> str | None:
    """Return a text that fits into a column, or None."""
    return value[:4000].replace("\0", " ") if isinstance(value, str) and value else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def _moment(value: Any) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _name_of(value: Any) -> str:
    names = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value"}
    return names.get(type(value), "null")
