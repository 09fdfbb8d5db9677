"""Real servers for tests, each of one's own: on free loopback ports, gone afterwards."""

from __future__ import annotations

from .browsers import browser_program
from .certificates import Certificate, make_certificate
from .clickhouse_server import ClickhouseServer
from .debian import install
from .influxdb_server import InfluxdbServer, influxdb_program
from .kafka_server import KafkaServer, kafka_folder
from .mariadb_server import MariadbServer, mariadb_program
from .mongodb_server import MongodbServer, mongodb_program
from .mosquitto_server import MosquittoServer, mosquitto_program
from .nats_server import NatsServer, nats_program
from .object_store import s3
from .postgresql import PostgresServer, postgres, postgres_binaries
from .programs import ServerMissing, free_port, require_servers
from .prometheus_server import PrometheusServer, prometheus_program, promtool_program
from .rabbitmq_server import RabbitmqServer, rabbitmq_program
from .redis_server import RedisServer, redis, redis_program
from .registry_server import RegistryServer, registry_folder

__all__ = [
    "Certificate",
    "ClickhouseServer",
    "InfluxdbServer",
    "KafkaServer",
    "MariadbServer",
    "MongodbServer",
    "MosquittoServer",
    "NatsServer",
    "PostgresServer",
    "PrometheusServer",
    "RabbitmqServer",
    "RedisServer",
    "RegistryServer",
    "ServerMissing",
    "browser_program",
    "free_port",
    "influxdb_program",
    "install",
    "kafka_folder",
    "make_certificate",
    "mariadb_program",
    "mongodb_program",
    "mosquitto_program",
    "nats_program",
    "postgres",
    "postgres_binaries",
    "prometheus_program",
    "promtool_program",
    "rabbitmq_program",
    "redis",
    "redis_program",
    "registry_folder",
    "require_servers",
    "s3",
]
