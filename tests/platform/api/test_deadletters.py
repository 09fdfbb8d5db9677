"""Dead letters over the API of the platform: listed, counted, mended and sent again, dropped."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from penstock import Engine, Input, Stream
from penstock.errors import PermanentError
from penstock.platform import resending
from penstock.platform.database import Database
from penstock.platform.mending import Rule

from .conftest import Api

GOOD, WRONG, BROKEN = '{"n": 1}', '{"n": "x"}', '{"n": '


@pytest.fixture
async def rows(api: Api, tmp_path: Any, request: pytest.FixtureRequest) -> Any:
    """Run a stream that refuses some of its rows, and return what reads the table of its output."""
    where: Any = api.database.where
    url = where.uri.get_secret_value() if api.database.is_postgres else f"sqlite:///{tmp_path}/rows.db"
    stream = Stream.model_validate(
        {
            "id": "numbers",
            "input": {"type": "memory", "messages": [GOOD, WRONG, BROKEN, WRONG], "codec": "json"},
            "output": {"type": "sql", "url": url, "table_name": "numbers"},
            "error_output": {"type": "sql", "url": url, "table_name": "_quarantine"},
        }
    )
    engine = Engine([stream], data=tmp_path / "data")
    await engine.run()
    api.streams.extend(engine.supervised)
    database = Database.of(url)

    async def read() -> list[int]:
        query = text("SELECT n FROM numbers ORDER BY n")
        return await database.run(lambda connection: list(connection.scalars(query)))

    yield read
    await asyncio.to_thread(database.close)


async def listed(api: Api, **parameters: Any) -> Any:
    answer = await api("GET", "/dead-letters", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_dead_letters_are_listed_page_by_page_and_counted_by_reason(api: Api, rows: Any) -> None:
    first = await listed(api, limit=2)
    second = await listed(api, limit=2, cursor=first["next_cursor"])
    found = first["data"] + second["data"]
    assert second["next_cursor"] is None
    assert sorted(one["payload"] for one in found) == sorted([WRONG, BROKEN, WRONG])
    assert len({one["id"] for one in found}) == 3
    assert {one["stream"] for one in found} == {"numbers"}
    assert found[0]["metadata"]["source"] == "memory"
    groups = (await api("GET", "/dead-letters/groups")).json()["data"]
    assert [(one["stage"], one["count"]) for one in groups] == [("output", 2), ("decode", 1)]
    assert len((await listed(api, reason=groups[0]["reason"]))["data"]) == 2
    assert len((await listed(api, stage="decode", stream="numbers"))["data"]) == 1
    assert (await listed(api, stream="\x00"))["data"] == []
    for wrong in ("x", "gaR4", first["next_cursor"][:-4]):
        assert (await api("GET", "/dead-letters", params={"cursor": wrong})).status_code == 400


async def test_a_mended_dead_letter_is_written_and_is_none_any_more(api: Api, rows: Any) -> None:
    [broken] = (await listed(api, stage="decode"))["data"]
    again = await api("POST", f"/dead-letters/{broken['id']}/retry")
    assert again.status_code == 409
    assert "decode: " in again.json()["message"]
    for one in (await listed(api, stage="output"))["data"]:
        again = await api("POST", f"/dead-letters/{one['id']}/retry")
        assert again.status_code == 409
        assert "column n: expected a" in again.json()["message"]
    assert await rows() == [1]
    mended = {"payload": '{"n": 5}'}
    done = await asyncio.gather(*(api("POST", f"/dead-letters/{broken['id']}/retry", json=mended) for _ in range(3)))
    assert {one.status_code for one in done} <= {200, 404}
    assert await rows() == [1, 5], "once, however many ask"
    assert (await listed(api, stage="decode"))["data"] == []
    assert (await api("POST", f"/dead-letters/{broken['id']}/retry")).status_code == 404


async def test_a_dead_letter_is_dropped_for_a_reason(api: Api, rows: Any) -> None:
    one, other = (await listed(api, stage="output"))["data"]
    assert (await api("POST", f"/dead-letters/{one['id']}/drop", json={})).status_code == 400
    assert (await api("POST", f"/dead-letters/{one['id']}/drop", json={"reason": "a test"})).status_code == 200
    assert [left["id"] for left in (await listed(api, stage="output"))["data"]] == [other["id"]]
    assert (await api("POST", f"/dead-letters/{one['id']}/drop", json={"reason": "a test"})).status_code == 404


async def test_a_row_that_has_changed_since_it_was_listed_is_left_alone(api: Api, rows: Any) -> None:
    [broken] = (await listed(api, stage="decode"))["data"]
    [place] = api.service.places.values()
    change = text("UPDATE _quarantine SET payload = 'another' WHERE stage = 'decode'")
    await place.database.run(lambda connection: connection.execute(change), changes=True)
    for action, body in (("retry", {}), ("drop", {"reason": "x"})):
        answer = await api("POST", f"/dead-letters/{broken['id']}/{action}", json=body)
        assert answer.status_code == 404
    assert len((await listed(api, stage="decode"))["data"]) == 1


@pytest.mark.parametrize("id", ["x", "kwAB", "_", "a" * 200, "k6EwoTHEAA"])
async def test_an_id_that_is_none_is_404(api: Api, rows: Any, id: str) -> None:
    assert (await api("POST", f"/dead-letters/{id}/retry")).status_code == 404
    assert (await api("POST", f"/dead-letters/{id}/drop", json={"reason": "x"})).status_code == 404


async def test_only_operators_see_dead_letters(api: Api, rows: Any) -> None:
    other = await api.make("other", scopes=["toys.admin"])
    for path in ("/dead-letters", "/dead-letters/groups", "/dead-letters/elsewhere"):
        assert (await api("GET", path, key=other)).status_code == 403
    assert json.dumps(WRONG) not in (await api("GET", "/audit")).text


@pytest.mark.parametrize(
    ("given", "path", "expected"),
    [
        ({"type": "file", "path": "x"}, "in/a.jsonl", "json"),
        ({"type": "file", "path": "x"}, "in/a.csv.gz", "json"),
        ({"type": "file", "path": "x"}, "in/a.log", None),
        ({"type": "csv", "path": "x"}, "in/a.log", "json"),
        ({"type": "memory", "messages": [], "codec": "json"}, "", "json"),
        ({"type": "memory", "messages": []}, "", None),
    ],
)
def test_a_payload_is_read_as_the_stream_reads_it(given: dict[str, Any], path: str, expected: str | None) -> None:
    """A payload that was columns is JSON, and no text of JSON becomes the column ``__value__`` of a table."""
    codec = resending._codec(Input.parse(given), {"ext": {"path": path}})
    assert (codec.type_name if codec is not None else None) == expected


async def test_error_outputs_that_are_not_listed_are_told_with_the_reason(api: Api, rows: Any, tmp_path: Any) -> None:
    outputs = {
        "lines": {"type": "file", "path": str(tmp_path / "refused.jsonl")},
        "packed": {"type": "file", "path": str(tmp_path / "refused.jsonl.gz")},
        "daily": {"type": "file", "path": str(tmp_path / "%Y.jsonl")},
        "comma": {"type": "file", "path": str(tmp_path / "refused.csv")},
        "duck": {"type": "sql", "url": f"duckdb:///{tmp_path}/a.duckdb", "table_name": "refused"},
        "tables": {"type": "sql", "url": f"sqlite:///{tmp_path}/a.db", "table_name": {"type": "expr", "expr": "stage"}},
        "nothing": None,
    }
    source = {"type": "memory", "messages": [GOOD], "codec": "json"}
    engine = Engine(
        [
            Stream.model_validate({"id": id, "input": source, "output": "drop", "error_output": output})
            for id, output in outputs.items()
        ],
        data=tmp_path / "more",
    )
    await engine.run()
    api.streams.extend(engine.supervised)
    told = {one["stream"]: one for one in (await api("GET", "/dead-letters/elsewhere")).json()["data"]}
    expected = {"packed": "file", "daily": "file", "comma": "file", "tables": "sql"}
    assert {id: one["output"] for id, one in told.items()} == expected
    assert "neither packed nor rotated" in told["packed"]["reason"]
    assert (await listed(api))["data"], "those of the other streams are"


async def replayed(api: Api, **given: Any) -> dict[str, Any]:
    """Start a replay, wait for its end, and return it."""
    answer = await api("POST", "/dead-letters/replays", json=given)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()["data"]
    async with asyncio.timeout(30):
        while run["state"] == "running":
            run = (await api("GET", f"/dead-letters/replays/{run['id']}")).json()["data"]
    assert run["done"] == run["settled"] + run["refused"] + run["gone"] == run["total"]
    return run


async def test_dead_letters_are_searched_and_their_counts_add_up(api: Api, rows: Any) -> None:
    groups = (await api("GET", "/dead-letters/groups")).json()
    assert groups["total"] == sum(one["count"] for one in groups["data"]) == 3
    assert len((await listed(api, search='"X"'))["data"]) == 2, "in the payload, whatever the case"
    assert len((await listed(api, search="COLUMN N"))["data"]) == 2, "in the reason"
    assert (await listed(api, search="% OR 1=1"))["data"] == []
    [broken] = (await listed(api, stage="decode"))["data"]
    whole = (await api("GET", f"/dead-letters/{broken['id']}")).json()["data"]
    assert whole["payload"] == BROKEN


async def test_one_is_tried_without_writing(api: Api, rows: Any) -> None:
    [broken] = (await listed(api, stage="decode"))["data"]
    tried = await api("POST", f"/dead-letters/{broken['id']}/try", json={"payload": '{"n": 5}'})
    assert tried.json()["data"] == {"columns": ["n"], "rows": [[5]]}
    assert (await api("POST", f"/dead-letters/{broken['id']}/try")).status_code == 409
    assert await rows() == [1]
    assert len((await listed(api))["data"]) == 3


async def test_a_group_is_mended_by_a_rule_tried_and_sent(api: Api, rows: Any) -> None:
    rule = {"replace": [['"x"', '"7"']], "convert": {"n": "integer"}}
    wanted = {"stage": "output"}
    tried = await replayed(api, action="try", wanted=wanted, rule=rule)
    assert (tried["settled"], tried["refused"]) == (2, 0)
    assert await rows() == [1]
    refused = await replayed(api, action="send")
    assert (refused["settled"], refused["refused"]) == (0, 3)
    assert sum(refused["reasons"].values()) == 3
    sent = await replayed(api, action="send", wanted=wanted, rule=rule)
    assert (sent["settled"], sent["refused"]) == (2, 0)
    assert await rows() == [1, 7, 7]
    assert [one["stage"] for one in (await listed(api))["data"]] == ["decode"]
    not_json = await replayed(api, action="send", rule={"set": {"n": 1}})
    assert "is not JSON" in next(iter(not_json["reasons"]))
    assert (await api("POST", "/dead-letters/replays", json={"action": "drop"})).status_code == 400
    dropped = await replayed(api, action="drop", reason="a test")
    assert dropped["settled"] == 1
    assert (await listed(api))["data"] == []
    assert (await api("GET", "/dead-letters/groups")).json()["total"] == 0
    assert len((await api("GET", "/dead-letters/replays")).json()["data"]) == 5
    other = await api.make("other", scopes=["toys.admin"])
    assert (await api("POST", "/dead-letters/replays", key=other, json={"action": "try"})).status_code == 403


@pytest.mark.parametrize(
    ("rule", "payload", "expected"),
    [
        ({"rename": {"a": "b"}}, '{"a":1,"c":2}', '{"b":1,"c":2}'),
        ({"convert": {"n": "number"}}, '{"n":"21,5"}', '{"n":21.5}'),
        ({"convert": {"n": "text"}}, '{"n":[1]}', '{"n":"[1]"}'),
        ({"convert": {"n": "boolean", "m": "integer"}}, '{"n":"Yes"}', '{"n":true}'),
        ({"set": {"n": None}, "remove": ["x"]}, '{"x":1}', '{"n":null}'),
        ({"replace": [["a", "b"]]}, "a not JSON", "b not JSON"),
        ({"convert": {"n": "number"}}, '{"n":"nan"}', None),
        ({"convert": {"n": "integer"}}, '{"n":"1.5"}', None),
        ({"set": {"n": 1}}, "[1]", None),
    ],
)
def test_a_rule_mends_a_payload_or_says_why_not(rule: Any, payload: str, expected: str | None) -> None:
    mending = msgspec.convert(rule, Rule)
    if expected is not None:
        assert mending.mend(payload) == expected
        return
    with pytest.raises(PermanentError):
        mending.mend(payload)
