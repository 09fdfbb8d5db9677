"""Every connector that talks to a server, as a stream that does: for tests of what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

PASSWORD = "marker-of-a-password"
"""What is given as password unless another is wanted; nobody takes it, and nothing may show it."""
FAST = {"initial": "20ms", "maximum": "500ms"}
NUMBERS = {"type": "generate", "context": '{"n": 1}', "interval": "50ms", "batch_size": 1, "codec": "json"}


class Place(NamedTuple):
    """Where a server is, and how one gets in."""

    port: int
    user: str = "penstock"
    password: str = PASSWORD
    ca: Path | None = None
    """The certificate of whoever vouches for it, where TLS is spoken."""
    tls: bool = False
    folder: Path = Path("/nowhere")
    """Where files of the stream go."""

    @property
    def host(self) -> str:
        """The name of the machine."""
        return "127.0.0.1"

    def url(self, scheme: str, path: str = "") -> str:
        """Return a URL with user and password."""
        return f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}{path}"

    def http(self) -> str:
        """Return a URL of HTTP without user and password."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def encryption(self) -> dict[str, Any]:
        """The options of TLS that most have."""
        return {"tls": {"ca": str(self.ca)} if self.ca else {}} if self.tls else {}


def _kafka(place: Place) -> dict[str, Any]:
    security: dict[str, Any] = {"username": place.user, "password": place.password, "mechanism": "PLAIN"}
    protocol = "sasl_ssl" if place.tls else "sasl_plaintext"
    security = {"protocol": protocol, "sasl": security, **place.encryption}
    return {"type": "kafka", "brokers": f"{place.host}:{place.port}", "request_timeout": "2s", "security": security}


def _kafka_input(place: Place) -> dict[str, Any]:
    return {**_kafka(place), "topics": ["in"], "consumer_group": "g", "codec": "json"}


def _kafka_output(place: Place) -> dict[str, Any]:
    return {**_kafka(place), "topic": "out", "delivery_timeout": "3s"}


def _nats(place: Place) -> dict[str, Any]:
    return {"type": "nats", "url": place.url("nats"), "timeout": "2s", **place.encryption}


def _nats_core(place: Place) -> dict[str, Any]:
    return {**_nats(place), "mode": {"type": "regular", "subject": "in.>"}, "codec": "json"}


def _nats_jetstream(place: Place) -> dict[str, Any]:
    mode = {"type": "jet_stream", "stream": "in", "consumer_name": "penstock", "ack_wait": "1s"}
    return {**_nats(place), "mode": mode, "codec": "json"}


def _nats_output(place: Place) -> dict[str, Any]:
    return {**_nats(place), "mode": {"type": "jet_stream", "subject": "out.rows"}}


def _mqtt(place: Place) -> dict[str, Any]:
    credentials = {"username": place.user, "password": place.password}
    where = {"type": "mqtt", "host": place.host, "port": place.port}
    return {**where, **credentials, "timeout": "2s", "keep_alive": 2, **place.encryption}


def _mqtt_input(place: Place) -> dict[str, Any]:
    return {**_mqtt(place), "topics": ["in/#"], "client_id": "reading", "codec": "json"}


def _mqtt_output(place: Place) -> dict[str, Any]:
    return {**_mqtt(place), "topic": "out/rows", "client_id": "writing"}


def _redis(place: Place) -> dict[str, Any]:
    url = place.url("rediss" if place.tls else "redis")
    return {"type": "redis", "mode": {"type": "single", "url": url}, "timeout": "2s", **place.encryption}


def _redis_stream(place: Place) -> dict[str, Any]:
    kind = {"type": "stream", "streams": ["in"], "field": "value"}
    return {**_redis(place), "redis_type": kind, "codec": "json"}


def _redis_list(place: Place) -> dict[str, Any]:
    return {**_redis(place), "redis_type": {"type": "list", "list": ["list"]}, "codec": "json"}


def _redis_subscribe(place: Place) -> dict[str, Any]:
    channels = {"type": "channels", "channels": ["c"]}
    return {**_redis(place), "redis_type": {"type": "subscribe", "subscribe": channels}, "codec": "json"}


def _redis_output(place: Place) -> dict[str, Any]:
    return {**_redis(place), "redis_type": {"type": "stream", "key": "out"}}


def _ssl(place: Place) -> dict[str, Any]:
    if not place.tls:
        return {}
    return {"ssl": {"ssl_mode": "verify_full", **({"root_cert": str(place.ca)} if place.ca else {})}}


def _postgres_cdc(place: Place) -> dict[str, Any]:
    url = place.url("postgresql", "/postgres")
    url += "?connect_timeout=2"
    return {"type": "postgres_cdc", "url": url, "tables": ["public.t"], "timeout": "2s", **_ssl(place)}


def _sql_input(scheme: str, database: str) -> Callable[[Place], dict[str, Any]]:
    def made(place: Place) -> dict[str, Any]:
        kind = {"type": scheme, "uri": place.url(scheme, f"/{database}"), **_ssl(place)}
        incremental = {"cursor": "n", "interval": "50ms"}
        return {"type": "sql", "input_type": kind, "select_sql": "SELECT n FROM t", "incremental": incremental}

    return made


def _sql_output(scheme: str, database: str) -> Callable[[Place], dict[str, Any]]:
    def made(place: Place) -> dict[str, Any]:
        kind = {"type": scheme, "uri": place.url(scheme, f"/{database}"), **_ssl(place)}
        return {"type": "sql", "output_type": kind, "table_name": "out"}

    return made


def _websocket(place: Place) -> dict[str, Any]:
    auth = {"type": "basic", "username": place.user, "password": place.password}
    url = f"{'wss' if place.tls else 'ws'}://{place.host}:{place.port}/feed"
    more = {"timeout": "2s", "ping_interval": "1s"}
    return {"type": "websocket", "url": url, "auth": auth, "codec": "json", **more, **place.encryption}


def _modbus(place: Place) -> dict[str, Any]:
    point = {"type": "holding_registers", "name": "n", "address": 0, "data_type": "int16"}
    where = {"type": "modbus", "addr": f"{place.host}:{place.port}", "timeout": "2s"}
    return {**where, "points": [point], "interval": "50ms", **place.encryption}


def _influxdb(version: int) -> Callable[[Place], dict[str, Any]]:
    def made(place: Place) -> dict[str, Any]:
        into = {
            1: {"database": "penstock", "username": place.user, "password": place.password},
            2: {"org": "home", "bucket": "b", "token": place.password},
            3: {"database": "penstock", "token": place.password},
        }[version]
        where = {"type": "influxdb", "version": version, "url": place.http(), "measurement": "m", "timeout": "2s"}
        return {**where, **into, **place.encryption}

    return made


def _mongodb(place: Place) -> dict[str, Any]:
    uri = place.url("mongodb", "/?authSource=admin")
    where = {"type": "mongodb", "uri": uri, "database": "d", "collection": "c", "timeout": "2s"}
    return {**where, **place.encryption}


def _clickhouse(place: Place) -> dict[str, Any]:
    credentials = {"username": place.user, "password": place.password}
    return {
        "type": "clickhouse",
        "url": place.http(),
        **credentials,
        "table_name": "out",
        "timeout": "2s",
        **place.encryption,
    }


def _iceberg(place: Place) -> dict[str, Any]:
    catalog = {"type": "rest", "uri": place.http(), "token": place.password, **place.encryption}
    return {"type": "iceberg", "catalog": catalog, "table_name": "a.b", "timeout": "3s"}


INPUTS: Mapping[str, Callable[[Place], dict[str, Any]]] = {
    "kafka-input": _kafka_input,
    "nats-core": _nats_core,
    "nats-jetstream": _nats_jetstream,
    "mqtt-input": _mqtt_input,
    "redis-stream": _redis_stream,
    "redis-list": _redis_list,
    "redis-subscribe": _redis_subscribe,
    "postgres_cdc": _postgres_cdc,
    "postgres-input": _sql_input("postgres", "postgres"),
    "mysql-input": _sql_input("mysql", "penstock"),
    "websocket": _websocket,
    "modbus": _modbus,
}
OUTPUTS: Mapping[str, Callable[[Place], dict[str, Any]]] = {
    "kafka-output": _kafka_output,
    "nats-output": _nats_output,
    "mqtt-output": _mqtt_output,
    "redis-output": _redis_output,
    "postgres-output": _sql_output("postgres", "postgres"),
    "mysql-output": _sql_output("mysql", "penstock"),
    "influxdb-1": _influxdb(1),
    "influxdb-2": _influxdb(2),
    "influxdb-3": _influxdb(3),
    "mongodb": _mongodb,
    "clickhouse": _clickhouse,
    "iceberg": _iceberg,
}
CONNECTORS = [*INPUTS, *OUTPUTS]


def stream(name: str, place: Place, **options: Any) -> dict[str, Any]:
    """Return the stream of a connector."""
    if name in INPUTS:
        ends = {"input": INPUTS[name](place), "output": {"type": "memory", "key": name}}
    else:
        ends = {"input": NUMBERS, "output": OUTPUTS[name](place)}
    return {"id": name, **ends, "retry": FAST, "shutdown_timeout": "2s", **options}
