"""Real servers for tests: a PostgreSQL and an S3 of one's own, on free loopback ports, gone afterwards."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

_INSTALL = f"{Path(sys.executable).name} -m penstock.testing.servers install"
_POLICY = Path("/usr/sbin/policy-rc.d")


class ServerMissing(RuntimeError):
    """A server's program is not installed; says which, and the command that installs it."""


def require_servers() -> bool:
    """Whether a missing server is a failure rather than a reason to skip: in CI, or when asked for."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes") for name in ("CI", "PENSTOCK_REQUIRE_SERVERS"))


def free_port() -> int:
    """Return a loopback port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_binaries() -> Path:
    """Return the folder of the newest PostgreSQL server programs; raises ServerMissing."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    folders = [folder for folder in folders if (folder / "postgres").exists()]
    if not folders:
        raise ServerMissing(f"PostgreSQL (initdb, postgres) is not installed; install it with: {_INSTALL}")
    return max(folders, key=lambda folder: [int(part) for part in folder.parent.name.split(".") if part.isdigit()])


class PostgresServer:
    """A PostgreSQL with a data folder of its own; can be stopped, killed and started again meanwhile.

    Run as the user ``postgres`` when we are root, whom the server refuses. It asks for a password. ``fsync=False``
    is for tests that only need the SQL; the default keeps what it commits even if the machine stops.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self._binaries = postgres_binaries()
        self._user = _unprivileged("postgres") if os.geteuid() == 0 else None
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-postgres-"))
        self.password = secrets.token_hex(8)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where the server's first database is."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """Where ``database`` of this server is."""
        return f"postgresql://penstock:{self.password}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _initialise(self) -> None:
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        password_file = self._folder / "password"
        password_file.write_text(self.password)
        if self._user is not None:
            os.chown(password_file, self._user.pw_uid, self._user.pw_gid)
        command = [
            "initdb",
            "-D",
            "data",
            "-U",
            "penstock",
            "-A",
            "scram-sha-256",
            "--pwfile",
            "password",
            "-E",
            "UTF8",
        ]
        command += ["--no-locale", "--no-sync"]
        done = self._popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = done.communicate(timeout=50)
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {output.decode(errors='replace')[-2000:]}")

    def start(self) -> None:
        """Start it and return once it answers; raises RuntimeError with the end of its log if it does not."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "max_connections": 60,
            "shared_buffers": "64MB",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = ["postgres", "-D", "data", *options]
        if die_with_us := shutil.which("setpriv"):
            command = [die_with_us, "--pdeathsig", "QUIT", str(self._binaries / "postgres"), *command[1:]]
        with (self._folder / "log").open("ab") as log:
            self._process = self._popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 40
        while self.run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._folder / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start: {log_text[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut it down, cutting the sessions; what was committed stays."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, as a crash would: the next start recovers from its log."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop it and start it on the same port."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop it and delete its data."""
        try:
            self.kill()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "penstock")
        done = self.run("createdb", *address, name)
        if done.returncode != 0:
            raise RuntimeError(f"createdb failed: {done.stderr.decode(errors='replace')}")
        return self.database_url(name)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run one of PostgreSQL's client programs against this server."""
        environment = {**os.environ, "PGPASSWORD": self.password}
        return subprocess.run([self._binaries / program, *arguments], env=environment, capture_output=True, check=False)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)

    def _popen(self, command: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        program = command[0] if os.path.isabs(command[0]) else str(self._binaries / command[0])
        user: dict[str, object] = {}
        if self._user is not None:
            user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return subprocess.Popen([program, *command[1:]], cwd=self._folder, **user, **options)  # type: ignore[call-overload, no-any-return]


def _unprivileged(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ServerMissing(f"PostgreSQL needs the user {name!r}, which does not exist; run: {_INSTALL}") from None


@contextmanager
def postgres(*, fsync: bool = True) -> Iterator[str]:
    """Run a PostgreSQL and yield its URL; raises ServerMissing when it is not installed."""
    with PostgresServer(fsync=fsync) as server:
        yield server.url


@contextmanager
def s3(bucket: str = "penstock") -> Iterator[str]:
    """Run an S3 that keeps objects in memory and yield its endpoint; any credentials are right.

    ``bucket`` exists. Raises ServerMissing when ``moto`` is not installed.
    """
    if not all(importlib.util.find_spec(name) for name in ("moto", "flask")):
        raise ServerMissing("moto[server,s3] is not installed; install it with: pip install 'penstock[testing]'")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 40
            while not _create_bucket(endpoint, bucket):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"the S3 server did not start: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.05)
            yield endpoint
        finally:
            process.kill()
            process.wait(timeout=10)


def _create_bucket(endpoint: str, bucket: str) -> bool:
    request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def install() -> int:
    """Install the programs that are missing, where we may; return the exit code."""
    try:
        _say(f"PostgreSQL is installed: {postgres_binaries()}")
        return 0
    except ServerMissing as missing:
        _say(str(missing))
    command = ["apt-get", "install", "-y", "--no-install-recommends", "postgresql"]
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (sudo and shutil.which("sudo") is None):
        _say(f"Install it yourself, for example as root: apt-get update && {' '.join(command)}")
        return 1
    with _no_service_starts(sudo):
        for step in (["apt-get", "update"], command):
            environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
            if subprocess.run([*sudo, *environment, *step], check=False).returncode != 0:
                _say(f"This failed: {' '.join(step)}")
                return 1
    return 0


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m penstock.testing.servers", description=__doc__)
    parser.add_argument("command", choices=["install"], help="install: install the server programs that are missing")
    parser.parse_args()
    sys.exit(install())
