import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import psycopg
import pytest

from penstock.testing import servers
from penstock.testing.servers import PostgresServer, ServerMissing, postgres, require_servers, s3


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
    assert urllib.request.urlopen(request, timeout=10).status == 200


def test_a_missing_postgres_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(servers.shutil, "which", lambda _: None)
    with (
        pytest.raises(ServerMissing, match=r"PostgreSQL .* install it with: .*penstock\.testing\.servers install"),
        postgres(),
    ):
        pass


def test_a_missing_moto_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.importlib.util, "find_spec", lambda _: None)
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


@pytest.mark.parametrize(("environment", "outcome"), [({}, "1 skipped"), ({"CI": "true"}, "1 error")])
def test_a_missing_server_skips_or_in_ci_fails(tmp_path: Path, environment: dict[str, str], outcome: str) -> None:
    (tmp_path / "conftest.py").write_text(
        "from penstock.testing import servers\n"
        "def missing(): raise servers.ServerMissing('no such server')\n"
        "servers.postgres_binaries = missing\n"
        "pytest_plugins = ['penstock.testing.pytest_plugin']\n"
    )
    (tmp_path / "test_it.py").write_text("def test_it(postgres_url): pass\n")
    variables = {k: v for k, v in os.environ.items() if k not in ("CI", "PENSTOCK_REQUIRE_SERVERS")} | environment
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert outcome in done.stdout
    assert "no such server" in done.stdout


def test_install_says_so_when_there_is_nothing_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "postgres_binaries", lambda: Path("/somewhere/bin"))
    assert servers.install() == 0
    assert "is installed: /somewhere/bin" in capsys.readouterr().out
