"""One service on each database, shared by all tests that do not stop it: each test has users of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.servers import PostgresServer

from .service import Phone, Service, hang_up


@pytest.fixture(scope="session")
def shared_postgis(shared_postgres_server: PostgresServer) -> str:
    """A database with PostGIS for the shared service."""
    return shared_postgres_server.create_database(postgis=True)


@pytest.fixture(scope="session")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that keeps everything in its data folder."""
    service = Service(tmp_path_factory.mktemp("sqlite"))
    try:
        yield service.start()
    finally:
        service.close()


@pytest.fixture(scope="session")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory, shared_postgis: str) -> Iterator[Service]:
    """The service with its tables in PostgreSQL."""
    service = Service(tmp_path_factory.mktemp("postgresql"), shared_postgis)
    try:
        yield service.start()
    finally:
        service.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest) -> Service:
    """The shared service on each database; a test must not stop it."""
    found: Service = request.getfixturevalue(f"on_{request.param}")
    return found


@pytest.fixture
def phone(service: Service) -> Phone:
    """One who calls, of a user of this test alone."""
    return service.phone()


@pytest.fixture(autouse=True)
def _hung_up() -> Iterator[None]:
    """Nobody stays connected after a test."""
    yield
    hang_up()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Make a service of this test alone: not yet started, with the arguments of ``Service``."""
    made: list[Service] = []

    def make(*arguments: Any, **environment: str) -> Service:
        made.append(Service(tmp_path / f"service-{len(made)}", *arguments, **environment))
        return made[-1]

    yield make
    for service in made:
        service.close()
