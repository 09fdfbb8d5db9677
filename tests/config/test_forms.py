"""Forms that configurations of other engines have: each is taken for what it means, and what has no effect is told."""

from __future__ import annotations

import os

import pytest

from penstock import loads

OUTPUT = "output: drop"
MEMORY = "input: {type: memory, messages: [a]}"


def streams(*lines: str) -> str:
    return "streams:\n  - " + "\n    ".join(lines) + "\n"


def test_a_file_may_have_no_streams_yet() -> None:
    assert loads("streams: []").all_streams() == []


def test_an_unknown_level_is_info_and_told() -> None:
    configuration = loads("logging: {level: verbose}\n" + streams(MEMORY, OUTPUT))
    assert configuration.logging.level == "info"
    assert configuration.notes() == ["logging.level: no level is called 'verbose', so `info` is taken"]
    for level in ("INFO", "Debug", "warn"):
        assert loads(f"logging: {{level: {level}}}\n" + streams(MEMORY, OUTPUT)).notes() == []


def test_options_of_a_hub_are_taken_and_told() -> None:
    text = "health_check: {enabled: false, hub_url: 'http://h', node_id: a, node_token: t, agent_lease_ttl_ms: 15000}\n"
    configuration = loads(text + streams(MEMORY, OUTPUT))
    assert configuration.health_check.node_id == "a"
    assert "nothing is sent to a hub" in configuration.notes()[0]
    assert "hub-token" not in repr(loads(text.replace("t,", "hub-token,") + streams(MEMORY, OUTPUT)))


def test_no_threads_are_as_many_as_there_are_processors() -> None:
    assert loads(streams(MEMORY, "pipeline: {thread_num: 0}", OUTPUT)).streams[0].pipeline.thread_num == os.cpu_count()


@pytest.mark.parametrize(
    ("component", "note"),
    [
        ("input: {type: sql, url: 'sqlite:///x.db', select_sql: SELECT 1, ballista: {remote_url: x}}", "`ballista`"),
        ("input: {type: file, input_type: {type: csv, path: x.csv}, ballista: {remote_url: x}}", "`ballista`"),
        ("input: {type: file, input_type: {type: csv, path: x.csv}, codec: {type: json}}", "`codec`"),
        ("input: {type: file, input_type: {type: parquet, path: x}, codec: json, ballista: {}}", "`codec`"),
    ],
)
def test_what_changes_nothing_is_taken_and_told(component: str, note: str) -> None:
    configuration = loads(streams(component, OUTPUT))
    assert any(told.startswith(f"stream-0.input: {note} changes nothing") for told in configuration.notes())
    assert loads(streams(component, OUTPUT)).is_same(configuration)


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "127.0.0.1:8080", "localhost:8080", "[::]:8080"])
def test_pages_that_nobody_gave_an_address_leave_the_port_to_a_stream(address: str) -> None:
    configuration = loads(streams(f"input: {{type: http, address: '{address}', path: /in}}", OUTPUT))
    moved = address != "127.0.0.1:8080"  # the same address is shared
    assert configuration.health_check.address == f"127.0.0.1:{8081 if moved else 8080}"
    assert bool(configuration.notes()) == moved


def test_a_chosen_address_of_pages_is_kept_and_a_collision_refused() -> None:
    text = "health_check: {address: '127.0.0.1:8080'}\n"
    with pytest.raises(Exception, match="which is the same port"):
        loads(text + streams("input: {type: http, address: '0.0.0.0:8080', path: /in}", OUTPUT))


def test_pretty_json_is_written_over_several_lines_with_the_same_numbers() -> None:
    import pyarrow as pa

    from penstock.component import Codec

    batch = pa.record_batch({"a": pa.array([10**18 + 1]), "b": [{"c": [1.5]}]})
    [row] = Codec.parse({"type": "json", "pretty": True}).encode(batch).to_pylist()
    assert row == b'{\n  "a": 1000000000000000001,\n  "b": {\n    "c": [\n      1.5\n    ]\n  }\n}'
