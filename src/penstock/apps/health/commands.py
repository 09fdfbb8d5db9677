"""The commands of the health service: its keys, and its tables made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...platform.command_line import HERE, Data, commands, installation_of
from ...platform.privacy import keep_private

if TYPE_CHECKING:
    from ...platform.database import Database

app = typer.Typer(help="Look after the health service: its keys, and its tables.", no_args_is_help=True)
app.add_typer(commands("health"), name="keys")


@contextmanager
def _database(data: Path) -> Iterator[Database]:
    """Yield the database that ``penstock up`` uses, with its tables."""
    from ...application import Application
    from ...platform.ownership import database_of
    from .store.migrations import SCHEMA

    installation = installation_of(data)
    with keep_private(data):
        for name in ("access", "health"):  # What access takes over is not to be moved with the rest.
            Application.parse(name).prepare(installation)
        database = database_of(installation, SCHEMA)
        try:
            yield database
        finally:
            database.close()


@app.command()
def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = HERE,
) -> None:
    """Empty the tables of points and process all stored bodies again, in the order in which they came.

    What results is the same, but for what a newer Penstock reads better. Stop `penstock up` before: it holds the logs.

    Example: `penstock health rebuild`
    """
    from .rebuilding import rebuild as rebuild_tables

    def confirm() -> None:
        if not yes:
            typer.confirm("Empty the tables of points, and fill them again from the stored bodies?", abort=True)

    with _database(data) as database:
        typer.echo(rebuild_tables(database, installation_of(data), confirm))


@app.command()
def migrate(data: Data = HERE) -> None:
    """Make the tables of the health service, or bring them up to date.

    `penstock up` does it too. Several may do it at once: the others wait for the first. PostgreSQL needs PostGIS.

    Example: `penstock migrate`
    """
    from .store.migrations import current

    with _database(data) as database:
        typer.echo(f"the tables are at revision {current(database)}")
