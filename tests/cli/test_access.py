"""Who may post rows: everybody on this machine until a key for it is made, and only keys from elsewhere."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.servers import free_port


def _post(url: str, key: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{url}/ingest/readings", b'{"celsius": 21.5}', headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def _make(penstock: Any, *options: str, name: str = "sensor") -> tuple[str, str]:
    made = penstock("keys", "create", "--name", name, *options)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip(), made.stderr


@pytest.mark.slow
def test_posts_need_a_key_once_there_is_one_for_them(up: Any, penstock: Any) -> None:
    running = up()
    assert _post(running.url) == (200, {"accepted": 1})
    phone, said = _make(penstock, "--scope", "health.ingest", name="phone")
    assert "/ingest" not in said
    assert _post(running.url)[0] == 200, "a key of another application changes nothing here"
    sensor, said = _make(penstock, "--scope", "inbox.send")
    assert "need a key with the scope inbox.send" in said
    running.wait_for(lambda: _post(running.url)[0] == 401, "the first key")
    status, answer = _post(running.url)
    assert (status, answer["error"]) == (
        401,
        "this needs a key: Authorization: Bearer pen_...; "
        "make one by: penstock keys create --name sensor --scope inbox.send",
    )
    assert _post(running.url, sensor) == (200, {"accepted": 1})
    status, answer = _post(running.url, phone)
    assert status == 403
    assert "lacks the scope 'inbox.send'" in answer["error"]
    assert _post(running.url, sensor[:12] + "0" * 32)[0] == 401
    assert penstock("keys", "revoke", sensor[:12]).returncode == 0
    assert _post(running.url, sensor)[0] == 401
    assert _post(running.url)[0] == 401, "it does not open again by itself"
    assert running.end() == 0
    assert _post(up().url)[0] == 401


def test_from_other_machines_a_key_is_needed_from_the_start(up: Any, penstock: Any) -> None:
    running = up("0.0.0.0")
    assert _post(running.url)[0] == 401
    key, _ = _make(penstock)
    assert _post(running.url, key) == (200, {"accepted": 1})


def test_a_key_says_where_it_is_valid(penstock: Any, tmp_path: Any) -> None:
    key, said = _make(penstock)
    assert key.startswith("pen_")
    assert len(key.split()) == 1
    assert f"Installation: {tmp_path}/penstock-data, which is new" in said
    assert "valid at http://127.0.0.1:8080" in said
    shown = json.loads(penstock("keys", "list", "--json").stdout)
    assert [one["scopes"] for one in shown] == [["health.ingest", "inbox.send"]], "it sends and does not read"
    other = penstock("keys", "list", PENSTOCK_DATABASE_URL="postgresql://me:secret@127.0.0.1:1/db")
    assert other.returncode == 1
    assert "Installation: postgresql://me:***@127.0.0.1:1/db (PENSTOCK_DATABASE_URL)" in other.stderr
    assert "secret" not in other.stderr


def test_a_link_to_sign_in_is_printed_to_a_person_and_to_no_log(tmp_path: Path, up: Any) -> None:
    assert "sign-in=" not in up().stderr, "what is no terminal is a log"
    ours, theirs = pty.openpty()
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "penstock", "up", "--only", "inbox", "--address", address, "--data", "other"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        try:
            while b"#sign-in=" not in said or not said.rpartition(b"#sign-in=")[2].count(b"\n"):
                said += os.read(ours, 4096)
            link = re.search(rb"http://\S+/#sign-in=(pel_[0-9a-f]{32})", said)
            assert link is not None, said
            body = json.dumps({"link": link[1].decode()}).encode()
            headers = {"x-penstock": "1", "content-type": "application/json"}
            sent = urllib.request.Request(f"http://{address}/api/platform/v1/sessions", body, headers)
            with urllib.request.urlopen(sent, timeout=20) as answer:
                assert answer.status == 201
                assert "HttpOnly" in answer.headers["set-cookie"]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=40)
            os.close(ours)
