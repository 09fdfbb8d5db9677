"""What a command imports: what it does not need would cost everyone who calls it time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import penstock

SMALL = """
streams:
  - input: {type: generate, context: {n: 1}, interval: 1ms, count: 1, codec: json}
    output: {type: stdout}
"""
SERVICES = {"uvicorn", "aiohttp", "litestar", "sqlalchemy", "alembic", "redis", "argon2", "opentelemetry", "structlog"}
STORES = {"psycopg", "duckdb", "obstore", "fastavro"}
ENGINE = {"pyarrow", "datafusion", "numpy", "prometheus_client", "ruamel", "msgspec", "rich"}


def imported_by(folder: Path, *arguments: str) -> set[str]:
    """The top-level packages in memory at the end of a command."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))\n"
        f"sys.argv = ['penstock', *{arguments!r}]\n"
        "from penstock.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_of_the_engine(tmp_path: Path, option: str) -> None:
    assert imported_by(tmp_path, option) & (ENGINE | SERVICES | STORES) == set()


def test_validating_a_small_file_imports_neither_services_nor_stores(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    loaded = imported_by(tmp_path, "validate", "small.yaml")
    assert "pyarrow" in loaded
    assert loaded & (SERVICES | STORES | {"datafusion", "prometheus_client", "rich"}) == set()


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
