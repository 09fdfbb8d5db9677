"""A Prometheus of one's own, for rules, dashboards and what it scrapes."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from .programs import find_program, free_port, spawn
from .server import Server


def prometheus_program() -> Path:
    """Return where the Prometheus server is; raises ServerMissing."""
    return find_program("Prometheus", "prometheus")


def promtool_program() -> Path:
    """Return where the tool is that checks and tests rules; raises ServerMissing."""
    return find_program("Prometheus", "promtool")


class PrometheusServer(Server):
    """A Prometheus that runs the configuration file given, on a free loopback port."""

    title = "Prometheus"

    def __init__(self, configuration: Path) -> None:
        self._program, self._configuration = prometheus_program(), configuration
        super().__init__()
        self.url = f"http://127.0.0.1:{free_port()}"

    def start(self) -> None:
        """Start it and return once it is ready; raises RuntimeError with the end of its log if it does not start."""
        command = [
            str(self._program),
            f"--config.file={self._configuration}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        self._launch(lambda log: spawn(command, stdout=log, stderr=log), self._ready, seconds=90)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=60) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
