"""Pytest fixtures: real servers, started once a session and stopped after it.

A missing server skips the tests that need it, with the command that installs it; with ``CI=true`` or
``PENSTOCK_REQUIRE_SERVERS=1`` it fails them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from .faults import FaultProxy
from .servers import (
    ClickhouseServer,
    InfluxdbServer,
    KafkaServer,
    MariadbServer,
    MongodbServer,
    MosquittoServer,
    NatsServer,
    PostgresServer,
    RabbitmqServer,
    RedisServer,
    RegistryServer,
    ServerMissing,
    browser_program,
    require_servers,
    s3,
)

T = TypeVar("T")


def _serve(make: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    with ExitStack() as running:
        yield _get(lambda: running.enter_context(make()))


def _get(make: Callable[[], T]) -> T:
    try:
        return make()
    except ServerMissing as missing:
        if require_servers():
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def shared_postgres_server() -> Iterator[PostgresServer]:
    """Yield one PostgreSQL for the whole session, whose data need not survive it; tests must not stop it."""
    yield from _serve(lambda: PostgresServer(fsync=False))


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """Yield a PostgreSQL for this test alone, which it may stop, kill and start again."""
    yield from _serve(PostgresServer)


@pytest.fixture(scope="session")
def postgres_url(shared_postgres_server: PostgresServer) -> str:
    """Return the URL of the session's PostgreSQL: its first database, shared by all tests."""
    return shared_postgres_server.url


@pytest.fixture
def postgres_database(shared_postgres_server: PostgresServer) -> str:
    """Return the URL of an empty database for this test alone, on the session's PostgreSQL."""
    return shared_postgres_server.create_database()


@pytest.fixture(scope="session")
def postgis_url(shared_postgres_server: PostgresServer) -> str:
    """Return the URL of a database with PostGIS, shared by all tests of the session."""
    return _get(lambda: shared_postgres_server.create_database(postgis=True))


@pytest.fixture
def postgis_database(shared_postgres_server: PostgresServer) -> str:
    """Return the URL of a database for this test alone that is empty but for PostGIS, on the session's PostgreSQL."""
    return _get(lambda: shared_postgres_server.create_database(postgis=True))


@pytest.fixture(scope="session")
def shared_redis_server() -> Iterator[RedisServer]:
    """Yield one Redis for the whole session; tests must not stop it."""
    yield from _serve(RedisServer)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Yield a Redis for this test alone, which it may stop, kill, pause and start again."""
    yield from _serve(RedisServer)


@pytest.fixture
def redis_url(shared_redis_server: RedisServer) -> str:
    """Return the URL of the session's Redis, which is empty when the test begins."""
    shared_redis_server.clear()
    return shared_redis_server.url


@pytest.fixture(scope="session")
def shared_nats_server() -> Iterator[NatsServer]:
    """Yield one NATS with JetStream for the whole session; tests must not stop it."""
    yield from _serve(NatsServer)


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """Yield a NATS with JetStream for this test alone, which it may stop, kill, pause and start again."""
    yield from _serve(NatsServer)


@pytest.fixture(scope="session")
def shared_mosquitto_server() -> Iterator[MosquittoServer]:
    """Yield one MQTT broker for the whole session; tests must not stop it."""
    yield from _serve(MosquittoServer)


@pytest.fixture
def mosquitto_server() -> Iterator[MosquittoServer]:
    """Yield an MQTT broker for this test alone, which it may stop, kill, pause and start again."""
    yield from _serve(MosquittoServer)


@pytest.fixture(scope="session")
def shared_rabbitmq_server() -> Iterator[RabbitmqServer]:
    """Yield one RabbitMQ for the whole session; tests must not stop it."""
    yield from _serve(RabbitmqServer)


@pytest.fixture(scope="session")
def shared_mongodb_server() -> Iterator[MongodbServer]:
    """Yield one server of MongoDB's protocol for the whole session; tests must not stop it."""
    yield from _serve(MongodbServer)


@pytest.fixture
def mongodb_server() -> Iterator[MongodbServer]:
    """Yield a server of MongoDB's protocol for this test alone, which it may stop, kill, pause and start again."""
    yield from _serve(MongodbServer)


@pytest.fixture(scope="session")
def shared_clickhouse_server() -> Iterator[ClickhouseServer]:
    """Yield one ClickHouse for the whole session; tests must not stop it."""
    yield from _serve(ClickhouseServer)


@pytest.fixture
def clickhouse_server() -> Iterator[ClickhouseServer]:
    """Yield a ClickHouse for this test alone, which it may stop, kill, pause and start again."""
    yield from _serve(ClickhouseServer)


@pytest.fixture(scope="session")
def shared_mariadb_server() -> Iterator[MariadbServer]:
    """Yield one MariaDB for the whole session, whose data need not survive it; tests must not stop it."""
    yield from _serve(lambda: MariadbServer(fsync=False))


@pytest.fixture
def mariadb_server() -> Iterator[MariadbServer]:
    """Yield a MariaDB for this test alone, which it may stop, kill, pause and start again."""
    yield from _serve(MariadbServer)


@pytest.fixture
def mysql_database(shared_mariadb_server: MariadbServer) -> str:
    """Return the URL of an empty database for this test alone, on the session's MariaDB."""
    return shared_mariadb_server.create_database()


@pytest.fixture(scope="session")
def shared_influxdb_server() -> Iterator[InfluxdbServer]:
    """Yield one InfluxDB for the whole session; tests must not stop it."""
    yield from _serve(InfluxdbServer)


@pytest.fixture
def influxdb_server() -> Iterator[InfluxdbServer]:
    """Yield an InfluxDB for this test alone, which it may stop, kill, pause and start again."""
    yield from _serve(InfluxdbServer)


@pytest.fixture
def fault_proxy() -> Callable[..., FaultProxy]:
    """Return what makes a proxy before a loopback port: ``async with fault_proxy(server.port) as proxy``."""
    return lambda port, **options: FaultProxy("127.0.0.1", port, **options)


@pytest.fixture(scope="session")
def shared_kafka_server() -> Iterator[KafkaServer]:
    """Yield one Kafka for the whole session; tests must not stop it."""
    yield from _serve(KafkaServer)


@pytest.fixture(scope="session")
def secured_kafka_server() -> Iterator[KafkaServer]:
    """Yield one Kafka for the whole session that asks who its clients are; tests must not stop it."""
    yield from _serve(lambda: KafkaServer(secured=True))


@pytest.fixture(scope="session")
def registry_server() -> Iterator[RegistryServer]:
    """Yield one schema registry for the whole session; tests must not stop it."""
    yield from _serve(RegistryServer)


@pytest.fixture
def kafka_server() -> Iterator[KafkaServer]:
    """Yield a Kafka for this test alone, which it may stop, kill, pause and start again."""
    yield from _serve(KafkaServer)


@pytest.fixture(scope="session")
def browser_path() -> Path:
    """Return where a Chromium is."""
    return _get(browser_program)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Yield the endpoint of an S3 with the bucket ``penstock``."""
    yield from _serve(s3)
