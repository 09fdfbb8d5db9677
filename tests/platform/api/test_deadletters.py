"""Dead letters over the API of the platform: listed, counted, mended and sent again, dropped."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import text

from penstock import Engine, Input, Stream
from penstock.platform import resending
from penstock.platform.database import Database

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
    assert {id: one["output"] for id, one in told.items()} == {"lines": "file", "duck": "sql", "tables": "sql"}
    assert "when the stream has stopped" in told["duck"]["reason"]
    assert (await listed(api))["data"], "those of the other streams are"
