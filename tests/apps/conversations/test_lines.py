"""What is known of a line, whatever is in it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.apps.conversations.lines import Kind, NoLine, Usage, parse

from .conftest import line

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_NAMES = """type subtype uuid parentUuid sessionId timestamp message isSidechain isMeta agentId cwd gitBranch requestId
 snapshot costUSD customTitle summary leafUuid content text thinking id name input tool_use_id is_error source"""
_FIELDS = st.sampled_from(_NAMES.split())
_BLOCKS = st.lists(
    st.dictionaries(_FIELDS, _VALUES | st.sampled_from(["text", "tool_use", "tool_result", "thinking"])) | _VALUES,
    max_size=3,
)
_MESSAGES = st.dictionaries(st.sampled_from(["id", "model", "content", "usage"]), _VALUES | _BLOCKS, max_size=4)


@given(st.dictionaries(_FIELDS, _VALUES | _MESSAGES, max_size=12))
def test_no_object_is_refused_whatever_its_fields_hold(found: dict[str, object]) -> None:
    known = parse(json.dumps(found).encode())
    assert known.kind in Kind
    assert "\0" not in known.text


@given(st.binary(max_size=60))
def test_bytes_are_a_line_or_are_refused(content: bytes) -> None:
    with suppress(NoLine):
        parse(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'"text"', "expected an object, not a text"),
        (b"[1]", "expected an object, not a list"),
        (b"null", "expected an object, not null"),
        (b'{"type": "user"', "not JSON"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
    ],
)
def test_what_is_no_line_says_what_it_is(content: bytes, reason: str) -> None:
    with pytest.raises(NoLine, match=reason):
        parse(content)


def test_half_of_a_character_at_the_end_of_a_cut_text_is_no_reason_to_refuse_a_line() -> None:
    assert parse(b'{"type": "user", "message": {"content": "cut \\ud83d"}}').text.startswith("cut ")


@pytest.mark.parametrize(
    ("content", "fields", "kind"),
    [
        ("mend the flaky test", {}, Kind.PROMPT),
        ([{"type": "text", "text": "look"}, {"type": "image", "source": {}}], {}, Kind.PROMPT),
        ([{"type": "tool_result", "tool_use_id": "t", "content": "done"}], {}, Kind.RESULT),
        ("expanded", {"isMeta": True}, Kind.COMMAND),
        ("the story so far", {"isCompactSummary": True}, Kind.COMMAND),
        ("<command-name>/init</command-name>", {}, Kind.COMMAND),
        ("<local-command-stdout>ok</local-command-stdout>", {}, Kind.COMMAND),
        ("<task-notification>done</task-notification>", {}, Kind.COMMAND),
        ("<system-reminder>mind this</system-reminder>", {}, Kind.COMMAND),
        ("what does <system-reminder> mean?", {}, Kind.PROMPT),
    ],
)
def test_a_prompt_is_told_from_results_and_from_what_the_program_says(
    content: object, fields: dict[str, object], kind: Kind
) -> None:
    assert parse(line("user", content, **fields)).kind is kind


def test_texts_within_blocks_arguments_and_results_are_searched() -> None:
    blocks = [
        {"type": "thinking", "thinking": "ponder"},
        {"type": "tool_use", "id": "t", "name": "Edit", "input": {"file_path": "/a/b.py", "edits": [{"new": "zebra"}]}},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "okapi"}]},
    ]
    found = parse(line("assistant", blocks))
    assert all(word in found.text for word in ("ponder", "Edit", "zebra", "okapi", "/a/b.py"))
    assert found.calls[0].path == "/a/b.py"


def test_tokens_of_the_cache_are_divided_by_how_long_they_are_kept() -> None:
    tokens = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    }
    assert parse(line("assistant", message={"usage": tokens, "model": "m"})).usage == Usage(1, 2, 10, 20, 4)
    del tokens["cache_creation"]
    assert parse(line("assistant", message={"usage": tokens, "model": "m"})).usage == Usage(1, 2, 30, 0, 4)
    assert parse(line("assistant", message={"usage": tokens, "model": "<synthetic>"})).usage is None
