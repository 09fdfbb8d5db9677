"""The commands ``penstock keys`` and ``penstock sign-in``, and what commands of applications share."""

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
    from .access.scopes import Scopes
    from .database import Database

Data = Annotated[
    Path, typer.Option("--data", metavar="DIR", envvar="PENSTOCK_DATA", help="The folder that `penstock up` keeps.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write all about it, as JSON.")]
Key = Annotated[str, typer.Argument(metavar="ID", help="The key's id, or its public beginning.")]
Scope = Annotated[
    list[str] | None,
    typer.Option("--scope", help="health.read, for example; several times for several. Without it, it may only send."),
]
HERE = Path("penstock-data")


def commands(application: str = "") -> typer.Typer:
    """Return the commands; those of one ``application`` make keys that send to it alone unless scopes are asked for."""
    name = f"penstock {application} keys" if application else "penstock keys"
    also = " The same as `penstock keys`, which is for all applications." if application else ""
    app = typer.Typer(help=f"Make, list, rotate and revoke the keys of devices and people.{also}", no_args_is_help=True)

    @app.command("create", epilog=f"Example: `{name} create --name phone`")
    def create(
        name: Annotated[str, typer.Option("--name", help="What it is for, 1 to 100 characters.")],
        user: Annotated[str, typer.Option("--user", help="Whose data it gives access to; made on demand.")] = "me",
        scope: Scope = None,
        expires: Annotated[
            str | None, typer.Option("--expires", metavar="WHEN", help="`90d`, `2027-01-01` or a time. Never.")
        ] = None,
        as_json: AsJson = False,
        data: Data = HERE,
    ) -> None:
        """Make a key, and print it alone. It is shown this once: only a hash of it is kept.

        Without `--scope` it may send data and read nothing: what a phone or a sensor needs.
        """
        from .commands import create_key

        with _database(data) as database:
            made = create_key(
                database,
                _declared(),
                name=name,
                user=user,
                scopes=scope or (),
                application=application,
                expires=expires,
                as_json=as_json,
            )
        typer.echo(made)
        if "inbox.send" in _declared().asked(scope or (), application):
            typer.echo("From now on posts to /ingest need a key with the scope inbox.send.", err=True)
        typer.echo(f"It is valid at {_url()}.", err=True)

    @app.command("list", epilog=f"Example: `{name} list`")
    def list_all(
        user: Annotated[str | None, typer.Option("--user", help="Only the keys of this user.")] = None,
        as_json: AsJson = False,
        data: Data = HERE,
    ) -> None:
        """List the keys: whose they are, what they may do, when they were last used."""
        from .commands import list_keys

        with _database(data) as database:
            typer.echo(list_keys(database, user=user, as_json=as_json))

    @app.command("rotate", epilog=f"Example: `{name} rotate pen_1a2b3c4d --overlap 24h`")
    def rotate(
        key: Key,
        overlap: Annotated[
            str, typer.Option("--overlap", metavar="TIME", help="How long the old key still works.")
        ] = "0s",
        as_json: AsJson = False,
        data: Data = HERE,
    ) -> None:
        """Make a key in place of another one, and print it alone."""
        from .commands import rotate_key

        with _database(data) as database:
            typer.echo(rotate_key(database, key, overlap=overlap, as_json=as_json))

    @app.command("revoke", epilog=f"Example: `{name} revoke pen_1a2b3c4d`")
    def revoke(key: Key, as_json: AsJson = False, data: Data = HERE) -> None:
        """End a key, at once and for good."""
        from .commands import revoke_key

        with _database(data) as database:
            typer.echo(revoke_key(database, key, as_json=as_json))

    return app


def sign_in(
    data: Data = HERE,
    address: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", envvar="PENSTOCK_ADDRESS", help="Where `up` listens.")
    ] = "127.0.0.1:8080",
) -> None:
    """Print a link that signs a person in at the console.

    It is good once, for ten minutes. Whoever opens it may do everything in this installation, as may whoever can run
    this command.

    Example: `penstock sign-in`
    """
    from .commands import create_link

    with _database(data) as database:
        typer.echo(create_link(database, _declared().names, address))


def installation_of(data: Path) -> Installation:
    """Return the installation that ``penstock up`` runs with the same options and variables."""
    from ..application import Installation

    return Installation(data, database=os.environ.get("PENSTOCK_DATABASE_URL", ""))


@contextmanager
def _database(data: Path) -> Iterator[Database]:
    """Yield the database of users and keys, with its tables; say on stderr which installation it is."""
    from ..application import Application
    from .ownership import database_of

    found = installation_of(data)
    typer.echo(_describe(found), err=True)
    with keep_private(data):
        Application.parse("access").prepare(found)
        database = database_of(found, "platform")
        try:
            yield database
        finally:
            database.close()


def _declared() -> Scopes:
    """Return the scopes of all applications that are installed, with the default limits."""
    from ..application import Application
    from .access.scopes import Scopes

    found = [kind for kind in Application.installed().values() if issubclass(kind, Application)]
    return Scopes(scope for application in found for scope in application.model_construct().scopes())


def _describe(found: Installation) -> str:
    from ..clients.database import Sqlite, redact_url
    from .ownership import own, rows_database

    where = own(rows_database(found), "platform")
    if not isinstance(where, Sqlite):
        return f"Installation: {redact_url(found.rows_url)} (PENSTOCK_DATABASE_URL)"
    if found.database:
        return f"Installation: {where.path.absolute()} (PENSTOCK_DATABASE_URL)"
    said = "" if found.data != HERE else "; another: --data DIR or PENSTOCK_DATA"
    is_new = "" if where.path.parent.exists() else ", which is new"
    return f"Installation: {where.path.parent.absolute()}{is_new}{said}"


def _url() -> str:
    """Return the address at which the server listens, as far as this shell knows."""
    address = os.environ.get("PENSTOCK_ADDRESS")
    return f"http://{address}" if address else "http://127.0.0.1:8080, unless `penstock up` got another --address"
