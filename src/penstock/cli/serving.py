"""Bring up the streams and services that are shipped, and say when they run and how they are used."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow

from ..apps.health import app as health
from ..apps.inbox import app as inbox_app
from ..config.configuration import Configuration, load, loads
from ..engine import Engine, Service
from ..errors import ConfigError, PenstockError
from ..serving.listener import split_address
from .running import run_engine

_M_ARENA_MAX = -8
"""The number of this setting in glibc's malloc.h."""


def shipped() -> str:
    """Return the streams that are shipped, as one file."""
    comments, _, streams = health.streams_yaml().partition("\nstreams:\n")
    assert comments.startswith("#")
    return f"{inbox_app.streams_yaml()}\n{streams}"


def configuration(file: Path | None, environment: Mapping[str, str]) -> Configuration:
    """Return the streams that are shipped, or those of ``file``; raises ConfigError."""
    return loads(shipped(), environment=environment) if file is None else load(file, environment)


def serve(data: Path, address: str, inbox: Path, file: Path | None) -> int:
    """Run the streams and the services that belong to them until they are stopped; returns the exit code."""
    _require_free(address)
    environment = inbox_app.places(data, address, inbox)
    wanted = configuration(file, environment)
    services: list[Service] = []
    if health.is_part_of(wanted):
        services.append(health.Service.of(environment))
    if file is None:
        try:
            inbox.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PenstockError(f"the folder {inbox} cannot be made: {error.strerror}") from error
        links = {"/health-data": "Health data", "/api/v1/docs": "The health API"}
        services.append(inbox_app.Index(address, inbox_app.database(data), links))
    _give_memory_back()
    engine = Engine.of(wanted, services)

    async def announce(engine: Engine) -> None:
        while not _started(engine):  # noqa: ASYNC110 - for a person to read, so a moment late is early enough
            await asyncio.sleep(0.02)
        sys.stderr.write(_greeting(address, data, inbox) if file is None else f"{file} is up\n")
        sys.stderr.flush()

    return run_engine(engine, wanted, announce)


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


def _greeting(address: str, data: Path, inbox: Path) -> str:
    where = "" if data == Path("penstock-data") else f" --data {data}"
    rows = "the database of PENSTOCK_DATABASE_URL" if os.environ.get("PENSTOCK_DATABASE_URL") else str(data)
    example = "SELECT * FROM readings"
    return (
        f"Penstock is up at http://{address} and keeps rows in {rows}. Ctrl-C stops it.\n"
        f'  post rows    curl http://{address}/ingest/readings -d \'{{"sensor": "kitchen", "celsius": 21.5}}\'\n'
        f"  drop files   {inbox}/readings/ (.json .jsonl .csv .parquet .avro .arrow)\n"
        f'  query        penstock query{where} "{example}"\n'
        f"  health       http://{address}/health-data; a key for the phone: penstock health keys create{where}"
        " --name phone\n"
    )
