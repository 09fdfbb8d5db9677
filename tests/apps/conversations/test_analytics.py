"""From lines to a lake, a warehouse and its models: each once, whatever is run again and killed, and right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.apps.conversations.analytics.checks import BRONZE, SILVER, run_checks
from penstock.apps.conversations.analytics.lake import Lake
from penstock.apps.conversations.analytics.models import PROJECT, read_models, select_models, transform
from penstock.apps.conversations.analytics.questions import QUESTIONS, answer_question
from penstock.apps.conversations.analytics.settings import Settings, read_settings
from penstock.apps.conversations.analytics.warehouse import building, load, reading
from penstock.apps.conversations.prices import Prices
from penstock.errors import ConfigError, PermanentError

from .conftest import SAMPLES, Stored, line

PRICES = Prices.load()
HOSTILE = "'; DROP TABLE raw.conversations; -- \x00 \u202e <script>"


@pytest.fixture
def talked(tmp_path: Path) -> Stored:
    stored = Stored(f"sqlite:///{tmp_path}/c.db")
    for file in sorted(SAMPLES.glob("*/*.jsonl")):
        stored.write(f"/logs/{file.parent.name}/{file.name}", [one for one in file.read_bytes().splitlines() if one])
    return stored


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(tmp_path, {})


def run(stored: Stored, settings: Settings, *, is_new: bool = False) -> tuple[int, int]:
    """Extract, load and transform; returns how many rows were extracted and loaded."""
    lake = Lake(settings)
    extracted = lake.extract(stored.database)
    with building(settings, is_new=is_new) as connection:
        loaded = load(connection, lake, stored.database, PRICES)
        transform(connection, settings)
    return extracted, loaded


def ask(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with reading(settings) as connection:
        found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
        return found


FACTS = {
    name: f"SELECT * FROM marts.{name} ORDER BY ALL"
    for name in ("fct_messages", "fct_tool_calls", "fct_file_operations", "dim_sessions")
}


@pytest.mark.slow
def test_what_is_run_again_adds_nothing_and_only_new_lines_are_read(talked: Stored, settings: Settings) -> None:
    first = run(talked, settings)
    assert first[0] == first[1] > 500
    assert run(talked, settings) == (0, 0)
    facts = {name: ask(settings, query) for name, query in FACTS.items()}
    late = line(content="late, of the year before", sessionId="old", at=-30_000_000)
    talked.write("/logs/shop/old.jsonl", [late, line("assistant", "answer", sessionId="old", at=5)])
    assert run(talked, settings) == (2, 2)
    messages = ask(settings, FACTS["fct_messages"])
    assert len(messages) == len(facts["fct_messages"]) + 2  # A10: what is late is a fact too
    incremental = {name: ask(settings, query) for name, query in FACTS.items()}
    assert run(talked, settings, is_new=True) == (0, first[0] + 2)
    assert {name: ask(settings, query) for name, query in FACTS.items()} == incremental
    assert (
        Lake(settings).extract(talked.database, is_backfill=True) == first[0] + 2
    )  # A7: a second backfill doubles nothing
    assert run(talked, settings, is_new=True)[1] == first[0] + 2
    assert {name: ask(settings, query) for name, query in FACTS.items()} == incremental


def test_all_models_have_the_columns_that_dashboards_know_and_keep_their_promises(
    talked: Stored, settings: Settings
) -> None:
    told = [{"type": "tool_use", "id": HOSTILE, "name": HOSTILE, "input": {"file_path": HOSTILE}}]
    talked.write(
        "/logs/b/x.jsonl", [line(content=HOSTILE, sessionId=HOSTILE), line("dream", told, sessionId=HOSTILE), b"{}"]
    )
    run(talked, settings)
    with reading(settings) as connection:
        broken = [(one.model, one.column, one.name, one.found) for one in run_checks(connection, (*BRONZE, *SILVER))]
        assert [one for one in broken if one[3] and one[2] != "not_after_ingested"] == []
        assert len(broken) > 90
        columns = dict(
            connection.execute("SELECT table_name, count(*) FROM information_schema.columns GROUP BY 1").fetchall()
        )
    least = {"stg_conversations": 21, "stg_messages": 14, "stg_tool_calls": 18, "int_messages_enriched": 23,
             "int_sessions_computed": 24, "int_tool_usage": 29, "agg_code_changes": 16, "agg_daily_summary": 35,
             "agg_hourly_activity": 22, "agg_session_metrics": 14, "agg_tool_efficiency": 19, "dim_date": 28,
             "dim_projects": 18, "dim_sessions": 33, "dim_tools": 25, "fct_file_operations": 22, "fct_messages": 22,
             "fct_tool_calls": 26}  # fmt: skip
    assert {name: count for name, count in least.items() if columns[name] < count} == {}
    assert ask(settings, "SELECT count(*) FROM marts.agg_hourly_activity") == [(168,)]


def test_each_question_of_the_dashboards_has_an_answer(talked: Stored, settings: Settings) -> None:
    run(talked, settings)
    answers = {one.id: answer_question(settings, one.id) for one in QUESTIONS}
    assert {id for id, found in answers.items() if not found.rows} == set()
    assert all(msgspec.json.encode(found) for found in answers.values())
    assert len(answers["active-hours"].rows) == 168
    assert sum(row[1] for row in answers["cost"].rows) > 1


def test_results_have_the_name_and_the_time_of_their_call_and_failures_are_seen(
    talked: Stored, settings: Settings
) -> None:
    edit = {
        "type": "tool_use",
        "id": "e",
        "name": "Edit",
        "input": {"file_path": "/a/b.py", "old_string": "x", "new_string": "y\nz"},
    }
    failed = [{"type": "tool_result", "tool_use_id": "e", "content": "no", "is_error": True}]
    talked.write(
        "/logs/shop/s.jsonl",
        [line("assistant", [edit], sessionId="t", at=0), line(content=failed, sessionId="t", at=7)],
    )
    run(talked, settings)
    found = (
        "SELECT entry_type, tool_name, estimated_execution_seconds, is_error, file_extension FROM marts.fct_tool_calls"
    )
    assert ask(settings, f"{found} WHERE session_id = 't' ORDER BY 1") == [
        ("tool_result", "Edit", 7.0, True, "py"),
        ("tool_use", "Edit", 7.0, False, "py"),
    ]
    operations = (
        "SELECT operation_type, lines_added, lines_removed FROM marts.fct_file_operations WHERE session_id = 't'"
    )
    assert ask(settings, operations) == [("edit", 2, 1)]


def test_a_session_in_two_projects_is_one_session(talked: Stored, settings: Settings) -> None:
    for project, at in (("shop", 0), ("blog", 100)):
        talked.write(f"/logs/{project}/two.jsonl", [line(content=f"in {project}", sessionId="two", at=at)])
    run(talked, settings)
    assert ask(settings, "SELECT project_id, message_count FROM marts.dim_sessions WHERE session_id = 'two'") == [
        ("shop", 2)
    ]
    assert ask(settings, "SELECT count(*) FROM marts.fct_messages WHERE session_id = 'two'") == [(2,)]


def test_hours_and_days_are_those_of_the_zone(talked: Stored, tmp_path: Path) -> None:
    talked.write("/logs/shop/z.jsonl", [line(content="at 08:53 of UTC", sessionId="z")])
    query = "SELECT hour_of_day, date_key::VARCHAR FROM marts.fct_messages WHERE session_id = 'z'"
    for zone, wanted in (
        ("UTC", (8, "2025-10-09")),
        ("Asia/Kathmandu", (14, "2025-10-09")),
        ("Pacific/Kiritimati", (22, "2025-10-09")),
    ):
        settings = read_settings(tmp_path, {"ANALYTICS_TIMEZONE": zone})
        run(talked, settings)
        assert ask(settings, query) == [wanted]
    with pytest.raises(ConfigError, match="ANALYTICS_TIMEZONE"):
        read_settings(tmp_path, {"ANALYTICS_TIMEZONE": "Mars"})
    with pytest.raises(ConfigError, match="DUCKDB_THREADS"):
        read_settings(tmp_path, {"DUCKDB_THREADS": "many"})


def test_who_reads_the_warehouse_keeps_it_while_another_takes_its_place(talked: Stored, settings: Settings) -> None:
    run(talked, settings)
    with reading(settings) as connection:
        count = "SELECT count(*) FROM raw.conversations"
        before = connection.execute(count).fetchone()
        talked.write("/logs/shop/n.jsonl", [line(content="new", sessionId="n")])
        run(talked, settings)
        assert connection.execute(count).fetchone() == before
    assert ask(settings, count)[0][0] == before[0] + 1
    assert settings.duckdb_path.stat().st_mode & 0o077 == 0
    with pytest.raises(RuntimeError, match="amid"):
        fail_amid(settings)
    assert ask(settings, count)[0][0] == before[0] + 1
    assert not list(settings.duckdb_path.parent.glob(".*.new*"))


def test_the_lake_is_read_as_it_was_and_its_files_are_kept_few(talked: Stored, settings: Settings) -> None:
    lake = Lake(settings)
    first = lake.extract(talked.database)
    snapshot = lake.table().current_snapshot().snapshot_id
    talked.write("/logs/shop/n.jsonl", [line(content="new", sessionId="n")])
    assert lake.extract(talked.database) == 1
    assert sum(batch.num_rows for batch in lake.read(as_of=lake.find_snapshot(str(snapshot)))) == first
    assert sum(batch.num_rows for batch in lake.read()) == first + 1
    assert lake.compact() > 1
    assert sum(batch.num_rows for batch in lake.read()) == first + 1
    assert lake.extract(talked.database) == 0  # the mark stays
    with pytest.raises(PermanentError, match="no snapshot"):
        lake.find_snapshot(datetime(2001, 1, 1).isoformat())
    with pytest.raises(ConfigError, match="expected the id"):
        lake.find_snapshot("yesterday")


def fail_amid(settings: Settings) -> None:
    with building(settings) as connection:
        connection.execute("DELETE FROM raw.conversations")
        raise RuntimeError("amid")


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from penstock.apps.conversations.analytics import commands
if sys.argv[2] != "-": threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
commands.pipeline(data=Path(sys.argv[1]), prices=None)
"""


@pytest.mark.crash
def test_a_pipeline_that_is_killed_anywhere_gives_what_one_gives_that_is_not(talked: Stored, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    talked.store.close()
    shutil.copyfile(tmp_path / "c.db", data / "penstock-conversations.db")
    killed = 0
    for after in ("0.1", "0.4", "0.7", "1.0", "1.4", "-"):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(data), after], capture_output=True, text=True, timeout=160
        )
        killed += done.returncode == -signal.SIGKILL
    assert done.returncode == 0, done.stderr
    settings = read_settings(data, {})
    rows = ask(settings, "SELECT count(*), count(DISTINCT _id) FROM raw.conversations")
    facts = {name: ask(settings, query) for name, query in FACTS.items()}
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copyfile(data / "penstock-conversations.db", fresh / "penstock-conversations.db")
    subprocess.run([sys.executable, "-c", KILLED, str(fresh), "-"], check=True, capture_output=True, timeout=160)
    assert rows == ask(read_settings(fresh, {}), "SELECT count(*), count(*) FROM raw.conversations")
    assert facts == {name: ask(read_settings(fresh, {}), query) for name, query in FACTS.items()}
    assert killed


def test_models_are_selected_as_dbt_selects_them() -> None:
    def names(selection: str) -> set[str]:
        return {model.name for model in select_models(read_models(), selection)}

    assert names("stg_messages") == {"stg_messages"}
    assert names("+int_messages_enriched") == {"stg_conversations", "stg_messages", "int_messages_enriched"}
    assert "agg_daily_summary" in names("fct_messages+")
    assert "stg_messages" not in names("fct_messages+")
    assert names("staging") == {"stg_conversations", "stg_messages", "stg_tool_calls"}
    with pytest.raises(PermanentError, match="no model 'nothing'"):
        names("nothing")


@pytest.mark.skipif(not (os.environ.get("DBT") or shutil.which("dbt")), reason="dbt is not installed")
def test_dbt_builds_the_same_of_the_same_project(talked: Stored, settings: Settings, tmp_path: Path) -> None:
    from penstock.apps.conversations.analytics.models import run_dbt

    run(talked, settings)
    ours = {name: ask(settings, query) for name, query in FACTS.items()}
    told = run_dbt(settings, settings.duckdb_path, ["build", "--full-refresh"], tmp_path / "target")
    assert "ERROR=0" in told
    assert {name: ask(settings, query) for name, query in FACTS.items()} == ours
    assert (PROJECT / "dbt_project.yml").exists()
