"""What tools changed, and what of the format is not known."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from penstock.apps.conversations.changes import Changes, estimate_changes, read_patch
from penstock.apps.conversations.schema import calls, drift, responses, sessions
from penstock.apps.conversations.store.recounting import recount

from .conftest import SAMPLES, Stored, line


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ({"file_path": "a", "old_string": "a\nb", "new_string": "a\nc\nd"}, Changes(2, 1)),
        (
            {
                "file_path": "a",
                "edits": [{"old_string": "a", "new_string": ""}, {"old_string": "b", "new_string": "c"}],
            },
            Changes(1, 2),
        ),
        ({"file_path": "a", "content": "a\nb\n"}, Changes(2, 0)),
        ({"command": "rm -r ."}, None),
        ({"edits": [1, "x"], "content": 3}, None),
    ],
)
def test_the_arguments_of_an_edit_tell_what_it_would_change(given: dict[str, object], changes: Changes | None) -> None:
    assert estimate_changes(given) == changes


@pytest.mark.parametrize("told", [None, "text", [], {"structuredPatch": "x"}, {"structuredPatch": []}])
def test_a_result_that_tells_nothing_of_changes_is_none(told: object) -> None:
    assert read_patch(told) is None


def test_the_result_of_an_edit_knows_better_than_its_arguments_whichever_comes_first(stored: Stored) -> None:
    edit = {"file_path": "/a.py", "old_string": "a", "new_string": "b"}
    patch = {"structuredPatch": [{"lines": [" x", "-a", "+b", "+c"]}, {"lines": ["+d", 7]}, "x"]}
    call = line("assistant", [{"type": "tool_use", "id": "1", "name": "Edit", "input": edit}])
    result = line(content=[{"type": "tool_result", "tool_use_id": "1", "content": "ok"}], toolUseResult=patch)
    other = result.replace(b'"1"', b'"2"'), call.replace(b'"1"', b'"2"')
    for place, one in enumerate((call, result, *other)):  # each in a transaction of its own
        stored.write("/logs/shop/a.jsonl", [one], place)
    assert stored.rows(select(calls.c.path, calls.c.added, calls.c.removed)) == [("/a.py", 3, 1)] * 2


def test_what_is_unknown_is_counted_and_refuses_nothing(stored: Stored) -> None:
    told = [
        {"type": "hologram"},
        {"type": "tool_use", "id": "t", "name": "Teleport", "input": {}},
        {"type": "tool_use", "id": "u", "name": "mcp__db__query", "input": {}},
    ]
    stored.write(
        "/logs/shop/a.jsonl", [line("assistant", told, at=1), line("dream", "x", mood=3, at=2), b'{"type":["x"]}']
    )
    stored.write("/logs/shop/a.jsonl", [line("dream", "y", version="9.9", at=5)], 3)
    found = {tuple(row) for row in stored.rows(select(drift.c.what, drift.c.name, drift.c.lines, drift.c.version))}
    assert found == {
        ("block", "hologram", 1, None),
        ("tool", "Teleport", 1, None),
        ("type", "dream", 2, "9.9"),
        ("type", "[list]", 1, None),
        ("field", "mood", 1, None),
    }


def test_counting_all_lines_anew_gives_what_was_counted_as_they_came(stored: Stored) -> None:
    files = sorted(SAMPLES.glob("*/*.jsonl"))
    for file in files:
        stored.write(f"/logs/{file.parent.name}/{file.name}", [one for one in file.read_bytes().splitlines() if one])
    counted = (sessions, responses, calls, drift)
    before = [sorted(map(str, stored.rows(select(table)))) for table in counted]
    total = stored.database.call(recount, changes=True)
    assert [sorted(map(str, stored.rows(select(table)))) for table in counted] == before
    assert total > 100
