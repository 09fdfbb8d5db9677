"""The commands of conversations: import logs, find words, list sessions, add up what was used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...platform.command_line import HERE, AsJson, Data, installation_of
from ...platform.privacy import keep_private
from .analytics.commands import register

if TYPE_CHECKING:
    from ...platform.database import Database

app = typer.Typer(help="Import, search and count what people and coding agents said.", no_args_is_help=True)
Project = Annotated[str | None, typer.Option("--project", help="Only of this project.")]
Zone = Annotated[
    str | None, typer.Option("--timezone", help="Whose days are meant: Europe/Berlin. Here: this machine's.")
]


@contextmanager
def open_database(data: Path) -> Iterator[Database]:
    """Yield the tables of conversations, as ``penstock up`` uses them."""
    from ...platform.migration import migrate
    from ...platform.ownership import database_of
    from .schema import OWNER, SCRIPTS, VERSION_TABLE

    with keep_private(data):
        database = database_of(installation_of(data), OWNER)
        try:
            migrate(database, SCRIPTS, VERSION_TABLE)
            yield database
        finally:
            database.close()


@app.command("import")
def import_logs(
    path: Annotated[
        Path, typer.Argument(exists=True, help="A folder of logs, such as ~/.claude/projects, a log, or an archive.")
    ],
    host: Annotated[
        str | None, typer.Option("--host", help="The machine that wrote them; this one by default.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="The person they are of; you by default.")] = None,
    data: Data = HERE,
) -> None:
    """Store all lines of logs that are not stored yet, and say how many there are.

    Archives are .zip, .tar, .tar.gz, .tar.zst and logs that are compressed one by one; of the buffer of
    claude-mongo-sync, ~/.claude-sync/buffer.db, the lines are taken whose files are gone.
    Example: `penstock conversations import /mnt/old-laptop/.claude/projects --host old-laptop`
    """
    from sqlalchemy import func, select

    from ...engine import Engine
    from .application import Conversations
    from .archives import is_archive, unpacked
    from .schema import lines

    application = Conversations(**{name: given for name, given in (("host", host), ("owner", owner)) if given})
    installation = installation_of(data)
    with open_database(data) as database:
        count = select(func.count()).select_from(lines)
        before = database.call(lambda connection: connection.scalar(count))
        with unpacked(path, data) if is_archive(path) else nullcontext(path) as logs:
            asyncio.run(Engine(application.read(logs, installation, follow=False), data=data).run())
        after = database.call(lambda connection: connection.scalar(count))
    typer.echo(f"{(after or 0) - (before or 0)} new lines, {after} in all")


@app.command("search")
def search_lines(
    words: Annotated[list[str], typer.Argument(help='Words, "phrases", beginnings (migrat*), -without, kind:prompt.')],
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many lines at most.")] = 20,
    as_json: AsJson = False,
    data: Data = HERE,
) -> None:
    """Find what was said, those lines first that were stored last.

    Example: `penstock conversations search "exit code" kind:prompt`
    """
    import msgspec

    from .reading.search import find, parse

    asked = parse(" ".join(f'"{word}"' if " " in word else word for word in words))
    with open_database(data) as database:
        found = database.call(lambda connection: find(connection, asked, limit))
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for hit in found:
        snippet = " ".join("".join(hit.snippet).split())
        typer.echo(f"{hit.at:%Y-%m-%d %H:%M}  {hit.project}  {printable(hit.title or hit.session or '')}")
        typer.echo(f"    {hit.kind}: {printable(snippet)}")
    if not found:
        typer.echo("nothing was found")


@app.command("sessions")
def list_sessions(
    project: Project = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 50,
    as_json: AsJson = False,
    data: Data = HERE,
) -> None:
    """List sessions, that of the latest line first.

    Example: `penstock conversations sessions --limit 10`
    """
    import msgspec

    from .reading import lists

    with open_database(data) as database:
        found = database.call(lambda connection: lists.list_sessions(connection, project, limit))
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for one in found:
        shown = f"{one.last_at:%Y-%m-%d %H:%M}  {one.id}  {one.prompts:>4} prompts  {one.project}"
        typer.echo(f"{shown}  {printable(one.title or '')}")


@app.command("usage")
def add_up(
    by: Annotated[
        str, typer.Argument(help="daily, monthly, session, model, project or blocks (of five hours).")
    ] = "daily",
    since: Annotated[str | None, typer.Option("--since", help="From this day on: 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="To the end of this day.")] = None,
    project: Project = None,
    timezone: Zone = None,
    prices: Annotated[Path | None, typer.Option("--prices", help="A JSON file of prices of your own.")] = None,
    as_json: AsJson = False,
    data: Data = HERE,
) -> None:
    """Add up tokens and costs, each response of a model once.

    Example: `penstock conversations usage monthly --timezone Europe/Berlin`
    """
    import msgspec

    from .api.described import describe
    from .prices import Prices
    from .reading.burn import measure_burn
    from .reading.usage import By, usage

    if by not in list(By):
        raise typer.BadParameter(f"expected one of {', '.join(By)}, not {by!r}")
    zone = _zone(timezone)
    known = Prices.load(prices)
    first, last = _day(since, zone), _day(until, zone)
    end = last + timedelta(days=1) if last is not None else None
    with open_database(data) as database:
        found = database.call(
            lambda connection: usage(connection, By(by), known, zone, since=first, before=end, project=project)
        )
        burn = database.call(lambda connection: measure_burn(connection, known, datetime.now(UTC), zone))
    if as_json:
        typer.echo(msgspec.json.encode([describe(one) for one in found]))
        return
    typer.echo(f"{by:<36} {'input':>12} {'output':>12} {'cache write':>12} {'cache read':>14} {'cost $':>10}")
    for one in found:
        tokens, written = one.tokens, one.tokens.cache_write_5m + one.tokens.cache_write_1h
        typer.echo(
            f"{printable(one.key)[:36]:<36} {tokens.input:>12,} {tokens.output:>12,} {written:>12,}"
            f" {tokens.cache_read:>14,} {one.cost_usd:>10.2f}{' +' if one.unpriced else ''}"
        )
    if by == By.BLOCKS and burn.ends_at is not None:
        typer.echo(f"now: ${burn.cost_per_hour:.2f} an hour, {burn.tokens_per_minute:,.0f} tokens a minute")
        typer.echo(f"     ${burn.projected_cost_usd:.2f} at the end of the block, at {burn.ends_at:%H:%M} UTC")
    if unpriced := sorted({model for one in found for model in one.unpriced}):
        typer.echo(f"+ without the price of {', '.join(map(printable, unpriced))}: see --prices", err=True)


@app.command("drift")
def list_drift(
    prices: Annotated[Path | None, typer.Option("--prices", help="A JSON file of prices of your own.")] = None,
    as_json: AsJson = False,
    data: Data = HERE,
) -> None:
    """List what is not known of the logs: types, fields, blocks, tools, and models without a price.

    All of it is kept and searched. Example: `penstock conversations drift`
    """
    import msgspec

    from .prices import Prices
    from .reading.drift import list_unknown

    known = Prices.load(prices)
    with open_database(data) as database:
        found = database.call(lambda connection: list_unknown(connection, known))
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for one in found:
        when = f"{one.first_at:%Y-%m-%d} to {one.last_at:%Y-%m-%d}"
        typer.echo(f"{one.what:<8} {printable(one.name):<40} {one.lines:>10,}  {when}  {printable(one.version or '')}")
    if not found:
        typer.echo("everything is known")


@app.command("recount")
def recount_lines(data: Data = HERE) -> None:
    """Count sessions, tokens, tools and changes anew from the stored lines, as after an update that knows more of them.

    Example: `penstock conversations recount`
    """
    from .store.recounting import recount

    with open_database(data) as database:
        total = database.call(recount, changes=True)
    typer.echo(f"{total:,} lines were counted anew")


def printable(text: str) -> str:
    """Return a text that a terminal shows and does not obey: what agents and tools wrote is not ours."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _zone(name: str | None) -> Any:
    from zoneinfo import ZoneInfo

    if name is None:
        return datetime.now().astimezone().tzinfo
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise typer.BadParameter(f"expected a time zone such as Europe/Berlin, not {name!r}") from None


def _day(text: str | None, zone: Any) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone)
    except ValueError:
        raise typer.BadParameter(f"expected a day such as 2026-11-01, not {text!r}") from None


register(app)
