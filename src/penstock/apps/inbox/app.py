"""The inbox as a value: its streams, its database, and the page that says what is here."""

from __future__ import annotations

import asyncio
import html
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from ...clients.database import Duckdb, Postgres, Sqlite, from_url
from ...clients.view import Tables, tables
from ...context import Context
from ...errors import ConfigError, PenstockError
from ...serving.asgi import Receive, Scope, Send


def streams_yaml() -> str:
    """Return the streams that are shipped."""
    return files(__package__).joinpath("streams.yaml").read_text()


def database_url(data: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Return where the rows go: what PENSTOCK_DATABASE_URL says, else a SQLite file in the data folder."""
    return environment.get("PENSTOCK_DATABASE_URL") or f"sqlite:///{quote(str(data / 'penstock.db'))}"


def database(data: Path, environment: Mapping[str, str] = os.environ) -> Postgres | Sqlite | Duckdb:
    """Return the database of the rows; raises ConfigError if PENSTOCK_DATABASE_URL names none."""
    try:
        return from_url(database_url(data, environment))
    except ValueError as error:
        raise ConfigError(f"PENSTOCK_DATABASE_URL: {str(error).partition('[type=')[0].strip()}") from error


def places(data: Path, address: str, inbox: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment with the places that were asked for; raises ConfigError for a database that is none."""
    database(data, environment)
    return {
        **environment,
        "PENSTOCK_DATA": str(data),
        "PENSTOCK_ADDRESS": address,
        "PENSTOCK_INBOX": str(inbox),
        "PENSTOCK_DATABASE_URL": database_url(data, environment),
    }


class Index:
    """The page at ``/``: what there is, and how to use it."""

    def __init__(self, address: str, where: Postgres | Sqlite | Duckdb, links: Mapping[str, str] | None = None) -> None:
        self._address, self._where = address, where
        self._links = links or {}

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        """Serve the page until ``stop`` is set."""
        async with context.listeners.mount(self._address, "/", self._answer, methods=("GET", "HEAD")):
            await stop.wait()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1") or self._address
        try:
            found = await asyncio.to_thread(tables, self._where)
        except PenstockError:  # There is none yet, or it does not answer; /health says which.
            found = Tables()
        body = _page(host, found, self._links).encode()
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _page(host: str, found: Tables, links: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(table)}</td><td>{html.escape(', '.join(columns))}</td></tr>"
        for table, columns in found.items()
    )
    listing = f"<table><tr><th>table</th><th>columns</th></tr>{rows}</table>" if found else "<p>No tables yet.</p>"
    others = "".join(f'<p><a href="{html.escape(path)}">{html.escape(text)}</a></p>' for path, text in links.items())
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
