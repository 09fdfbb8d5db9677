"""The commands of analytics: extract, load, transform, pipeline, validate, iceberg and config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ....platform.command_line import HERE, AsJson, Data, installation_of

if TYPE_CHECKING:
    from .settings import Settings

Backfill = Annotated[bool, typer.Option("--full-backfill", help="Write the whole lake anew.")]
Refresh = Annotated[bool, typer.Option("--full-refresh", help="Build the whole warehouse anew.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
Selection = Annotated[
    str | None, typer.Option("--models", "-m", help="Only these: stg_messages, +dim_sessions, fct_messages+, marts.")
]
WithDbt = Annotated[bool, typer.Option("--dbt", help="Build the models by dbt, which has to be installed.")]
Prices = Annotated[Path | None, typer.Option("--prices", help="A JSON file of prices of your own.")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="As the lake was: the id of a snapshot, or a time.")]


def register(app: typer.Typer) -> None:
    """Add the commands to those of conversations."""
    for command in (extract, load, transform, pipeline, validate, iceberg):
        app.command()(command)
    app.command("config")(show_config)


def extract(full_backfill: Backfill = False, verbose: Verbose = False, data: Data = HERE) -> None:
    """Add the lines to the lake, an Iceberg table, that are not in it yet.

    Example: `penstock conversations extract`
    """
    from ..commands import open_database
    from .lake import Lake, read_mark

    lake = Lake(_settings(data))
    with open_database(data) as database:
        rows = lake.extract(database, is_backfill=full_backfill)
    typer.echo(f"{rows:,} rows were extracted")
    if verbose:
        typer.echo(f"the lake has all lines up to number {read_mark(lake.table())[0]:,}")


def load(
    full_refresh: Refresh = False,
    stats: Annotated[bool, typer.Option("--stats", help="Only say what the warehouse has.")] = False,
    init_only: Annotated[bool, typer.Option("--init-only", help="Only make the tables.")] = False,
    as_of: AsOf = None,
    prices: Prices = None,
    verbose: Verbose = False,
    data: Data = HERE,
) -> None:
    """Take over into the warehouse, a DuckDB file, what the lake has and it has not.

    Example: `penstock conversations load --stats`
    """
    from .warehouse import building

    settings = _settings(data)
    if not stats:
        with building(settings, is_new=full_refresh) as connection:
            rows = 0 if init_only else _load(connection, settings, data, prices, as_of)
        typer.echo(f"{rows:,} rows were loaded")
    if stats or verbose:
        _show_stats(settings)


def transform(
    models: Selection = None,
    full_refresh: Refresh = False,
    dbt: WithDbt = False,
    verbose: Verbose = False,
    data: Data = HERE,
) -> None:
    """Build the models: views of staging and intermediate, tables of marts.

    Example: `penstock conversations transform --models +dim_sessions`
    """
    from .models import transform as build
    from .warehouse import building

    settings = _settings(data)
    if dbt:
        told = _run_dbt(settings, models, full_refresh)
        typer.echo(told if verbose else "the models were built by dbt")
        return
    with building(settings) as connection:
        built = build(connection, settings, models, is_full=full_refresh)
    typer.echo(f"{len(built)} models were built" + (f": {', '.join(built)}" if verbose else ""))


def pipeline(
    full_backfill: Backfill = False,
    full_refresh: Refresh = False,
    skip_extract: Annotated[bool, typer.Option("--skip-extract", help="Leave the lake as it is.")] = False,
    skip_load: Annotated[
        bool, typer.Option("--skip-load", help="Leave the rows of the warehouse as they are.")
    ] = False,
    skip_transform: Annotated[bool, typer.Option("--skip-transform", help="Build no models.")] = False,
    prices: Prices = None,
    verbose: Verbose = False,
    data: Data = HERE,
) -> None:
    """Extract, load and transform; whoever reads the warehouse meanwhile sees the old one.

    Example: `penstock conversations pipeline`
    """
    from .models import transform as build
    from .warehouse import building

    if not skip_extract:
        extract(full_backfill, verbose, data)
    if skip_load and skip_transform:
        return
    settings = _settings(data)
    with building(settings, is_new=full_refresh or full_backfill) as connection:
        if not skip_load:
            typer.echo(f"{_load(connection, settings, data, prices, None):,} rows were loaded")
        if not skip_transform:
            built = build(connection, settings, is_full=full_refresh)
            typer.echo(f"{len(built)} models were built" + (f": {', '.join(built)}" if verbose else ""))


def validate(
    bronze: Annotated[bool, typer.Option("--bronze/--no-bronze", help="Check the rows of the lake.")] = True,
    silver: Annotated[bool, typer.Option("--silver/--no-silver", help="Check the models.")] = True,
    verbose: Verbose = False,
    as_json: AsJson = False,
    data: Data = HERE,
) -> None:
    """Check what the warehouse promises, and show row by row what breaks it.

    Example: `penstock conversations validate`
    """
    import msgspec

    from ..commands import printable
    from .checks import BRONZE, SILVER, run_checks
    from .warehouse import reading

    with reading(_settings(data)) as connection:
        checks = run_checks(connection, (*(BRONZE if bronze else ()), *(SILVER if silver else ())))
    broken = [check for check in checks if check.found]
    if as_json:
        told = [
            {"model": one.model, "column": one.column, "check": one.name, "rows": _texts(one.found)} for one in checks
        ]
        typer.echo(msgspec.json.encode(told))
    else:
        for check in checks if verbose else broken:
            typer.echo(f"{'broken' if check.found else 'holds '}  {check.model}.{check.column}: {check.name}")
            for row in check.found:
                typer.echo(f"    {printable(', '.join(str(value)[:80] for value in row[:6]))}")
        typer.echo(f"{len(checks) - len(broken)} of {len(checks)} checks hold")
    if broken:
        raise typer.Exit(1)


def _texts(rows: list[Any]) -> list[list[str]]:
    return [[str(value) for value in row] for row in rows]


def iceberg(
    action: Annotated[
        str, typer.Argument(help="info, create, drop, snapshots, schema, compact or expire-snapshots.")
    ] = "info",
    yes: Annotated[bool, typer.Option("--yes", help="Drop without asking.")] = False,
    verbose: Verbose = False,
    data: Data = HERE,
) -> None:
    """Look after the lake: say what it has, make or drop it, and keep its files few.

    Example: `penstock conversations iceberg snapshots`
    """
    from .lake import Lake

    lake = Lake(_settings(data))
    actions: dict[str, Any] = {
        "info": lambda: _show_lake(lake),
        "create": lambda: typer.echo(f"{'.'.join(lake.name)} at {lake.table().location()}"),
        "drop": lambda: _drop(lake, yes),
        "snapshots": lambda: _show_snapshots(lake, verbose),
        "schema": lambda: typer.echo(str(lake.table().schema())),
        "compact": lambda: typer.echo(f"{lake.compact()} files were written anew"),
        "expire-snapshots": lambda: typer.echo(f"{lake.expire()} snapshots were forgotten"),
    }
    if action not in actions:
        raise typer.BadParameter(f"expected one of {', '.join(actions)}, not {action!r}")
    actions[action]()


def show_config(as_json: AsJson = False, data: Data = HERE) -> None:
    """Print where the lake and the warehouse are, as the variables of the environment say; never a password.

    Example: `penstock conversations config`
    """
    import msgspec

    shown = {name: str(value) for name, value in _settings(data).model_dump(mode="json").items()}
    if as_json:
        typer.echo(msgspec.json.encode(shown))
        return
    for name, value in shown.items():
        typer.echo(f"{name:<16} {value}")


def _settings(data: Path) -> Settings:
    from .settings import read_settings

    return read_settings(data, installation_of(data).environment)


def _load(connection: Any, settings: Settings, data: Path, prices: Path | None, as_of: str | None) -> int:
    from ..commands import open_database
    from ..prices import Prices as Known
    from .lake import Lake
    from .warehouse import load as take

    lake, known = Lake(settings), Known.load(prices)
    with open_database(data) as database:
        return take(connection, lake, database, known, lake.find_snapshot(as_of) if as_of else None)


def _show_stats(settings: Settings) -> None:
    from ..commands import printable
    from .warehouse import describe, reading

    with reading(settings) as connection:
        found = describe(connection)
    typer.echo(f"{found['rows']:,} rows, from {found['first_at']} to {found['last_at']}")
    for what in ("projects", "types"):
        for name, count in found[what].items():
            typer.echo(f"    {what[:-1]:<8} {printable(str(name)):<50} {count:>10,}")


def _run_dbt(settings: Settings, selection: str | None, is_full: bool) -> str:
    import tempfile

    from .models import run_dbt
    from .warehouse import replacing

    arguments = ["build", *(["--select", selection] if selection else []), *(["--full-refresh"] if is_full else [])]
    with replacing(settings) as copy, tempfile.TemporaryDirectory() as target:
        return run_dbt(settings, copy, arguments, Path(target))


def _show_lake(lake: Any) -> None:
    if not lake.exists():
        typer.echo("there is no lake yet: `penstock conversations extract` makes it")
        return
    table = lake.table()
    snapshot = table.current_snapshot()
    summary = snapshot.summary.additional_properties if snapshot is not None else {}
    typer.echo(f"{'.'.join(lake.name)} at {table.location()}")
    typer.echo(f"{int(summary.get('total-records', 0)):,} rows in {summary.get('total-data-files', 0)} files")
    typer.echo(f"{len(table.snapshots())} snapshots")


def _show_snapshots(lake: Any, verbose: bool) -> None:
    from datetime import UTC, datetime

    for one in lake.table().snapshots()[None if verbose else -10 :]:
        at = datetime.fromtimestamp(one.timestamp_ms / 1000, UTC)
        added = one.summary.additional_properties.get("added-records", "0") if one.summary else "0"
        typer.echo(f"{one.snapshot_id:>20}  {at:%Y-%m-%d %H:%M:%S}  {int(added):>10,} rows added")


def _drop(lake: Any, yes: bool) -> None:
    if yes or typer.confirm(f"Drop {'.'.join(lake.name)}? The lines themselves stay stored."):
        lake.drop()
        typer.echo("dropped")
