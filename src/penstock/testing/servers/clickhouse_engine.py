"""Serve the engine of chdb over ClickHouse's HTTP interface: ``PORT FOLDER USER PASSWORD-FILE``."""

from __future__ import annotations

import hmac
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_INSERT = re.compile(r"(INSERT INTO .*) FORMAT (\w+)\s*", re.DOTALL)
_OURS = frozenset({"query", "database", "user", "password", "wait_end_of_query"})


class Handler(BaseHTTPRequestHandler):
    """One request: a query, or an insert with its data."""

    protocol_version = "HTTP/1.1"
    session: Any
    user: str
    password: Path
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Answer a query."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given = f"{self.headers.get('X-ClickHouse-User')}:{self.headers.get('X-ClickHouse-Key')}"
        if not hmac.compare_digest(given.encode(), f"{self.user}:{self.password.read_text()}".encode()):
            self._answer(403, b"Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
            return
        options = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            with self.lock:
                self._answer(200, self._run(options, body))
        except (BrokenPipeError, ConnectionError):
            raise
        except Exception as error:
            self._answer(500, str(error).encode())

    def _run(self, options: dict[str, str], body: bytes) -> bytes:
        settings = {name: value for name, value in options.items() if name not in _OURS and "param_" not in name}
        listed = ", ".join(f"{name} = {_literal(value)}" for name, value in settings.items())
        parameters = {name.removeprefix("param_"): value for name, value in options.items() if "param_" in name}
        found = _INSERT.fullmatch(options.get("query", ""))
        if found is None:
            text = options.get("query") or body.decode()
            for name, value in settings.items():
                self.session.query(f"SET {name} = {_literal(value)}")
            return bytes(self.session.query(text, "TabSeparated", params=parameters or None).bytes())
        with tempfile.NamedTemporaryFile(suffix=".data") as file:
            file.write(body)
            file.flush()
            into, form = found.groups()
            source = f"FROM INFILE {_literal(file.name)}"
            self.session.query(f"{into} {source}{f' SETTINGS {listed}' if listed else ''} FORMAT {form}")
        return b""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _literal(text: str) -> str:
    if re.fullmatch(r"-?\d{1,18}", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def main() -> None:
    """Serve until killed."""
    from chdb import session

    engine: Any = session.Session
    port, folder, user, password = sys.argv[1:]
    Handler.session, Handler.user = engine(folder), user
    Handler.password = Path(password)
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
