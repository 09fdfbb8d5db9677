"""An MQTT broker of one's own, which may be stopped, killed, frozen and started again."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path

from .programs import find_program, free_port, spawn
from .server import Server, accepts


def mosquitto_program() -> Path:
    """Return where the Mosquitto broker is; raises ServerMissing."""
    if Path("/usr/sbin/mosquitto").exists():  # Debian puts it where only root's PATH leads
        return Path("/usr/sbin/mosquitto")
    return find_program("Mosquitto", "mosquitto")


class MosquittoServer(Server):
    """A Mosquitto that asks for a user and a password, on a free loopback port.

    Sessions and retained messages are still there after ``stop`` and ``start``, and after ``kill`` those that it had
    saved: it saves at each change. ``settings`` are added to its configuration.
    """

    title = "Mosquitto"

    def __init__(self, **settings: object) -> None:
        self._program = mosquitto_program()
        super().__init__()
        self.user, self.password = "penstock", secrets.token_hex(8)
        self.port = free_port()
        self.settings = settings

    def _initialise(self) -> None:
        self.set_password(self.password)

    def set_password(self, password: str) -> None:
        """Let its user in with ``password`` from the next start on."""
        path = self._configure("passwords", "")
        program = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        subprocess.run([program, "-b", str(path), self.user, password], check=True, capture_output=True)

    def start(self) -> None:
        """Start it and return once it accepts; raises RuntimeError with the end of its log if it does not."""
        settings: dict[str, object] = {
            "listener": f"{self.port} 127.0.0.1",
            "allow_anonymous": "false",
            "password_file": self._folder / "passwords",
            "persistence": "true",
            "persistence_location": f"{self._folder}/",
            "autosave_interval": 1,
            "autosave_on_changes": "true",
            "max_queued_messages": 0,
            "max_inflight_messages": 0,
            "user": "root",
            "log_dest": "stderr",
            **self.settings,
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        configuration = self._configure("mosquitto.conf", text)
        self._launch(
            lambda log: spawn([self._program, "-c", configuration], stdout=log, stderr=log),
            lambda: accepts(self.port),
            seconds=90,
        )
