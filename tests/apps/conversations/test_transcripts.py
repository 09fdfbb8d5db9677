"""The logs of other agents, read as those of Claude Code."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from penstock.apps.conversations.lines import Kind, parse
from penstock.apps.conversations.prices import Prices
from penstock.apps.conversations.reading.thread import read_thread
from penstock.apps.conversations.reading.usage import By, usage
from penstock.apps.conversations.schema import calls, sessions
from penstock.apps.conversations.transcripts.adapter import Adapter, adapters

from .conftest import Stored

ID = "019cb655-7826-7080-b375-f4bd0ec83d54"


def codex(type: str, second: int, /, **payload: Any) -> bytes:
    at = f"2026-03-04T00:53:{second:02}.000Z"
    return json.dumps({"timestamp": at, "type": type, "payload": payload}).encode()


ROLLOUT = [
    codex("session_meta", 3, id=ID, cwd="/home/me/shop", cli_version="0.50.0", git={"branch": "main"}),
    codex("turn_context", 3, cwd="/home/me/shop", model="gpt-5.3-codex"),
    codex(
        "response_item",
        3,
        type="message",
        role="user",
        content=[{"type": "input_text", "text": "<environment_context>"}],
    ),
    codex("response_item", 4, type="message", role="user", content=[{"type": "input_text", "text": "Mend the okapi"}]),
    codex("response_item", 5, type="reasoning", summary=[{"type": "summary_text", "text": "Where is it?"}]),
    codex("response_item", 6, type="function_call", name="shell", call_id="c1", arguments='{"command":["ls"]}'),
    codex(
        "response_item",
        8,
        type="function_call_output",
        call_id="c1",
        output='{"output":"gone","metadata":{"exit_code":2}}',
    ),
    codex(
        "event_msg",
        8,
        type="token_count",
        info={"last_token_usage": {"input_tokens": 100, "cached_input_tokens": 40, "output_tokens": 7}},
    ),
    codex("response_item", 9, type="message", role="assistant", content=[{"type": "output_text", "text": "Mended"}]),
    codex("response_item", 9, type="ghost_snapshot"),
]


def test_a_rollout_of_codex_is_a_session_with_prompts_tools_and_tokens(stored: Stored) -> None:
    stored.write(f"/codex/2026/03/04/rollout-2026-03-04-{ID}.jsonl", ROLLOUT[:5])
    stored.restart()
    stored.write(f"/codex/2026/03/04/rollout-2026-03-04-{ID}.jsonl", ROLLOUT[5:], 5)
    assert stored.rows(
        select(sessions.c.id, sessions.c.project, sessions.c.branch, sessions.c.title, sessions.c.prompts)
    ) == [(ID, "-home-me-shop", "main", "Mend the okapi", 1)]
    assert stored.rows(select(calls.c.name, calls.c.is_error)) == [("shell", True)]
    [used] = stored.database.call(lambda c: usage(c, By.MODEL, Prices.load()))
    assert (used.key, used.tokens.input, used.tokens.cache_read, used.tokens.output) == ("gpt-5.3-codex", 60, 40, 7)
    entries = stored.database.call(lambda c: read_thread(c, ID)).entries
    assert [entry.kind for entry in entries] == ["command", "prompt", "answer", "answer", "answer"]
    assert (entries[3].parts[0].input, entries[3].parts[0].result, entries[3].parts[0].seconds) == (
        {"command": ["ls"]},
        "gone",
        2.0,
    )


def test_a_chat_of_gemini_is_a_session_whose_tools_stand_with_their_answers(stored: Stored) -> None:
    call = {
        "id": "t",
        "name": "replace",
        "args": {"file_path": "/a.py", "old_string": "a", "new_string": "b\nc"},
        "status": "error",
        "resultDisplay": "no such file",
    }
    chat = [
        {"sessionId": "g", "projectHash": "5f2a", "startTime": "2026-03-04T00:53:03.000Z", "kind": "main"},
        {"id": "1", "timestamp": "2026-03-04T00:53:04.000Z", "type": "user", "content": [{"text": "Mend the okapi"}]},
        {
            "id": "2",
            "timestamp": "2026-03-04T00:53:09.000Z",
            "type": "gemini",
            "content": "Mended",
            "model": "gemini-2.5-pro",
            "thoughts": [{"subject": "Where", "description": "is it?"}],
            "toolCalls": [call],
            "tokens": {"input": 100, "cached": 40, "output": 7, "thoughts": 3, "tool": 0, "total": 110},
        },
        {"$set": {"lastUpdated": "2026-03-04T00:53:09.000Z"}},
    ]
    stored.write("/logs/5f2a/chats/session-1.jsonl", [json.dumps(one).encode() for one in chat])
    assert stored.rows(select(sessions.c.id, sessions.c.title, sessions.c.lines)) == [("g", "Mend the okapi", 4)]
    assert stored.rows(select(calls.c.name, calls.c.is_error, calls.c.path, calls.c.added)) == [
        ("replace", True, "/a.py", 2)
    ]
    [used] = stored.database.call(lambda c: usage(c, By.MODEL, Prices.load()))
    assert (used.key, used.tokens.input, used.tokens.cache_read, used.tokens.output) == ("gemini-2.5-pro", 60, 40, 10)
    [_, answer] = stored.database.call(lambda c: read_thread(c, "g")).entries
    assert [(part.type, part.result) for part in answer.parts] == [
        ("thinking", None),
        ("text", None),
        ("tool", "no such file"),
    ]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NAMES = """type role content call_id name arguments input action output summary info last_token_usage input_tokens id
 cwd git text metadata exit_code success toolCalls args result resultDisplay status tokens cached
 thoughts projectHash"""
_TYPES = """session_meta turn_context response_item event_msg compacted message reasoning function_call token_count user
 function_call_output gemini info"""
_FIELDS = st.dictionaries(st.sampled_from(_NAMES.split()), _VALUES | st.sampled_from(_TYPES.split()), max_size=6)


@given(_FIELDS, _FIELDS, st.sampled_from(_TYPES.split()))
def test_no_line_of_another_agent_is_refused_whatever_is_in_it(
    found: dict[str, Any], payload: dict[str, Any], type: str
) -> None:
    nested = payload | {"info": {"last_token_usage": payload}, "content": [payload, "x"], "toolCalls": [payload]}
    for one in (found, {"type": type, "payload": payload}, {"type": type, "payload": nested}, {"type": type, **nested}):
        assert parse(json.dumps(one).encode()).kind in Kind


def test_adapters_are_found_as_plugins_are() -> None:
    assert {type(one).__name__ for one in adapters()} == {"Codex", "Gemini"}
    assert all(isinstance(one, Adapter) for one in adapters())
