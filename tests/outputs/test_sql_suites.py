"""The conformance suite on each of the databases."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import psycopg.rows
import pyarrow as pa
import pytest

from penstock.delivery import Batch
from penstock.outputs.sql import Sql
from penstock.testing.suites import OutputSuite


class SqlSuite(OutputSuite):
    transactional = True


class Keyed(SqlSuite):
    keyed = True
    rejects_rows = True
    ordered = False

    def with_bad_row(self) -> tuple[Batch, set[int]]:
        return self.sample(0, 5).set_column(0, "id", pa.array([0, None, 2, 3, None])), {1, 4}


class OnSqlite:
    keys: Sequence[str] = ()

    @pytest.fixture
    def component(self, tmp_path: Path) -> Sql:
        return Sql(url=f"sqlite:///{tmp_path}/new/rows.db", table_name="readings", key=list(self.keys))

    async def read_back(self, component: Sql) -> Sequence[dict[str, Any]]:
        connection = sqlite3.connect(component.database().path)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute("SELECT * FROM readings")]
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()


class OnPostgres:
    keys: Sequence[str] = ()

    @pytest.fixture
    def component(self, postgres_database: str) -> Sql:
        return Sql(url=postgres_database, table_name="readings", key=list(self.keys))

    async def read_back(self, component: Sql) -> Sequence[dict[str, Any]]:
        url = component.database().uri.get_secret_value()
        with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
            try:
                return connection.execute("SELECT * FROM readings").fetchall()
            except psycopg.errors.UndefinedTable:
                return []


class OnDuckdb:
    keys: Sequence[str] = ()

    @pytest.fixture
    def component(self, tmp_path: Path) -> Sql:
        return Sql(url=f"duckdb:///{tmp_path}/new/rows.duckdb", table_name="readings", key=list(self.keys))

    async def read_back(self, component: Sql) -> Sequence[dict[str, Any]]:
        with duckdb.connect(str(component.database().path)) as connection:
            try:
                return connection.sql("SELECT * FROM readings").to_arrow_table().to_pylist()
            except duckdb.CatalogException:
                return []


class TestSqlite(OnSqlite, SqlSuite):
    pass


class TestSqliteKeyed(OnSqlite, Keyed):
    keys = ("id",)


@pytest.mark.server
class TestPostgres(OnPostgres, SqlSuite):
    pass


@pytest.mark.server
class TestPostgresKeyed(OnPostgres, Keyed):
    keys = ("id",)


class TestDuckdb(OnDuckdb, SqlSuite):
    pass


class TestDuckdbKeyed(OnDuckdb, Keyed):
    keys = ("id",)
