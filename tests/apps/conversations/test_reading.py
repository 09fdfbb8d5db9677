"""Words are found, sessions are read in order, and what they used is added up once."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.apps.conversations.prices import Prices
from penstock.apps.conversations.reading.burn import measure_burn
from penstock.apps.conversations.reading.search import BadSearch, find, parse
from penstock.apps.conversations.reading.thread import order, read_thread
from penstock.apps.conversations.reading.usage import By, usage
from penstock.errors import ConfigError

from .conftest import Stored, line


def found(stored: Stored, asked: str) -> list[str]:
    hits = stored.database.call(lambda connection: find(connection, parse(asked), 50))
    return [hit.session or "" for hit in hits]


@pytest.fixture
def talked(stored: Stored) -> Stored:
    edit = [{"type": "tool_use", "id": "t", "name": "Edit", "input": {"file_path": "/src/parser.py", "new": "x"}}]
    stored.write(
        "/logs/shop/a.jsonl",
        [
            line(content="Mend the flaky migration, please: exit code 137", sessionId="a"),
            line("assistant", edit, sessionId="a", at=1),
        ],
    )
    stored.write("/logs/blog/b.jsonl", [line(content="The café's menu_page has src/app.py open", sessionId="b", at=2)])
    return stored


@pytest.mark.parametrize(
    ("asked", "sessions"),
    [
        ("flaky", ["a"]),
        ("FLAKY migration", ["a"]),
        ('"exit code"', ["a"]),
        ('"code exit"', []),
        ("migrat*", ["a"]),
        ("migrat", []),
        ("menu_page", ["b"]),
        ("app.py", ["b"]),
        ("src -flaky", ["b", "a"]),
        ("src -app", ["a"]),
        ("kind:prompt the", ["b", "a"]),
        ("project:blog", ["b"]),
        ("tool:Edit", ["a"]),
        ("tool:Edi", []),
        ("file:parser.py", ["a"]),
        ("nothing", []),
        ("' OR 1=1 -- flaky", []),
        ('flaky" OR "menu', []),
        ("NEAR(flaky", []),
        ("text:flaky", []),
    ],
)
def test_words_phrases_beginnings_and_fields_are_found(talked: Stored, asked: str, sessions: list[str]) -> None:
    assert found(talked, asked) == sessions


@given(st.text(max_size=60))
def test_any_text_is_a_search_or_is_refused(asked: str) -> None:
    with suppress(BadSearch):
        parse(asked)


def test_a_snippet_shows_the_word_between_what_is_beside_it(talked: Stored) -> None:
    (hit,) = talked.database.call(lambda connection: find(connection, parse("flaky"), 5))
    assert hit.snippet[1] == "flaky"
    assert "Mend the " in hit.snippet[0]


def test_markup_in_what_was_said_stays_text(stored: Stored) -> None:
    stored.write("/logs/p/a.jsonl", [line(content="<script>alert(1)</script> okapi")])
    (hit,) = stored.database.call(lambda connection: find(connection, parse("okapi"), 5))
    assert "<script>" in "".join(hit.snippet)


_PARENTS = st.integers(0, 12).flatmap(
    lambda size: st.lists(st.none() | st.sampled_from("abcdefghijklm"), min_size=size, max_size=size)
)


@given(_PARENTS)
def test_each_line_stands_once_and_behind_its_parent_whatever_the_log_says(parents: list[str | None]) -> None:
    said = [("abcdefghijklm"[place], parent) for place, parent in enumerate(parents)]
    places = [place for place, _ in order(said)]
    assert sorted(places) == list(range(len(said)))
    names = {uuid: place for place, (uuid, _) in enumerate(said)}
    in_circle = {place for place in names.values() if _is_in_circle(place, said, names)}
    for place, (_, parent) in enumerate(said):
        before = names.get(parent or "")
        if before is not None and not in_circle & {place, before}:
            assert places.index(before) < places.index(place)


def _is_in_circle(place: int, said: list[tuple[str, str | None]], names: dict[str, int]) -> bool:
    seen: set[int] = set()
    at: int | None = place
    while at is not None and at not in seen:
        seen.add(at)
        at = names.get(said[at][1] or "")
    return at is not None


def test_what_was_taken_back_is_a_branch_before_what_went_on() -> None:
    said = [("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "d")]
    assert order(said) == [(0, 0), (1, 1), (2, 1), (3, 0), (4, 0)]


def test_a_session_of_many_thousand_lines_is_put_in_order() -> None:
    said = [(str(number), str(number - 1) if number else None) for number in range(50_000)]
    assert [place for place, _ in order(said)] == list(range(50_000))


def test_a_tool_stands_beside_what_it_answered_and_sub_agents_by_their_ids(stored: Stored) -> None:
    call = [{"type": "tool_use", "id": "t", "name": "Task", "input": {"prompt": "look"}}]
    result = [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "seen"}]}]
    stored.write(
        "/logs/p/a.jsonl",
        [
            line(content="go", uuid="1", parentUuid=None),
            line("assistant", call, uuid="2", parentUuid="1", at=1),
            line(content=result, uuid="3", parentUuid="2", at=4, toolUseResult={"agentId": "x"}),
            line("assistant", [{"type": "text", "text": "done"}, {"type": "later"}], uuid="4", parentUuid="3", at=5),
        ],
    )
    stored.write("/logs/p/agent-x.jsonl", [line(content="look", uuid="5", agentId="x", isSidechain=True, at=2)])
    thread = stored.database.call(lambda connection: read_thread(connection, "s"))
    assert [entry.kind for entry in thread.entries] == ["prompt", "answer", "answer"]
    tool = thread.entries[1].parts[0]
    assert (tool.name, tool.result, tool.is_error, tool.seconds, tool.agent) == ("Task", "seen", False, 3.0, "x")
    assert [part.type for part in thread.entries[2].parts] == ["text", "later"]
    assert [entry.uuid for entry in thread.agents["x"]] == ["5"]


def test_a_resumed_session_shows_its_copied_beginning_once(stored: Stored) -> None:
    first = line(content="begin", uuid="1")
    stored.write("/logs/p/a.jsonl", [first, line(content="on", uuid="2", parentUuid="1", at=1)])
    stored.write("/logs/p/b.jsonl", [first, line(content="another way", uuid="3", parentUuid="1", at=2)])
    thread = stored.database.call(lambda connection: read_thread(connection, "s"))
    assert [entry.uuid for entry in thread.entries] == ["1", "2", "3"]


def answered(id: str, output: int, model: str = "claude-sonnet-4-20250514", **fields: object) -> bytes:
    told = {"input_tokens": 100, "output_tokens": output}
    return line("assistant", message={"id": id, "model": model, "usage": told, "content": []}, **fields)


def test_a_response_that_is_written_as_several_lines_counts_once_with_its_last_tokens(stored: Stored) -> None:
    stored.write("/logs/p/a.jsonl", [answered("m", 1, requestId="r"), answered("m", 90, requestId="r", at=1)])
    stored.write("/logs/p/b.jsonl", [answered("m", 40, requestId="r", at=2)])
    (day,) = stored.database.call(lambda connection: usage(connection, By.DAILY, Prices.load()))
    assert (day.responses, day.tokens.input, day.tokens.output) == (1, 100, 90)
    assert day.cost_usd == pytest.approx((100 * 3 + 90 * 15) / 1e6)


def test_what_a_sub_agent_repeats_of_its_parent_is_its_parents(stored: Stored) -> None:
    stored.write("/logs/p/agent.jsonl", [answered("m", 50, requestId="r2", isSidechain=True, sessionId="side")])
    stored.write("/logs/p/a.jsonl", [answered("m", 50, requestId="r1", sessionId="main", at=1)])
    stored.write("/logs/p/agent2.jsonl", [answered("n", 7, requestId="r3", isSidechain=True, sessionId="side", at=2)])
    used = stored.database.call(lambda connection: usage(connection, By.SESSION, Prices.load()))
    assert [(one.key, one.tokens.output) for one in used] == [("main", 50), ("side", 7)]


def test_a_gateway_that_leaves_out_the_request_does_not_double_a_response(stored: Stored) -> None:
    stored.write("/logs/p/a.jsonl", [answered("m", 50), answered("m", 50, at=1)])
    stored.write("/logs/p/b.jsonl", [answered("m", 50, requestId="r", at=2)])
    (day,) = stored.database.call(lambda connection: usage(connection, By.DAILY, Prices.load()))
    assert (day.responses, day.tokens.output) == (1, 50)


def test_days_are_those_of_the_zone_and_blocks_begin_with_their_first_use(stored: Stored) -> None:
    late = 22 * 3600 - 1_760_000_000 % 86_400  # 22:00 UTC is the next day in Berlin
    stored.write("/logs/p/a.jsonl", [answered("m", 5, at=late), answered("n", 5, at=late + 4 * 3600)])
    stored.write("/logs/p/a.jsonl", [answered("o", 5, at=late + 5 * 3600 + 60)], 2)
    berlin = stored.database.call(
        lambda connection: usage(connection, By.DAILY, Prices.load(), ZoneInfo("Europe/Berlin"))
    )
    assert [one.responses for one in berlin] == [3]
    assert [one.responses for one in stored.database.call(lambda c: usage(c, By.DAILY, Prices.load()))] == [1, 2]
    assert [one.responses for one in stored.database.call(lambda c: usage(c, By.BLOCKS, Prices.load()))] == [2, 1]


def test_a_model_without_a_price_is_counted_and_named(stored: Stored) -> None:
    stored.write("/logs/p/a.jsonl", [answered("m", 5, model="claude-opus-4-99")])
    (day,) = stored.database.call(lambda connection: usage(connection, By.DAILY, Prices.load()))
    assert (day.cost_usd, day.unpriced, day.tokens.output) == (0.0, {"claude-opus-4-99"}, 5)


@pytest.mark.parametrize(
    "model",
    [
        "claude-sonnet-4",
        "claude-sonnet-4-20250514",
        "claude-sonnet-4@20250514",
        "us.anthropic.claude-sonnet-4-20250514-v1:0",
        "anthropic/claude-sonnet-4",
    ],
)
def test_a_model_has_its_price_under_each_of_its_names(model: str) -> None:
    price = Prices.load().find(model, datetime(2026, 1, 1, tzinfo=UTC))
    assert price is not None
    assert (price.input, price.output) == (3, 15)


def test_prices_of_ones_own_take_the_place_of_those_that_ship(tmp_path: Path) -> None:
    own = tmp_path / "prices.json"
    own.write_text(
        '{"m": [{"since": "2026-02-01", "input": 2, "output": 4}, {"since": "2026-01-01", "input": 1, "output": 1}]}'
    )
    prices = Prices.load(own)
    for day, input in ((datetime(2025, 1, 1, tzinfo=UTC), 1), (datetime(2026, 3, 1, tzinfo=UTC), 2)):
        price = prices.find("m", day)
        assert price is not None
        assert price.input == input
    own.write_text('{"m": []}')
    with pytest.raises(ConfigError, match="m has no price"):
        Prices.load(own)
    own.write_text('{"m": [{"input": "much"}]}')
    with pytest.raises(ConfigError, match="has no prices"):
        Prices.load(own)


def test_a_block_that_runs_is_projected_to_its_end(stored: Stored) -> None:
    message = {"id": "m", "model": "claude-sonnet-4", "usage": {"output_tokens": 100_000}}
    stored.write("/logs/shop/a.jsonl", [line("assistant", message=message)])
    start = datetime.fromtimestamp(1_760_000_000, UTC)
    burn = stored.database.call(lambda c: measure_burn(c, Prices.load(), start + timedelta(minutes=60)))
    assert (burn.cost_usd, burn.cost_per_hour, burn.month_cost_usd) == (1.5, 1.5, 1.5)
    assert burn.ends_at is not None
    left = (burn.ends_at - start).total_seconds() / 3600 - 1
    assert burn.projected_cost_usd == pytest.approx(1.5 + 1.5 * left, abs=1e-5)
    late = stored.database.call(lambda c: measure_burn(c, Prices.load(), start + timedelta(hours=6)))
    assert (late.started_at, late.cost_per_hour, late.month_cost_usd) == (None, 0, 1.5)
