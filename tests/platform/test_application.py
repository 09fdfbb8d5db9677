"""Applications in a configuration: found by name, checked with lines, served and told to do their jobs."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock.application import Application, Installation, Job
from penstock.config.configuration import loads
from penstock.config.schema import json_schema
from penstock.engine import Engine
from penstock.errors import ConfigError, ConnectionLost
from penstock.observe.metrics import registry
from penstock.platform.application import Platform, prepare, services_of
from penstock.platform.ownership import own, rows_database
from penstock.serving.listener import answer
from penstock.stream import Stream


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for name, kind in list(Application._known.items()):
        if not kind.__module__.startswith("penstock."):  # those are imported once, and would not be found again
            del Application._known[name]


def _greeter() -> list[str]:
    done: list[str] = []

    class Greeter(Application, type="greeter"):
        """Greet."""

        word: str = "hello"
        """What is said."""

        def paths(self, installation: Installation) -> Sequence[str]:
            return [f"{self.root}/say", "/old/say"]

        def streams(self, installation: Installation) -> Sequence[Stream]:
            return [
                Stream.model_validate({"id": "greetings", "input": {"type": "feed", "name": "x"}, "output": "drop"})
            ]

        def jobs(self, platform: Platform) -> Sequence[Job]:
            async def note(platform: Platform) -> None:
                done.append(self.word)

            return [Job("note", 3600.0, note)]

        @asynccontextmanager
        async def open(self, platform: Platform) -> AsyncIterator[dict[str, object]]:
            async def say(scope, receive, send) -> None:
                await answer(send, 200, {"said": self.word})

            yield dict.fromkeys(self.paths(platform.installation), say)

    return done


def test_an_application_is_named_alone_or_with_options() -> None:
    _greeter()
    [plain] = loads("applications: [greeter]").applications
    [given] = loads("applications:\n  - type: greeter\n    word: hi\n    prefix: /g").applications
    assert (plain.root, given.root, given.word) == ("/greeter", "/g", "hi")  # type: ignore[attr-defined]
    assert [stream.id for stream in loads("applications: [greeter]").all_streams()] == ["greetings"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("applications:\n  - greter", "^2 .*did you mean 'greeter'"),
        ("applications:\n  - type: greeter\n    wort: hi", "^3 .*did you mean 'word'"),
        ("applications: [greeter, greeter]", "the application 'greeter' is given twice"),
        ("applications: []", "at least 1 item"),
        (
            "applications: [greeter]\nstreams:\n  - id: greetings\n    input: {type: feed, name: y}\n    output: drop",
            "the stream id 'greetings' is given twice",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    _greeter()
    with pytest.raises(ConfigError, match=said):
        loads(text)


def test_two_that_serve_one_path_are_refused_with_both_names() -> None:
    _greeter()

    class Other(Application, type="other"):
        """Serve the same."""

        def paths(self, installation: Installation) -> Sequence[str]:
            return ["/old/{word}", "/old/say"]

    with pytest.raises(ConfigError, match="'greeter' and the application 'other' both serve /old/say"):
        loads("applications: [greeter, other]")
    stream = "streams:\n  - input: {type: http, address: '127.0.0.1:8080', path: /old/say}\n    output: drop"
    with pytest.raises(ConfigError, match="the stream 'stream-0' and the application 'greeter' both serve /old/say"):
        loads(f"applications: [greeter]\n{stream}")


def test_a_database_that_is_away_keeps_no_other_application_from_being_prepared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepared: list[str] = []

    class Away(Application, type="away"):
        """Have a database that does not answer."""

        def prepare(self, installation: Installation) -> None:
            raise ConnectionLost("no answer")

    class There(Application, type="there"):
        """Have one that does."""

        def prepare(self, installation: Installation) -> None:
            prepared.append(self.type_name)

    prepare(loads("applications: [away, there]"))
    assert prepared == ["there"]
    assert "away: its tables are prepared later: no answer" in caplog.text


def test_the_schema_of_configurations_knows_applications() -> None:
    _greeter()
    schema = json_schema()
    assert schema["$defs"]["applications.greeter"]["properties"]["word"]["default"] == "hello"
    assert schema["properties"]["applications"]["items"] == {"$ref": "#/$defs/applications"}


async def test_it_is_served_at_its_paths_and_does_its_jobs(tmp_path: Path) -> None:
    done = _greeter()
    text = f"applications: [greeter]\ndata: {tmp_path}\nhealth_check: {{address: '127.0.0.1:0'}}"
    configuration = loads(text)
    [service] = services_of(configuration)
    ports: list[int] = []
    serve = service.serve

    async def watched(context, stop) -> None:
        async def look() -> None:
            while not ports:
                try:
                    ports.append(context.listeners.port("127.0.0.1:0"))
                except KeyError:
                    await asyncio.sleep(0)

        await asyncio.gather(serve(context, stop), look())

    service.serve = watched  # type: ignore[method-assign]
    engine, stop = Engine(configuration.all_streams(), [service], data=tmp_path), asyncio.Event()
    running = asyncio.create_task(engine.run(stop))
    while not (ports and done):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for path in ("/greeter/say", "/old/say"):
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{ports[0]}{path}") as found:
            assert found.read() == b'{"said":"hello"}'
        labels = {"application": "greeter", "method": "GET", "route": path, "status": "200"}
        assert registry.get_sample_value("penstock_http_requests_total", labels) == 1
    stop.set()
    await running


def test_each_owner_has_a_file_of_its_own() -> None:
    rows = rows_database(Installation(Path("/srv/data")))
    assert str(own(rows, "health").path) == "/srv/data/penstock-health.db"  # type: ignore[union-attr]
    rows = rows_database(Installation(database="sqlite:////x/y.db"))
    assert str(own(rows, "platform").path) == "/x/y-platform.db"  # type: ignore[union-attr]
