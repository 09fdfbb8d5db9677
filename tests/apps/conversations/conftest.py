"""The tables of conversations on both databases, and lines as agents write them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from penstock.apps.conversations.lines import parse
from penstock.apps.conversations.schema import SCRIPTS, VERSION_TABLE
from penstock.apps.conversations.store.reading import DIGEST_SIZE, Row
from penstock.apps.conversations.store.store import Source, Store
from penstock.platform.database import Database
from penstock.platform.migration import migrate

SAMPLES = Path(__file__).parent / "samples"
READ_AT = datetime(2026, 3, 1, tzinfo=UTC)


class Stored:
    """A database, and a store that writes to it."""

    def __init__(self, url: str) -> None:
        self.database = Database.of(url)
        migrate(self.database, SCRIPTS, VERSION_TABLE)
        self.restart()

    def restart(self) -> None:
        """Forget what is remembered of files, as a new process does."""
        if hasattr(self, "store"):
            self.store._connection.close()
        self.store = Store(self.database, Source(Path("/logs"), "laptop", "me"))

    def write(self, path: str, lines: Sequence[bytes], first: int = 0) -> None:
        """Write lines of a file, of which the first has this number."""
        self.store.write(rows(path, lines, first))

    def rows(self, statement: Any) -> list[tuple[Any, ...]]:
        """Return what a statement gives."""
        return self.database.call(lambda connection: [tuple(row) for row in connection.execute(statement)])


def rows(path: str, lines: Sequence[bytes], first: int = 0) -> list[Row]:
    """Return the lines of a file as they reach the store."""
    return [
        Row(path, number, READ_AT, blake2b(line, digest_size=DIGEST_SIZE).digest(), line, parse(line))
        for number, line in enumerate(lines, first)
    ]


def line(type: str = "user", content: Any = None, **fields: Any) -> bytes:
    """Return a line of a log."""
    at = fields.pop("at", 0)
    message = fields.pop("message", {"role": type, "content": content})
    stamp = datetime.fromtimestamp(1_760_000_000 + at, UTC).isoformat().replace("+00:00", "Z")
    told = {"type": type, "message": message, "sessionId": "s", "timestamp": stamp, **fields}
    return json.dumps({name: value for name, value in told.items() if value is not None}).encode()


@pytest.fixture(params=["sqlite", "postgres"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stored]:
    url = (
        f"sqlite:///{tmp_path}/conversations.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_database")
    )
    found = Stored(url)
    yield found
    found.store.close()
