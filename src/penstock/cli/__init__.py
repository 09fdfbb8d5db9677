"""The command line: its commands, their options, and what each is for."""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import PenstockError
from ..platform import command_line
from . import log
from .applications import CommandsOfAll

if TYPE_CHECKING:
    from ..config.configuration import Configuration

app = typer.Typer(
    name="penstock",
    cls=CommandsOfAll,
    help="Move rows from inputs through SQL and Python to outputs. Nothing that was accepted is lost.",
    epilog="Begin with `penstock up`, or with `penstock init` and `penstock run penstock.yaml`.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode=None,
)
components = typer.Typer(help="Look up inputs, buffers, processors, outputs and codecs.", no_args_is_help=True)
app.add_typer(components, name="components")
app.add_typer(log.app, name="log")
app.add_typer(command_line.commands(), name="keys")
app.command("sign-in")(command_line.sign_in)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A .yaml, .yml, .json or .toml file.", show_default=False)]
Data = Annotated[
    Path, typer.Option("--data", metavar="DIR", envvar="PENSTOCK_DATA", help="The folder that `penstock up` keeps.")
]


class RowFormat(StrEnum):
    """How `query` writes rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class PageFormat(StrEnum):
    """How `components show` and `plan` write."""

    TEXT = "text"
    JSON = "json"


def main() -> None:
    """Run the command line; what is wrong is said on one line for each thing, and the exit code is 1."""
    try:
        app()
    except PenstockError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def penstock(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Run this file: the same as `penstock run FILE`."),
    ] = None,
    only_validate: Annotated[
        bool, typer.Option("--validate", "-v", help="With --config: only check the file.")
    ] = False,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Move rows from inputs through SQL and Python to outputs. Nothing that was accepted is lost."""
    if show_version:
        typer.echo(f"penstock {version('penstock')}")
    elif context.invoked_subcommand is not None:
        if config is not None or only_validate:
            raise typer.BadParameter("--config and --validate stand alone, without a command", context)
    elif config is None:
        typer.echo(context.get_help())
        if only_validate:
            raise typer.BadParameter("--validate needs --config FILE", context)
    elif only_validate:
        validate(config)
    else:
        run(config)


@app.command()
def run(file: File) -> None:
    """Run the streams of a file.

    Ends by itself when all inputs have ended. Ctrl-C (or SIGTERM) stops reading, writes what is on its way and exits
    with 0; a second Ctrl-C exits at once, and what was not written then is read again by the next run.
    Exits with 1, and the reason, if a stream failed. On a terminal it shows rows, rate and lag meanwhile.

    Example: `penstock run examples/generate_example.yaml`
    """
    from .running import run_file

    raise typer.Exit(run_file(file))


@app.command()
def reload(file: File) -> None:
    """Apply a changed file to the process that runs it.

    The file is checked first; one that is not valid changes nothing, here or there. Streams that are the same keep
    running. Those that were changed or removed write what is in flight; then the changed ones go on where they were,
    and new ones begin. What only a start can change (`data`, `state`, `database`, `applications`, `health_check`,
    `logging`, `tracing`) is refused. SIGHUP does the same, and says in the log how it went. Files that a stream refers
    to, such as Python modules, are read again only by streams that begin.

    Example: `penstock reload pipeline.yaml`
    """
    from .reloading import reload

    typer.echo(reload(file))


@app.command()
def validate(file: File) -> None:
    """Check a file without running it.

    Builds every component and opens none: no connection is made, no file is touched. Each fault is one line with
    file, line, path and what was expected; the exit code is then 1. What only shows when components are opened
    (a wrong password, a missing folder) is told by `penstock doctor`.

    Example: `penstock validate pipeline.yaml`
    """
    from .checking import validated

    for line in validated(file):
        typer.echo(line)


@app.command()
def plan(
    file: File,
    format: Annotated[
        PageFormat,
        typer.Option("--format", "-f", help="Lines to read, or JSON with the stages that the console draws."),
    ] = PageFormat.TEXT,
) -> None:
    """Describe what the streams of a file will do.

    Nothing runs. Shows the stages of each, the columns that they read, where rows and refused rows go, what is
    guaranteed, and the bounds.

    Example: `penstock plan examples/routing_example.yaml`
    """
    from .planning import plan, plan_as_json

    for line in [plan_as_json(file)] if format is PageFormat.JSON else plan(file):
        typer.echo(line)


@app.command("test")
def run_tests(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Configurations, or their tests: NAME.test.yaml.")
    ],
) -> None:
    """Run the tests that stand beside a configuration.

    Rows go in, and rows and errors are to come out. The tests of `pipeline.yaml` are in `pipeline.test.yaml`. The
    input and the outputs of the stream are left out, its
    buffer and processors run as they are; time begins where the test says and jumps when all wait. Shows a diff of
    what differs, and exits with 1 if any test fails.

    Example: `penstock test examples/quick_start.yaml`
    """
    from .testing import run_tests

    raise typer.Exit(run_tests(files))


@app.command()
def doctor(file: File) -> None:
    """Open every component of a file once; say what fails, and why.

    Nothing is read and nothing is written; positions are left as they are. Databases that are files are made if they
    are missing. Do not use it while the streams run: an address or a file that they hold is reported as taken.
    Exits with 1 if anything fails.

    Example: `penstock doctor pipeline.yaml`
    """
    from .checking import examine

    raise typer.Exit(examine(file))


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")] = Path("penstock.yaml"),
) -> None:
    """Write a commented configuration that runs as it is.

    A file that is there already is left alone.

    Example: `penstock init && penstock run penstock.yaml`
    """
    from .starter import write_starter

    write_starter(file)
    typer.echo(f"{file} is written; run it with: penstock run {file}")


@app.command()
def migrate(data: Data = Path("penstock-data")) -> None:
    """Make or update the tables of the health service.

    It is the same as `penstock health migrate`.

    `penstock up` does it too. Several may do it at once: the others wait for the first. PostgreSQL needs PostGIS.

    Example: `penstock migrate`
    """
    from ..apps.health.commands import migrate as migrate_tables

    migrate_tables(data)


@app.command()
def schema() -> None:
    """Print the JSON Schema of configuration files.

    Editors and other tools complete and check files by it.

    Example: `penstock schema > penstock.schema.json`, and as the first line of a YAML file:
    `# yaml-language-server: $schema=penstock.schema.json`
    """
    import json

    from ..config.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@components.command("list")
def list_components(
    kind: Annotated[
        str | None, typer.Option("--kind", "-k", metavar="KIND", help="input, buffer, processor, output or codec.")
    ] = None,
) -> None:
    """List what a configuration can use, with a line on each.

    Example: `penstock components list --kind input`
    """
    from .catalogue import listing

    for line in listing(kind):
        typer.echo(line)


@components.command("show")
def show_component(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="input, buffer, processor, output or codec.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its `type`.")],
    format: Annotated[
        PageFormat, typer.Option("--format", "-f", help="A page to read, or JSON with the JSON Schema.")
    ] = PageFormat.TEXT,
) -> None:
    """Show what a component does, its options and an example.

    Example: `penstock components show output sql`
    """
    from .catalogue import as_json, as_text

    typer.echo(as_json(kind, name) if format is PageFormat.JSON else as_text(kind, name))


@app.command()
def query(
    sql: Annotated[
        str | None,
        typer.Argument(metavar="[SQL]", help="A SELECT. Without it, the tables are listed.", show_default=False),
    ] = None,
    format: Annotated[RowFormat, typer.Option("--format", "-f", help="`json` is one object a line.")] = RowFormat.TABLE,
    data: Data = Path("penstock-data"),
) -> None:
    """Query what `penstock up` has stored, also while it runs.

    The SQL is that of the database: SQLite, or PostgreSQL if PENSTOCK_DATABASE_URL names one. Nothing can be changed.
    Rows are written as they come, so a large result needs no memory. Tables of an application are read with its name
    before theirs, as in `SELECT * FROM health.health_points`.

    Examples: `penstock query`, `penstock query "SELECT * FROM readings LIMIT 10"`,
    `penstock query --format csv "SELECT * FROM readings" > readings.csv`
    """
    from .querying import print_rows, print_tables

    if sql is None:
        print_tables(data, format.value)
    else:
        print_rows(data, sql, format.value)


@app.command()
def up(
    data: Data = Path("penstock-data"),
    address: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", envvar="PENSTOCK_ADDRESS", help="Where to listen.")
    ] = "127.0.0.1:8080",
    inbox: Annotated[
        Path, typer.Option("--inbox", metavar="DIR", envvar="PENSTOCK_INBOX", help="The folder for files.")
    ] = Path("inbox"),
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="A configuration of your own instead of the shipped one."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Run this application alone; several times for several."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the configuration that is shipped, and end.")] = False,
) -> None:
    """Keep rows from HTTP and files in a database you can query.

    `POST /ingest/readings` with JSON, NDJSON or CSV adds rows to the table `readings`; so does a .json, .jsonl, .csv,
    .parquet, .avro or .arrow file in `inbox/readings/`. Tables and columns are made as they come. A row that does not
    fit is kept in the table `_quarantine`, with the reason. Rows are in SQLite in the data folder, or
    in PostgreSQL if PENSTOCK_DATABASE_URL names one.

    It also takes what the app Health Auto Export sends to `/api/v1/ingest`, with a key made by
    `penstock keys create`, and shows it at `/health-data`.

    Examples: `penstock up`, `penstock up --only inbox`, `penstock up --address 0.0.0.0:9000 --data /srv/penstock`,
    `penstock up --show > mine.yaml && penstock up --config mine.yaml`
    """
    from .serving import configuration, serve, shipped

    if show:
        typer.echo(shipped(), nl=False)
        return
    if config is not None and only:
        raise typer.BadParameter("--only chooses among the shipped applications; leave it out beside --config")

    def read() -> Configuration:
        return configuration(data, address, inbox, file=config, only=only or ())

    raise typer.Exit(serve(read(), config, read))
