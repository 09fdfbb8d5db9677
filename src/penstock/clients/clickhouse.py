"""Talk to ClickHouse over HTTP, and classify its errors."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlencode, urlsplit

from pydantic import SecretStr

from ..errors import ConnectionLost, PenstockError, PermanentError, TransientError
from .database import TableChanged
from .http import redact_url
from .tls import Tls

CONNECT_TIMEOUT = 10.0
IDLE_TTL = 2.0
"""Seconds after which a connection that was not used is made anew: the server may have closed it meanwhile."""
MAX_ANSWER_SIZE = 64 << 20
_CODE = re.compile(r"Code: (\d+)\.")
_OF_ROWS = frozenset({6, 26, 27, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 376, 407, 469, 549, 675, 676, 691})
"""Codes of values: that cannot be read or converted, are out of bounds, null, or violate a constraint."""
_OF_TABLES = frozenset({10, 16, 47, 60, 81, 218})
"""Codes of tables and columns that are not there."""


class Connection:
    """A connection for one call at a time, made when it is first used."""

    def __init__(self, url: str, username: str, password: SecretStr, tls: Tls | None) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        self._url, self._password = redact_url(url), password.get_secret_value()
        self._base = parts.path or "/"
        self._headers = {"X-ClickHouse-User": username, "X-ClickHouse-Key": self._password}
        if parts.scheme == "https":
            context = (tls or Tls()).context()
            self._http: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port or 8443, timeout=CONNECT_TIMEOUT, context=context
            )
        else:
            self._http = http.client.HTTPConnection(host, parts.port or 8123, timeout=CONNECT_TIMEOUT)
        self._used_at = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def interrupt(self) -> None:
        """Make the call that another thread waits for fail."""
        if (connected := self._http.sock) is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def call(self, query: str, body: bytes = b"", settings: Mapping[str, str] | None = None) -> bytes:
        """Run a query, with the ``body`` as its data if there is one, and return what it answers."""
        try:
            status, answer = self._send(query, body, {"wait_end_of_query": "1", **(settings or {})})
        except (http.client.HTTPException, OSError) as error:
            self._http.close()
            raise ConnectionLost(f"cannot talk to {self._url}: {error or type(error).__name__}") from error
        if status == 200:
            return answer
        raise self._meaning(status, answer.decode(errors="replace"))

    def _send(self, query: str, body: bytes, settings: Mapping[str, str]) -> tuple[int, bytes]:
        if time.monotonic() - self._used_at > IDLE_TTL:
            self._http.close()
        if self._http.sock is None:
            self._connect()
        parameters = {**settings, "query": query} if body else settings
        path = f"{self._base}?{urlencode(parameters)}"
        self._http.request("POST", path, body or query.encode(), self._headers)
        response = self._http.getresponse()
        answer = response.read(MAX_ANSWER_SIZE)
        self._used_at = time.monotonic()
        return response.status, answer

    def _connect(self) -> None:
        self._http.connect()
        if self._http.sock is not None:
            self._http.sock.settimeout(None)  # from here on the deadline of the caller counts

    def _meaning(self, status: int, text: str) -> PenstockError:
        """Return the error that a refusing answer means."""
        if self._password:
            text = text.replace(self._password, "***")
        message = f"{self._url} answered {status}: {' '.join(text.split())[:400]}"
        found = _CODE.search(text)
        code = int(found.group(1)) if found else 0
        if code in _OF_ROWS:
            return PermanentError(message)
        return TableChanged(message) if code in _OF_TABLES else TransientError(message)
