"""What HTTP components share: credentials, sessions, and what an answer or a failure means."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from ..errors import ConnectionLost, PenstockError, PermanentError, TransientError
from ..options import Options
from .tls import Tls

if TYPE_CHECKING:
    import aiohttp

RETRIED = frozenset({408, 425, 429})
"""The answers below 500 after which the same request may succeed later."""
EXCERPT = 200


class Basic(Options):
    """A user name and a password."""

    type: Literal["basic"] = "basic"
    """The kind of credentials."""
    username: str
    """The user name."""
    password: SecretStr
    """The password."""

    challenge: ClassVar[bytes] = b'Basic realm="penstock", charset="UTF-8"'

    def expected(self) -> bytes:
        """Return ``user:password``, the decoded form of the credentials."""
        return f"{self.username}:{self.password.get_secret_value()}".encode()

    def header(self) -> str:
        """Return the value of the ``Authorization`` header that a client sends."""
        return "Basic " + base64.b64encode(self.expected()).decode()

    def admits(self, header: bytes) -> bool:
        """Tell whether an ``Authorization`` header carries these credentials, in constant time."""
        scheme, _, credentials = header.partition(b" ")
        try:
            given = base64.b64decode(credentials.strip(), validate=True)
        except binascii.Error:
            given = b""
        return hmac.compare_digest(given, self.expected()) and scheme.lower() == b"basic"


class Bearer(Options):
    """A token."""

    type: Literal["bearer"] = "bearer"
    """The kind of credentials."""
    token: SecretStr
    """The token."""

    challenge: ClassVar[bytes] = b'Bearer realm="penstock"'

    def header(self) -> str:
        """Return the value of the ``Authorization`` header that a client sends."""
        return f"Bearer {self.token.get_secret_value()}"

    def admits(self, header: bytes) -> bool:
        """Tell whether an ``Authorization`` header carries this token, in constant time."""
        scheme, _, token = header.partition(b" ")
        expected = self.token.get_secret_value().encode()
        return hmac.compare_digest(token.strip(), expected) and scheme.lower() == b"bearer"


def _tagged(value: Any) -> Any:
    """Read ``{Bearer: {token: x}}`` as ``{type: bearer, token: x}``."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, options),) = value.items()
        if kind in {"Basic", "Bearer"} and isinstance(options, dict):
            return {"type": kind.lower(), **options}
    return value


def _checked(auth: Basic | Bearer) -> Basic | Bearer:
    if isinstance(auth, Basic) and ":" in auth.username:
        raise ValueError("a user name cannot have a colon in it")
    secret = auth.password if isinstance(auth, Basic) else auth.token
    if not secret.get_secret_value() or not secret.get_secret_value().isprintable():
        raise ValueError("expected a password or token that is not empty and has no control characters")
    return auth


Auth: TypeAlias = Annotated[
    Annotated[Basic | Bearer, Field(discriminator="type")], BeforeValidator(_tagged), AfterValidator(_checked)
]
"""Credentials: ``{type: basic, username: u, password: p}`` or ``{type: bearer, token: t}``."""


def _sendable(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{name!r} cannot be the name of a header")
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise ValueError(f"the value of the header {name!r} has control characters")
    return headers


Headers: TypeAlias = Annotated[dict[str, str], AfterValidator(_sendable)]
"""Header names and values that are sent as they are."""


def check_url(url: str) -> str:
    """Return ``url`` without spaces around it; raises ValueError if it is not one of HTTP, without repeating it."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError("expected a URL like 'https://example.com/path'")
    return url


def check_credentials(url: str | None, auth: Basic | Bearer | None, headers: Mapping[str, str]) -> None:
    """Raise ValueError if credentials are given in more than one place, or where they would be shown."""
    if url is not None and "@" in urlsplit(url).netloc:
        raise ValueError("expected user and password in `auth`, not in the URL, which is shown in messages")
    if auth is not None and any(name.lower() == "authorization" for name in headers):
        raise ValueError("expected credentials in one place: `auth` or the header `Authorization`")


def check_tls(url: str, tls: Tls | None) -> None:
    """Raise ValueError if ``tls`` is given for a URL without TLS."""
    if tls is not None and not url.startswith("https://"):
        raise ValueError("`tls` needs a `url` that begins with https://")


Url: TypeAlias = Annotated[str, AfterValidator(check_url)]


def redact_url(url: str) -> str:
    """Return a URL for messages: without user, password, query and fragment."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


@asynccontextmanager
async def open_session(
    headers: Mapping[str, str],
    auth: Basic | Bearer | None,
    *,
    timeout: float,
    connections: int,
    tls: Tls | None = None,
) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session that keeps at most ``connections`` connections; keeps no cookies."""
    import aiohttp  # a server has no need of it

    secured: Any = True if tls is None else await asyncio.to_thread(tls.context)
    sent = dict(headers)
    if auth is not None:
        sent["Authorization"] = auth.header()
    async with aiohttp.ClientSession(
        headers=sent,
        timeout=aiohttp.ClientTimeout(total=timeout),
        connector=aiohttp.TCPConnector(limit=connections, ssl=secured),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield session


@contextmanager
def failures(url: str) -> Iterator[None]:
    """Convert errors of aiohttp and the network to those of the engine."""
    import aiohttp

    try:
        yield
    except aiohttp.InvalidURL as error:
        raise PermanentError("the URL is not valid") from error
    except TimeoutError as error:
        raise TransientError(f"{redact_url(url)} did not answer in time") from error
    except aiohttp.ClientConnectorError as error:
        raise ConnectionLost(f"cannot talk to {redact_url(url)}: {error.os_error}") from error
    except (aiohttp.ClientConnectionError, OSError) as error:
        raise ConnectionLost(f"cannot talk to {redact_url(url)}: {error or type(error).__name__}") from error
    except aiohttp.ClientError as error:
        raise TransientError(f"{redact_url(url)} gave no proper answer: {type(error).__name__}") from error


async def read_at_most(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the body of an answer, read until it has more than ``most`` bytes."""
    parts, size = [], 0
    async for part in response.content.iter_chunked(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            break
    return b"".join(parts)


def meaning(status: int, url: str, headers: Mapping[str, str], body: bytes, secrets: tuple[str, ...]) -> PenstockError:
    """Return the error that a refusing answer means, with the start of what it says."""
    text = body[: 4 * EXCERPT].decode(errors="replace")
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:EXCERPT]
    message = f"{redact_url(url)} answered {status}" + (f": {text}" if text else "")
    if status in RETRIED or status >= 500:
        wait = retry_after(headers)
        asked = f" (to be tried again after {wait:.0f} s)" if wait is not None else ""
        return TransientError(message + asked, after=wait)
    if 300 <= status < 400:
        return PermanentError(f"{redact_url(url)} answered {status}: it has moved, redirects are not followed")
    return PermanentError(message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds a ``Retry-After`` header asks to wait; None without one."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return max(0.0, (at - datetime.now(UTC if at.tzinfo else None)).total_seconds())


def secrets_of(auth: Basic | Bearer | None, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets of a request, to be redacted where a server quotes it."""
    own = [value for name, value in headers.items() if len(value) >= 8 and name.lower() != "content-type"]
    if isinstance(auth, Bearer):
        own.append(auth.token.get_secret_value())
    elif auth is not None:
        own += [auth.password.get_secret_value(), auth.header().removeprefix("Basic ")]
    return tuple(own)
