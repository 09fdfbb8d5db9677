"""What is wrong with the database and not with a row is waited for, shown, and never spilled into the error output."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psycopg
import pytest

from penstock import ConnectionLost, Engine, PermanentError
from penstock.outputs import memory
from penstock.testing.faults import Faults, FaultyOutput

from .streams import ERRORS, letters, lines, messages, run, stream, until

TAKEN = {
    "a permission": ("REVOKE INSERT ON t FROM {role}", "GRANT INSERT ON t TO {role}", "permission denied"),
    "the schema": ("REVOKE USAGE ON SCHEMA public FROM PUBLIC, {role}", "GRANT ALL ON SCHEMA public TO {role}", ""),
    "writing": (
        "ALTER ROLE {role} SET default_transaction_read_only = on",
        "ALTER ROLE {role} RESET default_transaction_read_only",
        "read-only",
    ),
    "the password": ("ALTER ROLE {role} PASSWORD 'other'", "ALTER ROLE {role} PASSWORD 'right'", "authentication"),
    "the login": ("ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN", "not permitted to log in"),
}


@pytest.mark.server
@pytest.mark.parametrize(("take", "give", "reason"), TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_what_somebody_takes_away_for_a_while_costs_no_row(
    take: str, give: str, reason: str, checkpoint: str, postgres_database: str, tmp_path: Path
) -> None:
    role = f"app_{os.getpid()}"
    memory.clear("errors")
    with psycopg.connect(postgres_database, autocommit=True) as owner:

        def sql(*statements: str) -> None:
            for statement in statements:
                owner.execute(statement.replace("{role}", role).encode())

        sql(
            "CREATE ROLE {role} LOGIN PASSWORD 'right'",
            "GRANT ALL ON SCHEMA public TO {role}",
            "CREATE TABLE t (n bigint)",
            "CREATE TABLE _penstock_checkpoints (key text PRIMARY KEY, position text NOT NULL)",
            "GRANT ALL ON t, _penstock_checkpoints TO {role}",
        )
        try:
            database = postgres_database.replace(postgres_database.split("@")[0], f"postgresql://{role}:right")
            source = lines(tmp_path / "in.json", [{"n": n} for n in range(50)], codec="json", follow=True)
            output = {"type": "sql", "url": database, "table_name": "t"}
            one = stream(input=source, output=output, error_output=ERRORS, checkpoint=checkpoint)
            engine, stop = Engine([one], data=tmp_path / "data"), asyncio.Event()
            running = asyncio.ensure_future(engine.run(stop))
            async with asyncio.timeout(100):
                await until(lambda: bool(engine.supervised) and engine.supervised[0].metrics.rows_out == 50)
                sql(take)
                if "default" in take or "LOGIN" in take or "PASSWORD" in take:
                    sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
                with (tmp_path / "in.json").open("a") as file:
                    file.writelines(f'{{"n": {n}}}\n' for n in range(50, 100))
                await until(lambda: not engine.supervised[0].status().is_well)
                await until(lambda: reason in str(engine.supervised[0].status().trouble))
                sql(give)
                await until(lambda: engine.supervised[0].metrics.rows_out == 100)
                await until(lambda: engine.supervised[0].status().is_well)
                stop.set()
                await running
            assert owner.execute("SELECT count(*), count(DISTINCT n) FROM t").fetchone() == (100, 100)
            assert letters() == []
        finally:
            sql("DROP OWNED BY {role}", "DROP ROLE {role}")


async def test_an_output_that_worked_and_is_refused_when_it_is_opened_again_costs_no_row(tmp_path: Path) -> None:
    output = FaultyOutput(
        memory.Memory(key="out"),
        opening=Faults({1: PermanentError("the password is wrong"), 2: PermanentError("it still is")}),
        writing=Faults({3: ConnectionLost("cut")}),
    )
    rows = await run(tmp_path, input=messages(20), output=output, error_output=ERRORS)
    assert [row["n"] for row in rows] == list(range(20))
    assert letters() == []


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(28, "no space"), MemoryError()])
async def test_a_fault_of_the_machine_costs_no_row(error: Exception, tmp_path: Path) -> None:
    output = FaultyOutput(memory.Memory(key="out"), writing=Faults({2: error, 3: error}))
    rows = await run(tmp_path, input=messages(20), output=output, error_output=ERRORS)
    assert [row["n"] for row in rows] == list(range(20))
    assert letters() == []
