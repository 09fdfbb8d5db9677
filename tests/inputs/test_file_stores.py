"""Files in object stores and on web servers."""

from __future__ import annotations

import asyncio
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from penstock.clients.object_store import S3
from penstock.component import Input
from penstock.errors import ConfigError, ConnectionLost
from penstock.inputs.file import File
from penstock.testing.servers import free_port, s3
from penstock.testing.suites.inputs import InputSuite

from .files import Reading, followed
from .test_file import CONTENTS, LINES, NUMBERS
from .test_file_follow import FAST

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3() as address:
        yield address


@pytest.fixture
def options(endpoint: str) -> dict[str, Any]:
    return {
        "type": "s3",
        "bucket_name": "penstock",
        "access_key_id": "key",
        "secret_access_key": "hidden",
        "region": "us-east-1",
        "endpoint": endpoint,
        "allow_http": True,
    }


@pytest.fixture
def bucket(options: dict[str, Any]) -> Iterator[Any]:
    """The live store, emptied afterwards."""
    store = S3.model_validate(options).connect()
    yield store
    for chunk in obstore.list(store):
        obstore.delete(store, [meta["path"] for meta in chunk])


class TestStored(InputSuite):
    """Lines of one object."""

    @pytest.fixture
    def component(self, options: dict[str, Any], bucket: Any) -> Input:
        obstore.put(bucket, "lines.json", LINES.encode())
        return File.model_validate({"path": "lines.json", "store": options, "chunk_size": 32})


@pytest.mark.parametrize("name", ["lines.json", "array.json", "lines.json.gz", "table.csv", "rows.parquet"])
async def test_reads_objects(tmp_path: Path, options: dict[str, Any], bucket: Any, name: str) -> None:
    obstore.put(bucket, f"in/{name}", CONTENTS[name])
    assert await Reading({"path": f"in/{name}", "store": options}, tmp_path).all() == NUMBERS


@pytest.mark.parametrize("name", ["rows.avro", "rows.arrow", "stream.ipc", "lines.json.zst"])
async def test_resumes_within_objects(tmp_path: Path, options: dict[str, Any], bucket: Any, name: str) -> None:
    obstore.put(bucket, name, CONTENTS[name])
    reading = Reading({"path": "", "store": options, "chunk_size": 24, "batch_rows": 3}, tmp_path)
    reading.options["path"] = "*"
    read: list[Any] = []
    for _ in range(30):
        read += await reading.all(most=1)
    assert read == NUMBERS


async def test_the_reference_form_with_a_store(tmp_path: Path, options: dict[str, Any], bucket: Any) -> None:
    obstore.put(bucket, "a.csv", CONTENTS["table.csv"])
    form = {"input_type": {"type": "csv", "path": "a.csv", "store": options}}
    assert await Reading(form, tmp_path).all() == NUMBERS
    total = {**form, "query": {"query": "SELECT sum(n) AS total FROM flow"}}
    assert await Reading(total, tmp_path).all() == [{"total": 190}]


async def test_folders_patterns_and_placeholders(tmp_path: Path, options: dict[str, Any], bucket: Any) -> None:
    for path in ("in/users/1.json", "in/users/deep/2.json", "in/orders/1.json", "in/README.md", "out/1.json"):
        obstore.put(bucket, path, b'{"n":1}\n')

    async def found(path: str) -> list[str]:
        return [ext["path"] for ext, _ in await Reading({"path": path, "store": options}, tmp_path).origins()]

    assert await found("in") == ["in/orders/1.json", "in/users/1.json", "in/users/deep/2.json"]
    assert await found("in/*/*.json") == ["in/orders/1.json", "in/users/1.json"]
    assert await found("**/2.json") == ["in/users/deep/2.json"]
    told = await Reading({"path": "{side}/users/*", "store": options}, tmp_path).origins()
    assert [ext for ext, _ in told] == [{"path": "in/users/1.json", "name": "1.json", "side": "in"}]


async def test_an_address_with_credentials_of_the_environment(
    tmp_path: Path, endpoint: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore.put(bucket, "in/a.json", LINES.encode())
    variables = {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "ENDPOINT_URL": endpoint, "REGION": "us-east-1"}
    for name, value in {**variables, "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    assert await Reading({"path": "s3://penstock/in/*.json"}, tmp_path).all() == NUMBERS


async def test_new_and_replaced_objects_are_followed(tmp_path: Path, options: dict[str, Any], bucket: Any) -> None:
    obstore.put(bucket, "in/a.json", b'{"n":1}\n')
    reading = Reading({"path": "in/*.json", "store": options, **FAST}, tmp_path)
    async with followed(reading) as follower:
        await follower.until([{"n": 1}])
        obstore.put(bucket, "in/b.json", b'{"n":2}')
        await follower.until([{"n": 1}, {"n": 2}])
        obstore.put(bucket, "in/a.json", b'{"n":1}\n{"n":3}\n')
        await follower.until([{"n": 1}, {"n": 2}, {"n": 3}])
        obstore.delete(bucket, "in/a.json")
        obstore.put(bucket, "in/c.json", b'{"n":4}\n')
        await follower.until([{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}])
    obstore.put(bucket, "in/b.json", b'{"n":5}\n')
    async with followed(reading) as follower:
        await follower.until([{"n": 5}])


async def test_an_object_replaced_while_it_is_read_is_never_mixed(
    tmp_path: Path, options: dict[str, Any], bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.inputs.file.content._WINDOW", 1 << 20)
    old, new = (b"".join(b'{"%b":%d}\n' % (name, number) for number in range(200_000)) for name in (b"n", b"m"))
    obstore.put(bucket, "a.json", old)
    reading = Reading({"path": "a.json", "store": options, "chunk_size": 1 << 18}, tmp_path)
    read: list[bytes] = []
    async with reading.opened() as (_, reader):
        read += (await reader.read()).batch.column(0).to_pylist()
        obstore.put(bucket, "a.json", new)
        while read[-1] != b'{"m":199999}\n':
            read += (await asyncio.wait_for(reader.read(), 60)).batch.column(0).to_pylist()
    begun = read.index(b'{"m":0}\n')
    assert b"".join(read[begun:]) == new
    assert old.startswith(b"".join(read[:begun]))


async def test_what_is_wrong_with_a_store_is_said_when_it_is_opened(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no object matches 'nothing/"):
        await Reading({"path": "nothing/*.json", "store": options}, tmp_path).all()
    with pytest.raises(ConfigError, match="bucket does not exist"):
        await Reading({"path": "a", "store": {**options, "bucket_name": "elsewhere"}}, tmp_path).all()
    away = {**options, "endpoint": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(ConnectionLost) as caught:
        await Reading({"path": "a.json", "store": away}, tmp_path).all()
    assert "hidden" not in str(caught.value)


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "lines.json").write_text(LINES)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None: ...

    handler = functools.partial(Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_a_file_of_a_web_server(tmp_path: Path, website: str) -> None:
    assert await Reading({"path": f"{website}/lines.json"}, tmp_path).all() == NUMBERS
    store = {"type": "http", "url": website}
    assert await Reading({"path": "lines.json", "store": store}, tmp_path).all() == NUMBERS
    with pytest.raises(ConfigError, match="cannot be listed"):
        await Reading({"path": "*.json", "store": store}, tmp_path).all()
    with pytest.raises(ConfigError, match="no object matches"):
        await Reading({"path": "missing.json", "store": store}, tmp_path).all()
