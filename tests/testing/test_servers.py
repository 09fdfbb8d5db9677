import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from penstock.testing.servers import (
    KafkaServer,
    MosquittoServer,
    NatsServer,
    PostgresServer,
    PrometheusServer,
    RabbitmqServer,
    RedisServer,
    ServerMissing,
    browser_program,
    debian,
    golang,
    install,
    kafka_folder,
    object_store,
    postgres,
    postgresql,
    programs,
    redis,
    require_servers,
    s3,
)
from penstock.testing.servers.debian import Program
from penstock.testing.servers.kafka_server import fetch_kafka

from ..kafka import make_topic, read_values, send


@pytest.mark.server
def test_postgres_answers_and_keeps_what_it_committed_over_a_crash(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute("CREATE TABLE t (a int)")
        connection.execute("INSERT INTO t VALUES (7)")
    postgres_server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_server.url)
    postgres_server.start()
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(7,)]
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


@pytest.mark.server
def test_each_test_gets_an_empty_database(postgres_database: str, postgres_url: str) -> None:
    assert postgres_database != postgres_url
    with psycopg.connect(postgres_database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


@pytest.mark.server
def test_a_wrong_password_is_refused(postgres_url: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_url, password="wrong")


@pytest.mark.server
def test_nothing_is_left_when_the_body_fails() -> None:
    folder = Path()

    def fail() -> None:
        nonlocal folder
        with PostgresServer(fsync=False) as server:
            folder = server._folder
            assert folder.exists()
            raise KeyError("the test failed")

    with pytest.raises(KeyError):
        fail()
    assert not folder.exists()


def test_s3_has_its_bucket(s3_endpoint: str) -> None:
    request = urllib.request.Request(f"{s3_endpoint}/penstock/a.txt", data=b"hello", method="PUT")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request")
    assert urllib.request.urlopen(request, timeout=60).status == 200


def test_a_missing_postgres_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(postgresql.shutil, "which", lambda _: None)
    with (
        pytest.raises(ServerMissing, match=r"PostgreSQL .* install it with: .*penstock\.testing\.servers install"),
        postgres(),
    ):
        pass


def test_a_missing_moto_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ServerMissing, match="pip install"), s3():
        pass


@pytest.mark.parametrize(
    ("name", "value", "required"), [("CI", "true", True), ("CI", "", False), ("PENSTOCK_REQUIRE_SERVERS", "1", True)]
)
def test_servers_are_required_in_ci(monkeypatch: pytest.MonkeyPatch, name: str, value: str, required: bool) -> None:
    for variable in ("CI", "PENSTOCK_REQUIRE_SERVERS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    assert require_servers() is required


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "outcome"), [({}, "4 skipped"), ({"CI": "true"}, "4 errors")])
def test_a_missing_server_skips_or_in_ci_fails(tmp_path: Path, environment: dict[str, str], outcome: str) -> None:
    (tmp_path / "conftest.py").write_text(
        "from penstock.testing.servers import ServerMissing, browsers, postgresql, redis_server\n"
        "def missing(*_): raise ServerMissing('no such server')\n"
        "postgresql.postgres_binaries = redis_server.find_program = browsers.find_program = missing\n"
        "pytest_plugins = ['penstock.testing.pytest_plugin']\n"
    )
    fixtures = ("postgres_url", "postgis_database", "redis_url", "browser_path")
    tests = "".join(f"def test_{fixture}({fixture}): pass\n" for fixture in fixtures)
    (tmp_path / "test_it.py").write_text(tests)
    variables = {k: v for k, v in os.environ.items() if k not in ("CI", "PENSTOCK_REQUIRE_SERVERS")} | environment
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert outcome in done.stdout
    assert "no such server" in done.stdout


@pytest.mark.server
def test_postgis_is_there_and_the_database_is_the_tests_own(postgis_database: str, postgis_url: str) -> None:
    assert postgis_database != postgis_url
    with psycopg.connect(postgis_database) as connection:
        metres = "SELECT ST_Distance('POINT(13.4 52.5)'::geography, 'POINT(13.4 52.6)'::geography)"
        assert connection.execute(metres).fetchone()[0] == pytest.approx(11_127, abs=5)  # type: ignore[index]


@pytest.mark.server
def test_missing_postgis_is_named(shared_postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_postgres_server, "_has_postgis", False)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(postgresql, "postgres_binaries", lambda: shared_postgres_server._binaries)
    with pytest.raises(ServerMissing, match=r"PostGIS .* install it with: .*penstock\.testing\.servers install"):
        shared_postgres_server.create_database(postgis=True)


@pytest.mark.server
def test_redis_keeps_what_was_written_over_a_restart(redis_server: RedisServer) -> None:
    redis_server.command("SET", "a", "7")
    redis_server.restart()
    assert redis_server.command("STRLEN", "a") == b":1\r\n"
    redis_server.kill()
    with pytest.raises(ConnectionRefusedError):
        redis_server.command("PING")
    redis_server.start()
    assert redis_server.command("PING") == b"+PONG\r\n"


@pytest.mark.server
def test_a_paused_redis_answers_nothing_until_it_goes_on(redis_server: RedisServer) -> None:
    redis_server.pause()
    with pytest.raises(TimeoutError):
        redis_server.command("PING", timeout=0.2)
    redis_server.resume()
    assert redis_server.command("PING") == b"+PONG\r\n"


@pytest.mark.server
@pytest.mark.parametrize("_", range(2))
def test_each_test_gets_an_empty_redis(
    redis_url: str, shared_redis_server: RedisServer, _: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shared_redis_server.password in redis_url
    assert shared_redis_server.command("DBSIZE") == b":0\r\n"
    shared_redis_server.command("SET", "left", "over")
    monkeypatch.setattr(shared_redis_server, "password", "wrong")
    with pytest.raises(RuntimeError, match="WRONGPASS"):
        shared_redis_server.command("PING")


@pytest.mark.server
def test_a_redis_that_does_not_start_shows_its_log() -> None:
    server = RedisServer()
    try:
        server.port = 1_000_000
        with pytest.raises(RuntimeError, match=r"Redis did not start: (?s:.*)1000000"):
            server.start()
    finally:
        server.remove()


@pytest.mark.parametrize("use", [lambda: redis().__enter__(), browser_program, lambda: PrometheusServer(Path())])
def test_a_missing_program_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[], object]
) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda _: None)
    with pytest.raises(ServerMissing, match=r"is not installed; install it with: .*penstock\.testing\.servers install"):
        use()


@pytest.mark.server
def test_kafka_keeps_what_was_acknowledged_over_a_crash(kafka_server: KafkaServer) -> None:
    topic = make_topic(kafka_server.brokers)
    send(kafka_server.brokers, topic, [b"kept"])
    kafka_server.kill()
    kafka_server.start()
    assert read_values(kafka_server.brokers, topic) == [b"kept"]


@pytest.mark.parametrize("missing", ["java", "cache"])
def test_a_kafka_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str) -> None:
    if missing == "java":
        monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ServerMissing, match="servers install"):
        kafka_folder()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerMissing, match=r"Maven \(mvn\) is not installed"):
        fetch_kafka()


def test_a_kafka_that_cannot_be_fetched_leaves_nothing_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "mvn"
    program.write_text("#!/bin/sh\necho no such artifact\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ServerMissing, match="no such artifact"):
        fetch_kafka()
    assert [path.suffix for path in (tmp_path / "cache" / "penstock" / "servers").iterdir()] == [".lock"]


def test_a_prometheus_that_cannot_read_its_configuration_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Prometheus did not start"):
        PrometheusServer(tmp_path / "absent.yaml").__enter__()


@pytest.mark.server
def test_prometheus_answers(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yaml").write_text("{}")
    with (
        PrometheusServer(tmp_path / "prometheus.yaml") as server,
        urllib.request.urlopen(f"{server.url}/api/v1/query?query=1%2B1", timeout=60) as body,
    ):
        answer = json.load(body)
    assert answer["data"]["result"][1] == "2"


@pytest.mark.server
@pytest.mark.timeout(600)  # RabbitMQ starts three times, with four seconds of a processor each
@pytest.mark.parametrize("make", [NatsServer, MosquittoServer, RedisServer, RabbitmqServer])
def test_a_server_is_stopped_frozen_killed_and_started_again(make: Callable[[], MosquittoServer]) -> None:
    with make() as server:
        server.restart()
        server.pause()
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=60)
        server.start()
        socket.create_connection(("127.0.0.1", server.port), timeout=60).close()


def test_a_go_program_is_built_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\necho "$@" > "$GOBIN/server"\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ServerMissing, match=r"Server .* is not built; install it with: "):
        golang.find_built("Server", "example.org/server/v2", "v2.1.0")
    missing = Program("Server", _missing, lambda: "package", lambda: golang.build("example.org/server/v2", "v2.1.0"))
    assert install([missing]) == 0
    found = golang.find_built("Server", "example.org/server/v2", "v2.1.0")
    assert found.read_text() == "install example.org/server/v2@v2.1.0\n"
    assert [path.name for path in found.parent.iterdir()] == ["server-v2.1.0"]


def test_a_go_program_that_is_not_built_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ServerMissing, match="could not be built: no such module"):
        golang.build("example.org/server", "v1.0.0")
    monkeypatch.setattr(golang.shutil, "which", lambda _: None)
    with pytest.raises(ServerMissing, match="no Go here"):
        golang.build("example.org/server", "v1.0.0")


def _missing() -> Path:
    raise ServerMissing("this is missing; install it")


def test_install_says_so_when_there_is_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert install([Program("PostgreSQL", lambda: Path("/somewhere/bin"), lambda: "postgresql")]) == 0
    assert "PostgreSQL is installed: /somewhere/bin" in capsys.readouterr().out


def test_install_installs_only_what_is_missing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("apt-get", "sudo"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(debian, "_POLICY", tmp_path / "apt-get")  # There is a policy: it is left alone.
    found = Program("Redis", lambda: tmp_path, lambda: "redis-server")
    first, second = Program("A", _missing, lambda: "package-a"), Program("B", _missing, lambda: "package-b")
    assert install([found, first, second]) == 0
    output = capfd.readouterr().out
    assert output.count("apt-get update") == 1
    assert "install -y --no-install-recommends package-a" in output
    assert "install -y --no-install-recommends package-b" in output
    assert "redis-server" not in output


@pytest.mark.parametrize(
    ("present", "user", "message"),
    [
        ([], 0, "There is no apt-get here; install it with the system's own tools (in Debian it is: package-a)"),
        (["apt-get"], 1000, "Only root may install it; run as root: apt-get update && apt-get install -y"),
    ],
)
def test_install_says_what_to_do_where_it_may_not(
    present: list[str],
    user: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}" if name in present else None)
    monkeypatch.setattr(debian.os, "geteuid", lambda: user)
    assert install([Program("A", _missing, lambda: "package-a")]) == 1
    assert message in capsys.readouterr().out


def test_what_needs_another_program_waits_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert install([Program("PostGIS", _missing, lambda: str(_missing()))]) == 1
    assert "PostGIS waits for another program" in capsys.readouterr().out


def test_the_command_installs() -> None:
    command = [sys.executable, "-m", "penstock.testing.servers"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "install the server programs that are missing" in done.stdout
    assert subprocess.run([*command, "dance"], capture_output=True, check=False).returncode == 2
