"""A PostgreSQL of one's own, with PostGIS if wanted, which may be stopped, killed and started again."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .programs import INSTALL, ServerMissing, free_port
from .server import Server

_POSTGIS_TEMPLATE = "penstock_postgis"


def postgres_binaries() -> Path:
    """Return the folder of the newest PostgreSQL server programs; raises ServerMissing."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    folders = [folder for folder in folders if (folder / "postgres").exists()]
    if not folders:
        raise ServerMissing(f"PostgreSQL (initdb, postgres) is not installed; install it with: {INSTALL}")
    return max(folders, key=lambda folder: [int(part) for part in folder.parent.name.split(".") if part.isdigit()])


def postgres_version() -> str:
    """Return the major version of those programs, for example "15"; raises ServerMissing."""
    done = subprocess.run([postgres_binaries() / "postgres", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[2].partition(".")[0]


def postgis_control() -> Path:
    """Return the file by which that PostgreSQL knows PostGIS; raises ServerMissing."""
    program = postgres_binaries() / "pg_config"
    if program.exists():
        done = subprocess.run([program, "--sharedir"], capture_output=True, text=True, check=True)
        shared = Path(done.stdout.strip())
    else:  # Debian has it in another package, but keeps to these folders.
        shared = Path("/usr/share/postgresql") / postgres_version()
    control = shared / "extension" / "postgis.control"
    if not control.exists():
        raise ServerMissing(f"PostGIS ({control}) is not installed; install it with: {INSTALL}")
    return control


class PostgresServer(Server):
    """A PostgreSQL with a data folder of its own; can be stopped, killed and started again meanwhile.

    Run as the user ``postgres`` when we are root, whom the server refuses. It asks for a password. ``fsync=False``
    is for tests that only need the SQL; the default keeps what it commits even if the machine stops. ``settings`` are
    added to its own.
    """

    title = "PostgreSQL"
    at_once = signal.SIGQUIT  # as its own log recovers from; SIGKILL would leave shared memory behind

    def __init__(self, *, fsync: bool = True, **settings: object) -> None:
        self._binaries = postgres_binaries()
        self._user = _unprivileged("postgres") if os.geteuid() == 0 else None
        self._fsync, self._settings = fsync, settings
        super().__init__()
        self.password = secrets.token_hex(8)
        self.port = free_port()
        self._has_postgis = False

    @property
    def url(self) -> str:
        """Where the server's first database is."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """Return where ``database`` of this server is."""
        return f"postgresql://penstock:{self.password}@127.0.0.1:{self.port}/{database}"

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
        output, _ = done.communicate(timeout=120)
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
            **self._settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = ["postgres", "-D", "data", *options]
        if die_with_us := shutil.which("setpriv"):
            command = [die_with_us, "--pdeathsig", "QUIT", str(self._binaries / "postgres"), *command[1:]]
        self._launch(
            lambda log: self._popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL),
            self._answers,
            seconds=90,
        )

    def _answers(self) -> bool:
        return self.run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)).returncode == 0

    def stop(self) -> None:
        """Shut it down, cutting the sessions; what was committed stays."""
        self._end(signal.SIGINT)

    def create_database(self, *, postgis: bool = False) -> str:
        """Make an empty database and return its URL; raises ServerMissing if PostGIS is wanted and not installed."""
        name = f"test_{secrets.token_hex(6)}"
        if postgis and not self._has_postgis:
            postgis_control()
            self._createdb(_POSTGIS_TEMPLATE)
            self._create_extension(_POSTGIS_TEMPLATE)
            self._has_postgis = True
        self._createdb(*(("-T", _POSTGIS_TEMPLATE) if postgis else ()), name)
        return self.database_url(name)

    def _createdb(self, *arguments: str) -> None:
        done = self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "penstock", *arguments)
        if done.returncode != 0:
            raise RuntimeError(f"createdb failed: {done.stderr.decode(errors='replace')}")

    def _create_extension(self, database: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise ServerMissing("psycopg is not installed; install it with: pip install 'penstock[postgres]'") from None
        with psycopg.connect(self.database_url(database)) as connection:
            connection.execute("CREATE EXTENSION postgis")

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run one of PostgreSQL's client programs against this server."""
        environment = {**os.environ, "PGPASSWORD": self.password}
        return subprocess.run([self._binaries / program, *arguments], env=environment, capture_output=True, check=False)

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
        raise ServerMissing(f"PostgreSQL needs the user {name!r}, which does not exist; run: {INSTALL}") from None


@contextmanager
def postgres(*, fsync: bool = True) -> Iterator[str]:
    """Run a PostgreSQL and yield its URL; raises ServerMissing when it is not installed."""
    with PostgresServer(fsync=fsync) as server:
        yield server.url
