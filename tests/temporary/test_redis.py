"""The temporary table `redis`: rows looked up by their keys."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import pyarrow as pa
import pytest
from pydantic import ValidationError
from redis import Redis as Client

from penstock.component import Temporary
from penstock.errors import PermanentError
from penstock.temporary.redis import Redis
from penstock.testing.contexts import lend_context
from penstock.testing.servers import RedisServer
from penstock.testing.suites import TemporarySuite

pytestmark = pytest.mark.server


def table(server: RedisServer, prefix: str, kind: str = "string", **options: Any) -> Redis:
    mode = {"type": "single", "url": server.url}
    return Redis.model_validate({"name": "t", "mode": mode, "redis_type": {"type": kind}, "prefix": prefix, **options})


class TestString(TemporarySuite):
    knows_columns = False
    kind = "string"

    @pytest.fixture
    def component(self, shared_redis_server: RedisServer) -> Temporary:
        prefix = f"{uuid.uuid4().hex}:"
        with Client.from_url(shared_redis_server.url) as client:
            for key, rows in self.rows.items():
                for row in rows:
                    self.put(client, f"{prefix}{key}", row)
        return table(shared_redis_server, prefix, self.kind)

    def put(self, client: Any, name: str, row: Any) -> None:
        client.set(name, json.dumps(row))


class TestList(TestString):
    kind = "list"
    rows = {"1": [{"id": 1, "n": "x"}, {"id": 1, "n": "y"}], "2": [{"id": 2, "n": "z"}]}

    def put(self, client: Any, name: str, row: Any) -> None:
        client.rpush(name, json.dumps(row))


class TestHash(TestString):
    kind = "hash"
    rows = {"1": [{"id": "1", "n": "x"}], "2": [{"id": "2", "n": "z"}]}

    def put(self, client: Any, name: str, row: Any) -> None:
        client.hset(name, mapping=row)


async def test_the_rows_of_a_payload_are_those_of_its_key(shared_redis_server: RedisServer, tmp_path: Path) -> None:
    with Client.from_url(shared_redis_server.url) as client:
        client.mset({"p:a": "[]", "p:b": '[{"n": 1}, {"n": 2}]', "p:c": '{"n": 3}', "p:d": '{"n": 4.5, "m": "x"}'})
    async with lend_context(tmp_path) as context, table(shared_redis_server, "p:").open(context) as lookup:
        found = await lookup.find(pa.array(["a", "b", "c", "d"]))
    assert found.keys.to_pylist() == [1, 1, 2, 3]
    assert found.rows.column("n").to_pylist() == [1, 2, 3, 4.5]


async def test_what_cannot_be_read_names_its_key(shared_redis_server: RedisServer, tmp_path: Path) -> None:
    with Client.from_url(shared_redis_server.url) as client:
        client.mset({"q:a": '{"n": 1}', "q:b": "{nonsense"})
        client.delete("q:c")
        client.rpush("q:c", "x")
    async with lend_context(tmp_path) as context, table(shared_redis_server, "q:").open(context) as lookup:
        for key in ("b", "c"):
            with pytest.raises(PermanentError, match=f"q:{key}"):
                await lookup.find(pa.array(["a", key]))


def test_a_hash_has_no_codec_and_the_type_may_be_a_word() -> None:
    mode = {"type": "single", "url": "redis://h"}
    assert Redis.model_validate({"name": "t", "mode": mode, "redis_type": "list"}).redis_type.type == "list"
    with pytest.raises(ValidationError, match="columns"):
        Redis.model_validate({"name": "t", "mode": mode, "redis_type": "hash", "codec": "json"})
