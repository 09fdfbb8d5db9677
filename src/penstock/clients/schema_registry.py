"""Schema registries that speak the interface of Confluent's: schemas by their number, and by their subject."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import ConfigError, PermanentError, TransientError
from .http import Basic, Bearer

MAX_SCHEMAS = 1000
"""How many schemas are remembered, the last used; none ever changes."""
MISSING_TTL = 30.0
"""Seconds for which a number without a schema is remembered."""
LATEST_TTL = 60.0
"""Seconds for which a subject's latest schema is believed to be it."""
MAX_ANSWER = 4 << 20
"""Bytes of an answer at most."""
MAX_REFERENCES = 200
"""How many schemas one may refer to, directly and through others."""
_TYPE = "application/vnd.schemaregistry.v1+json"
_NO_SUBJECT, _NO_VERSION = 40401, 40402


class Registered(NamedTuple):
    """A schema, with those that it refers to."""

    kind: str
    """AVRO, JSON or PROTOBUF."""
    text: str
    references: tuple[tuple[str, str], ...]
    """The name and the text of each schema that it refers to, those that others refer to first."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: the credentials are for this server."""

    def redirect_request(self, *_: Any) -> None:
        return None


class SchemaRegistry:
    """Asks a registry, each question once; blocks, so it is for threads."""

    def __init__(self, url: str, auth: Basic | Bearer | None, timeout: float) -> None:
        self._url, self._timeout = url.rstrip("/"), timeout
        self._headers = {"Accept": _TYPE, **({"Authorization": auth.header()} if auth is not None else {})}
        self._open = urllib.request.build_opener(_NoRedirect()).open
        self._asking = threading.RLock()
        self._schemas: OrderedDict[int, Registered] = OrderedDict()
        self._missing: OrderedDict[int, float] = OrderedDict()
        self._latest: dict[str, tuple[float, int]] = {}

    def schema(self, number: int) -> Registered:
        """Return a schema; raises PermanentError if there is none, TransientError if the registry does not tell."""
        with self._asking:
            found = self._schemas.get(number)
            if found is not None:
                self._schemas.move_to_end(number)
                return found
            if time.monotonic() - self._missing.get(number, float("-inf")) < MISSING_TTL:
                raise PermanentError(f"the schema registry has no schema {number}")
            answer = self._ask("GET", f"/schemas/ids/{number}")
            if "error_code" in answer:
                self._note_missing(number)
                raise PermanentError(f"the schema registry has no schema {number}")
            return self._keep(number, answer)

    def latest(self, subject: str) -> int:
        """Return the number of a subject's latest schema; raises ConfigError if there is none."""
        with self._asking:
            asked_at, number = self._latest.get(subject, (float("-inf"), 0))
            if time.monotonic() - asked_at < LATEST_TTL:
                return number
            answer = self._ask("GET", f"/subjects/{_quoted(subject)}/versions/latest")
            if "error_code" in answer:
                raise ConfigError(f"the schema registry has no subject {subject!r}")
            number = int(answer["id"])
            self._keep(number, answer)
            self._latest[subject] = (time.monotonic(), number)
            return number

    def register(self, subject: str, kind: str, text: str) -> int:
        """Register a schema and return its number; raises ConfigError if it does not fit those before it."""
        with self._asking:
            body = {"schema": text, **({"schemaType": kind} if kind != "AVRO" else {})}
            answer = self._ask("POST", f"/subjects/{_quoted(subject)}/versions", body)
            if "error_code" in answer:
                reason = str(answer.get("message", ""))[:500]
                raise ConfigError(f"the schema registry refuses the schema for {subject!r}: {reason}")
            number = int(answer["id"])
            self._schemas[number] = Registered(kind, text, ())
            return number

    def _keep(self, number: int, answer: Mapping[str, Any]) -> Registered:
        references: dict[str, str] = {}
        self._follow(answer.get("references") or [], references, 0)
        found = Registered(str(answer.get("schemaType") or "AVRO"), str(answer["schema"]), tuple(references.items()))
        self._schemas[number] = found
        if len(self._schemas) > MAX_SCHEMAS:
            self._schemas.popitem(last=False)
        return found

    def _follow(self, references: list[Mapping[str, Any]], found: dict[str, str], depth: int) -> None:
        """Fetch the schemas that one refers to, those that they refer to first."""
        for one in references:
            name = str(one["name"])
            if name in found:
                continue
            if len(found) >= MAX_REFERENCES or depth > MAX_REFERENCES:
                raise PermanentError(f"the schema refers to more than {MAX_REFERENCES} others")
            answer = self._ask("GET", f"/subjects/{_quoted(str(one['subject']))}/versions/{int(one['version'])}")
            if "error_code" in answer:
                raise PermanentError(f"the schema refers to {name!r}, which the schema registry does not have")
            self._follow(answer.get("references") or [], found, depth + 1)
            found[name] = str(answer["schema"])

    def _note_missing(self, number: int) -> None:
        self._missing[number] = time.monotonic()
        if len(self._missing) > MAX_SCHEMAS:
            self._missing.popitem(last=False)

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Return an answer, also one that says why not; raises TransientError for none that can be understood."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, **({"Content-Type": _TYPE} if data is not None else {})}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with self._open(request, timeout=self._timeout) as answer:
                status, text = answer.status, answer.read(MAX_ANSWER + 1)
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise TransientError(f"schema registry {self._where}: {str(reason) or type(error).__name__}") from error
        found = _parse(text)
        if status == 200 and isinstance(found, dict) and "error_code" not in found:
            return found
        if status in (404, 409, 422) and isinstance(found, dict) and "error_code" in found:
            return found
        raise TransientError(f"schema registry {self._where}: {method} {path} was answered {status}")

    @property
    def _where(self) -> str:
        parts = urllib.parse.urlsplit(self._url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _parse(text: bytes) -> Any:
    if len(text) > MAX_ANSWER:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
