"""Run the applications that are shipped, and say when they run and how they are used."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow

from ..application import Application
from ..config.configuration import Configuration, build, load
from ..config.document import parse_document
from ..engine import Engine
from ..errors import ConfigError, PenstockError
from ..platform.application import prepare, services_of
from ..platform.privacy import keep_private
from ..serving.listener import split_address
from .running import run_engine

_M_ARENA_MAX = -8
"""The number of this setting in glibc's malloc.h."""


def shipped() -> str:
    """Return the configuration that ``penstock up`` runs."""
    return files(__package__).joinpath("up.yaml").read_text()


def configuration(
    data: Path, address: str, inbox: Path, *, file: Path | None = None, only: Sequence[str] = ()
) -> Configuration:
    """Return what is to run: the file that is shipped, or another one; raises ConfigError.

    Of the shipped one, ``only`` names the applications that are wanted; others are not even imported.
    """
    environment = {
        **os.environ,
        "PENSTOCK_DATA": str(data),
        "PENSTOCK_ADDRESS": address,
        "PENSTOCK_INBOX": str(inbox),
    }
    if file is not None:
        return load(file, environment)
    document = parse_document(shipped(), file="up.yaml", environment=environment)
    document.value["applications"] = list(_wanted(document.value["applications"], only))
    return build(document, environment)


def _wanted(listed: Sequence[Any], only: Sequence[str]) -> Iterator[Any]:
    """Yield the applications that are to run; one whose packages are missing is left out, unless it was asked for."""
    names = [one if isinstance(one, str) else one["type"] for one in listed]
    if unknown := next((name for name in only if name not in names), None):
        raise ConfigError(f"--only: no application is called {unknown!r}; expected one of {', '.join(names)}")
    for name, one in zip(names, listed, strict=True):
        if only and name not in only:
            continue
        try:
            Application.find(name)
        except ValueError as error:
            if only:
                raise ConfigError(str(error)) from error
            sys.stderr.write(f"{name} is left out: {error}\n")
        else:
            yield one


def serve(wanted: Configuration, file: Path | None = None, read: Callable[[], Configuration] | None = None) -> int:
    """Run a configuration until it is stopped, ``read`` anew on a reload; returns the exit code."""
    _require_free(wanted.health_check.address)
    _give_memory_back()

    async def announce(engine: Engine) -> None:
        while not _started(engine):  # noqa: ASYNC110 - for a person to read, so a moment late is early enough
            await asyncio.sleep(0.02)
        sys.stderr.write(_greeting(wanted) if file is None else f"{file} is up\n")
        sys.stderr.write(await asyncio.to_thread(_invite, wanted))
        sys.stderr.flush()

    with keep_private(wanted.data):
        prepare(wanted)
        return run_engine(Engine.of(wanted, services_of(wanted), read), wanted, announce, file)


def _give_memory_back() -> None:
    """Let go of what large bodies needed: pools and arenas for each thread would keep it until the next one comes.

    Where the C library has no such setting, as on macOS, only the pool is changed.
    """
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _started(engine: Engine) -> bool:
    return bool(engine.supervised) and all(one.state not in ("created", "starting") for one in engine.supervised)


def _require_free(address: str) -> None:
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ConfigError(f"--address: {error}") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PenstockError(
                f"cannot listen at {address}: {error.strerror}; choose another: penstock up --address 127.0.0.1:8081"
            ) from error


def _greeting(wanted: Configuration) -> str:
    where = wanted.installation
    rows = "the database of PENSTOCK_DATABASE_URL" if where.database else str(where.data)
    data = "" if where.data == Path("penstock-data") else f" --data {shlex.quote(str(where.data))}"
    needed = [one for one in wanted.all_applications() if one not in wanted.applications]
    lines = [line for one in (*wanted.applications, *needed) for line in one.greeting(where).items()]
    return f"Penstock is up at http://{where.address} and keeps rows in {rows}. Ctrl-C stops it.\n" + "".join(
        f"  {word:13} {line.replace('{penstock}', _command()).replace('{data}', data)}\n" for word, line in lines
    )


def _invite(wanted: Configuration) -> str:
    """Return a line with a link to sign in, good for one use, if a person reads it; a log is to hold none."""
    if not sys.stderr.isatty() or "access" not in [one.type_name for one in wanted.all_applications()]:
        return ""
    from ..platform.access.scopes import Scopes
    from ..platform.commands import create_link
    from ..platform.ownership import database_of

    installation = wanted.installation
    with closing(database_of(installation, "platform")) as database:
        try:
            link = create_link(database, Scopes(installation.scopes).names, installation.address)
        except PenstockError:  # /health says what is wrong with the database
            return ""
    # On a line of its own, so that no terminal breaks it.
    return f"To sign in, once and within 10 minutes, open\n  {link}\n"


def _command() -> str:
    """Return how this program is called: by its name where the shell finds it, else by its path."""
    called = Path(sys.argv[0])
    found = shutil.which("penstock")
    if called.name != "penstock" or (found is not None and Path(found).samefile(called)):
        return "penstock"
    return shlex.quote(os.path.relpath(called))
