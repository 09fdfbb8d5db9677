"""What a command imports: what it does not need would cost everyone who calls it time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

import penstock
from penstock.testing.servers import free_port

SMALL = """
streams:
  - input: {type: generate, context: {n: 1}, interval: 1ms, count: 1, codec: json}
    output: {type: stdout}
"""
SERVICES = {"uvicorn", "aiohttp", "litestar", "sqlalchemy", "alembic", "redis", "argon2", "opentelemetry"}
STORES = {"psycopg", "duckdb", "obstore", "fastavro"}
ENGINE = {"pyarrow", "datafusion", "numpy", "prometheus_client", "ruamel", "msgspec", "rich"}
FORMATS = {f"pyarrow.{name}" for name in ("csv", "parquet", "feather", "dataset", "fs", "flight", "acero", "orc")}
DISPLAY = {"rich", "pygments", "mako"}
MAX_IDLE_MB = 180

PRINTING = (
    "import atexit, sys\n"
    "atexit.register(lambda: print('imported:', *sys.modules, file=sys.stderr))\n"
    "sys.argv[0] = 'penstock'\n"
    "from penstock.cli import main\n"
    "main()\n"
)
"""Runs the command line, and prints at the end which modules are in memory."""


class Running(Protocol):
    """What the fixture ``start`` gives."""

    process: subprocess.Popen[bytes]
    stderr: str

    def wait_for(self, condition: Callable[[], bool], what: str) -> object: ...
    def end(self) -> int: ...


def imported(written: str) -> set[str]:
    """Return the modules that a process printed, and the packages they are in."""
    names = set(written.rpartition("imported:")[2].split())
    return names | {name.partition(".")[0] for name in names}


def imported_by(folder: Path, *arguments: str) -> set[str]:
    """Return the modules in memory at the end of a command."""
    command = [sys.executable, "-c", PRINTING, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return imported(done.stderr)


def memory(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_of_the_engine(tmp_path: Path, option: str) -> None:
    assert imported_by(tmp_path, option) & (ENGINE | SERVICES | STORES | {"asyncio", "ssl"}) == set()


def test_validating_a_small_file_imports_neither_services_nor_stores(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    loaded = imported_by(tmp_path, "validate", "small.yaml")
    assert "pyarrow" in loaded
    assert loaded & (SERVICES | STORES | FORMATS | DISPLAY | {"datafusion", "prometheus_client"}) == set()


def test_running_a_small_file_imports_neither_services_nor_stores(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL + "health_check: {enabled: false}\n")
    loaded = imported_by(tmp_path, "run", "small.yaml")
    assert "penstock.runtime.flow" in loaded
    assert loaded & (SERVICES | STORES | FORMATS | DISPLAY | {"datafusion"}) == set()


@pytest.mark.parametrize("arguments", [(), ("--only", "inbox")])
def test_an_idle_service_has_imported_what_it_uses_and_is_small(
    start: Callable[..., Running], arguments: tuple[str, ...]
) -> None:
    idle(start, *arguments)  # makes the tables, which needs more
    assert (
        idle(start, *arguments) & (STORES | FORMATS | DISPLAY | {"datafusion", "aiohttp", "redis", "alembic"}) == set()
    )


def idle(start: Callable[..., Running], *arguments: str) -> set[str]:
    """Return what ``penstock up`` has imported, which is small once it is up."""
    running = start("up", *arguments, "--address", f"127.0.0.1:{free_port()}", program=("-c", PRINTING))
    running.wait_for(lambda: "Penstock is up" in running.stderr, "greeting")
    resident = memory(running.process.pid)
    assert running.end() == 0
    assert resident <= MAX_IDLE_MB, f"{resident:.0f} MB"
    return imported(running.stderr)


def test_importing_the_package_imports_nothing_until_a_name_is_used() -> None:
    code = "import sys, penstock; assert 'pyarrow' not in sys.modules; penstock.Stream; assert 'pyarrow' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_found_and_no_other() -> None:
    assert set(penstock.__all__) <= set(dir(penstock))
    assert all(getattr(penstock, name) is not None for name in penstock.__all__)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        penstock.nothing_of_the_kind  # noqa: B018


def test_the_list_of_commands_cuts_no_description_off(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "--help"],
        cwd=tmp_path,
        env={"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    commands = done.stdout.partition("Commands:")[2].splitlines()
    assert [line for line in commands if line.endswith("...") and "migrate" not in line] == []
