"""Streams over the API of the platform: how they are, what they promise, and pausing them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock import Engine, loads
from penstock.config.configuration import load
from penstock.observe.logs import stream_name
from penstock.platform.recentlog import MAX_LINES
from penstock.platform.streams import guarantees
from penstock.redaction import REDACTED, redact
from penstock.supervision import SupervisedStream

from .conftest import Api, until

FILE = """
streams:
  - id: counted
    input: {type: generate, context: "{}", interval: 1ms, count: 100000}
    output: drop
  - id: sent
    input: {type: generate, context: "{}", interval: 1h}
    output:
      type: http
      url: http://127.0.0.1:1/rows?token=hidden
      headers: {Authorization: Bearer hidden, Accept: text/plain}
"""


@pytest.fixture
async def running(api: Api, tmp_path: Path) -> AsyncIterator[list[SupervisedStream]]:
    file = tmp_path / "two.yaml"
    file.write_text(FILE)
    engine, stop = Engine((await asyncio.to_thread(load, file)).all_streams(), data=tmp_path / "data"), asyncio.Event()
    task = asyncio.create_task(engine.run(stop))
    await until(lambda: engine.supervised and engine.supervised[0].metrics.rows_out)
    api.streams.extend(engine.supervised)
    yield engine.supervised
    stop.set()
    await task


async def test_streams_are_listed_with_what_they_have_moved(api: Api, running: list[SupervisedStream]) -> None:
    counted, sent = (await api("GET", "/streams")).json()["data"]
    assert counted["id"] == "counted"
    assert counted["state"] == "running"
    assert counted["rows_in"] >= counted["rows_out"] > 0
    assert sent["rows_out"] == 0
    assert sent["log_bytes"] is None


async def test_a_stream_is_shown_with_its_source_and_without_secrets(
    api: Api, running: list[SupervisedStream], tmp_path: Path
) -> None:
    answer = await api("GET", "/streams/sent")
    found = answer.json()["data"]
    assert found["source"] == {"file": str(tmp_path / "two.yaml"), "line": 6, "application": ""}
    assert "hidden" not in answer.text
    assert found["configuration"]["output"]["headers"]["Accept"] == "text/plain"
    assert found["guarantees"]
    counted = (await api("GET", "/streams/counted")).json()["data"]
    assert counted["positions"][0]["rows"] > 0
    assert (await api("GET", "/streams/nothing")).status_code == 404


async def test_a_stream_is_paused_and_resumed_and_that_is_asked_only_where_it_fits(
    api: Api, running: list[SupervisedStream]
) -> None:
    assert (await api("POST", "/streams/counted/resume")).status_code == 409
    assert (await api("POST", "/streams/counted/pause")).status_code == 200
    await until(lambda: running[0].state == "paused")
    assert (await api("GET", "/streams/counted")).json()["data"]["state"] == "paused"
    assert (await api("POST", "/streams/counted/restart")).status_code == 409
    assert (await api("POST", "/streams/counted/resume")).status_code == 200
    await until(lambda: running[0].state == "running")
    for method in ("pause", "resume", "restart"):
        assert (await api("POST", f"/streams/nothing/{method}")).status_code == 404


def test_secrets_are_redacted_wherever_they_stand() -> None:
    given = {
        "password": "a",
        "api_key": 5,
        "tokens": {"first": "shown"},
        "headers": [{"X-Api-Key": "a"}, {"Accept": "b"}],
        "url": "see postgresql://user:pass@host/db?sslpassword=x and https://b:c@d/",
        "use_token": True,
    }
    assert redact(given) == {
        "password": REDACTED,
        "api_key": REDACTED,
        "tokens": {"first": "shown"},
        "headers": [{"X-Api-Key": REDACTED}, {"Accept": "b"}],
        "url": "see postgresql://user:***@host/db and https://b:***@d/",
        "use_token": True,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "a second time"),
        ("durability: {sync: group_commit}", "before its sender is told"),
        ("checkpoint: output", "written once"),
        ("error_output: drop", "goes to the error output"),
        ("buffer: {type: memory, capacity: 5}", "grouped on their way"),
    ],
)
def test_guarantees_are_said_in_words(options: str, said: str) -> None:
    output = "output: {type: sql, url: 'sqlite:///x.db', table_name: t}"
    text = f"streams: [{{id: a, input: {{type: generate, context: '{{}}', interval: 1s}}, {output}, {options}}}]"
    [stream] = loads(text.replace(", }", "}")).streams
    assert any(said in line for line in guarantees(stream))


READ = """
streams:
  - id: read
    input: {{type: file, path: {folder}/rows.jsonl, follow: true, poll_interval: 5ms}}
    checkpoint: {checkpoint}
    output: {{type: sql, url: "sqlite:///{folder}/rows.db", table_name: rows}}
"""


@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_a_stream_reads_again_from_where_it_is_told(api: Api, tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": 3}\n')
    streams = loads(READ.format(folder=tmp_path, checkpoint=checkpoint)).all_streams()
    engine, stop = Engine(streams, data=tmp_path / "data"), asyncio.Event()
    task = asyncio.create_task(engine.run(stop))
    await until(lambda: engine.supervised and engine.supervised[0].metrics.rows_out == 3)
    api.streams.extend(engine.supervised)

    said = (await api("GET", "/streams/read/rewind")).json()["data"]
    assert said["effects"] == ["In output (sql) the rows are written a second time, beside those that are there."]
    [place] = said["positions"]
    for wrong in ({"positions": {"none": None}}, {"positions": {place["partition"]: "x"}}, {"position": None}):
        assert (await api("POST", "/streams/read/rewind", json=wrong)).status_code in (400, 409)
    assert (await api("POST", "/streams/read/rewind", json={})).status_code == 200
    await until(lambda: engine.supervised[0].metrics.rows_out == 6)
    again = {"positions": {place["partition"]: place["read"]}}
    assert (await api("POST", "/streams/read/rewind", json=again)).is_success
    await until(lambda: not engine.supervised[0]._context.rewound)
    stop.set()
    await task

    after, stop = Engine(streams, data=tmp_path / "data"), asyncio.Event()
    task = asyncio.create_task(after.run(stop))
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"a": 4}\n')
    await until(lambda: after.supervised and after.supervised[0].metrics.rows_out)
    stop.set()
    await task
    with contextlib.closing(sqlite3.connect(tmp_path / "rows.db")) as rows:
        assert sorted(a for (a,) in rows.execute("SELECT a FROM rows")) == [1, 1, 2, 2, 3, 3, 4]


async def test_what_does_not_replay_is_not_read_again(api: Api, tmp_path: Path) -> None:
    streams = loads("streams: [{id: fed, input: {type: feed, name: f}, output: drop}]").all_streams()
    engine, stop = Engine(streams, data=tmp_path / "data"), asyncio.Event()
    task = asyncio.create_task(engine.run(stop))
    await until(lambda: engine.supervised and engine.supervised[0].state == "running")
    api.streams.extend(engine.supervised)
    answer = await api("POST", "/streams/fed/rewind", json={})
    assert answer.status_code == 409
    assert "does not replay" in answer.json()["message"]
    stop.set()
    await task


async def test_a_stream_is_drained_and_shows_its_stages(api: Api, running: list[SupervisedStream]) -> None:
    stages = (await api("GET", "/streams/sent")).json()["data"]["stages"]
    assert [(one["kind"], one["type"]) for one in stages] == [("input", "generate"), ("output", "http")]
    assert "hidden" not in str(stages)
    answer = await api("POST", "/streams/counted/drain")
    assert answer.json()["data"]["state"] == "paused"
    assert answer.json()["data"]["in_flight"] == 0


async def test_the_log_of_a_stream_is_shown_without_secrets(api: Api, running: list[SupervisedStream]) -> None:
    def say(stream: str, text: str) -> None:
        token = stream_name.set(stream)
        logging.getLogger("penstock").warning(text)
        stream_name.reset(token)

    with api.service.recent.listening():
        say("counted", "cannot reach postgresql://anna:hidden@db/x with pen_0123456789abcdef")
        for number in range(MAX_LINES + 1):
            say("sent", f"line {number}")
    [line] = (await api("GET", "/streams/counted/log")).json()["data"]
    assert line["level"] == "warning"
    assert "anna" in line["text"]
    assert "hidden" not in line["text"]
    assert "89abcdef" not in line["text"]
    assert len((await api("GET", "/streams/sent/log")).json()["data"]) == MAX_LINES
