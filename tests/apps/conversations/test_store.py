"""Each line is stored once, however its file is written, written anew, and read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from penstock.apps.conversations.schema import calls, files, lines, responses, sessions
from penstock.apps.conversations.store.reading import Row
from penstock.apps.conversations.store.store import Source, Store

from .conftest import SAMPLES, Stored, line, rows


def read(stored: Stored, folder: Path) -> None:
    for file in sorted(folder.rglob("*.jsonl")):
        stored.write(f"/logs/{file.relative_to(folder)}", file.read_bytes().splitlines())


def test_tokens_and_tools_of_the_samples_are_those_that_were_counted_by_hand(stored: Stored) -> None:
    read(stored, SAMPLES)
    tokens = [func.sum(responses.c[name]) for name in ("input", "output", "cache_write_5m", "cache_read")]
    (counted,) = stored.rows(select(func.count(), *tokens))
    assert tuple(map(int, counted)) == (199, 1_240, 56_535, 198_421, 4_075_332)
    errors = func.count().filter(calls.c.is_error)
    assert stored.rows(select(func.count(calls.c.name), func.count(calls.c.ended_at), errors)) == [(200, 200, 27)]
    assert stored.rows(select(func.count(), func.count(lines.c.session.distinct())).select_from(lines)) == [(524, 3)]


def test_each_line_is_kept_byte_for_byte(stored: Stored) -> None:
    odd = [b'{"type":"user",  "x":1.0e2,"big":123456789012345678901,"x":2}', b'\xef\xbb\xbf{"type":"mode"}']
    stored.write("/logs/p/a.jsonl", odd)
    assert [bytes(one) for (one,) in stored.rows(select(lines.c.line).order_by(lines.c.row))] == odd


def test_lines_that_come_again_after_a_crash_are_not_doubled(stored: Stored) -> None:
    written = [line(content=str(number), at=number) for number in range(10)]
    stored.write("/logs/p/a.jsonl", written[:6])
    stored.restart()
    stored.write("/logs/p/a.jsonl", written[2:], 2)
    assert stored.rows(select(lines.c.row).order_by(lines.c.row)) == [(number,) for number in range(10)]
    assert stored.rows(select(sessions.c.lines, sessions.c.prompts)) == [(10, 10)]


def test_a_file_that_was_compacted_keeps_what_is_gone_and_doubles_nothing(stored: Stored) -> None:
    written = [line(content=str(number), at=number) for number in range(6)]
    stored.write("/logs/p/a.jsonl", written)
    stored.restart()
    stored.write("/logs/p/a.jsonl", [written[0], line(content="summary", at=9), *written[4:]])
    assert stored.rows(select(func.count()).select_from(lines)) == [(7,)]
    assert stored.rows(select(files.c.generation, files.c.last_row)) == [(1, 3)]
    here = select(lines.c.row).where(lines.c.generation == 1).order_by(lines.c.row)
    assert stored.rows(here) == [(0,), (1,), (2,), (3,)]


def test_lines_that_name_no_session_or_time_take_those_before_them(stored: Stored) -> None:
    unnamed = b'{"type":"file-history-snapshot","messageId":"m","snapshot":{}}'
    stored.write("/logs/p/a.jsonl", [line(content="one", at=5, sessionId="here"), unnamed])
    stored.restart()
    stored.write("/logs/p/a.jsonl", [unnamed], 2)
    found = stored.rows(select(lines.c.session, lines.c.at, lines.c.is_at_given).order_by(lines.c.row))
    assert [(session, given) for session, _, given in found] == [("here", True), ("here", False), ("here", False)]
    assert len({at for _, at, _ in found}) == 1


def test_a_summary_names_the_session_that_holds_its_line_whichever_comes_first(stored: Stored) -> None:
    early = b'{"type":"summary","summary":"Mended the parser","leafUuid":"u1"}'
    stored.write("/logs/p/a.jsonl", [early])
    stored.write("/logs/p/b.jsonl", [line(content="please mend it", uuid="u1", sessionId="b")])
    stored.write("/logs/p/c.jsonl", [line(content="and this", uuid="u2", sessionId="c")])
    stored.write("/logs/p/d.jsonl", [b'{"type":"summary","summary":"Another","leafUuid":"u2"}'])
    titles = select(sessions.c.id, sessions.c.title).order_by(sessions.c.id)
    assert stored.rows(titles) == [("b", "Mended the parser"), ("c", "Another")]


def test_the_title_a_person_gave_is_before_all_others(stored: Stored) -> None:
    stored.write(
        "/logs/p/a.jsonl",
        [
            line(content="first words"),
            line(content="second words", at=1),
            line("custom-title", message=None, customTitle="Mine", at=2),
            line("ai-title", message=None, aiTitle="Its own", at=3),
        ],
    )
    assert stored.rows(select(sessions.c.title)) == [("Mine",)]


def test_a_result_may_come_before_its_call(stored: Stored) -> None:
    result = [{"type": "tool_result", "tool_use_id": "t", "content": "x", "is_error": True}]
    stored.write("/logs/p/a.jsonl", [line(content=result, at=9)])
    stored.write("/logs/p/b.jsonl", [line("assistant", [{"type": "tool_use", "id": "t", "name": "Bash"}], at=1)])
    assert stored.rows(select(calls.c.name, calls.c.is_error)) == [("Bash", True)]


_LINES = st.sampled_from([line(content=letter) for letter in "abcd"])
_CONTENTS = st.lists(_LINES, max_size=8)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_CONTENTS, st.booleans(), st.integers(1, 4)), min_size=1, max_size=6), st.data())
def test_no_line_of_any_generation_of_a_file_is_missing_or_doubled(
    steps: list[tuple[list[bytes], bool, int]], data: st.DataObject
) -> None:
    """A file is appended to or written anew, and read in pieces, some of which come twice: a multiset is stored.

    What several pieces hold may be written at once.
    """
    with TemporaryDirectory() as folder:
        stored = Stored(f"sqlite:///{folder}/conversations.db")
        content: list[bytes] = []
        kept: Counter[bytes] = Counter()
        waiting: list[Row] = []
        for written, is_appended, size in steps:
            begin = len(content) if is_appended else 0
            content = content + written if is_appended else written
            place = data.draw(st.integers(0, begin)) if is_appended else 0
            while place < len(content):
                piece = rows("/logs/p/a.jsonl", content[place : place + size], place)
                waiting += piece
                match data.draw(st.sampled_from(["wait", "write", "crash"])):
                    case "write":
                        stored.store.write(waiting)
                        waiting = []
                    case "crash":
                        stored.store.write(waiting)
                        stored.restart()
                        waiting = piece  # what was there before is not, and does not come again
                place += size
            kept |= Counter(content)
        stored.store.write(waiting)
        found = Counter(bytes(one) for (one,) in stored.rows(select(lines.c.line)))
        stored.store.close()
    assert found == kept


SESSION = "1af7fc5e-8455-4414-9ccd-011d40f70b2a.jsonl"


@pytest.mark.parametrize("name", [SESSION, "agent-7.jsonl"])
def test_a_log_that_is_read_from_an_archive_and_from_its_folder_is_stored_once(stored: Stored, name: str) -> None:
    written = [line(content=str(number), at=number, uuid=f"u{number}") for number in range(5)]
    stored.write(f"/imports/old/p/{name}", written[:3])
    stored.write(f"/logs/p/{name}", written)
    stored.restart()
    stored.write(f"/imports/old/p/{name}", written[:3])
    stored.write(f"/logs/p/{name}", [line(content="later", at=9)], 5)
    assert stored.rows(select(lines.c.row).order_by(lines.c.row)) == [(number,) for number in range(6)]
    assert stored.rows(select(sessions.c.lines)) == [(6,)]


@pytest.mark.parametrize(
    ("path", "other"),
    [
        (f"/logs/p/{SESSION}", line(content="another beginning")),
        ("/logs/q/a.jsonl", line(content="one")),
        ("/logs/p/b.jsonl", line(content="one")),
    ],
)
def test_logs_that_only_look_alike_are_kept_apart(stored: Stored, path: str, other: bytes) -> None:
    stored.write(f"/old/p/{SESSION}", [line(content="one")])
    stored.write("/old/p/a.jsonl", [line(content="one")])
    stored.write(path, [other, line(content="two", at=1)])
    assert stored.rows(select(func.count()).select_from(lines)) == [(4,)]


def test_copies_of_a_log_that_are_read_at_once_are_stored_once(stored: Stored) -> None:
    written = [line(content=str(number), at=number) for number in range(4)]
    both = [*rows(f"/old/p/{SESSION}", written[:3], 0), *rows(f"/logs/p/{SESSION}", written, 0)]
    stored.store.write(both)
    stored.store.write(both)
    assert stored.rows(select(lines.c.row).order_by(lines.c.row)) == [(number,) for number in range(4)]


def test_two_stores_that_write_the_lines_of_one_log_double_none(stored: Stored) -> None:
    written = [line(content=str(number), at=number) for number in range(8)]
    other = Store(stored.database, Source(Path("/logs"), "laptop", "me"))
    for end in range(1, 9):
        (stored.store if end % 2 else other).write(
            rows("/logs/p/a.jsonl", written[max(0, end - 3) : end], max(0, end - 3))
        )
    other._connection.close()
    assert stored.rows(select(lines.c.row).order_by(lines.c.row)) == [(number,) for number in range(8)]
