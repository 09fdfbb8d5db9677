"""The logs of Gemini CLI: a message in each line of ``~/.gemini/tmp/<project>/chats/session-*.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .adapter import count, mapping, text

_FAILED = frozenset(("error", "cancelled"))
_NOTES = frozenset(("info", "warning", "error"))


class Gemini:
    """Reads what Gemini CLI writes."""

    def roots(self, environment: Mapping[str, str]) -> Sequence[Path]:
        """Return the folder in which each project has one of its chats."""
        return [Path(environment.get("GEMINI_CLI_HOME") or "~").expanduser() / ".gemini" / "tmp"]

    def translate(self, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a line in the common format; None for one that is neither a message nor the head of a session."""
        type = text(found.get("type"))
        if "projectHash" in found and isinstance(found.get("sessionId"), str):
            return {"type": "session_meta", "sessionId": found["sessionId"], "timestamp": found.get("startTime")}
        if "id" not in found or "content" not in found or "message" in found:
            return None
        common = {"uuid": found["id"], "timestamp": found.get("timestamp")}
        if type == "user":
            return {**common, "type": "user", "message": {"role": "user", "content": _blocks(found["content"])}}
        if type == "gemini":
            return {**common, "type": "assistant", "message": _answer(found), "requestId": found["id"]}
        return {**common, "type": "system", "content": found["content"]} if type in _NOTES else None


def _answer(found: Mapping[str, Any]) -> dict[str, Any]:
    thoughts, calls = found.get("thoughts"), found.get("toolCalls")
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": f"{one.get('subject', '')}\n{one.get('description', '')}".strip()}
        for one in map(mapping, thoughts if isinstance(thoughts, list) else [])
    ]
    blocks += _blocks(found["content"])
    for call in map(mapping, calls if isinstance(calls, list) else []):
        id = call.get("id")
        blocks.append({"type": "tool_use", "id": id, "name": call.get("name"), "input": call.get("args")})
        if (result := call.get("resultDisplay") or call.get("result")) is not None:
            is_error = text(call.get("status")) in _FAILED
            blocks.append({"type": "tool_result", "tool_use_id": id, "content": _text_of(result), "is_error": is_error})
    message = {"role": "assistant", "id": found["id"], "model": found.get("model"), "content": blocks}
    tokens = mapping(found.get("tokens"))
    if tokens:
        cached = count(tokens.get("cached"))
        message["usage"] = {
            "input_tokens": max(0, count(tokens.get("input")) - cached) + count(tokens.get("tool")),
            "output_tokens": count(tokens.get("output")) + count(tokens.get("thoughts")),
            "cache_read_input_tokens": cached,
        }
    return message


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    parts = content if isinstance(content, list) else []
    return [
        {"type": "text", "text": part["text"]} if isinstance(part.get("text"), str) else {"type": "part", **part}
        for part in map(mapping, parts)
    ]


def _text_of(result: Any) -> Any:
    """Return what a tool answered as text: some answers are parts of functions."""
    if isinstance(result, str):
        return result
    if isinstance(result, dict):
        return str(result.get("fileDiff") or result.get("output") or result)
    if not isinstance(result, list):
        return str(result)
    parts = [mapping(mapping(mapping(one).get("functionResponse")).get("response")) for one in result]
    return "\n".join(str(part.get("output", part.get("error", ""))) for part in parts)


adapter = Gemini()
