"""Ask for keys at a path that needs none until the first one is made, as long as it is served on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ...application import Installation
from ...errors import PenstockError
from ...serving.asgi import Scope
from ...serving.guard import is_local
from ...serving.listener import Denial
from ..application import Platform
from ..cache import Cache, SingleFlight
from ..ownership import database_of
from ..web.errors import ApiError
from .gate import Gate
from .keys import has_any
from .options import AccessOptions
from .request import AuthRequest
from .schema import OWNER
from .scopes import Scope as AccessScope
from .scopes import Scopes

CHECK_TTL = 1.0
"""How long the absence of keys is believed, in seconds."""
_RETRY = ((b"retry-after", b"1"),)


@asynccontextmanager
async def check_keys(platform: Platform, scope: AccessScope) -> AsyncIterator[None]:
    """Have ``platform.context.listeners.check`` decide about requests that need a key with ``scope``, while open."""
    installation = platform.installation
    options, database = AccessOptions.of(installation.environment), database_of(installation, OWNER)
    try:
        async with Gate(options, Scopes([scope]), database, clock=platform.clock).open() as gate:
            check = KeyCheck(gate, scope.name, installation)
            try:
                with platform.context.listeners.checking(scope.name, check):
                    yield
            finally:
                await check.close()
    finally:
        await asyncio.to_thread(database.close)


class KeyCheck:
    """Let requests pass that show a key with ``scope``, and all others while there is none and all come from here.

    A key that expired or was revoked goes on to count: what it kept shut does not open by itself. While the database
    does not answer, the last that was known holds, also after a restart, by a file in the data folder. Where none was
    ever known, rows of this machine are taken: its log keeps them until the database is there.
    """

    def __init__(self, gate: Gate, scope: str, installation: Installation) -> None:
        self._gate, self._scope = gate, scope
        self._is_keyed = not is_local(installation.address)
        self._marker: Path = installation.data / f"{scope}.keyed"
        self._recent: Cache[str, bool] = Cache(ttl=CHECK_TTL, size=1)
        self._asking: SingleFlight[str, None] = SingleFlight(size=1)

    async def __call__(self, scope: Scope) -> Denial | None:
        """Return why a request is refused, or None."""
        try:
            if not await self._needs_key():
                return None
            application = self._scope.partition(".")[0]
            proxies = self._gate.options.trusted_proxies
            request = AuthRequest.read(scope, self._scope, f"POST {self._route(scope)}", application, proxies)
            await self._gate.admit(request, is_frequent=True)
        except ApiError as error:
            headers = tuple((name.encode(), value.encode()) for name, value in error.headers.items())
            hint = f"; make one by: penstock keys create --name sensor --scope {self._scope}"
            return Denial(error.status, error.message + (hint if error.status in (401, 403) else ""), headers)
        except PenstockError:
            return Denial(503, "keys cannot be checked: the database does not answer; try again", _RETRY)
        return None

    async def close(self) -> None:
        """Wait for what is being asked."""
        await self._asking.close()

    @staticmethod
    def _route(scope: Scope) -> str:
        path = str(scope["path"])
        for name, value in scope.get("path_params", {}).items():
            path = path.replace(f"/{value}", f"/{{{name}}}", 1)
        return path

    async def _needs_key(self) -> bool:
        if not self._is_keyed and not self._recent.get(self._scope):
            await self._asking.run(self._scope, self._ask)
        return self._is_keyed

    async def _ask(self) -> None:
        try:
            found = await self._gate.database.run(partial(has_any, scope=self._scope))
        except PenstockError:
            found = await asyncio.to_thread(self._marker.exists)
        else:
            await asyncio.to_thread(self._note, found)
        self._is_keyed = found
        self._recent.put(self._scope, True)

    def _note(self, is_keyed: bool) -> None:
        if is_keyed:
            self._marker.touch(mode=0o600)
        else:
            self._marker.unlink(missing_ok=True)
