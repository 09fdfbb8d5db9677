"""Positions of a later version, of another shape, deleted, replaced or emptied: told, and nothing is overwritten."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock.inputs.file.query  # noqa: F401 - so that nothing is imported while the loop runs
from penstock.checkpoint import FORMAT_KEY
from penstock.component import Input
from penstock.errors import ConfigError, ConnectionLost
from penstock.outputs.file.journal import Journal
from penstock.outputs.sql import Sql
from penstock.state import open_store
from penstock.state.memory import MemoryStore
from penstock.testing.contexts import lend_context

OLD = "CREATE TABLE _penstock_checkpoints (key TEXT PRIMARY KEY, position TEXT NOT NULL)"


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


async def test_positions_of_before_there_were_formats_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    change(path, OLD, "INSERT INTO _penstock_checkpoints VALUES ('a', '7')")
    for _ in range(2):
        async with open_store(path) as store:
            assert await store.load("a") == 7
            assert await store.load(FORMAT_KEY) == 1


LATER = [
    (OLD, "INSERT INTO _penstock_checkpoints VALUES ('_format', '2'), ('a', '{\"new\":1}')"),
    (OLD, "INSERT INTO _penstock_checkpoints VALUES ('_format', '{}')"),
    ("CREATE TABLE _penstock_checkpoints (key TEXT, position TEXT, epoch INT)",),
]


@pytest.mark.parametrize("statements", LATER)
async def test_a_file_of_a_later_version_is_refused_and_not_touched(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "state.db"
    change(path, *statements)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"state\.db.*nothing was changed"):
        async with open_store(path):
            pass
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state.db"]


@pytest.mark.parametrize("statements", LATER)
async def test_a_server_of_a_later_version_is_refused(postgres_database: str, statements: list[str]) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    with pytest.raises(ConfigError, match="nothing was changed"):
        async with open_store(postgres_database):
            pass


@pytest.mark.parametrize("statements", LATER)
@pytest.mark.parametrize("scheme", ["sqlite", "duckdb", "postgres"])
async def test_an_output_of_a_later_version_is_refused(
    tmp_path: Path, statements: list[str], scheme: str, request: pytest.FixtureRequest
) -> None:
    url = f"{scheme}:///{tmp_path}/out.db"
    if scheme == "postgres":
        url = request.getfixturevalue("postgres_database")
    output = Sql.parse({"type": "sql", "url": url, "table_name": "t"})
    async with lend_context(tmp_path, MemoryStore()) as context, output.open(context) as writer:
        for statement in statements:
            await writer._calls.run(writer._session.execute, statement)  # type: ignore[attr-defined]
        await writer._calls.run(writer._session.commit)  # type: ignore[attr-defined]
    async with lend_context(tmp_path, MemoryStore()) as context, output.open(context) as writer:
        with pytest.raises(ConfigError, match=r"format|columns"):
            await writer.load("a")  # type: ignore[attr-defined]


async def test_an_output_says_how_it_keeps_positions(tmp_path: Path) -> None:
    output = Sql.parse({"type": "sql", "url": f"sqlite:///{tmp_path}/out.db", "table_name": "t"})
    async with lend_context(tmp_path, MemoryStore()) as context, output.open(context) as writer:
        assert await writer.load("a") is None  # type: ignore[attr-defined]
        await writer.write_and_save([pa.RecordBatch.from_pylist([{"a": 1}])], {"a": 1})  # type: ignore[attr-defined]
        assert await writer.load(FORMAT_KEY) == 1  # type: ignore[attr-defined]


async def test_a_file_that_is_deleted_while_in_use_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    async with open_store(path) as store:
        await store.save({"a": 1, "b": 1})
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
        await store.save({"a": 2})
        assert "state.db was deleted while it was in use" in caplog.text
        assert "deleted while it was in use" in (store.notice or "")  # type: ignore[attr-defined]
    async with open_store(path) as store:
        assert (await store.load("a"), await store.load("b")) == (2, 1)


async def test_a_folder_that_is_deleted_while_in_use_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "data" / "state.db"
    async with open_store(path) as store:
        await store.save({"a": 1})
        shutil.rmtree(tmp_path / "data")
        await store.save({"a": 2})
    async with open_store(path) as store:
        assert await store.load("a") == 2


def deleted(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(b"")


def another(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE notes (text)")


@pytest.mark.parametrize("how", [deleted, truncated, another])
async def test_a_file_that_lost_its_positions_between_two_runs_is_told(
    tmp_path: Path, how: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    for _ in range(2):
        async with open_store(path) as store:
            assert store.notice is None  # type: ignore[attr-defined]
            await store.save({"a": 1})
    for extra in ("-wal", "-shm"):
        Path(f"{path}{extra}").unlink(missing_ok=True)
    how(path)
    async with open_store(path) as store:
        assert "rows may come twice" in (store.notice or "")  # type: ignore[attr-defined]
        assert "deleted, emptied or replaced since the last run" in caplog.text
        await store.save({"a": 2})
    async with open_store(path) as store:
        assert (store.notice, await store.load("a")) == (None, 2)  # type: ignore[attr-defined]


def replaced(path: Path) -> None:
    os.rename(path, f"{path}.old")
    change(path, OLD)


def emptied(path: Path) -> None:
    change(path, "DELETE FROM _penstock_checkpoints")


@pytest.mark.parametrize("how", [replaced, emptied])
async def test_a_file_that_is_replaced_or_emptied_while_in_use_is_told(
    tmp_path: Path, how: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    async with open_store(path) as store:
        await store.save({"a": 1})
        how(path)
        with pytest.raises(ConfigError, match="the position 'a' is gone"):
            await store.save({"a": 2})
        assert await store.load("a") is None
        await store.save({"a": 2})  # whoever opens the stream again has read what is there
        if how is replaced:
            assert "was replaced by another file" in caplog.text


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
async def test_a_database_that_is_deleted_while_it_is_written_is_noticed(tmp_path: Path, scheme: str) -> None:
    output = Sql.parse({"type": "sql", "url": f"{scheme}:///{tmp_path}/out/t.db", "table_name": "t"})
    async with lend_context(tmp_path, MemoryStore()) as context, output.open(context) as writer:
        await writer.write([pa.RecordBatch.from_pylist([{"a": 1}])])
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(ConnectionLost, match="deleted or replaced"):
            await writer.write([pa.RecordBatch.from_pylist([{"a": 2}])])


SHAPES: list[Any] = [
    7,
    "text",
    [],
    {},
    {"position": 1},
    {"position": "later", "rows": 0},
    {"position": [], "rows": 0},
    {"position": {"later": 1}, "rows": 0},
    {"position": {"1": [1, 2]}, "rows": 0},
    {"position": {"1": ["a"] * 9}, "rows": 0},
    {"position": {"1": [0] * 20}, "rows": 0},
]
INPUTS: list[dict[str, Any]] = [
    {"type": "file", "path": "{folder}/*.jsonl", "codec": "json", "follow": True},
    {"type": "file", "path": "{folder}/*.jsonl", "format": "json", "query": {"query": "SELECT * FROM flow"}},
    {"type": "sql", "url": "sqlite:///{folder}/in.db", "select_sql": "SELECT * FROM t"},
    {"type": "sql", "url": "sqlite:///{folder}/in.db", "select_sql": "SELECT * FROM t", "incremental": {"cursor": "a"}},
    {"type": "generate", "context": {"a": 1}, "count": 1, "codec": "json"},
    {"type": "memory", "messages": ["a"]},
]


class Everything(MemoryStore):
    """A store that has saved the same thing under every key."""

    def __init__(self, saved: Any) -> None:
        super().__init__()
        self.saved = saved

    async def load(self, key: str) -> Any:
        return self.saved


async def opened(config: dict[str, Any], folder: Path, saved: Any) -> None:
    (folder / "a.jsonl").write_text('{"a":1}\n')
    if not (folder / "in.db").exists():
        change(folder / "in.db", "CREATE TABLE t (a INTEGER)", "INSERT INTO t VALUES (1)")
    options = json.loads(json.dumps(config).replace("{folder}", str(folder)))
    store = Everything(saved)
    async with lend_context(folder, store) as context, Input.parse(options).open(context):
        pass
    assert store.positions == {}


@pytest.mark.parametrize("saved", SHAPES)
@pytest.mark.parametrize("config", INPUTS)
async def test_a_position_of_another_shape_is_refused_and_kept(
    tmp_path: Path, config: dict[str, Any], saved: Any
) -> None:
    with pytest.raises(ConfigError, match="has another shape"):
        await opened(config, tmp_path, saved)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(config=st.sampled_from(INPUTS), position=JSON)
async def test_any_position_is_understood_or_refused(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any], position: Any
) -> None:
    folder = tmp_path_factory.mktemp("shapes")
    try:
        await opened(config, folder, {"position": position, "rows": 0})
    except ConfigError as error:
        if "has another shape" not in str(error):
            raise


LINE = b'{"positions":{"a":%d},"files":{},"complete":[]}\n'


@pytest.mark.parametrize(
    "content",
    [
        LINE % 1 + b'{"positions":{"a":2},"files":{}~"complete":[]}\n' + LINE % 3,
        LINE % 1 + b'{"positions":{"a":2},"files":{},"complete":[],"epoch":1}\n',
        b"[1]\n",
    ],
)
def test_a_damaged_or_later_journal_is_refused_and_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="nothing was changed"):
        Journal(str(path), logging.getLogger("penstock")).open()
    assert path.read_bytes() == content
