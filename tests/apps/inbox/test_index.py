"""The page of the inbox at `/`, where no console is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from penstock.application import Installation, Page
from penstock.apps.inbox.application import Inbox, Index
from penstock.clients import sqlite

CONSOLE = Page("/", "Overview", module="/console/views/overview.js")


def test_the_console_takes_its_place() -> None:
    assert Inbox().paths(Installation()) == ["/"]
    assert Inbox().paths(Installation(pages=[CONSOLE])) == []


@pytest.mark.parametrize(("address", "is_shown"), [("127.0.0.1:8080", True), ("0.0.0.0:8080", False)])
def test_it_lists_tables_and_pages_as_text_and_tables_to_nobody_else(
    tmp_path: Path, address: str, is_shown: bool
) -> None:
    with sqlite.connect(tmp_path / "penstock.db") as database:
        database.execute('CREATE TABLE readings ("<b>a</b>" INTEGER)')
    database.close()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    installation = Installation(data=tmp_path, address=address, pages=[Page("/notes", "<i>Notes</i>")])
    scope = {"type": "http", "method": "GET", "headers": [(b"host", b"here:1")]}
    asyncio.run(Index(installation).answer(scope, None, send))  # type: ignore[arg-type]
    page = sent[1]["body"].decode()
    assert ("<td>readings</td><td>&lt;b&gt;a&lt;/b&gt;</td>" in page) == is_shown
    assert '<a href="/notes">&lt;i&gt;Notes&lt;/i&gt;</a>' in page
    assert "curl http://here:1/ingest/readings" in page
