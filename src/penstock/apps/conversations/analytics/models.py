"""Run the models of the dbt project beside this file, with dbt or without it: plain SQL but for a few marks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from ....errors import PermanentError
from .settings import Settings

PROJECT = Path(__file__).parent / "project"
DBT_TIMEOUT = 3600.0
"""Seconds that dbt may take."""
LAYERS = ("staging", "intermediate", "marts")
_REF = re.compile(r"\{\{\s*ref\('(\w+)'\)\s*\}\}")
_SOURCE = re.compile(r"\{\{\s*source\('(\w+)',\s*'(\w+)'\)\s*\}\}")
_CONFIG = re.compile(r"\{\{\s*config\((.*?)\)\s*\}\}")
_TIMEZONE = re.compile(r"""\{\{\s*var\(["']timezone["']\)\s*\}\}""")
_INCREMENTAL = re.compile(r"\{% if is_incremental\(\) %\}(.*?)\{% endif %\}", re.DOTALL)


@dataclass(frozen=True)
class Model:
    """A query that becomes a view or a table."""

    name: str
    schema: str
    text: str
    needs: frozenset[str]

    @property
    def is_incremental(self) -> bool:
        """Whether only the sessions that have changed are computed anew."""
        return "incremental" in "".join(_CONFIG.findall(self.text))

    def render(self, schemas: Mapping[str, str], settings: Settings, *, is_incremental: bool) -> str:
        """Return the query as DuckDB runs it."""
        text = _INCREMENTAL.sub(lambda found: found[1] if is_incremental else "", _CONFIG.sub("", self.text))
        text = _SOURCE.sub(r"\1.\2", _REF.sub(lambda found: f"{schemas[found[1]]}.{found[1]}", text))
        return _TIMEZONE.sub(settings.timezone, text)


def read_models() -> list[Model]:
    """Return the models, each behind those that it needs."""
    models = {}
    for path in sorted((PROJECT / "models").glob("*/*.sql")):
        text = path.read_text()
        models[path.stem] = Model(path.stem, path.parent.name, text, frozenset(_REF.findall(text)))
    graph = {model.name: model.needs & models.keys() for model in models.values()}
    return [models[name] for name in TopologicalSorter(graph).static_order()]


def select_models(models: Sequence[Model], selection: str | None) -> list[Model]:
    """Return the models that a selection names: `stg_messages`, `+dim_sessions`, `fct_messages+`, `marts`."""
    if selection is None:
        return list(models)
    by_name, chosen = {model.name: model for model in models}, set()
    for part in selection.split():
        name = part.strip("+").partition(".")[0]
        wanted = {model.name for model in models if name in (model.name, model.schema)}
        if not wanted:
            raise PermanentError(f"there is no model {name!r}; there are {', '.join(sorted(by_name))}")
        for model in models if part.endswith("+") else ():  # each stands behind those that it needs
            wanted |= {model.name} if model.needs & wanted else set()
        for model in reversed(models) if part.startswith("+") else ():
            wanted |= model.needs & by_name.keys() if model.name in wanted else set()
        chosen |= wanted
    return [model for model in models if model.name in chosen]


def transform(connection: Any, settings: Settings, selection: str | None = None, *, is_full: bool = False) -> list[str]:
    """Build the models; of facts only the sessions that have changed, unless all are wanted; returns their names."""
    models = read_models()
    schemas = {model.name: model.schema for model in models} | {"tool_categories": "seeds"}
    chosen = select_models(models, selection)
    for schema in ("seeds", *LAYERS):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    connection.execute("CREATE TABLE IF NOT EXISTS raw.built (timezone VARCHAR)")
    is_same_zone = connection.execute("SELECT timezone FROM raw.built").fetchall() == [(settings.timezone,)]
    _seed(connection)
    for model in chosen:
        _build(connection, model, schemas, settings, is_full=is_full or not is_same_zone)
    if selection is None:
        connection.execute("DELETE FROM raw.changed_sessions")
        connection.execute("CREATE OR REPLACE TABLE raw.built AS SELECT ? AS timezone", [settings.timezone])
    return [model.name for model in chosen]


def _build(connection: Any, model: Model, schemas: Mapping[str, str], settings: Settings, *, is_full: bool) -> None:
    place = f"{model.schema}.{model.name}"
    there = "SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?"
    [(count,)] = connection.execute(there, [model.schema, model.name]).fetchall()
    changes = model.is_incremental and bool(count) and not is_full
    query = model.render(schemas, settings, is_incremental=changes)
    if model.schema != "marts":
        connection.execute(f"CREATE OR REPLACE VIEW {place} AS {query}")
    elif not changes:
        connection.execute(f"CREATE OR REPLACE TABLE {place} AS {query}")
    else:
        changed = "SELECT session_id FROM raw.changed_sessions"
        connection.execute("BEGIN")
        connection.execute(f"DELETE FROM {place} WHERE session_id IN ({changed})")
        connection.execute(f"INSERT INTO {place} BY NAME {query}")
        connection.execute("COMMIT")


def _seed(connection: Any) -> None:
    import pyarrow.csv

    connection.register("arrived", pyarrow.csv.read_csv(PROJECT / "seeds" / "tool_categories.csv"))
    connection.execute("CREATE OR REPLACE TABLE seeds.tool_categories AS SELECT * FROM arrived")
    connection.unregister("arrived")


def run_dbt(settings: Settings, warehouse: Path, arguments: Sequence[str], target: Path) -> str:
    """Run dbt on the project; returns what it printed; raises PermanentError if it fails or is not installed."""
    program = os.environ.get("DBT") or shutil.which("dbt")
    if program is None:
        raise PermanentError(
            "dbt is not installed: pip install 'dbt-core<1.12' dbt-duckdb, in an environment of its own"
        )
    places = {"--project-dir": PROJECT, "--profiles-dir": PROJECT, "--target-path": target, "--log-path": target}
    options = [part for option, place in places.items() for part in (option, str(place))]
    command = [program, "--no-use-colors", *arguments, *options, "--vars", f"timezone: {settings.timezone}"]
    environment = os.environ | {"DUCKDB_PATH": str(warehouse), "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DBT_TIMEOUT, check=False)
    if done.returncode:
        raise PermanentError(f"dbt failed:\n{done.stdout[-4000:]}{done.stderr[-1000:]}")
    return done.stdout
