"""Server-sent events: the latest state, to each client at its own pace, until all ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from penstock.platform.web import events
from penstock.platform.web.errors import ApiError
from penstock.platform.web.events import LiveState
from penstock.testing.clock import FakeClock, run_jumping


class Watched:
    """Two topics whose state changes, and how often they were looked at."""

    def __init__(self) -> None:
        self.state = {"a": b"1", "b": b"1"}
        self.looks = 0
        self.stop = asyncio.Event()
        self.live = LiveState("state", self.look, self.stop, FakeClock())

    def look(self) -> dict[str, bytes]:
        self.looks += 1
        return dict(self.state)


async def told(stream: AsyncIterator[bytes]) -> list[tuple[str, str]]:
    """The ids and states of the next events."""
    fields = [line.split(": ", 1) for line in (await anext(stream)).decode().splitlines() if ": " in line]
    ids = [value for name, value in fields if name == "id"]
    return list(zip(ids, [value for name, value in fields if name == "data"], strict=True))


def states(found: list[tuple[str, str]]) -> list[str]:
    return [data for _, data in found]


def test_a_client_is_told_everything_first_and_then_what_changes() -> None:
    async def main() -> None:
        of = Watched()
        async with aclosing(of.live.events()) as client:
            assert (await anext(client)).startswith(b"retry: ")
            assert states(await told(client)) == ["1", "1"]
            of.state["b"] = b"2"
            assert states(await told(client)) == ["2"]
            assert await anext(client) == b": alive\n\n"

    run_jumping(main())


def test_a_slow_client_gets_the_latest_state_and_not_all_that_was_between() -> None:
    async def main() -> None:
        of = Watched()
        async with aclosing(of.live.events()) as client, aclosing(of.live.events()) as quick:
            for one in (client, quick):
                await anext(one)
                await told(one)
            for number in range(2, 50):
                of.state["a"] = b"%d" % number
                assert states(await told(quick)) == [str(number)]
            assert states(await told(client)) == ["49"]

    run_jumping(main())


def test_who_comes_back_is_told_what_has_changed_since() -> None:
    async def main() -> None:
        of = Watched()
        async with aclosing(of.live.events()) as client:
            await anext(client)
            last = (await told(client))[-1][0]
            of.state["a"] = b"2"
            await told(client)
            for known, expected in ((last, ["2"]), ("", ["1", "2"]), (f"{'0' * 36}.5", ["1", "2"]), ("é", ["1", "2"])):
                async with aclosing(of.live.events(known)) as again:
                    await anext(again)
                    assert states(await told(again)) == expected, known

    run_jumping(main())


def test_nothing_is_looked_at_while_nobody_watches() -> None:
    async def main() -> None:
        of = Watched()
        async with aclosing(of.live.events()) as client:
            await anext(client)
            await told(client)
        await asyncio.sleep(60)
        assert of.looks <= 2
        assert len(of.live) == 0

    run_jumping(main())


def test_a_connection_ends_with_the_process_and_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> float:
        of = Watched()
        began = asyncio.get_running_loop().time()
        rest: Any = [part async for part in of.live.events()]
        assert rest[-1] == b": alive\n\n"
        lasted = asyncio.get_running_loop().time() - began
        client = of.live.events()
        await anext(client)
        await told(client)
        asyncio.get_running_loop().call_later(0.5, of.stop.set)
        stopped = asyncio.get_running_loop().time()
        async for _ in client:
            pass
        assert asyncio.get_running_loop().time() - stopped == pytest.approx(0.5)
        with pytest.raises(ApiError):
            of.live.response()
        return lasted

    assert run_jumping(main()) == pytest.approx(events.MAX_AGE, abs=events.HEARTBEAT_INTERVAL)


def test_too_many_clients_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_CLIENTS", 2)

    async def main() -> None:
        of = Watched()
        clients = [of.live.events() for _ in range(2)]
        for client in clients:
            await anext(client)
        with pytest.raises(ApiError) as refused:
            of.live.response()
        assert refused.value.status == 503
        for client in clients:
            await client.aclose()  # type: ignore[attr-defined]
        of.live.response()

    run_jumping(main())
