"""The climate of the tests: real servers by fixture, and no blocked event loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

import penstock
from penstock.testing import forks

PACKAGE = Path(penstock.__path__[0])
# What `penstock up` and the streams of the tests import; it is found imported by each program that a test forks.
forks.preload(
    [
        *("penstock.cli.serving", "penstock.engine", "penstock.state.sqlite", "penstock.state.postgres"),
        *(f"penstock.{kind}" for kind in ("inputs.file", "inputs.http.server", "outputs.sql", "outputs.sql.sqlite")),
        *("penstock.codecs.json", "penstock.sql.expression", "sqlalchemy.dialects.sqlite"),
        *(
            ".".join(("penstock", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
            for folder in ("apps", "platform")
            for path in sorted((PACKAGE / folder).rglob("*.py"))
        ),
    ]
)
os.environ["CLAUDE_DIR"] = "/nowhere/agents"  # no test reads what the agents of this machine's people wrote
pytest_plugins = ["penstock.testing.pytest_plugin"]
pa.array(range(0))  # pyarrow looks for pandas once, which reads files: not while an event loop runs

MAY_BLOCK = [
    ("penstock/__init__.py", "__getattr__"),  # imports the module of a public name when it is first used
    ("penstock/registry.py", "find"),  # imports a component when it is first named
    ("penstock/config/document.py", "parse_document"),  # a configuration is read before anything flows
    ("penstock/sql/expression.py", "_prepared"),  # imports DataFusion when an expression is first parsed
    ("penstock/processors/python.py", "reads_metadata"),  # looks into a source file once, before anything flows
    ("penstock/outputs/memory.py", "rows"),  # what the tests themselves call; looks a time zone up once
    ("penstock/api.py", "run_sync"),  # plainly called within a running loop, as in a notebook, on purpose
]


SERVERS = {"shared_postgres_server", "postgres_server", "shared_redis_server", "redis_server", "s3_endpoint"}
BROWSERS = {"browser", "browser_path", "chromium"}
SERVICES = {"serve", "start", "up"}
"""Fixtures that start `penstock` for one test."""
WHOLE = [Path(__file__).parent / folder for folder in ("apps/health/whole", "examples", "faults")]
"""Folders of tests that run all of Penstock, which takes seconds."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests by the fixtures that they use, also those that a parameter chooses: `make quick` leaves them out."""
    used = {*getattr(item, "fixturenames", ())}
    chosen = [*item.callspec.params.values()] if "request" in used and hasattr(item, "callspec") else []
    if used & (SERVERS | BROWSERS) or any(
        value in ("postgres", "postgresql", "redis") for value in chosen if isinstance(value, str)
    ):
        item.add_marker("server")
    if used & SERVICES or any(folder in item.path.parents for folder in WHOLE):
        item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def event_loop_is_never_blocked() -> Iterator[BlockBuster]:
    """Fail a test in which the engine waits for a disk or a socket on the event loop."""
    with blockbuster_ctx(["penstock"], excluded_modules=["penstock.testing"]) as buster:
        for name in ("os.stat", "os.listdir", "os.getcwd", "os.path.abspath"):  # what an import does on its way
            buster.functions[name].deactivate()
        for function in buster.functions.values():
            for file, name in MAY_BLOCK:
                function.can_block_in(file, name)
        yield buster


@pytest.fixture(autouse=True)
def rows_of_other_tests_are_gone() -> Iterator[None]:
    """Forget what was written to memory: tests use the same keys."""
    yield
    if memory := sys.modules.get("penstock.outputs.memory"):
        memory.kept.clear()
        memory.positions.clear()


@pytest.fixture(autouse=True, scope="module")
def metrics_of_other_files_are_gone() -> Iterator[None]:
    """Forget the series of thousands of streams: each look at `/metrics` writes all that this process ever had."""
    yield
    if metrics := sys.modules.get("penstock.observe.metrics"):
        for collector in {*metrics.registry._collector_to_names}:
            if "stream" in getattr(collector, "_labelnames", ()):
                collector.clear()


# The same examples on every run of the checks, so that a change is judged by what it changes; new ones are searched for
# by whoever runs the tests by hand.
settings.register_profile("checks", derandomize=True, print_blob=True, deadline=None)
# No example fails because the machine is busy.
settings.register_profile("by hand", deadline=None)
settings.load_profile("checks" if os.environ.get("CI") else "by hand")
