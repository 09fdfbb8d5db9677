"""The commands of the health service: its keys, and its tables made anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .privacy import keep_private

if TYPE_CHECKING:
    from ..application import Installation
    from ..platform.database import Database

app = typer.Typer(help="Look after the health service: its keys, and its tables.", no_args_is_help=True)
keys = typer.Typer(help="Make, list, rotate and revoke the keys of phones and people.", no_args_is_help=True)
app.add_typer(keys, name="keys")

Data = Annotated[
    Path, typer.Option("--data", metavar="DIR", envvar="PENSTOCK_DATA", help="The folder that `penstock up` keeps.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write all about it, as JSON.")]
Key = Annotated[str, typer.Argument(metavar="ID", help="The key's id, or the public beginning of it.")]
HERE = Path("penstock-data")


@contextmanager
def _database(data: Path) -> Iterator[Database]:
    """Yield the database that ``penstock up`` uses, with its tables."""
    from ..apps.health.application import Health
    from ..apps.health.store.migrations import SCHEMA
    from ..platform.ownership import database_of

    installation = _installation(data)
    with keep_private(data):
        Health().prepare(installation)
        database = database_of(installation, SCHEMA)
        try:
            yield database
        finally:
            database.close()


def _installation(data: Path) -> Installation:
    from ..application import Installation

    return Installation(data, database=os.environ.get("PENSTOCK_DATABASE_URL", ""))


@keys.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="What it is for, 1 to 100 characters.")],
    user: Annotated[str, typer.Option("--user", help="Whose data it gives access to; made on demand.")] = "me",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="ingest, read, export or admin; several times for several. All but admin."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="`90d`, `2027-01-01` or a time. Never.")
    ] = None,
    as_json: AsJson = False,
    data: Data = HERE,
) -> None:
    """Make a key, and print it alone. It is shown this once: only a hash of it is kept.

    Example: `penstock health keys create --name phone`
    """
    from ..apps.health.commands import create_key

    with _database(data) as database:
        made = create_key(database, name=name, user=user, scopes=scope or (), expires=expires, as_json=as_json)
    typer.echo(made)


@keys.command("list")
def list_all(
    user: Annotated[str | None, typer.Option("--user", help="Only the keys of this user.")] = None,
    as_json: AsJson = False,
    data: Data = HERE,
) -> None:
    """List the keys: whose they are, what they may do, when they were last used.

    Example: `penstock health keys list`
    """
    from ..apps.health.commands import list_keys

    with _database(data) as database:
        typer.echo(list_keys(database, user=user, as_json=as_json))


@keys.command("rotate")
def rotate(
    key: Key,
    overlap: Annotated[str, typer.Option("--overlap", metavar="TIME", help="How long the old key still works.")] = "0s",
    as_json: AsJson = False,
    data: Data = HERE,
) -> None:
    """Make a key in place of another one, and print it alone.

    Example: `penstock health keys rotate hea_1a2b3c4d --overlap 24h`
    """
    from ..apps.health.commands import rotate_key

    with _database(data) as database:
        typer.echo(rotate_key(database, key, overlap=overlap, as_json=as_json))


@keys.command("revoke")
def revoke(key: Key, as_json: AsJson = False, data: Data = HERE) -> None:
    """End a key, at once and for good.

    Example: `penstock health keys revoke hea_1a2b3c4d`
    """
    from ..apps.health.commands import revoke_key

    with _database(data) as database:
        typer.echo(revoke_key(database, key, as_json=as_json))


@app.command()
def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = HERE,
) -> None:
    """Empty the tables of points and process all stored bodies again, in the order in which they came.

    What results is the same, but for what a newer Penstock reads better. Stop `penstock up` before: it holds the logs.

    Example: `penstock health rebuild`
    """
    from ..apps.health.rebuilding import rebuild as rebuild_tables

    if not yes:
        typer.confirm("Empty the tables of points, and fill them again from the stored bodies?", abort=True)
    with _database(data) as database:
        typer.echo(rebuild_tables(database, _installation(data)))


def migrate(data: Data = HERE) -> None:
    """Make the tables of the health service, or bring them up to date.

    `penstock up` does it too. Several may do it at once: the others wait for the first. PostgreSQL needs PostGIS.

    Example: `penstock migrate`
    """
    from ..apps.health.store.migrations import current

    with _database(data) as database:
        typer.echo(f"the tables are at revision {current(database)}")
