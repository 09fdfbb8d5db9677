from __future__ import annotations

import asyncio
import datetime
import decimal
import uuid
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import datafusion  # noqa: F401 an import may block no event loop
import pyarrow as pa
import pymongo
import pytest
from pydantic import ValidationError
from pymongo.asynchronous.collection import AsyncCollection

from penstock.absence import mark
from penstock.component import Output
from penstock.errors import ConnectionLost, PenstockError, RowsRejected, TransientError
from penstock.outputs.mongodb import Mongodb
from penstock.outputs.mongodb.documents import documents
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import MongodbServer
from penstock.testing.suites.outputs import OutputSuite
from penstock.testing.waiting import until

pytestmark = pytest.mark.server


@contextmanager
def reading(server: MongodbServer) -> Any:
    client: Any = pymongo.MongoClient(server.url)
    try:
        yield client["tests"]
    finally:
        client.close()


def found(server: MongodbServer, collection: str) -> list[dict[str, Any]]:
    with reading(server) as database:
        return list(database[collection].find({}, {"_id": 0}).sort("id"))


def writing(server: MongodbServer, collection: str, *, port: int | None = None, **options: Any) -> Mongodb:
    uri = server.url_at(port or server.port)
    return Mongodb.model_validate({"uri": uri, "database": "tests", "collection": collection, **options})


class MongodbSuite(OutputSuite):
    ordered = False
    refuses = False
    options: dict[str, Any] = {"decimals": "text"}

    @pytest.fixture
    def component(self, shared_mongodb_server: MongodbServer) -> Output:
        self.server, self.collection = shared_mongodb_server, f"t{uuid.uuid4().hex}"
        return writing(self.server, self.collection, **self.options)

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        return found(self.server, self.collection)

    async def test_any_column_name_is_only_a_name(self, component: Output, tmp_path: Path) -> None:
        """Without quotes, which this server does not quote in its own statements."""
        names = ["id", "select", "Mixed Case", "semi; drop table --", "ünï"]
        rows = pa.record_batch({name: pa.array([number, number + 1]) for number, name in enumerate(names)})
        async with self.opened(component, tmp_path) as writer:
            await writer.write([rows])
        await self.assert_written(component, self.written(rows))


class TestInsert(MongodbSuite):
    pass


class TestUpsert(MongodbSuite):
    keyed = True
    options = {"decimals": "text", "operation": "upsert", "key": ["id"]}

    async def test_many_rows_are_all_written(self, component: Output, tmp_path: Path) -> None:
        """Fewer than of others: this server looks through the whole collection for each of them."""
        async with self.opened(component, tmp_path) as writer:
            await writer.write([sample(0, 200), sample(200, 100)])
        assert len(await self.read_back(component)) == 300


async def test_bad_documents_are_named_and_the_others_written_once(
    shared_mongodb_server: MongodbServer, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex
    with reading(shared_mongodb_server) as database:
        database[name].create_index("id", unique=True)
    rows = pa.record_batch({"id": [1, 2, 1, 3]})
    async with lend_context(tmp_path) as context, writing(shared_mongodb_server, name).open(context) as writer:
        with pytest.raises(RowsRejected) as refused:
            await writer.write([rows])
        assert "duplicate" in refused.value.reasons[2]
        await writer.write([rows.take(pa.array([0, 1, 3]))])
        assert found(shared_mongodb_server, name) == [{"id": 1}, {"id": 2}, {"id": 3}]
        await writer.write([pa.record_batch({"id": [4]})])
    assert len(found(shared_mongodb_server, name)) == 4


async def test_inserting_the_same_id_again_doubles_nothing_and_another_document_is_refused(
    shared_mongodb_server: MongodbServer, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex
    rows = pa.record_batch({"_id": [1, 2], "id": [1, 2]})
    for _ in range(2):
        async with lend_context(tmp_path) as context, writing(shared_mongodb_server, name).open(context) as writer:
            await writer.write([rows])
    assert len(found(shared_mongodb_server, name)) == 2
    async with lend_context(tmp_path) as context, writing(shared_mongodb_server, name).open(context) as writer:
        with pytest.raises(RowsRejected) as refused:
            await writer.write([pa.record_batch({"_id": [2], "id": [7]})])
    assert set(refused.value.reasons) == {0}


async def test_rows_whose_answer_was_lost_are_not_there_twice(
    shared_mongodb_server: MongodbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, inner = uuid.uuid4().hex, AsyncCollection.bulk_write
    answers = iter([False, True])

    async def bulk_write(self: Any, *args: Any, **options: Any) -> Any:
        result = await inner(self, *args, **options)
        if not next(answers):
            raise pymongo.errors.NetworkTimeout("the answer was lost")
        return result

    monkeypatch.setattr(AsyncCollection, "bulk_write", bulk_write)
    batches = [sample(0, 50)]
    async with lend_context(tmp_path) as context, writing(shared_mongodb_server, name).open(context) as writer:
        with pytest.raises(TransientError):
            await writer.write(batches)
        await writer.write(batches)
    assert [row["id"] for row in found(shared_mongodb_server, name)] == list(range(50))


async def test_operations_and_collections_are_those_of_each_row(
    shared_mongodb_server: MongodbServer, tmp_path: Path
) -> None:
    prefix = uuid.uuid4().hex
    output = writing(
        shared_mongodb_server,
        "unused",
        operation={"type": "expr", "expr": "op"},
        key=["id"],
    ).model_copy(update={"collection": Mongodb.model_fields["collection"].annotation(sql="place")})
    rows = pa.record_batch(
        {
            "op": ["insert", "upsert", "update", "delete", "replace", "insert"],
            "id": [1, 2, 1, 2, 3, 4],
            "place": [prefix] * 5 + [f"{prefix}b"],
            "v": ["a", "b", "c", "d", "e", "f"],
        }
    )
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        await writer.write([rows])
        with pytest.raises(RowsRejected) as refused:
            await writer.write([rows.slice(0, 1).set_column(0, "op", pa.array(["destroy"]))])
    assert "destroy" in refused.value.reasons[0]
    assert [(row["id"], row["v"]) for row in found(shared_mongodb_server, prefix)] == [(1, "c"), (3, "e")]
    assert [row["v"] for row in found(shared_mongodb_server, f"{prefix}b")] == ["f"]


async def test_an_upsert_keeps_what_the_row_does_not_bring(
    shared_mongodb_server: MongodbServer, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex
    output = writing(shared_mongodb_server, name, operation="upsert", key=["id"])
    rows = pa.record_batch({"id": [1, 2], "a": [5, None], "b": [None, None]})
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        await writer.write([pa.record_batch({"id": [1, 2], "a": [1, 1], "b": [1, 1]})])
        await writer.write([mark(rows, {"b": pa.array([True, False]).to_numpy(zero_copy_only=False)})])
    assert found(shared_mongodb_server, name) == [{"id": 1, "a": 5, "b": 1}, {"id": 2, "a": None, "b": None}]


async def test_operators_in_keys_and_names_do_nothing(shared_mongodb_server: MongodbServer, tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    output = writing(shared_mongodb_server, name, operation="upsert", key=["id"])
    struct = pa.array([{"$gt": ""}], pa.struct([("$gt", pa.string())]))
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        for rows in (
            pa.record_batch({"id": struct, "v": [1]}),
            pa.record_batch({"id": pa.array([None], pa.int64())}),
            pa.record_batch({"id": [1], "a.b": [1]}),
            pa.record_batch({"id": [1], "$inc": [1]}),
        ):
            with pytest.raises(RowsRejected):
                await writer.write([rows])
    assert found(shared_mongodb_server, name) == []


def test_every_value_has_one_form() -> None:
    moment = datetime.datetime(2024, 2, 29, 12, 30, 15, 250999)
    rows = pa.record_batch(
        {
            "decimal": pa.array([decimal.Decimal("12.3400")]),
            "uint64": pa.array([2**64 - 1], pa.uint64()),
            "ns": pa.array([moment], pa.timestamp("ns")),
            "before": pa.array([-1], pa.timestamp("us")),
            "far": pa.array([2**40], pa.timestamp("s")),
            "date": pa.array([datetime.date(2024, 2, 29)]),
            "list": pa.array([[{"a": moment}, None]]),
            "map": pa.array([[("k", [1])]], pa.map_(pa.string(), pa.list_(pa.int64()))),
        }
    )
    (document,) = documents(rows, decimals_as_text=False)
    options: Any = bson.CodecOptions(datetime_conversion=bson.codec_options.DatetimeConversion.DATETIME_MS)
    read = bson.decode(bson.encode(document), options)
    assert str(read["decimal"]) == "12.3400"
    assert str(read["uint64"]) == str(2**64 - 1)
    whole = bson.datetime_ms.DatetimeMS(moment.replace(microsecond=250000, tzinfo=datetime.UTC))
    assert read["ns"] == read["list"][0]["a"] == whole
    assert int(read["before"]) == -1
    assert int(read["far"]) == 2**40 * 1000
    assert read["list"][1] is None
    assert read["map"] == {"k": [1]}


async def test_a_server_that_is_cut_off_killed_or_frozen_loses_nothing(
    mongodb_server: MongodbServer, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    async with fault_proxy(mongodb_server.port) as proxy, lend_context(tmp_path) as context:
        output = writing(mongodb_server, "rows", port=proxy.port, timeout="1s")
        async with output.open(context) as writer:

            async def write(start: int) -> bool:
                """Write as the stream does: the same batches until they are written."""
                batches = [sample(start, 10)]

                async def is_written() -> bool:
                    try:
                        await writer.write(batches)
                    except (TransientError, ConnectionLost):
                        return False
                    return True

                return bool(await until(is_written))

            await write(0)
            await proxy.cut()
            await write(10)
            proxy.passing.clear()
            with pytest.raises(TransientError):
                await writer.write([sample(20, 10)])
            await proxy.cut()
            proxy.passing.set()
            await asyncio.to_thread(mongodb_server.kill)
            with pytest.raises(TransientError):
                await writer.write([sample(20, 10)])
            await asyncio.to_thread(mongodb_server.start)
            await write(20)
            mongodb_server.pause()
            batches = [sample(30, 10)]
            with pytest.raises(TransientError):
                await writer.write(batches)
            mongodb_server.resume()
            await write(40)
    ids = [row["id"] for row in found(mongodb_server, "rows")]
    assert set(ids) >= {*range(30), *range(40, 50)}
    assert len(ids) == len(set(ids))


async def test_who_may_not_write_is_told_without_the_password(
    shared_mongodb_server: MongodbServer, tmp_path: Path
) -> None:
    uri = shared_mongodb_server.url.replace(shared_mongodb_server.password, "not-the-password")
    output = Mongodb.model_validate({"uri": uri, "database": "tests", "collection": "c"})
    async with lend_context(tmp_path) as context:
        with pytest.raises(PenstockError) as refused:
            async with output.open(context):
                pass
    assert isinstance(refused.value, ConnectionLost)
    assert "not-the-password" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"uri": "http://x"}, "expected mongodb://"),
        ({"uri": "mongodb://x/?w=0"}, "w=majority"),
        ({"database": "a.b"}, "database"),
        ({"operation": "upsert"}, "expected a `key`"),
        ({"operation": "drop"}, "expected one of insert"),
        ({"codec": "json"}, "a document has fields"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], reason: str) -> None:
    given = {"uri": "mongodb://127.0.0.1", "database": "d", "collection": "c", **options}
    with pytest.raises((ValidationError, ValueError), match=reason):
        Mongodb.model_validate(given)
