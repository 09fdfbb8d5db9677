"""A RabbitMQ of one's own, which may be stopped, killed, frozen and started again."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from .certificates import make_certificate
from .programs import find_program, free_port, spawn
from .server import Server, accepts

_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Where Debian puts it; the one in the PATH changes the user, and reads the configuration of the system."""
START_TIMEOUT = 180.0
_ERLANG = "+S 1:1 +A 4 +sbwt none +sbwtdcpu none +sbwtdio none -start_epmd false"
"""One scheduler that sleeps while there is nothing to do, and no daemon that knows the nodes of the machine."""


def rabbitmq_program() -> Path:
    """Return where RabbitMQ is; raises ServerMissing."""
    return _PROGRAM if _PROGRAM.exists() else find_program("RabbitMQ", "rabbitmq-server")


class RabbitmqServer(Server):
    """A RabbitMQ with a user and a password, on free loopback ports, one of which speaks TLS.

    Durable queues and persistent messages are still there after ``kill`` and ``start``. ``settings`` are added to its
    configuration. It shares nothing with another RabbitMQ on the machine: no port, no folder and no cookie.
    """

    title = "RabbitMQ"

    def __init__(self, settings: Mapping[str, object] | None = None) -> None:
        self._program = rabbitmq_program()
        super().__init__()
        self.user, self.password = "penstock", secrets.token_hex(8)
        self.port, self.tls_port, self._node_port = free_port(), free_port(), free_port()
        self.settings = dict(settings or {})
        self.certificate = make_certificate(self._folder)

    @property
    def url(self) -> str:
        """Where it is, with user and password."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Where it is, without user and password."""
        return f"amqp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
            "ssl_options.certfile": self.certificate.certificate,
            "ssl_options.keyfile": self.certificate.key,
            "default_user": self.user,
            "default_pass": self.password,
            "log.file": "false",
            "log.console": "true",
            "log.console.level": "warning",
            **self.settings,
        }
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self._configure("rabbitmq.conf", text)
        self._configure("enabled_plugins", "[].")
        environment = {**os.environ, **self._environment()}
        command = [self._program]
        self._launch(
            lambda log: spawn(command, stdout=log, stderr=log, env=environment, cwd=self._folder),
            lambda: accepts(self.port),
            seconds=START_TIMEOUT,
        )

    def _environment(self) -> dict[str, str]:
        node = f"penstock-{self.port}@localhost"
        places = {
            "MNESIA_BASE": "data",
            "LOG_BASE": "logs",
            "GENERATED_CONFIG_DIR": "generated",
            "CONFIG_FILE": "rabbitmq.conf",
            "ADVANCED_CONFIG_FILE": "advanced.config",
            "CONF_ENV_FILE": "environment.conf",
            "ENABLED_PLUGINS_FILE": "enabled_plugins",
            "PID_FILE": "pid",
        }
        return {
            **{f"RABBITMQ_{name}": str(self._folder / place) for name, place in places.items()},
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"{_ERLANG} -sname {node} -erl_epmd_port {self._node_port}"
                " -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "HOME": str(self._folder),  # where Erlang keeps the cookie of the node
            "detached": "1",  # the program becomes the server, and does not watch it as a child
        }
