"""The inbox: rows over HTTP and files from a folder, into tables that are made as they come."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from ...application import Application, Installation, Page, Routes
from ...clients.database import Postgres, Sqlite
from ...clients.view import Tables, tables
from ...config.configuration import loads
from ...errors import PenstockError
from ...platform.access.scopes import Scope as AccessScope
from ...platform.application import Platform
from ...platform.ownership import LEGACY_PARTITIONS, LEGACY_TABLES, own, rows_database
from ...serving.asgi import Receive, Scope, Send
from ...serving.guard import is_local
from ...serving.listener import answer
from ...stream import Stream
from .scopes import SEND, declared

SCHEMA = "public"
"""The schema of PostgreSQL in which the rows are: they are the user's own, and other tools look for them there."""


class Inbox(Application, type="inbox"):
    """Take rows over HTTP and files from a folder, and keep them in tables that are made as they come.

    `POST /ingest/readings` with JSON, NDJSON, CSV, Parquet or Arrow adds rows to the table `readings`; so does a file
    in `inbox/readings/`. Files beside these folders, in folders below them, hidden ones and those that are still being
    copied (`.part`, `.tmp`) are left alone. A row that does not fit is in the table `_quarantine`, with the reason and
    as it came. The tables are in `penstock.db` in the data folder, or in the schema `public` of PostgreSQL; no name
    reaches another file or schema.

    Example::

        type: inbox
        folder: inbox
    """

    folder: Path = Path("inbox")
    """The folder of files: each of its folders is a table."""

    def needs(self, installation: Installation) -> Sequence[str]:
        """Return the application that keeps keys, unless there can be none: its packages are missing, on loopback."""
        return ["access"] if _may_have_keys(installation) else []

    def scopes(self) -> Sequence[AccessScope]:
        """Return what a key may be good for here."""
        return declared()

    def streams(self, installation: Installation) -> Sequence[Stream]:
        """Return the stream of posts and the stream of files; raises ConfigError for a database that is none."""
        rows = rows_database(installation)
        variables = {
            "ADDRESS": installation.address,
            "DATABASE": installation.rows_url,
            "SCHEMA": SCHEMA if isinstance(rows, Postgres) else "",
            "SCOPE": SEND if _may_have_keys(installation) else "",
            "FOLDER": str(self.folder),
            "RESERVED": ",".join(["_*", *sorted(LEGACY_TABLES), *LEGACY_PARTITIONS]),
        }
        return loads(files(__package__).joinpath("streams.yaml").read_text(), environment=variables).streams

    def paths(self, installation: Installation) -> Sequence[str]:
        """Return the path of the index, unless the console is there."""
        return [] if _has_console(installation) else ["/"]

    def prepare(self, installation: Installation) -> None:
        """Make the folder; raises PenstockError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PenstockError(f"the folder {self.folder} cannot be made: {error.strerror}") from error

    def greeting(self, installation: Installation) -> Mapping[str, str]:
        """Return how rows are posted, dropped and queried."""
        row = '{"sensor": "kitchen", "celsius": 21.5}'
        key = "" if is_local(installation.address) else ' -H "Authorization: Bearer $KEY"'
        made = {} if not key else {"a key": f"{{penstock}} keys create{{data}} --name sensor --scope {SEND}"}
        return made | {
            "post rows": f"curl http://{installation.address}/ingest/readings{key} -d '{row}'",
            "drop files": f"{self.folder}/readings/ (.json .jsonl .csv .parquet .avro .arrow)",
            "query": '{penstock} query{data} "SELECT * FROM readings"',
        }

    @asynccontextmanager
    async def open(self, platform: Platform) -> AsyncIterator[Routes]:
        """Yield the index: what there is, and how to use it."""
        index = Index(platform.installation).answer
        routes: Routes = dict.fromkeys(self.paths(platform.installation), index)
        if not _may_have_keys(platform.installation):
            yield routes
            return
        from ...platform.access.keyless import check_keys  # Its packages may be missing.

        async with check_keys(platform, declared()[0]):
            yield routes


def _has_console(installation: Installation) -> bool:
    """Tell whether there is a better page at `/`."""
    return any(page.address == "/#/" for page in installation.pages)


def _may_have_keys(installation: Installation) -> bool:
    """Tell whether keys are to be asked for: not on loopback where nothing could have made any."""
    if all(find_spec(package) for package in ("sqlalchemy", "alembic", "argon2")) or not is_local(installation.address):
        return True
    where = own(rows_database(installation), "platform")
    return not isinstance(where, Sqlite) or where.path.exists()


class Index:
    """The page at ``/``: what there is, and how to use it."""

    def __init__(self, installation: Installation) -> None:
        self._address, self._links = installation.address, installation.pages
        self._where = rows_database(installation)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD with the page."""
        if scope["method"] not in ("GET", "HEAD"):
            await answer(send, 405, {"error": "expected GET"})
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1") or self._address
        try:  # Strangers are not shown what there is.
            found = await asyncio.to_thread(tables, self._where) if is_local(self._address) else Tables()
        except PenstockError:  # There is none yet, or it does not answer; /health says which.
            found = Tables()
        body = _page(host, found, self._links).encode()
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _page(host: str, found: Tables, links: Sequence[Page]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(table)}</td><td>{html.escape(', '.join(columns))}</td></tr>"
        for table, columns in found.items()
    )
    listing = f"<table><tr><th>table</th><th>columns</th></tr>{rows}</table>" if found else "<p>No tables yet.</p>"
    others = "".join(f'<p><a href="{html.escape(one.path)}">{html.escape(one.title)}</a></p>' for one in links)
    return _PAGE.replace("{links}", others).replace("{host}", html.escape(host)).replace("{tables}", listing)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Penstock</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
pre { background: #8881; padding: .7rem; overflow: auto } td, th { text-align: left; padding-right: 2rem }
</style>
<h1>Penstock is up</h1>
<p>Post rows, and the table is made for them:</p>
<pre>curl http://{host}/ingest/readings -d '{"sensor": "kitchen", "celsius": 21.5}'</pre>
<p>Or put .json, .jsonl, .csv, .parquet, .avro or .arrow files into <code>inbox/readings/</code>. Then query them:</p>
<pre>penstock query "SELECT * FROM readings"</pre>
{links}
<h2>Tables</h2>
{tables}
<p>Rows that did not fit are in <code>_quarantine</code>, each with its reason.
How things are: <a href="/health">health</a>, <a href="/metrics">metrics</a>,
<a href="/api/v1/streams">streams</a>.</p>
</html>
"""
