"""A write-ahead log in a bucket: what is acked is there, another machine goes on, and a stale writer writes no more."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pytest
from obstore.store import S3Store
from pydantic import ValidationError

from penstock import Stream
from penstock.durability import Durability
from penstock.errors import TransientError
from penstock.observe.metrics import StreamMetrics
from penstock.runtime import logbucket
from penstock.runtime.logbucket import LogTaken
from penstock.runtime.wal import Wal, open_wal
from penstock.state.memory import MemoryStore
from penstock.testing.contexts import lend_context


@pytest.fixture
def backend(s3_endpoint: str) -> dict[str, Any]:
    s3 = {"bucket": "penstock", "region": "us-east-1", "endpoint": s3_endpoint, "allow_http": True}
    return {
        "type": "object_store",
        "node_id": "node-1",
        "stream_id": uuid.uuid4().hex,
        "s3": {**s3, "access_key_id": "a", "secret_access_key": "not-shown"},
        "cursor": {"max_entries": 1},
    }


def objects(backend: dict[str, Any]) -> list[str]:
    """Return the names of the objects of a log."""
    store = connect(backend)
    prefix = f"penstock/wal/node-1/{backend['stream_id']}/"
    return sorted(meta["path"].removeprefix(prefix) for chunk in obstore.list(store, prefix) for meta in chunk)


def connect(backend: dict[str, Any]) -> S3Store:
    config = {
        "access_key_id": "a",
        "secret_access_key": "b",
        "region": "us-east-1",
        "endpoint": backend["s3"]["endpoint"],
    }
    return S3Store("penstock", config=config, client_options={"allow_http": True})  # type: ignore[arg-type]


@asynccontextmanager
async def opened(folder: Path, backend: dict[str, Any], store: MemoryStore | None = None) -> AsyncIterator[Wal]:
    options = Durability.model_validate({"backend": backend})
    async with (
        lend_context(folder, store, "log") as context,
        open_wal(options, context, StreamMetrics("log"), asyncio.Event()) as wal,
    ):
        yield wal


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch({"n": list(numbers)})


async def rows(wal: Wal, count: int, *, ack: bool = True) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        delivery = await wal.read()
        found += delivery.batch.column("n").to_pylist()
        if ack:
            await delivery.ack()
    return found


COMPRESSIONS = [{"type": "none"}, {"type": "zstd", "level": 5}, {"type": "lz4", "level": 9}]


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=[str(one["type"]) for one in COMPRESSIONS])
async def test_another_machine_goes_on_with_what_was_acked(
    tmp_path: Path, backend: dict[str, Any], compression: dict[str, Any]
) -> None:
    backend["compression"] = compression
    async with opened(tmp_path / "one", backend) as wal:
        for number in range(5):
            await wal.append(batch(number))
        assert await rows(wal, 5, ack=False) == list(range(5))
    async with opened(tmp_path / "two", backend) as wal:  # nothing but the bucket is left
        await wal.append(batch(5))
        assert await rows(wal, 6) == list(range(6))


async def test_what_is_written_downstream_is_noted_and_leaves_the_bucket(
    tmp_path: Path, backend: dict[str, Any]
) -> None:
    async with opened(tmp_path / "one", backend) as wal:
        for number in range(4):
            await wal.append(batch(number))
        assert len(await asyncio.to_thread(objects, backend)) == 5
        assert await rows(wal, 4) == list(range(4))
        for number in (4, 5):
            await wal.append(batch(number))
    assert len(await asyncio.to_thread(objects, backend)) <= 4
    async with opened(tmp_path / "other", backend, MemoryStore()) as wal:
        assert await rows(wal, 2) == [4, 5]
    async with opened(tmp_path / "two", backend) as wal:
        await wal.append(batch(6))
        found = await rows(wal, 1)
        while found[-1] != 6:  # a position that was not noted any more: these rows come twice
            found += await rows(wal, 1)
        assert found == [4, 5, 6][-len(found) :]


async def test_a_stale_writer_acks_nothing_any_more_and_loses_nothing(tmp_path: Path, backend: dict[str, Any]) -> None:
    async with opened(tmp_path / "one", backend) as stale:
        await stale.append(batch(1))
        async with opened(tmp_path / "two", backend) as owner:
            await owner.append(batch(2))
            for _ in range(2):
                with pytest.raises(TransientError, match="has taken over"):
                    await stale.append(batch(3))
            await rows(stale, 1, ack=False)
            with pytest.raises(LogTaken, match="another `node_id`"):
                await stale.read()
            assert await rows(owner, 2) == [1, 2]
            await owner.append(batch(4))
            assert await rows(owner, 1) == [4]


async def test_what_the_stale_writer_stored_last_is_not_overwritten(tmp_path: Path, backend: dict[str, Any]) -> None:
    async with opened(tmp_path / "one", backend) as stale, opened(tmp_path / "two", backend) as owner:
        with pytest.raises(TransientError, match="has taken over"):  # it is in the bucket, and not acked
            await stale.append(batch(1))
        with pytest.raises(TransientError, match="has taken over"):
            await owner.append(batch(2))
    async with opened(tmp_path / "two", backend) as owner:
        await owner.append(batch(2))
        assert await rows(owner, 2) == [1, 2]


async def test_an_answer_that_is_lost_stores_nothing_twice(
    tmp_path: Path, backend: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = logbucket.LogBucket._put, 0

    def losing(self: logbucket.LogBucket, name: str, body: bytes, mode: str) -> None:
        nonlocal calls
        calls += 1
        put(self, name, body, mode)
        if calls == 2:
            raise OSError("the answer was lost")

    monkeypatch.setattr(logbucket.LogBucket, "_put", losing)
    async with opened(tmp_path / "one", backend) as wal:
        for number in range(3):
            await wal.append(batch(number))
    assert calls == 5
    async with opened(tmp_path / "two", backend) as wal:
        assert await rows(wal, 3) == [0, 1, 2]


async def test_a_file_that_was_never_stored_was_never_acked(tmp_path: Path, backend: dict[str, Any]) -> None:
    async with opened(tmp_path / "one", backend) as wal:
        await wal.append(batch(0))
        await wal.append(batch(1))
    last = (await asyncio.to_thread(objects, backend))[-2]
    await asyncio.to_thread(obstore.delete, connect(backend), f"penstock/wal/node-1/{backend['stream_id']}/{last}")
    (tmp_path / "one" / "wal" / "log" / "closed.json").unlink()  # as after a crash
    async with opened(tmp_path / "one", backend) as wal:
        await wal.append(batch(2))
        assert await rows(wal, 2) == [0, 2]


async def test_a_store_that_is_away_is_waited_for(tmp_path: Path, backend: dict[str, Any]) -> None:
    backend["s3"] = {**backend["s3"], "endpoint": "http://127.0.0.1:1"}
    options = Durability.model_validate({"backend": backend})
    metrics, stop = StreamMetrics("log"), asyncio.Event()
    async with lend_context(tmp_path, None, "log") as context:
        opening = asyncio.ensure_future(open_wal(options, context, metrics, stop).__aenter__())
        while metrics.condition.trouble is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert "not-shown" not in metrics.condition.trouble
        stop.set()
        with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
            await opening


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"sync": "per_entry"}, "per_entry"),
        ({"node_id": "a/b"}, "node_id"),
        ({"segment": {"max_entries": 0}}, "max_entries"),
        ({"parallel_put": {"workers": 9}}, "workers"),
        ({"compression": {"type": "lz4", "level": 17}}, "level"),
        ({"compression": {"type": "none", "level": 1}}, "level"),
    ],
)
def test_options_that_cannot_be_are_refused(backend: dict[str, Any], options: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        Durability.model_validate({"backend": {**backend, **options}})
    with pytest.raises(ValidationError, match="per_entry"):
        Durability.model_validate({"sync": "per_entry", "backend": backend})


def test_all_documented_options_are_taken(backend: dict[str, Any]) -> None:
    more = {
        "prefix": "a/b",
        "sync": "periodic",
        "interval": "10ms",
        "segment_tuning": {"strategy": "aggressive", "max_entries": 5},
        "cursor": {"max_entries": 10, "interval": "2s"},
        "parallel_put": {"workers": 4, "shutdown_timeout": "30s"},
    }
    options = Durability.model_validate({"backend": {**backend, **more}})
    assert options.bucket is not None
    assert (options.bucket.limits.max_entries, options.bucket.limits.max_bytes) == (5, 10 << 20)
    assert options.bucket.root == f"a/b/node-1/{backend['stream_id']}"
    assert options.pause == 0.01
    assert Durability.model_validate(json.loads(options.model_dump_json(exclude_unset=True))).bucket is not None
    assert "not-shown" not in repr(options)
    stream = {"input": {"type": "memory"}, "output": "drop", "durability": {"backend": backend}}
    assert Stream.model_validate(stream).durability is not None
