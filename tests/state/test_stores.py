import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import penstock.state.postgres  # noqa: F401 - so that nothing is imported while the loop runs
from penstock.errors import ConfigError, ConnectionLost, PermanentError
from penstock.keyedstate import Entry, Prune, Version
from penstock.state import open_store
from penstock.testing.servers import PostgresServer

POSITIONS: dict[str, Any] = {
    "a": {"position": {"offset": 7, "path": "ü.log"}, "rows": 2**40},
    "b/0": {"position": None, "rows": 0},
    "c": [1, "two", None, 3.5],
}


@pytest.fixture(params=["path", "sqlite", "postgres", "memory"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "path":
            return str(tmp_path / "new" / "state.db")
        case "sqlite":
            return f"sqlite:///{tmp_path}/state.db"
        case "postgres":
            return str(request.getfixturevalue("postgres_database"))
        case other:
            return str(other)


async def test_keeps_what_was_saved(where: str) -> None:
    async with open_store(where) as store:
        assert await store.load("a") is None
        await store.save(POSITIONS)
        await store.save({})
        assert {key: await store.load(key) for key in POSITIONS} == POSITIONS
        await store.save({"a": {"position": 8, "rows": 8}})
        assert await store.load("a") == {"position": 8, "rows": 8}
        assert await store.load("c") == POSITIONS["c"]


async def test_keeps_state_by_version(where: str) -> None:
    """The changes up to the base and those of the version count; others do not, and go once that is certain."""
    async with open_store(where) as store:
        assert await store.load_state("s", "n", Version()) == {}
        first: dict[tuple[str, str], Entry | None] = {("n", key): Entry(key.encode(), None) for key in ("b", "ü", "a")}
        await store.save_state("s", 5, first, Prune(0))
        await store.save_state("s", 5, first, Prune(0))
        await store.save_state("other", 5, {("n", "x"): Entry(b"1", None)}, Prune(0))
        assert await store.load_state("s", "n", Version()) == {}
        assert set(await store.load_state("s", "n", Version(5))) == {"b", "ü", "a"}
        assert await store.load_state("s", "m", Version(5)) == {}

        await store.save_state(
            "s", 8, {("n", "a"): Entry(b"lost", None)}, Prune(0, Version(5), list(first), is_certain=True)
        )
        second = {("n", "a"): Entry(b"new", 70.5), ("n", "b"): None, ("m", "a"): Entry(b"m", 10.0)}
        await store.save_state("s", 9, second, Prune(0))
        assert await store.load_state("s", "n", Version(5)) == {
            key: Entry(key.encode(), None) for key in ("b", "ü", "a")
        }
        found = await store.load_state("s", "n", Version(9, 5))
        assert found == {"ü": Entry("ü".encode(), None), "a": Entry(b"new", 70.5)}
        assert list(found) == ["ü", "a"], "what was put longest ago comes first"
        assert await store.load_state("s", "m", Version(9, 5)) == {"a": Entry(b"m", 10.0)}

        prune = Prune(20.0, Version(9, 5), list(second), has_void=True, is_certain=True)
        await store.save_state("s", 11, {("n", "c"): Entry(b"c", None)}, prune)
        assert await store.load_state("s", "n", Version(9, 8)) == found, "what never counted is gone"
        assert await store.load_state("s", "n", Version(11, 9)) == {**found, "c": Entry(b"c", None)}
        assert await store.load_state("s", "m", Version(11, 9)) == {}, "it has expired"
        assert set(await store.load_state("other", "n", Version(5))) == {"x"}


async def test_keeps_state_for_the_next_one(where: str) -> None:
    if where == "memory":
        return
    async with open_store(where) as store:
        await store.load_state("s", "n", Version())
        await store.save_state("s", 1, {("n", "k"): Entry(b"\x00v", 1.5)}, Prune(0))
    async with open_store(where) as store:
        assert await store.load_state("s", "n", Version(1)) == {"k": Entry(b"\x00v", 1.5)}


async def test_keeps_it_for_the_next_one(where: str) -> None:
    if where == "memory":
        return
    async with open_store(where) as store:
        await store.save(POSITIONS)
    async with open_store(where) as store:
        assert {key: await store.load(key) for key in POSITIONS} == POSITIONS


async def test_several_at_once(where: str) -> None:
    if where == "memory":
        return

    async def save(number: int) -> None:
        async with open_store(where) as store:
            for round in range(10):
                await store.save({f"{number}": round, f"{number}/second": round})

    await asyncio.gather(*(save(number) for number in range(6)))
    async with open_store(where) as store:
        assert [await store.load(str(number)) for number in range(6)] == [9] * 6


async def test_a_position_that_another_process_has_moved_is_not_overwritten(where: str) -> None:
    if where == "memory":
        return
    async with open_store(where) as store, open_store(where) as other:
        assert (await store.load("a"), await other.load("a")) == (None, None)
        await store.save({"a": 1, "b": 1})
        with pytest.raises(ConfigError, match="another process has moved the position 'a'"):
            await other.save({"c": 1, "a": 1})
        await store.save({"a": 2})
        assert await other.load("a") == 2
        assert await other.load("c") is None, "nothing of the call was saved"
        await other.save({"a": 3})  # It has seen it now: whoever opens the stream again reads it first.
        with pytest.raises(ConfigError):
            await store.save({"a": 3})


async def test_a_cancelled_save_leaves_the_store_usable(where: str) -> None:
    if where == "memory":
        return
    async with open_store(where) as store:
        saving = asyncio.create_task(store.save({"a": 1}))
        await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        await store.save({"a": 2})
        assert await store.load("a") == 2


async def test_a_position_that_is_not_json_saves_nothing(where: str) -> None:
    if where == "memory":
        return
    async with open_store(where) as store:
        with pytest.raises(TypeError):
            await store.save({"a": 1, "b": object()})
        assert await store.load("a") is None


@pytest.mark.crash
def test_what_save_returned_from_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    program = f"""
import asyncio, pathlib
from penstock.state import open_store
async def main():
    async with open_store({str(path)!r}) as store:
        for number in range(10**9):
            await store.save({{"a": number, "b": number}})
            print(number, flush=True)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split("\n")
    process.stdout.close()
    process.wait()
    said = int([line for line in [*lines, *rest] if line.strip()][-1])

    async def check() -> None:
        async with open_store(path) as store:
            a, b = await store.load("a"), await store.load("b")
            assert a == b
            assert said <= a <= said + 1

    asyncio.run(check())


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(PermanentError, match=r"state\.db.*not a database"):
        async with open_store(path):
            pass


async def test_another_writer_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with open_store(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        saving = asyncio.create_task(store.save({"a": 1}))
        await asyncio.sleep(0.2)
        assert not saving.done()
        other.execute("COMMIT")
        other.close()
        await saving
        assert await store.load("a") == 1


@pytest.mark.server
async def test_postgres_connects_again_after_a_restart(postgres_server: PostgresServer) -> None:
    async with open_store(postgres_server.url) as store:
        await store.save({"a": 1})
        await asyncio.to_thread(postgres_server.kill)
        with pytest.raises(ConnectionLost) as lost:
            await store.save({"a": 2})
        assert postgres_server.password not in str(lost.value)
        with pytest.raises(ConnectionLost):
            await store.load("a")
        await asyncio.to_thread(postgres_server.start)
        assert await store.load("a") == 1
        await store.save({"a": 3})
        assert await store.load("a") == 3


@pytest.mark.server
async def test_a_wrong_password_is_refused_and_not_shown(postgres_url: str) -> None:
    user, _, address = postgres_url.partition("@")
    wrong = user.rpartition(":")[0] + ":hunter2@" + address
    with pytest.raises(PermanentError, match="password authentication failed") as refused:
        async with open_store(wrong):
            pass
    assert "hunter2" not in str(refused.value)


async def test_an_unreadable_url_does_not_show_its_password() -> None:
    with pytest.raises(PermanentError, match="cannot be read") as refused:
        async with open_store("postgresql://me:hun%ter2@host/db"):
            pass
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize("where", ["mysql://a/b", "duckdb:///x", "http://x", "sqlite://x"])
async def test_other_urls_are_refused(where: str) -> None:
    with pytest.raises(ValueError, match=r"expected|not available"):
        async with open_store(where):
            pass
