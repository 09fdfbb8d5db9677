"""The commands of the write-ahead log: look at it, and let a stream go on without what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..config.configuration import Configuration
    from ..context import Context
    from ..stream import Stream

app = typer.Typer(help="Look at write-ahead logs, and mend them.", no_args_is_help=True)

File = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="The configuration; by default that of `penstock up`.", show_default=False),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", envvar="PENSTOCK_DATA", help="The folder that `penstock up` keeps."),
]
Name = Annotated[str | None, typer.Option("--stream", metavar="ID", help="Only the log of this stream.")]
POSITION_TIMEOUT = 15.0
"""How long the position of a log may take to be read, in seconds."""


@app.command("inspect")
def inspect_logs(file: File = None, data: Data = None, stream: Name = None) -> None:
    """Say which entries each log holds, and which are missing or damaged.

    Changes nothing, and may be used while the streams run. Exits with 1 if anything is missing.

    Examples: `penstock log inspect`, `penstock log inspect pipeline.yaml --stream orders`
    """
    from ..runtime.salvage import inspect

    is_whole = True
    for name, folder, position in _logs(file, data, stream):
        found = inspect(folder, name)
        is_whole = is_whole and not found.missing(position) and not found.folder.strays
        typer.echo("\n".join(found.lines(position)))
    raise typer.Exit(0 if is_whole else 1)


@app.command("salvage")
def salvage_logs(file: File = None, data: Data = None, stream: Name = None) -> None:
    """Let the streams go on without what is missing from their logs, and say what that is.

    All that is intact is kept, in order; what was damaged is kept in a folder `damaged-...` beside it. Put back what
    can be put back first: a file from a backup, or the state. The streams must not run meanwhile.

    Examples: `penstock log salvage`, `penstock log salvage pipeline.yaml --stream orders`
    """
    from ..runtime.salvage import salvage

    for name, folder, position in _logs(file, data, stream):
        typer.echo("\n".join(salvage(folder, name, position)))


def _logs(file: Path | None, data: Path | None, wanted: str | None) -> Iterator[tuple[str, Path, int | None]]:
    """Yield each log that is there: the name of its stream, its folder, and its position if that can be read."""
    import asyncio

    from ..errors import PenstockError

    configuration = _configuration(file, data)
    found = False
    for stream in configuration.all_streams():
        if stream.durability is None or not stream.durability.enabled or wanted not in (None, stream.id):
            continue
        context = _context(configuration, stream)
        folder = stream.durability.folder(context)
        if folder.is_dir():
            found = True
            yield context.kept_as, folder, asyncio.run(_position(configuration, stream, context))
    if not found:
        raise PenstockError(f"there is no write-ahead log{f' of a stream {wanted!r}' if wanted else ''} here")


def _configuration(file: Path | None, data: Path | None) -> Configuration:
    from ..config.configuration import load
    from .serving import configuration

    if file is not None and data is None:
        return load(file)
    return configuration(data or Path("penstock-data"), "127.0.0.1:8080", Path("inbox"), file=file)


def _context(configuration: Configuration, stream: Stream) -> Context:
    from ..checkpoint import Ledger
    from ..context import Context
    from ..runtime.logfolder import own_log
    from ..state.memory import MemoryStore

    store = MemoryStore()
    context = Context(stream.id, store, Ledger(store.save), configuration.data, identity=stream.identity)
    return own_log(stream.durability, context) if stream.durability is not None else context


async def _position(configuration: Configuration, stream: Stream, context: Context) -> int | None:
    """Return the number of the last entry that was written downstream; None if that cannot be read now."""
    import asyncio

    from ..component import TransactionalWriter
    from ..errors import PenstockError
    from ..runtime.branches import find_leaves
    from ..state import open_store

    key = f"{context.kept_as}/wal"
    with suppress(PenstockError, TimeoutError, OSError):
        async with asyncio.timeout(POSITION_TIMEOUT):
            if stream.checkpoint == "state":
                where = configuration.state or str(configuration.data / "state.db")
                if "://" not in where and not Path(where).exists():
                    return None
                async with open_store(where) as store:
                    saved = await store.load(key)
            else:
                async with find_leaves(stream.output)[-1].output.open(context) as writer:
                    saved = await writer.load(key) if isinstance(writer, TransactionalWriter) else None
            return int(saved["position"]) if saved else 0
    return None
