"""The tables of any application are made and brought up to date, each in its own schema or file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from penstock.errors import PermanentError
from penstock.platform.database import Database
from penstock.platform.migration import current, migrate, revisions

SCRIPT = """
from alembic import op
revision, down_revision = {revision!r}, {before!r}

def upgrade():
    op.execute("CREATE TABLE toys_{revision} (id integer PRIMARY KEY)")
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Two scripts of an application."""
    folder = tmp_path / "50% of it" / "versions"
    folder.mkdir(parents=True)
    (folder / "0001_toys.py").write_text(SCRIPT.format(revision="0001", before=None))
    (folder / "0002_more_toys.py").write_text(SCRIPT.format(revision="0002", before="0001"))
    return folder


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Database]]:
    """Open a database of each kind, with a schema or without."""
    kept: list[Database] = []

    def open(schema: str | None = None) -> Database:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path}/{schema or 'rows'}.db"
        else:
            url = request.getfixturevalue("postgres_database")
        kept.append(Database.of(url, schema=schema))
        return kept[-1]

    yield open
    for database in kept:
        database.close()


def names(database: Database) -> set[str]:
    """Return the tables that the application finds as its own."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    if database.is_postgres:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    return set(database.call(lambda connection: connection.scalars(text(query)).all()))


@pytest.mark.parametrize("schema", [None, "toys", 'a "b" c'])
def test_tables_are_made_step_by_step(opened: Callable[..., Database], scripts: Path, schema: str | None) -> None:
    database = opened(schema)
    assert current(database, "toys_version") is None
    assert migrate(database, scripts, "toys_version", revision="0001") == "0001"
    assert names(database) == {"toys_version", "toys_0001"}
    assert migrate(database, scripts, "toys_version") == "0002" == current(database, "toys_version")
    assert names(database) == {"toys_version", "toys_0001", "toys_0002"}


def test_applications_with_tables_of_one_name_do_not_meet(opened: Callable[..., Database], scripts: Path) -> None:
    one, other = opened("one"), opened("other")
    migrate(one, scripts, "version")
    one.call(lambda connection: connection.execute(text("INSERT INTO toys_0001 VALUES (1)")), changes=True)
    assert current(other, "version") is None
    migrate(other, scripts, "version")
    count = text("SELECT count(*) FROM toys_0001")
    assert [database.call(lambda connection: connection.scalar(count)) for database in (one, other)] == [1, 0]


def test_a_script_that_fails_leaves_nothing(opened: Callable[..., Database], scripts: Path) -> None:
    database = opened("toys")
    (scripts / "0003_wrong.py").write_text(SCRIPT.format(revision="0003", before="0002").replace("CREATE", "CRATE"))
    with pytest.raises(PermanentError, match="CRATE"):
        migrate(database, scripts, "version")
    assert names(database) == set()


def test_tables_of_a_newer_version_are_left_alone(opened: Callable[..., Database], scripts: Path) -> None:
    database = opened()
    migrate(database, scripts, "version")
    (scripts / "0002_more_toys.py").unlink()
    with pytest.raises(PermanentError, match="newer Penstock"):
        migrate(database, scripts, "version")


def test_alembic_is_loaded_only_where_something_is_to_be_done(tmp_path: Path, scripts: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    program = (
        "import sys; from pathlib import Path; from penstock.platform.database import Database; "
        "from penstock.platform.migration import migrate; "
        f"migrate(Database.of({url!r}), Path({str(scripts)!r}), 'version'); print('alembic' in sys.modules)"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(2)]
    assert [run.stdout.strip() for run in runs] == ["True", "False"], runs


def test_revisions_are_those_that_alembic_finds() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from penstock.apps.health.store.migrations import SCRIPTS as HEALTH

    for folder in (HEALTH,):
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.set_main_option("version_locations", str(folder))
        config.set_main_option("path_separator", "newline")
        found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        assert revisions(folder) == found[::-1]


def test_a_connection_of_its_own_takes_its_time_and_one_of_the_pool_does_not(postgres_database: str) -> None:
    with closing(Database.of(postgres_database)) as database:
        show = text("SHOW statement_timeout")
        assert database.call(lambda connection: connection.scalar(show)) == "1min"
        with database.connect() as connection:
            assert connection.scalar(show) == "0"


def test_waits_for_a_connection_are_told(tmp_path: Path) -> None:
    waits: list[float] = []
    with closing(Database.of(f"sqlite:///{tmp_path / 'a.db'}", on_wait=waits.append)) as database:
        database.call(lambda connection: connection.scalar(text("SELECT 1")))
    assert len(waits) == 1
