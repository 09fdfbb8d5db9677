"""A package that is not installed is told when a configuration is loaded, with the extra that brings it."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from penstock.config.reference import KINDS, shipped
from penstock.extras import extra_of

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
PACKAGES = {
    "cli": ["typer", "rich", "uvloop"],
    "http": ["uvicorn", "httptools", "aiohttp"],
    "object-store": ["obstore"],
    "avro": ["fastavro"],
    "msgpack": ["msgpack"],
    "cbor": ["cbor2"],
    "xml": ["lxml"],
    "sketches": ["datasketches"],
    "vrl": ["vrl_python"],
    "protobuf": ["google", "grpc_tools"],
    "kafka": ["confluent_kafka"],
    "postgres": ["psycopg"],
    "duckdb": ["duckdb"],
    "health": ["litestar", "multipart", "sqlalchemy", "alembic", "argon2"],
    "amqp": ["aiormq"],
    "nats": ["nats"],
    "redis": ["redis"],
    "modbus": ["pymodbus"],
    "mysql": ["pymysql"],
    "mongodb": ["pymongo"],
    "iceberg": ["pyiceberg"],
    "tracing": ["opentelemetry"],
}
"""What is imported of each extra."""

WITHOUT = """
import json, sys
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None
"""
LOAD = (
    WITHOUT
    + """
from penstock import ConfigError, loads
try:
    loads(sys.argv[2])
except ConfigError as error:
    print(error)
else:
    print("valid")
"""
)
FIND = (
    WITHOUT
    + """
from penstock.config.reference import KINDS, shipped
for kind in KINDS:
    for name in shipped(kind):
        try:
            print(kind.__name__, name, kind.find(name).extra)
        except ValueError as missing:
            print(kind.__name__, name, "missing", missing)
"""
)
STREAM = """
streams:
  - input: {input}
    output: {output}
{rest}
"""
GENERATE = "{type: generate, context: {a: 1}, interval: 1s, codec: json}"
NO_PAGES = "health_check: {enabled: false}"


def python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def pieces(input: str = GENERATE, output: str = "{type: drop}", rest: str = NO_PAGES) -> str:
    return STREAM.replace("{input}", input).replace("{output}", output).replace("{rest}", rest)


NEEDING = {
    "avro": [pieces(input="{type: file, path: x.avro, format: avro}"), pieces(output="{type: file, path: x.avro}")],
    "duckdb": [pieces(output='{type: sql, url: "duckdb:///x.duckdb", table_name: t}')],
    "http": [
        pieces(input='{type: http, address: "127.0.0.1:1", path: /x}'),
        pieces(input='{type: http, url: "http://127.0.0.1:1/x"}'),
        pieces(output='{type: http, url: "http://127.0.0.1:1/x"}'),
        pieces(rest=""),
    ],
    "object-store": [
        pieces(input='{type: file, path: "s3://bucket/x.json"}'),
        pieces(output='{type: file, path: "s3://bucket/x.json"}'),
    ],
    "postgres": [
        pieces(output='{type: sql, url: "postgresql://a:b@127.0.0.1:1/x", table_name: t}'),
        pieces(output="{type: sql, output_type: {type: postgres, uri: 'postgresql://a:b@h/x'}, table_name: t}"),
        pieces(rest=f'{NO_PAGES}\nstate: "postgresql://a:b@127.0.0.1:1/x"'),
    ],
    "mysql": [
        pieces(output='{type: sql, url: "mysql://a:b@127.0.0.1:1/x", table_name: t}'),
        pieces(output="{type: sql, output_type: {type: mysql, uri: 'mysql://a:b@h/x'}, table_name: t}"),
    ],
    "iceberg": [
        pieces(output="{type: iceberg, catalog: {type: sql, uri: 'sqlite:///c.db', warehouse: w}, table_name: a.b}")
    ],
    "mongodb": [pieces(output="{type: mongodb, uri: 'mongodb://127.0.0.1', database: d, collection: c}")],
    "amqp": [
        pieces(input='{type: amqp, url: "amqp://127.0.0.1:1", queue: a}'),
        pieces(output='{type: amqp, url: "amqp://127.0.0.1:1", routing_key: a}'),
    ],
    "nats": [
        pieces(input='{type: nats, url: "nats://127.0.0.1:1", mode: {type: regular, subject: a}}'),
        pieces(output='{type: nats, url: "nats://127.0.0.1:1", mode: {type: regular, subject: a}}'),
    ],
    "modbus": [
        pieces(
            input="{type: modbus, addr: 'h:502', interval: 1s, points: [{type: coils, name: a, address: 0}]}",
        )
    ],
    "redis": [
        pieces(input='{type: redis, mode: {type: single, url: "redis://h"}, redis_type: {type: list, list: [a]}}'),
        pieces(output='{type: redis, mode: {type: single, url: "redis://h"}, redis_type: {type: list, key: a}}'),
    ],
    "tracing": [pieces(rest=f'{NO_PAGES}\ntracing: {{endpoint: "http://127.0.0.1:4318/v1/traces"}}')],
}
CASES = [(extra, text) for extra, texts in NEEDING.items() for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "text"), CASES, ids=[f"{extra}-{index}" for index, (extra, _) in enumerate(CASES)])
def test_a_missing_package_was_a_traceback_at_run_time(extra: str, text: str) -> None:
    told = python(LOAD, json.dumps(PACKAGES[extra]), text)
    assert f"pip install 'penstock[{extra}]'" in told
    assert "\n" not in told


@pytest.mark.slow
def test_the_core_alone_loads_and_finds_what_needs_no_extra() -> None:
    everything = json.dumps([package for packages in PACKAGES.values() for package in packages])
    assert python(LOAD, everything, pieces()) == "valid"
    assert python(LOAD, everything, pieces(output='{type: sql, url: "sqlite:///x.db", table_name: t}')) == "valid"
    found = python(FIND, everything).splitlines()
    assert len(found) == sum(len(shipped(kind)) for kind in KINDS)
    for line in found:
        kind, name, *rest = line.split(maxsplit=3)
        if rest and rest[0] == "missing":
            extra = next(each for each in KINDS if each.__name__ == kind).find(name).extra
            assert f"pip install 'penstock[{extra}]'" in line


def test_the_command_line_without_its_extra_was_a_traceback() -> None:
    code = WITHOUT + "from penstock.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, '["typer"]'], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "the command line needs the package 'typer', which is not installed: pip install 'penstock[cli]'"
    )


@pytest.mark.parametrize(
    ("package", "extra"), [(package, extra) for extra, packages in PACKAGES.items() for package in packages]
)
def test_each_package_is_brought_by_its_extra(package: str, extra: str) -> None:
    assert extra_of(package) == extra


def test_every_extra_for_users_is_part_of_all() -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert set(everything.removeprefix("penstock[").removesuffix("]").split(",")) == set(PACKAGES)
