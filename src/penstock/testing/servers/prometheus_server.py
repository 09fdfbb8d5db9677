"""A Prometheus of one's own, for rules, dashboards and what it scrapes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from .programs import end, find_program, free_port, spawn


def prometheus_program() -> Path:
    """Return where the Prometheus server is; raises ServerMissing."""
    return find_program("Prometheus", "prometheus")


def promtool_program() -> Path:
    """Return where the tool is that checks and tests rules; raises ServerMissing."""
    return find_program("Prometheus", "promtool")


class PrometheusServer:
    """A Prometheus that runs the configuration file given, on a free loopback port."""

    def __init__(self, configuration: Path) -> None:
        self._program, self._configuration = prometheus_program(), configuration
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-prometheus-"))
        self.url = f"http://127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def start(self) -> None:
        """Start it and return once it is ready; raises RuntimeError with the end of its log if it does not start."""
        command = [
            str(self._program),
            f"--config.file={self._configuration}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = spawn(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 40
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._folder / "log").read_text(errors="replace")
                raise RuntimeError(f"Prometheus did not start: {log_text[-2000:]}")
            time.sleep(0.05)

    def remove(self) -> None:
        """Stop it and delete its data."""
        try:
            process, self._process = self._process, None
            end(process, signal.SIGTERM)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
