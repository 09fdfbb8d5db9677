"""Server programs that come as libraries of Maven, fetched once and kept in the user's cache."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .programs import INSTALL, ServerMissing, end, find_program, spawn

FETCH_TIMEOUT = 240.0
"""Seconds that one attempt to fetch a server may take."""
FETCH_ATTEMPTS = 3

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>penstock.testing</groupId><artifactId>server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""


def java_program() -> Path:
    """Return where Java is; raises ServerMissing."""
    return find_program("Java", "java")


def maven_program() -> Path:
    """Return where Maven is; raises ServerMissing."""
    return find_program("Maven", "mvn")


def fetched_folder(name: str) -> Path:
    """Return the folder in which a server is kept that was fetched as ``name``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "penstock" / "servers" / name


def find_fetched(what: str, name: str) -> Path:
    """Return the folder of a server that was fetched; raises ServerMissing, which calls it ``what``."""
    java_program()
    folder = fetched_folder(name)
    if not folder.is_dir():
        raise ServerMissing(f"{what} ({folder}) is not fetched; install it with: {INSTALL}")
    return folder


def fetch(name: str, goal: Sequence[str], prepare: Callable[[Path], None], artifacts: Sequence[str] = ()) -> None:
    """Fetch a server by a goal of Maven's plugin for dependencies, into the folder ``libs`` of the server's folder.

    ``artifacts`` (``group:artifact:version``) are those that it depends on. ``prepare`` adds what else the folder
    holds. Raises ServerMissing with the reason if it fails.
    """
    folder, maven = fetched_folder(name), maven_program()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if folder.is_dir():
            return
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder.parent) as temporary:
            made = Path(temporary) / name  # so that nobody finds half a server
            made.mkdir()
            (made / "pom.xml").write_text(_POM.format(dependencies="\n".join(map(_dependency, artifacts))))
            _run_goal(maven, name, made, goal)
            prepare(made)
            made.rename(folder)


def _run_goal(maven: Path, name: str, made: Path, goal: Sequence[str]) -> None:
    command: list[str | Path] = [maven, "-q", "-B", "-f", made / "pom.xml", *goal]
    failure = ""
    for _ in range(FETCH_ATTEMPTS):
        failure = run([*command, f"-DoutputDirectory={made / 'libs'}"])
        if not failure:
            return
    raise ServerMissing(f"{name} could not be fetched by Maven: {failure[-400:]}")


def run(command: Sequence[str | Path]) -> str:
    """Run a command that may take ``FETCH_TIMEOUT``; return why it failed, or nothing."""
    with tempfile.TemporaryFile() as output:
        process = spawn(command, stdout=output, stderr=output)
        try:
            code = process.wait(timeout=FETCH_TIMEOUT)
        except subprocess.TimeoutExpired:
            end(process, signal.SIGKILL)
            return f"not done after {FETCH_TIMEOUT:g} s"
        output.seek(0)
        return "" if code == 0 else output.read().decode(errors="replace") or f"exit code {code}"


def _dependency(artifact: str) -> str:
    group, name, version = artifact.split(":")
    return (
        f"    <dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>"
        "</dependency>"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
