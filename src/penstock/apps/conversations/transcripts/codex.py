"""The logs of Codex CLI: rollouts below ``~/.codex/sessions``, a payload in each line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .adapter import count, mapping, project_of, text

_TYPES = frozenset(("session_meta", "turn_context", "response_item", "event_msg", "compacted"))
_CALLS = frozenset(("function_call", "custom_tool_call", "local_shell_call", "web_search_call"))
_RESULTS = frozenset(("function_call_output", "custom_tool_call_output"))
_OURS = ("<environment_context>", "<user_instructions>", "<turn_aborted>", "# AGENTS.md instructions")


class Codex:
    """Reads what Codex CLI writes."""

    def roots(self, environment: Mapping[str, str]) -> Sequence[Path]:
        """Return the folder of its sessions, and that of those it has archived."""
        home = Path(environment.get("CODEX_HOME") or "~/.codex").expanduser()
        return [home / "sessions", home / "archived_sessions"]

    def translate(self, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a line in the common format; None for one without a payload."""
        type, payload = text(found.get("type")), found.get("payload")
        if type not in _TYPES or not isinstance(payload, dict):
            return None
        common = {"type": type, "timestamp": found.get("timestamp")}
        if type == "session_meta":
            return common | _head(payload)
        if type == "turn_context":
            return common | {"cwd": payload.get("cwd"), "message": {"model": payload.get("model")}}
        if type == "event_msg":
            return common | _event(payload)
        return common | _item(payload) if type == "response_item" else common


def _head(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sessionId": payload.get("id") or payload.get("session_id"),
        "cwd": payload.get("cwd"),
        "project": project_of(payload.get("cwd")),
        "gitBranch": mapping(payload.get("git")).get("branch"),
        "version": payload.get("cli_version"),
    }


def _event(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tokens of a response; other events repeat what stands in items."""
    used = mapping(mapping(payload.get("info")).get("last_token_usage"))
    if payload.get("type") != "token_count" or not used:
        return {}
    cached = count(used.get("cached_input_tokens"))
    usage = {
        "input_tokens": max(0, count(used.get("input_tokens")) - cached),
        "output_tokens": count(used.get("output_tokens")),
        "cache_read_input_tokens": cached,
    }
    return {"message": {"usage": usage}}


def _item(payload: Mapping[str, Any]) -> dict[str, Any]:
    type, id = text(payload.get("type")), payload.get("call_id") or payload.get("id")
    if type == "message":
        return _message(payload)
    if type == "reasoning":
        parts = payload.get("summary")
        texts = [text(mapping(part).get("text")) for part in parts] if isinstance(parts, list) else []
        return _message_of("assistant", [{"type": "thinking", "thinking": thought} for thought in texts if thought])
    if type in _CALLS:
        name = payload.get("name") or type.removesuffix("_call")
        return _message_of("assistant", [{"type": "tool_use", "id": id, "name": name, "input": _arguments(payload)}])
    if type in _RESULTS:
        content, is_error = _output(payload.get("output"))
        return _message_of(
            "user", [{"type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error}]
        )
    return {"type": type}


def _message_of(role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": role, "message": {"role": role, "content": content}}


def _message(payload: Mapping[str, Any]) -> dict[str, Any]:
    role = "assistant" if payload.get("role") == "assistant" else "user"
    content = payload.get("content")
    blocks: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else []:
        one = mapping(part)
        is_text = one.get("type") in ("input_text", "output_text", "text")
        blocks.append({"type": "text", "text": one.get("text")} if is_text else dict(one))
    texts = [text(block.get("text")).lstrip() for block in blocks]
    is_ours = payload.get("role") not in ("user", "assistant") or any(one.startswith(_OURS) for one in texts)
    return {**_message_of(role, blocks), "isMeta": role == "user" and is_ours}


def _arguments(payload: Mapping[str, Any]) -> Any:
    for field in ("arguments", "input", "action"):
        given = payload.get(field)
        if isinstance(given, dict):
            return given
        if isinstance(given, str):
            try:
                decoded = msgspec.json.decode(given.encode("utf-8", "replace"))
            except (msgspec.DecodeError, RecursionError):
                return {field: given}
            return decoded if isinstance(decoded, dict) else {field: given}
    return {}


def _output(output: Any) -> tuple[Any, bool]:
    """Return what a tool answered, and whether it failed: some answers are JSON with the code of the exit."""
    if isinstance(output, str) and output.startswith("{"):
        try:
            output = msgspec.json.decode(output.encode("utf-8", "replace"))
        except (msgspec.DecodeError, RecursionError):
            return output, False
    if isinstance(output, dict):
        code = mapping(output.get("metadata")).get("exit_code")
        text = output.get("output", output.get("content", ""))
        return text, bool(code) or output.get("success") is False
    return output, False


adapter = Codex()
