"""Payloads whose schemas are in a registry, against a real one."""

import io
import json
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Codec
from penstock.errors import ConfigError, PermanentError, RowsRejected, TransientError
from penstock.testing.servers import RegistryServer, free_port
from penstock.testing.suites.codecs import CodecSuite

pytestmark = pytest.mark.server
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [{"name": "id", "type": "long"}, {"name": "note", "type": ["null", "string"], "default": None}],
}
OBJECT = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}
PROTO = """
syntax = "proto3";
package shop;
message Order {
  int64 id = 1;
  message Line { string product = 1; message Part { int32 count = 1; } }
}
message Refund { string reason = 1; }
"""


def register(registry: RegistryServer, schema: Any, kind: str = "AVRO", **more: Any) -> tuple[str, int]:
    """Register a schema under a subject of its own; return that and the schema's number."""
    subject = more.pop("subject", f"subject-{uuid.uuid4().hex[:10]}")
    text = schema if isinstance(schema, str) else json.dumps(schema)
    body = json.dumps({"schema": text, "schemaType": kind, **more}).encode()
    request = urllib.request.Request(f"{registry.url}/subjects/{subject}/versions", body, method="POST")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return subject, json.load(answer)["id"]


def codec(url: str, **options: Any) -> Codec:
    return Codec.parse({"type": "schema_registry", "registry_url": url, **options})


def framed(number: int, body: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + body


def avro(schema: Any, row: Any) -> bytes:
    sink = io.BytesIO()
    fastavro.schemaless_writer(sink, fastavro.parse_schema(schema), row)
    return sink.getvalue()


def decode(one: Codec, *payloads: bytes) -> list[dict[str, Any]]:
    return one.decoder()(pa.array(payloads, pa.binary())).to_pylist()


class TestSchemaRegistry(CodecSuite):
    types = (pa.int64(), pa.string(), pa.bool_(), pa.float64())
    garbage = (b"", b"\0", b"\1\0\0\0\1abc", b"\0\0\0", b"{}")

    @pytest.fixture
    def component(self, registry_server: RegistryServer) -> Codec:
        subject, _ = register(registry_server, OBJECT, "JSON")
        return codec(registry_server.url, subject=subject)


def test_avro_of_several_schemas_comes_in_order(registry_server: RegistryServer) -> None:
    longer = {**ORDER, "fields": [*ORDER["fields"], {"name": "total", "type": "double", "default": 0.0}]}
    (_, first), (_, second) = register(registry_server, ORDER), register(registry_server, longer)
    rows = decode(
        codec(registry_server.url),
        framed(first, avro(ORDER, {"id": 1, "note": "a"})),
        framed(second, avro(longer, {"id": 2, "note": None, "total": 2.5})),
        framed(first, avro(ORDER, {"id": 3, "note": None})),
    )
    assert [(row["id"], row["note"], row["total"]) for row in rows] == [(1, "a", None), (2, None, 2.5), (3, None, None)]


def test_avro_refers_to_other_schemas(registry_server: RegistryServer) -> None:
    money = {"type": "record", "name": "Money", "namespace": "bank", "fields": [{"name": "cents", "type": "long"}]}
    account = {
        "type": "record",
        "name": "Account",
        "namespace": "bank",
        "fields": [{"name": "balance", "type": "Money"}, {"name": "limit", "type": ["null", "bank.Money"]}],
    }
    owner = {"type": "record", "name": "Owner", "fields": [{"name": "account", "type": "bank.Account"}]}
    money_subject, _ = register(registry_server, money)
    to_money = [{"name": "bank.Money", "subject": money_subject, "version": 1}]
    account_subject, _ = register(registry_server, account, references=to_money)
    to_account = [{"name": "bank.Account", "subject": account_subject, "version": 1}]
    _, number = register(registry_server, owner, references=to_account)
    known = {}
    for one in (money, account):
        fastavro.parse_schema(one, known)
    sink = io.BytesIO()
    row = {"account": {"balance": {"cents": 5}, "limit": {"cents": 7}}}
    fastavro.schemaless_writer(sink, fastavro.parse_schema(owner, known), row)
    assert decode(codec(registry_server.url), framed(number, sink.getvalue())) == [row]


def test_json_is_read_without_its_frame(registry_server: RegistryServer) -> None:
    _, number = register(registry_server, OBJECT, "JSON")
    assert decode(codec(registry_server.url), framed(number, b'{"a":1}'), framed(number, b'{"a":2}')) == [
        {"a": 1},
        {"a": 2},
    ]


@pytest.mark.parametrize(
    ("place", "body", "row"),
    [
        (b"\0", b"\x08\x2a", {"id": 42}),
        (b"\x02\0", b"\x08\x2a", {"id": 42}),
        (b"\x02\x02", b"\x0a\x01x", {"reason": "x"}),
        (b"\x04\0\0", b"\x0a\x01p", {"product": "p"}),
        (b"\x06\0\0\0", b"\x08\x07", {"count": 7}),
    ],
)
def test_protobuf_says_which_message_it_is(
    registry_server: RegistryServer, place: bytes, body: bytes, row: dict[str, Any]
) -> None:
    """The reference engine takes the place for a part of the message."""
    _, number = register(registry_server, PROTO, "PROTOBUF")
    assert decode(codec(registry_server.url), framed(number, place + body)) == [row]


def test_protobuf_of_another_message_is_refused(registry_server: RegistryServer) -> None:
    _, number = register(registry_server, PROTO, "PROTOBUF")
    one = codec(registry_server.url, message_type="shop.Order")
    assert decode(one, framed(number, b"\0\x08\x2a")) == [{"id": 42}]
    with pytest.raises(PermanentError, match=r"a shop\.Refund; expected a shop\.Order"):
        decode(one, framed(number, b"\x02\x02\x0a\x01x"))
    for place in (b"", b"\x02", b"\x02\x7f", b"\x01", b"\xff" * 12, b"\x02\x01"):
        with pytest.raises(PermanentError):
            decode(one, framed(number, place))


def test_protobuf_refers_to_other_files(registry_server: RegistryServer) -> None:
    money = 'syntax = "proto3"; package bank; message Money { int64 cents = 1; }'
    subject, _ = register(registry_server, money, "PROTOBUF")
    account = 'syntax = "proto3"; import "bank/money.proto"; message Account { bank.Money balance = 1; }'
    references = [{"name": "bank/money.proto", "subject": subject, "version": 1}]
    _, number = register(registry_server, account, "PROTOBUF", references=references)
    assert decode(codec(registry_server.url), framed(number, b"\0\x0a\x02\x08\x05")) == [{"balance": {"cents": 5}}]


@pytest.mark.parametrize("kind", ["avro", "json", "protobuf"])
def test_what_is_written_is_read_back(registry_server: RegistryServer, kind: str) -> None:
    schema = {"avro": json.dumps(ORDER), "json": json.dumps(OBJECT), "protobuf": PROTO}[kind]
    subject = f"subject-{uuid.uuid4().hex[:10]}"
    one = codec(registry_server.url, subject=subject, schema=schema, schema_type=kind)
    batch = pa.record_batch({"id": [1, 2]})
    again = codec(registry_server.url, subject=subject)
    for writing in (one, again):
        payloads = writing.encode(batch)
        rows = decode(codec(registry_server.url), *payloads.to_pylist())
        assert [row["id"] for row in rows] == [1, 2]


def test_a_nested_message_is_written_with_its_place(registry_server: RegistryServer) -> None:
    subject, number = register(registry_server, PROTO, "PROTOBUF")
    one = codec(registry_server.url, subject=subject, message_type="shop.Order.Line")
    (payload,) = one.encode(pa.record_batch({"product": ["p"]})).to_pylist()
    assert payload == framed(number, b"\x04\0\0\x0a\x01p")


def test_a_schema_that_is_not_compatible_is_told(registry_server: RegistryServer) -> None:
    subject, _ = register(registry_server, ORDER)
    body = json.dumps({"compatibility": "BACKWARD"}).encode()
    request = urllib.request.Request(f"{registry_server.url}/config/{subject}", body, method="PUT")
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request, timeout=60).close()
    other = {**ORDER, "fields": [{"name": "id", "type": "string"}]}
    one = codec(registry_server.url, subject=subject, schema=json.dumps(other))
    with pytest.raises(ConfigError, match="refuses the schema"):
        one.encode(pa.record_batch({"id": ["a"]}))


def test_a_subject_that_is_not_there_is_told(registry_server: RegistryServer) -> None:
    rows = pa.record_batch({"id": [1]})
    with pytest.raises(ConfigError, match="no subject 'nothing'"):
        codec(registry_server.url, subject="nothing").encode(rows)
    with pytest.raises(ConfigError, match="needs a `subject`"):
        codec(registry_server.url).encode(rows)


def test_an_unknown_schema_refuses_its_row_alone(registry_server: RegistryServer) -> None:
    _, number = register(registry_server, ORDER)
    one = codec(registry_server.url)
    with pytest.raises(PermanentError, match="no schema 987654"):
        decode(one, framed(987654, b"x"))
    with pytest.raises(RowsRejected) as refusal:
        decode(one, framed(number, avro(ORDER, {"id": 1, "note": None})), b"\1nothing")
    assert set(refusal.value.reasons) == {1}


class Registry(BaseHTTPRequestHandler):
    """What no registry does on purpose: answers that are of no use."""

    answer: tuple[int, bytes] = (200, b"")
    asked: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        type(self).asked.append((self.path, self.headers.get("Authorization")))
        status, body = type(self).answer
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, type[Registry]]]:
    handler = type("Answering", (Registry,), {"answer": (status, body), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (503, b"{}"),
        (401, b'{"error_code":401}'),
        (404, b"<html>"),
        (200, b"nonsense"),
        (302, b""),
        (429, b""),
    ],
)
def test_a_registry_that_does_not_tell_costs_no_row(status: int, body: bytes) -> None:
    with answering(status, body) as (url, handler):
        one = codec(url, auth={"type": "bearer", "token": "t0ken"})
        for _ in range(2):
            with pytest.raises(TransientError) as failure:
                decode(one, framed(1, b"x"))
        assert handler.asked == [("/schemas/ids/1", "Bearer t0ken")] * 2
    assert "t0ken" not in str(failure.value) + repr(one)


def test_a_registry_that_is_away_costs_no_row() -> None:
    with pytest.raises(TransientError, match="refused"):
        decode(codec(f"http://127.0.0.1:{free_port()}"), framed(1, b"x"))


def test_each_schema_is_asked_for_once() -> None:
    with answering(200, json.dumps({"schema": json.dumps(ORDER)}).encode()) as (url, handler):
        one = codec(url)
        for _ in range(3):
            assert decode(one, framed(1, avro(ORDER, {"id": 1, "note": None}))) == [{"id": 1, "note": None}]
        assert len(handler.asked) == 1
    with answering(404, b'{"error_code":40403}') as (url, handler):
        one = codec(url)
        for _ in range(3):
            with pytest.raises(PermanentError):
                decode(one, framed(1, b""))
        assert len(handler.asked) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"schema": "nonsense"},
        {"schema": '{"type":"record"}'},
        {"schema": "message {", "schemaType": "PROTOBUF"},
        {"schema": "", "schemaType": "XML"},
    ],
)
def test_a_schema_that_cannot_be_understood_refuses_its_rows(schema: dict[str, str]) -> None:
    with answering(200, json.dumps(schema).encode()) as (url, _), pytest.raises(PermanentError):
        decode(codec(url), framed(1, b"\0"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"registry_url": "localhost:8081"}, "expected a URL"),
        ({"registry_url": "http://a", "schema": "{}"}, "under a `subject`"),
        ({"registry_url": "http://a", "auth": {"type": "digest"}}, "basic"),
    ],
)
def test_options_that_contradict_one_another_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Codec.parse({"type": "schema_registry", **options})
