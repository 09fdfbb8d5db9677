"""No secret is in a log, an error, a dump or a page, whatever goes wrong."""

from __future__ import annotations

import http.client
import time
import urllib.request
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from penstock import Buffer, Codec, ConfigError, Input, Output, Processor, Stream
from penstock.component import Component
from penstock.config.configuration import loads
from penstock.options import Options
from penstock.testing.servers import free_port

from ..crash.harness import Process

MARKER = "marker-of-a-secret-7f3a"


def secret_options(kind: type[Options], seen: set[type]) -> list[tuple[type[Options], str]]:
    """The options of a component, and of the options within them, that hold a secret."""
    if kind in seen:
        return []
    seen.add(kind)
    found: list[tuple[type[Options], str]] = []
    for name, info in kind.model_fields.items():
        waiting = [info.annotation]
        while waiting:
            annotation = waiting.pop()
            waiting += get_args(annotation)
            if annotation is SecretStr:
                found.append((kind, name))
            elif isinstance(annotation, type) and issubclass(annotation, Options) and "_known" not in vars(annotation):
                found += secret_options(annotation, seen)
    return found


KINDS: list[type[Component]] = [Input, Output, Processor, Buffer, Codec]
SECRETS = sorted(
    {
        (options, name)
        for kind in KINDS
        for component in map(kind.find, kind.names())
        for options, name in secret_options(component, set())
    },
    key=str,
)
NAMED_LIKE_SECRETS = ("password", "token", "secret", "credential", "passphrase", "api_key", "private_key")


@pytest.mark.parametrize(("options", "name"), SECRETS, ids=[f"{o.__name__}.{n}" for o, n in SECRETS])
def test_a_secret_option_is_masked_in_repr_and_dump(options: type[Options], name: str) -> None:
    built = options.model_construct(**{name: SecretStr(MARKER)})
    assert MARKER not in repr(built)
    assert MARKER not in str(built)
    assert MARKER not in built.model_dump_json(warnings=False, fallback=str)


def test_no_option_that_is_named_like_a_secret_is_plain_text() -> None:
    plain: list[str] = []
    for kind in KINDS:
        for component in map(kind.find, kind.names()):
            for name, info in component.model_fields.items():
                if any(word in name for word in NAMED_LIKE_SECRETS) and info.annotation in (str, str | None):
                    plain.append(f"{component.type_name}.{name}")
    assert plain == []


WRONG: list[dict[str, Any]] = [
    {"type": "sql", "url": f"mysql://u:{MARKER}@h/d", "table_name": "t", "unknown": 1},
    {"type": "sql", "url": f"postgresql://u:{MARKER}@h:port/d", "table_name": "t", "unknown": 1},
    {"type": "sql", "url": f"nonsense {MARKER}", "table_name": "t"},
    {"type": "sql", "output_type": {"type": "postgres", "uri": f"x://{MARKER}", "wrong": 1}, "table_name": "t"},
    {"type": "http", "url": f"ftp://u:{MARKER}@h/"},
    {"type": "http", "url": "http://h/", "auth": {"type": "bearer", "token": MARKER, "wrong": 1}},
    {"type": "http", "url": "http://h/", "auth": {"type": "nonsense", "token": MARKER}},
    {"type": "http", "url": "http://h/", "auth": {"type": "basic", "username": "u", "password": [MARKER]}},
    {"type": "http", "url": "http://h/", "headers": {"authorization": f"Bearer {MARKER}"}, "wrong": 1},
]


@pytest.mark.parametrize("output", WRONG, ids=range(len(WRONG)))
def test_a_configuration_that_is_refused_does_not_repeat_a_secret(output: dict[str, Any]) -> None:
    import json

    with pytest.raises(ConfigError) as raised:
        loads(json.dumps({"streams": [{"input": {"type": "memory"}, "output": output}]}), ".json")
    assert MARKER not in str(raised.value)
    assert MARKER not in repr(raised.value)


def test_a_variable_that_holds_a_secret_is_not_repeated_when_it_is_of_the_wrong_type() -> None:
    text = "streams: [{input: {type: memory}, output: drop, max_in_flight: '${SECRET}'}]"
    with pytest.raises(ConfigError) as raised:
        loads(text, environment={"SECRET": MARKER})
    assert MARKER not in str(raised.value)


def test_a_dumped_stream_shows_no_secret() -> None:
    url, bearer = f"postgresql://user:{MARKER}@127.0.0.1/db", {"type": "bearer", "token": MARKER}
    stream = Stream.model_validate(
        {
            "input": {
                "type": "http",
                "address": "127.0.0.1:1",
                "path": "/",
                "auth": bearer,
            },
            "output": {"type": "sql", "url": url, "table_name": "t"},
            "error_output": {"type": "http", "url": "http://127.0.0.1:1/", "auth": bearer},
        }
    )
    assert MARKER not in stream.model_dump_json() + repr(stream) + str(stream.model_dump())


def page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def test_no_log_and_no_page_shows_a_secret_while_everything_fails(tmp_path: Path) -> None:
    port, address, nowhere = free_port(), f"127.0.0.1:{free_port()}", free_port()
    bearer = {"type": "bearer", "token": MARKER}
    posted = {"type": "http", "address": f"127.0.0.1:{port}", "path": "/rows", "codec": "json", "auth": bearer}
    fast = {"initial": "20ms", "maximum": "50ms"}
    streams: list[dict[str, Any]] = [
        {
            "id": "posted",
            "input": posted,
            "durability": {},
            "output": {"type": "sql", "url": f"postgresql://u:{MARKER}@127.0.0.1:{nowhere}/d", "table_name": "t"},
        },
        {
            "id": "sent",
            "input": {"type": "generate", "context": "{}", "interval": "20ms", "codec": "json"},
            "output": {"type": "http", "url": f"http://127.0.0.1:{nowhere}/?token={MARKER}"},
        },
        {
            "id": "asked",
            "input": {"type": "http", "url": f"http://127.0.0.1:{nowhere}/", "auth": bearer, "interval": "20ms"},
            "output": "drop",
        },
        {
            "id": "stored",
            "input": {"type": "generate", "context": "{}", "interval": "20ms", "codec": "json"},
            "output": {
                "type": "file",
                "path": "s3://bucket/rows.json",
                "store": {
                    "type": "s3",
                    "bucket_name": "bucket",
                    "access_key_id": "key",
                    "secret_access_key": MARKER,
                    "endpoint": f"http://127.0.0.1:{nowhere}",
                    "allow_http": True,
                },
            },
        },
    ]
    for stream in streams:
        stream["retry"] = fast
        stream["restart"] = {"attempts": 1000, "initial": "20ms", "maximum": "50ms"}
    health = {"address": address, "api_token": MARKER}
    process = Process(tmp_path, {"streams": streams, "health_check": health, "logging": {"level": "debug"}})
    pages: list[str] = []
    try:
        process.start()
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                pages += [page(f"http://{address}{path}") for path in ("/health", "/metrics", "/api/v1/streams")]
                request = urllib.request.Request(
                    f"http://{address}/api/v1/streams", headers={"authorization": f"Bearer {MARKER}"}
                )
                with urllib.request.urlopen(request, timeout=60) as answer:
                    pages.append(answer.read().decode())
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                for token in (MARKER, MARKER + "x"):
                    connection.request("POST", "/rows", '{"n": 1}', {"authorization": f"Bearer {token}"})
                    pages.append(connection.getresponse().read().decode())
                connection.close()
            except OSError:
                time.sleep(0.1)
            if len(pages) > 60:
                break
            time.sleep(0.05)
        _, took = process.terminate()
        assert took < 8, process.tail()
    finally:
        process.close()
    said = process.log.read_text(errors="replace")
    assert len(pages) > 30
    assert said.count("writing failed") > 5
    for text in (said, *pages):
        at = text.find(MARKER)
        assert at < 0, text[max(0, at - 300) : at + 100]
