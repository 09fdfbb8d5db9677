"""Dead letters in files of JSON lines and in DuckDB are listed, tried, mended, sent again and dropped too."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from penstock import Engine, Stream
from penstock.outputs.file import File
from penstock.platform import letterfiles
from penstock.platform.letterfiles import LetterFile

from .conftest import Api
from .test_deadletters import listed

MESSAGES = ['{"n": 1}', '{"n": "x"}', '{"n": ', '{"n": "y"}', '{"n": "z"}']


@pytest.fixture(params=["file", "nulls", "duckdb"])
async def rows(request: pytest.FixtureRequest, api: Api, tmp_path: Path) -> Any:
    """Run a stream that refuses most of its rows; return what reads the table of its output."""
    duck: dict[str, Any] = {"type": "sql", "url": f"duckdb:///{tmp_path}/refused.duckdb", "table_name": "refused"}
    output: dict[str, Any] = {
        "file": {"type": "file", "path": str(tmp_path / "refused.jsonl")},
        "nulls": {"type": "file", "path": str(tmp_path / "refused.json"), "codec": {"type": "json", "nulls": True}},
        "duckdb": duck,
    }[request.param]
    target = {"type": "sql", "url": f"sqlite:///{tmp_path}/t.db", "table_name": "t"}
    stream = Stream.model_validate(
        {
            "id": "numbers",
            "input": {"type": "memory", "messages": MESSAGES, "codec": "json"},
            "output": target,
            "error_output": output,
        }
    )
    engine = Engine([stream], data=tmp_path / "data")
    await engine.run()
    api.streams.extend(engine.supervised)

    def read() -> list[int]:
        with closing(sqlite3.connect(tmp_path / "t.db")) as database:
            return [n for (n,) in database.execute("SELECT n FROM t ORDER BY n")]

    return read


async def test_they_are_listed_page_by_page_and_counted_by_reason(api: Api, rows: Any) -> None:
    first = await listed(api, limit=3)
    second = await listed(api, limit=3, cursor=first["next_cursor"])
    found = first["data"] + second["data"]
    assert second["next_cursor"] is None
    assert sorted(one["payload"] for one in found) == sorted(MESSAGES[1:])
    assert len({one["id"] for one in found}) == 4
    assert all(one["time"] and one["stream"] == "numbers" and one["metadata"]["source"] == "memory" for one in found)
    answer = (await api("GET", "/dead-letters/groups")).json()
    assert answer["total"] == 4
    assert sorted((one["stage"], one["count"]) for one in answer["data"]) == [("decode", 1), *[("output", 1)] * 3]
    assert [one["payload"] for one in (await listed(api, stage="decode"))["data"]] == [MESSAGES[2]]
    assert [one["payload"] for one in (await listed(api, search="'Y'"))["data"]] == [MESSAGES[3]]
    assert (await listed(api, stream="another"))["data"] == []
    whole = (await api("GET", f"/dead-letters/{found[0]['id']}")).json()["data"]
    assert whole["payload"] == found[0]["payload"]


async def test_they_are_tried_mended_sent_and_dropped(api: Api, rows: Any) -> None:
    [broken] = (await listed(api, stage="decode"))["data"]
    one, other, _ = (await listed(api, stage="output"))["data"]
    mended = {"payload": '{"n": 5}'}
    tried = await api("POST", f"/dead-letters/{broken['id']}/try", json=mended)
    assert tried.json()["data"]["rows"] == [[5]]
    done = await asyncio.gather(*(api("POST", f"/dead-letters/{broken['id']}/retry", json=mended) for _ in range(3)))
    assert {answer.status_code for answer in done} <= {200, 404}
    assert await asyncio.to_thread(rows) == [1, 5], "once, however many ask"
    assert (await api("POST", f"/dead-letters/{one['id']}/drop", json={"reason": "a test"})).status_code == 200
    assert (await api("POST", f"/dead-letters/{one['id']}/drop", json={"reason": "a test"})).status_code == 404
    left = [each["id"] for each in (await listed(api))["data"]]
    assert len(left) == 2
    assert other["id"] in left
    assert one["id"] not in left
    assert (await api("GET", "/dead-letters/groups")).json()["total"] == 2


async def test_a_group_is_dropped_at_once(api: Api, rows: Any) -> None:
    body = {"action": "drop", "wanted": {"stage": "output"}, "reason": "a test"}
    run = (await api("POST", "/dead-letters/replays", json=body)).json()["data"]
    async with asyncio.timeout(30):
        while run["state"] == "running":
            run = (await api("GET", f"/dead-letters/replays/{run['id']}")).json()["data"]
    assert (run["settled"], run["refused"], run["gone"]) == (3, 0, 0), run
    assert [one["payload"] for one in (await listed(api))["data"]] == [MESSAGES[2]]


def letter(number: int, size: int = 0) -> str:
    row = {"time": "2026-11-30T10:00:00.000000Z", "stream": "s", "stage": "output", "reason": f"no {number}"}
    return json.dumps({**row, "payload": "x" * size, "encoding": "utf-8", "metadata": "{}"}) + "\n"


@pytest.mark.parametrize("block", [1, 7, 100, 5000])
async def test_a_file_is_read_from_its_end_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(letterfiles, "_BLOCK_SIZE", block)
    path = tmp_path / "bad.jsonl"
    text = "".join(letter(number, number * 40) for number in range(9))
    path.write_text("no JSON\n\n" + text + '{"reason": 1}\n[]\n' + letter(9)[:-30])
    place = LetterFile(File.model_validate({"path": str(path)}))
    assert [one.reason for one in await place.page({}, None, 100)] == [f"no {number}" for number in range(8, -1, -1)]
    assert await place.count({}) == 9
    assert await place.count({"reason": "no 3"}) == 1


async def test_a_line_that_is_settled_stays_in_the_file_and_another_in_its_place_is_not(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    place = LetterFile(File.model_validate({"path": str(path)}))
    assert await place.page({}, None, 5) == []
    path.write_text(letter(1) + letter(2))
    second, first = await place.page({}, None, 5)
    for one in (first, second):
        address = letterfiles.Address.read(one.id)
        assert address is not None
        assert await place.drop(address)
        assert not await place.drop(address)
    assert path.read_text() == letter(1) + letter(2)
    assert await place.count({}) == 0
    assert stat.S_IMODE((tmp_path / ".bad.jsonl.settled").stat().st_mode) == 0o600
    path.write_text(letter(3))
    assert [one.reason for one in await place.page({}, None, 5)] == ["no 3"]
