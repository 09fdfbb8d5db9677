"""Keep notes: a small application with a stream, a table, a page, a job, a scope for keys and a command."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from importlib.resources import files
from urllib.parse import parse_qs

import pyarrow as pa
import typer
from pydantic import Field
from sqlalchemy import Column, MetaData, Table, Text, select

from penstock.application import Application, Installation, Job, Routes
from penstock.config.configuration import loads
from penstock.errors import PenstockError
from penstock.identifiers import new_id
from penstock.inputs.feed import feed
from penstock.platform.access.keyless import check_keys
from penstock.platform.access.scopes import Scope as AccessScope
from penstock.platform.application import Platform
from penstock.platform.columns import Key
from penstock.platform.command_line import HERE, Data, installation_of
from penstock.platform.ownership import database_of, space_of, url_of
from penstock.serving.asgi import Receive, Scope, Send
from penstock.serving.bodies import receive_body
from penstock.serving.guard import refusal
from penstock.serving.listener import answer
from penstock.stream import Stream

MAX_BODY_BYTES = 16_384
ADD = AccessScope("notes.add", "Add notes.", is_default=True)
notes = Table("notes", MetaData(), Column("id", Key, primary_key=True), Column("text", Text, nullable=False))
LATEST = select(notes.c.text).order_by(notes.c.id.desc()).limit(100)  # ids sort by the time at which they were made


class Notes(Application, type="notes"):
    """Keep short notes, and show the latest at `/notes/`.

    `curl -d text=hello http://127.0.0.1:8080/notes/` adds one; it is answered once the note is on disk.

    Example::

        type: notes
        keep: 1000
    """

    keep: int = Field(1000, ge=1)
    """How many notes are kept; older ones are deleted."""

    def needs(self, installation: Installation) -> Sequence[str]:
        """Return the application that keeps keys."""
        return ["access"]

    def scopes(self) -> Sequence[AccessScope]:
        """Return what a key may be good for here; without any such key, this machine needs none."""
        return [ADD]

    def streams(self, installation: Installation) -> Sequence[Stream]:
        """Return the stream of notes; raises ConfigError."""
        variables = {"DATABASE": url_of(installation, self.type_name)}
        variables["SCHEMA"] = database_of(installation, self.type_name).schema or ""  # SQLite has none
        return loads(files(__package__).joinpath("streams.yaml").read_text(), environment=variables).streams

    def paths(self, installation: Installation) -> Sequence[str]:
        """Return the path of the page."""
        return [f"{self.root}/"]

    def spaces(self, installation: Installation) -> Sequence[str]:
        """Return the file or the schema of the table, which no other stream may write."""
        return [space_of(installation, self.type_name)]

    def jobs(self, platform: Platform) -> Sequence[Job]:
        """Return the deletion of older notes."""
        return [Job("prune", 3600.0, self._prune)]

    def commands(self) -> typer.Typer:
        """Return the commands below `penstock notes`."""
        return app

    @asynccontextmanager
    async def open(self, platform: Platform) -> AsyncIterator[Routes]:
        """Make the table, and yield the page; the engine tries again while the database is away."""
        await platform.database.create(notes.metadata)
        async with check_keys(platform, ADD):
            yield dict.fromkeys(self.paths(platform.installation), Page(platform).respond)

    async def _prune(self, platform: Platform) -> None:
        older = notes.delete().where(notes.c.id.not_in(select(notes.c.id).order_by(notes.c.id.desc()).limit(self.keep)))
        await platform.database.run(lambda connection: connection.execute(older), changes=True)


app = typer.Typer(help="Look at notes.", no_args_is_help=True)


@app.command("list")
def print_notes(data: Data = HERE) -> None:
    """Print the latest notes, one a line."""
    with closing(database_of(installation_of(data), "notes")) as database:
        typer.echo("\n".join(database.call(lambda connection: connection.scalars(LATEST).all())))


class Page:
    """Answer GET with the latest notes, and POST by adding one."""

    def __init__(self, platform: Platform) -> None:
        self._platform, self._check = platform, platform.context.listeners.check

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; pages of other origins may neither read nor write."""
        try:
            if reason := refusal(scope, self._platform.installation.address):
                await answer(send, 403, {"error": reason})
            elif scope["method"] == "POST" and (denial := await self._check(ADD.name, scope)):
                await answer(send, denial.status, {"error": denial.reason}, denial.headers)
            elif scope["method"] == "POST":
                await self._add(receive, send)
            elif scope["method"] in ("GET", "HEAD"):
                await self._show(scope, send)
            else:
                await answer(send, 405, {"error": "expected GET or POST"}, [(b"allow", b"GET, HEAD, POST")])
        except ValueError as error:
            await answer(send, 422, {"error": str(error)})
        except (PenstockError, TimeoutError) as error:
            self._platform.log.warning("%s failed: %s", scope["method"], error)
            await answer(send, 503, {"error": "try again later"}, [(b"retry-after", b"5")])

    async def _add(self, receive: Receive, send: Send) -> None:
        body = await asyncio.wait_for(receive_body(receive, MAX_BODY_BYTES), 10)
        [text, *others] = parse_qs(body.decode(), max_num_fields=1).get("text", [""])
        if others or not text.strip() or "\0" in text:  # PostgreSQL has no text with a NUL
            raise ValueError("expected one form field `text` that is not empty")
        await feed("notes").send(pa.record_batch({"id": [new_id()], "text": [text]}))  # returns once it is in the log
        await answer(send, 303, {"kept": text}, [(b"location", b"./")])

    async def _show(self, scope: Scope, send: Send) -> None:
        found = await self._platform.database.run(lambda connection: connection.scalars(LATEST).all())
        body = _PAGE.replace("{notes}", "".join(f"<li>{html.escape(text)}</li>" for text in found)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


_POLICY = (b"content-security-policy", b"default-src 'none'; form-action 'self'; frame-ancestors 'none'")
_HEADERS = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store"), _POLICY]
_PAGE = files(__package__).joinpath("page.html").read_text()
