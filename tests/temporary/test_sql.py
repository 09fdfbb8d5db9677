"""The temporary table `sql`: rows looked up in a database, and joined by queries."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from pydantic import ValidationError

from penstock import ConfigError, Engine, Stream, loads
from penstock.component import Temporary
from penstock.outputs import memory
from penstock.temporary.sql import Sql
from penstock.testing.suites import TemporarySuite

TABLE = "CREATE TABLE sites (id text, site text, level bigint)"
INSERT = "INSERT INTO sites VALUES ('a', 'north', 1), ('b', NULL, 2), ('ünï ''q\"', 'south', 3), (NULL, 'nobody', 4)"


class TestSqlite(TemporarySuite):
    can_break = True

    @pytest.fixture
    def component(self, tmp_path: Path) -> Temporary:
        self.path = tmp_path / "sites.db"
        self.make()
        url = f"sqlite:///{self.path}"
        return Temporary.parse(
            {"type": "sql", "name": "sites", "url": url, "select_sql": "SELECT * FROM sites", "key": "id"}
        )

    def make(self) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(TABLE)
            database.execute(INSERT)

    async def break_it(self, component: Temporary) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("DROP TABLE sites")

    async def mend_it(self, component: Temporary) -> None:
        self.make()


class TestNumbers(TemporarySuite):
    rows = {"7": [{"id": 7, "n": "x"}, {"id": 7, "n": "y"}], "-8": [{"id": -8, "n": "z"}]}

    @pytest.fixture
    def component(self, tmp_path: Path) -> Temporary:
        with closing(sqlite3.connect(tmp_path / "t.db")) as database, database:
            database.execute("CREATE TABLE t (id INTEGER, n TEXT)")
            database.execute("INSERT INTO t VALUES (7, 'x'), (7, 'y'), (-8, 'z')")
        return Sql(name="t", url=f"sqlite:///{tmp_path / 't.db'}", select_sql="SELECT id, n FROM t", key="id")


class TestDuckdb(TemporarySuite):
    @pytest.fixture
    def component(self, tmp_path: Path) -> Temporary:
        with duckdb.connect(str(tmp_path / "sites.duckdb")) as database:
            database.execute(TABLE)
            database.execute(INSERT)
        return Sql(name="t", url=f"duckdb:///{tmp_path / 'sites.duckdb'}", select_sql="SELECT * FROM sites", key="id")


@pytest.mark.server
class TestPostgres(TemporarySuite):
    @pytest.fixture
    def component(self, postgres_url: str) -> Temporary:
        with psycopg.connect(postgres_url) as database:
            database.execute("DROP TABLE IF EXISTS sites")
            database.execute(TABLE)
            database.execute(INSERT)
        return Sql(name="t", url=postgres_url, select_sql="SELECT * FROM sites", key="id")


CONFIGURATION = """
streams:
  - id: enriched
    input:
      type: memory
      codec: json
      messages: ['{"n":1,"s":"a"}', '{"n":2,"s":null}', '{"n":3,"s":"zz"}', '{"n":4,"s":"a"}']
    temporary:
      - {type: sql, name: sites, url: "sqlite:///%(path)s", select_sql: SELECT id AS key FROM sites, key: key}
      - {type: sql, name: sites-2, url: "sqlite:///%(path)s", select_sql: "SELECT id, site FROM sites", key: id}
    pipeline:
      processors:
        - type: sql
          query: |
            SELECT n, x.key, y.site FROM flow LEFT JOIN x ON flow.s = x.key LEFT JOIN y ON flow.s = y.id ORDER BY n;
            SELECT * FROM flow WHERE n <> 4
          temporary_list:
            - {name: sites, table_name: x, key: {type: expr, expr: s}}
            - {name: sites-2, table_name: y, key: {type: expr, expr: s}}
    output: {type: memory, key: enriched}
state: memory
health_check: {enabled: false}
"""


def database(tmp_path: Path, rows: str) -> str:
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection, connection:
        connection.execute("CREATE TABLE sites (id TEXT, site TEXT)")
        if rows:
            connection.execute(f"INSERT INTO sites VALUES {rows}")
    return str(tmp_path / "t.db")


@pytest.mark.parametrize("rows", ["('a', 'north')", ""])
async def test_missing_and_null_keys_give_nulls_in_each_batch(tmp_path: Path, rows: str) -> None:
    memory.clear("enriched")
    text = CONFIGURATION % {"path": database(tmp_path, rows)}
    await Engine(loads(text).all_streams(), state="memory", data=tmp_path).run()
    site, key = ("north", "a") if rows else (None, None)
    assert sorted(memory.rows("enriched"), key=lambda row: int(row["n"])) == [
        {"n": 1, "key": key, "site": site},
        {"n": 2, "key": None, "site": None},
        {"n": 3, "key": None, "site": None},
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: sites-2, table", "name: other, table", "looks rows up in 'other', which `temporary` does not name"),
        ("name: sites-2, url", "name: sites, url", "two tables of `temporary` are called 'sites'"),
        ("table_name: y", "table_name: x", "two tables are called 'x'"),
        ("LEFT JOIN y", "LEFT JOIN z", "table 'datafusion.public.z' not found"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loads((CONFIGURATION % {"path": "t.db"}).replace(old, new))


class Counted:
    """How often the database was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from penstock.temporary import sql

        self.asked: list[list[str]] = []
        statement = sql._SqlLookup._statement

        def counted(lookup: Any, keys: Any) -> str:
            self.asked.append(list(keys))
            return statement(lookup, keys)

        monkeypatch.setattr(sql._SqlLookup, "_statement", counted)


@pytest.mark.parametrize("ttl", ["1h", None])
async def test_what_was_found_and_that_nothing_was_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ttl: str | None
) -> None:
    counted = Counted(monkeypatch)
    memory.clear("enriched")
    stream = Stream.model_validate(
        {
            "input": {"type": "memory", "codec": "json", "messages": ['{"s":"a"}', '{"s":"b"}', '{"s":"a"}'] * 3},
            "temporary": [
                {
                    "type": "sql",
                    "name": "t",
                    "url": f"sqlite:///{database(tmp_path, chr(40) + chr(39) + 'a' + chr(39) + ', NULL)')}",
                    "select_sql": "SELECT id, site FROM sites",
                    "key": "id",
                    "cache_ttl": ttl,
                }
            ],
            "pipeline": [
                {
                    "type": "sql",
                    "query": "SELECT s, id FROM flow LEFT JOIN t ON s = id",
                    "temporary_list": [{"name": "t", "table_name": "t", "key": {"type": "expr", "expr": "s"}}],
                }
            ],
            "output": {"type": "memory", "key": "enriched"},
        }
    )
    await Engine([stream], state="memory", data=tmp_path).run()
    assert [row["id"] for row in memory.rows("enriched")] == ["a", None, "a"] * 3
    keys = [key for asked in counted.asked for key in asked]
    assert sorted(set(keys)) == ["a", "b"]
    assert (len(keys) == 2) == (ttl is not None)


async def test_the_cache_forgets_what_is_too_old_or_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    from penstock.runtime.lookup import OpenLookup
    from penstock.testing.clock import StandingClock
    from penstock.testing.contexts import lend_context

    counted, clock = Counted(monkeypatch), StandingClock()
    path = database(tmp_path, ", ".join(f"('{n}', '{n}')" for n in range(50)))
    table = Sql(
        name="t",
        url=f"sqlite:///{path}",
        select_sql="SELECT id, site FROM sites",
        key="id",
        cache_ttl="60s",
        cache_size=10,
    )
    async with lend_context(tmp_path, clock=clock) as context:
        lookup = OpenLookup(table, context)
        for _ in range(3):
            for start in range(0, 50, 5):
                keys = [str(n) for n in range(start, start + 5)]
                found = await lookup.find(pa.array(keys))
                assert found.rows.column("site").to_pylist() == keys
                again = await lookup.find(pa.array([*keys[::-1], "none"]))
                assert again.rows.column("site").to_pylist() == keys[::-1]
        times = len(counted.asked)
        await lookup.find(pa.array(["49"]))
        assert len(counted.asked) == times
        clock.now += 61
        await lookup.find(pa.array(["49"]))
        assert len(counted.asked) == times + 1
        await lookup.close()


def test_a_codec_makes_no_sense_for_a_database() -> None:
    with pytest.raises(ValidationError, match="a database has columns"):
        Sql(name="t", url="sqlite:///t.db", select_sql="SELECT 1 AS id", key="id", codec="json")
