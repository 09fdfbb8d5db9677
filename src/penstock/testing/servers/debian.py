"""Install the programs that tests run, where there is apt and we may."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .browsers import browser_program
from .influxdb_server import influxdb_program
from .kafka_server import fetch_kafka, kafka_folder
from .mariadb_server import mariadb_program
from .maven import java_program, maven_program
from .mongodb_server import build_mongodb, mongodb_program
from .mosquitto_server import mosquitto_program
from .nats_server import build_nats, nats_program
from .postgresql import postgis_control, postgres_binaries, postgres_version
from .programs import ServerMissing
from .prometheus_server import prometheus_program, promtool_program
from .rabbitmq_server import rabbitmq_program
from .redis_server import redis_program
from .registry_server import fetch_registry, registry_folder

_POLICY = Path("/usr/sbin/policy-rc.d")


class Program(NamedTuple):
    """Something tests run, how to find it, and the package it comes in."""

    name: str
    find: Callable[[], Path]
    package: Callable[[], str]
    build: Callable[[], None] | None = None
    """What makes it of its source, which is tried before the package."""


PROGRAMS = (
    Program("PostgreSQL", postgres_binaries, lambda: "postgresql"),
    Program("PostGIS", postgis_control, lambda: f"postgresql-{postgres_version()}-postgis-3"),
    Program("InfluxDB", influxdb_program, lambda: "influxdb"),
    Program("MariaDB", mariadb_program, lambda: "mariadb-server"),
    Program("Redis", redis_program, lambda: "redis-server"),
    Program("NATS", nats_program, lambda: "nats-server", build_nats),
    Program("FerretDB", mongodb_program, lambda: "", build_mongodb),
    Program("Mosquitto", mosquitto_program, lambda: "mosquitto"),
    Program("RabbitMQ", rabbitmq_program, lambda: "rabbitmq-server"),
    Program("Java", java_program, lambda: "default-jre-headless"),
    Program("Maven", maven_program, lambda: "maven"),
    Program("Kafka", kafka_folder, lambda: "", fetch_kafka),
    Program("Apicurio", registry_folder, lambda: "", fetch_registry),
    Program("Chromium", browser_program, lambda: "chromium"),
    Program("Prometheus", prometheus_program, lambda: "prometheus"),
    Program("promtool", promtool_program, lambda: "prometheus"),
)
"""In this order: which PostGIS is wanted is known once PostgreSQL is there."""


def install(programs: Sequence[Program] = PROGRAMS) -> int:
    """Install the programs that are missing, where we may; return the exit code."""
    updated, failed = False, False
    for program in programs:
        try:
            _say(f"{program.name} is installed: {program.find()}")
            continue
        except ServerMissing as missing:
            _say(str(missing).partition(";")[0])
        if program.build is not None and _built(program.build):
            continue
        try:
            package = program.package()
        except ServerMissing as missing:
            _say(f"{program.name} waits for another program: {missing}")
            failed = True
            continue
        if not package:  # no system has one
            failed = True
            continue
        installed = _install(package, update=not updated)
        updated, failed = True, failed or not installed
    return int(failed)


def _built(build: Callable[[], None]) -> bool:
    try:
        build()
    except ServerMissing as missing:
        _say(str(missing))
        return False
    return True


def _install(package: str, *, update: bool) -> bool:
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if shutil.which("apt-get") is None:
        _say(f"There is no apt-get here; install it with the system's own tools (in Debian it is: {package})")
        return False
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and (shutil.which("sudo") is None or subprocess.run([*sudo, "true"], check=False).returncode != 0):
        _say(f"Only root may install it; run as root: apt-get update && {' '.join(command)}")
        return False
    with _no_service_starts(sudo):
        for step in ([["apt-get", "update"]] if update else []) + [command]:
            environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
            if subprocess.run([*sudo, *environment, *step], check=False).returncode != 0:
                _say(f"This failed: {' '.join(step)}")
                return False
    return True


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


@contextmanager
def _no_service_starts(sudo: Sequence[str]) -> Iterator[None]:
    """Debian starts a server when it is installed, unless this policy forbids it."""
    if _POLICY.exists():
        yield
        return
    script = f"printf '#!/bin/sh\\nexit 101\\n' > {_POLICY} && chmod 755 {_POLICY}"
    subprocess.run([*sudo, "sh", "-c", script], check=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            subprocess.run([*sudo, "rm", "-f", str(_POLICY)], check=True)
