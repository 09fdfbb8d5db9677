from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from importlib.resources import files

import pyarrow as pa
import pytest
from ruamel.yaml import YAML
from sqlalchemy import select

from penstock.clients.database import Postgres
from penstock.config.configuration import loads
from penstock.engine import Engine
from penstock.inputs.feed import Feed, feed
from penstock.platform.access import schema
from penstock.platform.access.audit import FEED, SCHEMA, Audit, Repetitions, batch, entry
from penstock.platform.access.caller import Caller
from penstock.testing.clock import StandingClock
from penstock.testing.contexts import lend_context

CALLER = Caller(
    user=7,
    user_name="me",
    key="k1",
    scopes=frozenset({"read"}),
    address="192.0.2.1",
    user_agent="x" * 1000,
    request_id="r1",
)


def test_the_rows_have_the_columns_of_the_table():
    assert SCHEMA.names == [column.name for column in schema.audit.c]


def test_a_row_says_who_did_what():
    row = entry("ingest_accepted", "success", caller=CALLER, resource="i1", details={"bytes": 3})
    (written,) = batch([row]).to_pylist()
    assert written["id"] == row.id
    assert (written["user_id"], written["key_id"], written["resource"]) == (7, "k1", "i1")
    assert len(written["user_agent"]) == 512
    assert json.loads(written["details"]) == {"bytes": 3}
    assert batch([row, entry("x", "failed")]).schema == SCHEMA


async def test_what_comes_while_rows_are_written_is_written_together(tmp_path):
    audit, batches = Audit(), []
    async with lend_context(tmp_path) as context, Feed(name=FEED).open(context) as reader:
        writing = [asyncio.create_task(audit.record("a", caller=CALLER, resource=str(n))) for n in range(3000)]
        while sum(part.num_rows for part in batches) < 3000:
            delivery = await reader.read()
            assert not any(task.done() for task in writing[sum(part.num_rows for part in batches) :])
            batches.append(delivery.batch)
            await delivery.ack()
        await asyncio.gather(*writing)
    assert len(batches) <= 4
    assert pa.Table.from_batches(batches).column("resource").to_pylist() == [str(n) for n in range(3000)]


async def test_a_stream_that_refuses_or_hangs_costs_no_request_and_no_row(tmp_path, caplog):
    audit = Audit(timeout=0.1)
    async with lend_context(tmp_path) as context, Feed(name=FEED).open(context) as reader:
        writing = asyncio.create_task(audit.record("refused", caller=CALLER))
        delivery = await reader.read()
        await delivery.nack(ValueError("the disk is full"))
        await writing
        await audit.record("hangs", caller=CALLER)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [json.loads(line[line.index("{") :])["action"] for line in lines] == ["refused", "hangs"]
    assert "the disk is full" in lines[0]


async def test_whoever_gives_up_waiting_has_still_been_written_down(tmp_path):
    audit = Audit()
    async with lend_context(tmp_path) as context, Feed(name=FEED).open(context) as reader:
        writing = asyncio.create_task(audit.record("a", caller=CALLER))
        await asyncio.sleep(0)
        writing.cancel()
        delivery = await reader.read()
        assert delivery.batch.num_rows == 1
        await delivery.ack()
        await audit.close()


def test_what_repeats_is_told_once_a_minute_with_its_number():
    clock = StandingClock(0.0)
    repeated = Repetitions(clock, size=10)

    def count(what, moment):
        clock.now = moment
        return repeated.count(what)

    assert count("a", 0) == 1
    assert [count("a", moment) for moment in (1, 2, 59)] == [0, 0, 0]
    assert count("b", 3) == 1
    assert count("a", 60) == 4
    for number in range(100):
        count(number, 61)
    assert len(repeated._seen) == 10


async def test_rows_fit_the_table_in_each_database(any_database, audited):
    """What the stream would write: the columns as they are, under their names."""
    await Audit().record("ingest_accepted", caller=CALLER, resource="i1", details={"bytes": 3})
    await any_database.run(lambda c: c.execute(schema.audit.insert(), audited))
    (row,) = await any_database.run(lambda c: c.execute(select(schema.audit)).mappings().fetchall())
    assert row["id"] == audited[0]["id"]
    assert row["time"] == audited[0]["time"]


async def test_l17_the_shipped_stream_puts_what_the_gate_saw_into_the_table(open_gate, any_database, tmp_path):
    where = any_database.where
    url = where.uri.get_secret_value() if isinstance(where, Postgres) else f"sqlite:///{where.path}"
    stop = asyncio.Event()
    running = asyncio.create_task(Engine.of(shipped({"DATABASE": url, "SCHEMA": ""}, tmp_path)).run(stop))
    await until(lambda: feed(FEED).is_open)
    async with open_gate(any_database) as service:
        made = await service.make()
        answers = await asyncio.gather(*(service.get(made.secret) for _ in range(10)))
        assert [answer.status_code for answer in answers] == [200] * 10
        await service.get(made.key.prefix + "0" * 32)
    stop.set()
    await running
    rows = await any_database.run(lambda c: c.execute(select(schema.audit)).mappings().fetchall())
    actions = sorted(row["action"] for row in rows)
    assert actions == ["authentication_failed"] + ["authentication_success"] * 10
    assert {row["key_id"] for row in rows} == {made.key.id}
    assert all(abs((datetime.now(UTC) - row["time"]).total_seconds()) < 60 for row in rows)


def shipped(environment, directory):
    """The stream of the audit as it is shipped, with its log in a folder of the test."""
    document = YAML(typ="safe").load(files("penstock.apps.access").joinpath("streams.yaml").read_text())
    return loads(
        json.dumps({"streams": document["streams"], "data": str(directory), "health_check": {"enabled": False}}),
        ".json",
        environment=environment,
    )


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen within 10 s")
