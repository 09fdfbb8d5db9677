"""An Apache Kafka of one's own, which may be stopped, killed, frozen and started again."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from .certificates import Certificate, make_certificate
from .maven import fetch, find_fetched, java_program, run
from .programs import ServerMissing, free_port, spawn
from .server import Server

KAFKA_VERSION = "4.4.0"
"""The newest that runs on Java 17."""
USER, PASSWORD = "penstock", "penstock-secret"
"""Who may connect to the listeners that ask."""
SMALL_JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
"""A small heap and a quick start."""
FAST_JVM = ("-Xmx1g", "-XX:+UseParallelGC")
"""Compiled in full, for benchmarks."""

_ARTIFACTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
_CLUSTER = "4L6g3nShT-eMCtK--X86sw"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_OAUTH = "org.apache.kafka.common.security.oauthbearer"


def kafka_folder() -> Path:
    """Return the folder with the server's libraries and an empty data folder; raises ServerMissing."""
    return find_fetched("Kafka", f"kafka-{KAFKA_VERSION}")


def fetch_kafka() -> None:
    """Fetch the server; raises ServerMissing with the reason if that cannot be done."""
    fetch(f"kafka-{KAFKA_VERSION}", ["dependency:copy-dependencies"], _format, _ARTIFACTS)


def _format(folder: Path) -> None:
    """Format a data folder once, of which each server gets a copy: that takes as long as a start."""
    (folder / "server.properties").write_text(_lines(_settings(folder / "data", 9092, 9093)))
    mechanisms = ("SCRAM-SHA-256", "SCRAM-SHA-512")
    users = [f"--add-scram={mechanism}=[name={USER},password={PASSWORD}]" for mechanism in mechanisms]
    tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER, *users, "-c", str(folder / "server.properties")]
    failure = run([*_java(folder), *tool])
    if not (folder / "data" / "meta.properties").exists():
        raise ServerMissing(f"Kafka {KAFKA_VERSION} could not format a data folder: {failure[-400:]}")


def _java(folder: Path, options: Sequence[str] = SMALL_JVM) -> list[str]:
    return [str(java_program()), *options, "-cp", f"{folder / 'libs'}/*"]


def _settings(data: Path, port: int, controller: int) -> dict[str, object]:
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "log.dirs": data,
        "num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        # Without these a server that was killed is let in again only after many seconds.
        "broker.session.timeout.ms": 1500,
        "broker.heartbeat.interval.ms": 300,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
    }


def _lines(settings: dict[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


class KafkaServer(Server):
    """An Apache Kafka of one node with a data folder of its own, on free loopback ports.

    What was acknowledged is still there after ``kill`` and ``start``, since the machine goes on. With ``secured`` it
    listens with SASL (PLAIN, SCRAM and unsigned OAUTHBEARER tokens), with TLS, and with both as well. Clients of
    ``proxied_port`` are told to connect to ``proxy_port``, where a proxy to it is to listen.
    """

    title = "Kafka"

    def __init__(self, *, secured: bool = False, jvm: Sequence[str] = SMALL_JVM) -> None:
        self._program, self._jvm, self._secured = kafka_folder(), jvm, secured
        super().__init__()
        self._controller, self.port = free_port(), free_port()
        self.proxied_port, self.proxy_port = free_port(), free_port()
        self.sasl_port, self.tls_port, self.sasl_tls_port = (free_port() for _ in range(3))
        self.certificate: Certificate | None = None
        """What it shows with TLS, and what its clients may show; it vouches for itself."""

    @property
    def brokers(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    def _initialise(self) -> None:
        shutil.copytree(self._program / "data", self._folder / "data")
        if self._secured:
            self.certificate = make_certificate(self._folder)

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        settings = _settings(self._folder / "data", self.port, self._controller)
        settings |= self._listeners()
        if self.certificate is not None:
            settings |= _security(self._folder, self.certificate)
        configuration = self._folder / "server.properties"
        configuration.touch(mode=0o600)
        configuration.write_text(_lines(settings))
        command = [*_java(self._program, self._jvm), "kafka.Kafka", str(configuration)]

        def spawned(log: IO[bytes]) -> subprocess.Popen[bytes]:
            return spawn(command, stdout=log, stderr=log)

        self._launch(spawned, self._answers, seconds=120)

    def _listeners(self) -> dict[str, object]:
        ports = {"PLAINTEXT": self.port, "PROXIED": self.proxied_port, "CONTROLLER": self._controller}
        if self._secured:
            ports |= {"SASL_PLAINTEXT": self.sasl_port, "SSL": self.tls_port, "SASL_SSL": self.sasl_tls_port}
        advertised = {**ports, "PROXIED": self.proxy_port}
        del advertised["CONTROLLER"]
        protocols = {name: name if name not in ("PROXIED", "CONTROLLER") else "PLAINTEXT" for name in ports}
        return {
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items()),
            "advertised.listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in advertised.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        }

    def _answers(self) -> bool:
        """Whether it answers which versions it speaks, as it does once it takes requests."""
        request = struct.pack(">hhih", 18, 0, 7, -1)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                answer = connection.recv(8)
        except OSError:
            return False
        return len(answer) == 8 and answer[4:] == struct.pack(">i", 7)


def _security(folder: Path, certificate: Certificate) -> dict[str, object]:
    keys = folder / "keys.pem"
    keys.touch(mode=0o600)
    keys.write_text(certificate.key.read_text() + certificate.certificate.read_text())
    plain = f'user_{USER}="{PASSWORD}" username="{USER}" password="{PASSWORD}"'
    modules = {
        "plain": f"org.apache.kafka.common.security.plain.PlainLoginModule required {plain};",
        "scram-sha-256": _SCRAM,
        "scram-sha-512": _SCRAM,
        "oauthbearer": f'{_OAUTH}.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="{USER}";',
    }
    settings: dict[str, object] = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keys,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificate.certificate,
        "listener.name.ssl.ssl.client.auth": "required",
    }
    for listener in ("sasl_plaintext", "sasl_ssl"):
        for mechanism, module in modules.items():
            settings[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = module
        handler = f"{_OAUTH}.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
        settings[f"listener.name.{listener}.oauthbearer.sasl.server.callback.handler.class"] = handler
    return settings
