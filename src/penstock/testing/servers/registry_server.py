"""A schema registry of one's own: Apicurio, which speaks the interface of Confluent's."""

from __future__ import annotations

import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from .kafka_server import SMALL_JVM
from .maven import fetch, find_fetched, java_program
from .programs import ServerMissing, free_port, spawn
from .server import Server

REGISTRY_VERSION = "2.6.13.Final"
_NAME = f"apicurio-registry-app-{REGISTRY_VERSION}"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all"


def registry_folder() -> Path:
    """Return the folder with the server; raises ServerMissing."""
    return find_fetched("Apicurio", _NAME)


def fetch_registry() -> None:
    """Fetch the server; raises ServerMissing with the reason if that cannot be done."""
    fetch(_NAME, ["dependency:copy", f"-Dartifact={_ARTIFACT}"], _unpack)


def _unpack(folder: Path) -> None:
    (archive,) = (folder / "libs").glob("*.tar.gz")
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise ServerMissing(f"Apicurio {REGISTRY_VERSION} cannot be unpacked: {error}") from error
    archive.unlink()


class RegistryServer(Server):
    """A schema registry that keeps schemas in memory, on a free loopback port."""

    title = "Apicurio"

    def __init__(self) -> None:
        self._program = registry_folder()
        super().__init__()
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where its interface of Confluent's is."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        settings = [f"-Dquarkus.http.port={self.port}", "-Dquarkus.http.host=127.0.0.1"]
        jar = self._program / f"{_NAME}-runner.jar"
        command = [str(java_program()), *SMALL_JVM, *settings, "-jar", str(jar)]

        def spawned(log: IO[bytes]) -> subprocess.Popen[bytes]:
            return spawn(command, stdout=log, stderr=log, cwd=self._folder)

        self._launch(spawned, self._answers, seconds=120)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=30) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
