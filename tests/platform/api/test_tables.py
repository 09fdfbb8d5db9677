"""Tables over the API of the platform: listed, browsed by key, filtered, counted, described, downloaded."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from penstock.application import Installation
from penstock.platform.api.app import build
from penstock.platform.database import Database
from penstock.platform.tables import questions

from .stored import HOSTILE, Stored, engine, stored

__all__ = ["engine", "stored"]


async def test_tables_are_listed_with_their_sizes(stored: Stored) -> None:
    stored.run("CREATE TABLE small (n INTEGER)")
    stored.run("INSERT INTO small VALUES (?)", [[n] for n in range(7)])
    stored.run("CREATE VIEW seen AS SELECT n FROM small")
    found = (await stored.get("/tables"))["data"]
    tables = {one["name"]: one for one in found["tables"] if one["place"] == "rows"}
    assert (tables["small"]["rows"], tables["small"]["is_exact"], tables["small"]["columns"]) == (7, True, 1)
    assert tables["seen"]["kind"] == "view"
    assert {one["name"] for one in found["places"]} >= {"rows", "platform"}
    names = {one["name"] for one in found["tables"] if one["place"] == "platform"}
    assert "penstock_users" in names
    assert not names & {"penstock_keys", "penstock_sessions", "penstock_links"}, "hashes of secrets are not shown"
    assert (await stored.get("/tables/platform/rows", status=404, table="penstock_keys"))["error"] == "not_found"


async def test_pages_follow_one_another_by_key_in_either_order(stored: Stored) -> None:
    stored.run("CREATE TABLE numbers (n INTEGER, name VARCHAR(20))")
    stored.run("INSERT INTO numbers VALUES (?, ?)", [[n % 5 if n % 4 else None, f"row {n}"] for n in range(23)])
    for given in ({}, {"sort": "n"}, {"sort": "n", "descending": True}, {"descending": True}, {"sort": "name"}):
        seen: list[Any] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await stored.rows("numbers", limit=4, **given, **cursor)
            seen += [tuple(row) for row in page["data"]["rows"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert sorted(name for _, name in seen) == sorted(f"row {n}" for n in range(23)), given
        values = [n for n, _ in seen]
        if given.get("sort") == "n":
            filled = [n for n in values if n is not None]
            assert filled == sorted(filled, reverse="descending" in given)
            assert values[len(filled) :] == [None] * 6, "nulls come last"
    by_name = (await stored.rows("numbers", limit=1, sort="name", descending="true"))["data"]
    shown = (await stored.get("/tables/rows/row", table="numbers", key=by_name["keys"][0]))["data"]
    assert shown["cells"] == by_name["rows"][0], "a key opens its row, whatever the rows are sorted by"
    first = await stored.rows("numbers", limit=4)
    for wrong in ({"cursor": "x"}, {"cursor": first["next_cursor"], "sort": "n"}, {"sort": "nothing"}, {"where": "x"}):
        await stored.rows("numbers", status=400, **wrong)


async def test_rows_are_filtered_counted_and_faceted(stored: Stored) -> None:
    stored.run("CREATE TABLE readings (sensor VARCHAR(20), celsius DOUBLE PRECISION)")
    stored.run(
        "INSERT INTO readings VALUES (?, ?)",
        [["kitchen", 21.5], ["kitchen", 19.0], ["Attic", 30.0], ["cellar", None]],
    )

    async def names(*where: Any) -> list[str]:
        return sorted(row[0] for row in (await stored.rows("readings", where=list(where)))["data"]["rows"])

    assert await names(["celsius", "gt", 20]) == ["Attic", "kitchen"]
    assert await names(["celsius", "gt", "20"], ["sensor", "eq", "kitchen"]) == ["kitchen"]
    assert await names(["celsius", "null"]) == ["cellar"]
    assert await names(["celsius", "notnull"], ["sensor", "ne", "kitchen"]) == ["Attic"]
    assert await names(["sensor", "contains", "TT"]) == ["Attic"]
    assert await names(["sensor", "starts", "ce"]) == ["cellar"]
    counted = await stored.get("/tables/rows/count", table="readings", where=[["sensor", "eq", "kitchen"]])
    assert counted["data"] == {"rows": 2, "is_exact": True}
    facet = (await stored.get("/tables/rows/facet", table="readings", column="sensor"))["data"]
    assert (facet["values"][0]["value"], facet["values"][0]["count"], facet["is_sample"]) == ("kitchen", 2, False)
    assert len((await stored.rows("readings", search="attic"))["data"]["rows"]) == 1
    found = (await stored.get("/tables/rows/statistics", table="readings"))["data"]
    about = {one["column"]: one for one in found}
    assert (about["celsius"]["nulls"], about["celsius"]["minimum"], about["celsius"]["maximum"]) == (1, 19.0, 30.0)
    for wrong in ([["x", "eq", 1]], [["celsius", "like", 1]], [["celsius", "eq"]], [["sensor", "eq", "a", "b"]]):
        await stored.rows("readings", status=400, where=wrong)


async def test_a_row_is_shown_whole_with_its_origin(stored: Stored) -> None:
    stored.run('CREATE TABLE one (n BIGINT, "__meta_source" VARCHAR(20), long TEXT)')
    stored.run("INSERT INTO one VALUES (?, ?, ?)", [[2**60, "http", "x" * 5000]])
    page = await stored.rows("one")
    [row] = page["data"]["rows"]
    assert row[0] == str(2**60), "no browser rounds it"
    assert len(row[2]) == questions.MAX_CELL_SIZE
    assert page["data"]["cut"] == [[0, 2]]
    shown = (await stored.get("/tables/rows/row", table="one", key=page["data"]["keys"][0]))["data"]
    assert len(shown["cells"][2]) == 5000
    assert shown["origin"] == {"__meta_source": "http"}
    stored.run("DELETE FROM one")
    await stored.get("/tables/rows/row", status=404, table="one", key=page["data"]["keys"][0])
    await stored.get("/tables/rows/row", status=400, table="one", key="xyz")


async def test_hostile_names_values_and_sizes_are_data(stored: Stored) -> None:
    name = HOSTILE.replace('"', '""')
    width = 1500  # PostgreSQL has at most 1600.
    stored.run(f'CREATE TABLE "{name}" ("{name}" TEXT)')
    stored.run(f'INSERT INTO "{name}" VALUES (?)', [[HOSTILE], ["y" * 10_000_000]])
    listed = [one["name"] for one in (await stored.get("/tables"))["data"]["tables"]]
    table = next(one for one in listed if one.startswith("<img"))
    page = await stored.rows(table, where=[[table, "starts", "<img"]], sort=table)
    assert page["data"]["rows"] == [[HOSTILE]]
    answer = await stored.api("GET", "/tables/rows/rows", params={"table": table})
    assert len(answer.content) < 3000, "ten megabytes are cut in the database"
    assert (await stored.get("/tables/rows/facet", table=table, column=table))["data"]["rows"] == 2
    assert len((await stored.get("/tables/rows/statistics", table=table))["data"]) == 1
    assert (await stored.get("/tables/rows/schema", table=table))["data"]["columns"][0]["name"] == table
    stored.run(f"CREATE TABLE wide ({', '.join(f'c{n} INTEGER' for n in range(width))})")
    stored.run(f"INSERT INTO wide (c{width - 1}) VALUES (7)")
    wide = await stored.rows("wide")
    assert len(wide["data"]["columns"]) == questions.MAX_PAGE_COLUMNS
    last = await stored.rows("wide", columns=[f"c{width - 1}"])
    assert last["data"]["rows"] == [[7]]
    whole = (await stored.get("/tables/rows/row", table="wide", key=wide["data"]["keys"][0]))["data"]
    assert whole["cells"][-1] == 7
    for unknown in ("nothing", 'wide"; DROP TABLE wide; --', "../x", "_penstock_checkpoints"):
        await stored.rows(unknown, status=404)
    await stored.get("/tables/nowhere/rows", status=404, table="wide")


async def test_a_text_is_seen_beyond_a_nul(stored: Stored) -> None:
    sign = "\1" if stored.engine == "postgres" else "\0"  # PostgreSQL stores no NUL
    stored.run("CREATE TABLE nuls (t VARCHAR(2000))")
    stored.run("INSERT INTO nuls VALUES (?)", [[f"a{sign}b"], [f"a{sign}{'é' * 1000}"]])
    page = await stored.rows("nuls")
    assert page["data"]["rows"] == [[f"a{sign}b"], [f"a{sign}{'é' * (questions.MAX_CELL_SIZE - 2)}"]]
    assert page["data"]["cut"] == [[1, 0]]
    shown = (await stored.get("/tables/rows/row", table="nuls", key=page["data"]["keys"][1]))["data"]
    assert shown["cells"] == [f"a{sign}{'é' * 1000}"]


async def test_tables_are_downloaded_as_they_are_filtered(stored: Stored) -> None:
    stored.run("CREATE TABLE readings (n INTEGER, celsius DOUBLE PRECISION, note VARCHAR(50))")
    stored.run(
        "INSERT INTO readings VALUES (?, ?, ?)",
        [[n, n / 4 if n else None, HOSTILE] for n in range(5000)],
    )
    where = json.dumps([["n", "lt", 3000]])
    found = {}
    for format in ("csv", "json", "jsonl", "parquet"):
        parameters = {"table": "readings", "format": format, "where": where}
        answer = await stored.api("GET", "/tables/rows/download", params=parameters)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-disposition"] == f'attachment; filename="readings.{format}"'
        found[format] = answer.content
    rows = list(csv.reader(io.StringIO(found["csv"].decode())))
    assert (rows[0], rows[1], len(rows)) == (["n", "celsius", "note"], ["0", "", HOSTILE], 3001)
    assert json.loads(found["json"])[2999] == {"n": 2999, "celsius": 749.75, "note": HOSTILE}
    assert [json.loads(line)["n"] for line in found["jsonl"].splitlines()] == list(range(3000))
    table = pq.read_table(io.BytesIO(found["parquet"]))
    assert (table.num_rows, table["celsius"][0].as_py(), table["n"][-1].as_py()) == (3000, None, 2999)
    answer = await stored.api("GET", "/tables/rows/download", params={"table": "nothing"})
    assert answer.status_code == 404
    audited = (await stored.get("/audit", action="table_downloaded"))["data"]
    assert isinstance(audited, list)


async def test_each_caller_sees_what_its_scopes_open(stored: Stored, tmp_path: Path) -> None:
    stored.run("CREATE TABLE readings (n INTEGER)")
    api = stored.api
    sender = await api.make("sensor", scopes=["toys.send"], user="sensor")
    reader = await api.make("reader", scopes=["inbox.read"], user="reader")
    mine = await api.make("mine", scopes=["toys.look"], user="mine")
    assert (await stored.get("/tables", by=sender))["data"] == {"places": [], "tables": []}
    await stored.get("/tables/rows/rows", status=404, table="readings", by=sender)
    found = (await stored.get("/tables", by=reader))["data"]
    assert {one["name"] for one in found["places"]} == {"rows"}
    await stored.get("/tables/platform/rows", status=404, table="penstock_users", by=reader)
    if stored.engine == "duckdb":
        return
    toys = Database.of(_url_of(api.service.installation, tmp_path), schema="toys")
    make = [
        *(["CREATE SCHEMA toys"] if toys.is_postgres else []),
        "CREATE TABLE toys (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT)",
        "CREATE TABLE secrets (id INTEGER PRIMARY KEY, name TEXT)",
    ]
    for statement in make:
        await toys.run(lambda connection, one=statement: connection.execute(text(one)), changes=True)  # type: ignore[misc]
    [me] = [one["id"] for one in (await stored.get("/users"))["data"] if one["name"] == "mine"]
    rows = f"INSERT INTO toys VALUES (1, {me}, 'ball'), (2, {me + 1}, 'doll'), (3, NULL, 'kite')"
    await toys.run(lambda connection: connection.execute(text(rows)), changes=True)
    await asyncio.to_thread(toys.close)
    found = (await stored.get("/tables", by=mine))["data"]
    assert [(one["name"], one["rows"]) for one in found["tables"]] == [("toys", None)], "none without an owner's column"
    page = await stored.get("/tables/toys/rows", table="toys", by=mine)
    assert [row[2] for row in page["data"]["rows"]] == ["ball"]
    everything = await stored.get("/tables/toys/rows", table="toys")
    keys = everything["data"]["keys"]
    answer = await api("GET", "/tables/toys/row", key=mine, params={"table": "toys", "key": keys[1]})
    assert answer.status_code == 404, "the row of another"
    for path, more in (("count", {}), ("facet", {"column": "name"})):
        got = (await stored.get(f"/tables/toys/{path}", table="toys", by=mine, **more))["data"]
        assert got["rows"] == 1
    answer = await api("GET", "/tables/toys/download", key=mine, params={"table": "toys", "format": "jsonl"})
    assert [json.loads(line)["name"] for line in answer.text.splitlines()] == ["ball"]
    answer = await api("POST", "/sql", key=mine, json={"sql": "SELECT * FROM toys", "place": "toys"})
    assert answer.status_code == 403


def _url_of(installation: Installation, tmp_path: Path) -> str:
    return installation.database or f"sqlite:///{tmp_path}/penstock-toys.db"


async def test_a_page_is_found_by_words_where_there_is_an_index(stored: Stored) -> None:
    if stored.engine == "duckdb":
        pytest.skip("DuckDB has no index of words without an extension")
    if stored.engine == "sqlite":
        stored.run("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)")
        stored.run("CREATE VIRTUAL TABLE notes_words USING fts5(body, content='notes', content_rowid='id')")
        stored.run(
            "CREATE TRIGGER n AFTER INSERT ON notes BEGIN "
            "INSERT INTO notes_words (rowid, body) VALUES (new.id, new.body); END"
        )
    else:
        stored.run(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, "
            "words tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED)"
        )
        stored.run("CREATE INDEX ON notes USING gin (words)")
    stored.run("INSERT INTO notes (id, body) VALUES (?, ?)", [[1, "a red ball"], [2, "redder"], [3, "ball, blue"]])
    assert (await stored.get("/tables/rows/schema", table="notes"))["data"]["is_searched"]
    for words, expected in (("ball", [1, 3]), ('red "ball', [1]), ("red OR -", [1]), ("zzz", [])):
        page = await stored.rows("notes", search=words)
        if words != "red OR -":
            assert [row[0] for row in page["data"]["rows"]] == expected, words
    assert "notes_words" not in {one["name"] for one in (await stored.get("/tables"))["data"]["tables"]}


async def test_a_question_that_takes_too_long_is_ended(stored: Stored) -> None:
    stored.run("CREATE TABLE one (n INTEGER)")
    stored.run("INSERT INTO one VALUES (1)")
    endless = {
        "sqlite": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) AS n FROM r",
        "postgres": "SELECT max(a) AS n FROM generate_series(1, 1000000000000) a",
        "duckdb": "SELECT max(a.i + b.i) AS n FROM range(100000000) a(i), range(100000000) b(i)",
    }[stored.engine]
    stored.run(f"CREATE VIEW endless AS {endless}")
    service = replace(stored.api.service)
    object.__setattr__(service, "tables", replace(stored.api.service.tables, timeout=0.3))
    stored.api.app = build(service)
    refused = await stored.rows("endless", status=503)
    assert refused["error"] == "too_slow"
    assert len((await stored.rows("one"))["data"]["rows"]) == 1
    service.tables.close()
