"""Configurations: every fault is named with file, line, path and what was expected."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from penstock import ConfigError, load, loads
from penstock.config.document import parse_document
from penstock.config.schema import json_schema
from penstock.durability import Durability
from penstock.duration import seconds

MINIMAL = """
streams:
  - input: {type: memory, messages: [a]}
    output: drop
"""


def fault(text: str, suffix: str = ".yaml", **environment: str) -> str:
    with pytest.raises(ConfigError) as raised:
        loads(text, suffix, environment)
    return str(raised.value)


def test_streams_are_numbered_unless_they_have_an_id() -> None:
    text = (
        MINIMAL + "  - {id: second, input: {type: memory}, output: drop}\n  - {input: {type: memory}, output: drop}\n"
    )
    assert [stream.id for stream in loads(text).streams] == ["stream-0", "second", "stream-2"]


def test_r12_unknown_keys_are_refused_with_a_suggestion() -> None:
    text = "streams:\n  - input:\n      type: generate\n      context: x\n      batchsize: 3\n    output: drop\n"
    assert fault(text) == "5 streams.0.input.batchsize: unknown key; did you mean 'batch_size'?"


def test_every_fault_is_named_at_once() -> None:
    text = "streams:\n  - input: {type: generat}\n    output: {type: stdout, append: 1}\n    piepline: {}\n"
    assert fault(text).splitlines() == [
        "2 streams.0.input: no input is called 'generat'; did you mean 'generate'?",
        "3 streams.0.output.append: unknown key; did you mean 'append_newline'?",
        "4 streams.0.piepline: unknown key; did you mean 'pipeline'?",
    ]


def test_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("streams:\n  - input: nothing\n    output: drop\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml:2 streams\.0\.input: no input is called 'nothing'"):
        load(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("streams:\n - input: drop\n   input: drop\n", "3 streams.0.input: the key 'input' is given twice"),
        ("streams: [\n", "expected"),
        ("[1, 2]", "expected a mapping with `streams`"),
        ("", "expected a mapping with `streams`"),
        ("streams:\n\t- x", "cannot start any token"),
        ("a: " + "[" * 300 + "]" * 300, "nested deeper than"),
        ("a: " + "[" * 30000 + "]" * 30000, "nested deeper than"),
        (MINIMAL + "  - {id: 'a b', input: {type: memory}, output: drop}\n", "streams.1.id"),
        (MINIMAL.replace("memory,", "memory, name: x, interval: 10,"), "unknown key"),
        (MINIMAL.replace("{type: memory, messages: [a]}", "{type: generate, context: x, interval: 10}"), "with a unit"),
        (MINIMAL.replace("{type: memory, messages: [a]}", "{type: generate, context: x, interval: 1parsec}"), "1h30m"),
    ],
)
def test_what_is_wrong_is_said(text: str, expected: str) -> None:
    assert expected in fault(text)


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "aliases counted each time" in fault("\n".join(lines))


def test_aliases_and_merges_work() -> None:
    text = "x: &input {type: memory, messages: [a]}\nstreams:\n - input: {<<: *input, messages: [b]}\n   output: drop\n"
    assert "1 x: unknown key" in fault(text)
    text = (
        "streams:\n - input: &input {type: memory, messages: [a]}\n   output: drop\n - input: *input\n   output: drop\n"
    )
    assert loads(text).streams[1].input == loads(text).streams[0].input


def test_variables_are_filled_in_once_and_keep_their_type() -> None:
    text = (
        "streams:\n - input: {type: generate, context: '$${x} ${TEXT}', count: \"${N}\", interval: ${I:-5ms}}\n"
        "   pipeline: {thread_num: ${N}, processors: }\n   output: drop\n"
    )
    text = text.replace("${I:-5ms}", "'${I:-5ms}'").replace("thread_num: ${N}", "thread_num: '${env:N}'")
    stream = loads(text, environment={"TEXT": "${N}", "N": "3"}).streams[0]
    assert stream.input.context == "${x} ${N}"  # type: ignore[attr-defined]
    assert stream.pipeline.thread_num == 3
    plain = "streams:\n  - input:\n      type: memory\n      messages: [a]\n    max_in_flight: ${N}\n    output: drop\n"
    assert loads(plain, environment={"N": "7"}).streams[0].max_in_flight == 7


def test_a_file_is_filled_in(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    text = MINIMAL.replace("[a]", f"['${{file:{tmp_path}/secret}}']")
    assert loads(text).streams[0].input.messages == ["hush"]  # type: ignore[attr-defined]
    assert "cannot be read" in fault(MINIMAL.replace("[a]", "['${file:/nowhere}']"))


def test_a_missing_variable_is_named_with_its_line() -> None:
    assert fault(MINIMAL.replace("[a]", "['${NOPE}']")).startswith("3 streams.0.input.messages.0: the environment vari")


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"streams": [\n{"input": {"type": "memory", "mesages": ["a"]},\n"output": "drop"}]}'),
        (".toml", '[[streams]]\n[streams.input]\ntype = "memory"\nmesages = ["a"]\n[streams.output]\ntype = "drop"\n'),
    ],
)
def test_json_and_toml_know_their_lines(suffix: str, text: str) -> None:
    line = "2" if suffix == ".json" else "4"
    assert fault(text, suffix) == f"{line} streams.0.input.mesages: unknown key; did you mean 'messages'?"
    assert loads(text.replace("mesages", "messages"), suffix).streams[0].input.type_name == "memory"


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_broken_json_and_toml_say_where(suffix: str) -> None:
    assert fault('{"a": \n ]' if suffix == ".json" else "a = \n[", suffix).split()[0].isdigit()


def test_duplicate_keys_in_json_are_refused() -> None:
    assert "given twice" in fault('{"streams": [], "streams": []}', ".json")


def test_not_utf8_and_unknown_suffixes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("streams: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a\.yaml is not UTF-8 at byte 9"):
        load(path)
    with pytest.raises(ConfigError, match=r"expected a \.yaml"):
        loads("", ".ini")
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")


def test_a_buffer_that_would_wait_for_ever_is_refused() -> None:
    text = MINIMAL + "    buffer: {type: memory, capacity: 2000000, timeout: 1s}\n"
    assert "would wait for ever" in fault(text)


def test_the_schema_is_valid_and_knows_the_components() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = {"streams": [{"input": {"type": "memory", "messages": ["a"]}, "output": "drop"}]}
    assert validator.is_valid(good)
    assert not validator.is_valid({"streams": [{"input": {"type": "memori"}, "output": "drop"}]})
    assert not validator.is_valid({"streams": [{"input": {"type": "memory", "mesages": []}, "output": "drop"}]})


@pytest.mark.parametrize("text", ["day: 2024-01-01", "day: 2024-01-01T10:00:00Z", "day: 2024-01-01 10:00:00.5"])
def test_an_unquoted_date_stays_the_text_that_it_is(text: str) -> None:
    assert parse_document(text).value == {"day": text.removeprefix("day: ")}
    assert parse_document('{"day": "2024-01-01"}', ".json").value == {"day": "2024-01-01"}


@pytest.mark.parametrize("text", ["day = 2024-01-01", "day = 2024-01-01T10:00:00Z", "day = 10:00:00"])
def test_dates_and_times_of_toml_are_texts(text: str) -> None:
    assert isinstance(parse_document(text, ".toml").value["day"], str)


def test_binary_values_are_refused_with_their_line() -> None:
    with pytest.raises(ConfigError, match=r"binary values are not supported") as refused:
        parse_document("a: 1\nb: !!binary aGVsbG8=")
    assert (refused.value.line, refused.value.path) == (2, "b")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp037"])
@pytest.mark.parametrize(
    "component", ["input: {type: file, path: a.txt", "output: {type: stdout", "output: {type: file, path: b.txt"]
)
def test_an_encoding_without_newlines_is_refused_where_lines_are_wanted(component: str, encoding: str) -> None:
    rest = "output: drop" if component.startswith("input") else "input: {type: memory, messages: [a]}"
    text = f"streams:\n  - {component}, codec: {{type: text, encoding: {encoding}}}}}\n    {rest}\n"
    with pytest.raises(ConfigError, match="has no lines that end in the byte 0x0A"):
        loads(text)


def test_an_encoding_without_newlines_is_taken_where_payloads_are_told_apart_otherwise() -> None:
    loads(
        "streams:\n  - input: {type: file, path: a.txt, framing: whole, codec: {type: text, encoding: utf-16}}\n"
        "    output: drop\n"
    )


def test_what_is_wrong_beside_a_variable_that_is_not_set_is_named_too() -> None:
    text = """
streams:
  - input: {type: file, path: "${PATH_OF_FILES}", folow: true}
    output: {type: http, url: "${env:ADDRESS}"}
    pipeline: [{type: sql, query: "${file:/no/such/file}"}]
logging: {level: INFO, format: csv}
"""
    with pytest.raises(ConfigError) as caught:
        loads(text, environment={})
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "3 streams.0.input.path",
        "3 streams.0.input.folow",
        "4 streams.0.output.url",
        "5 streams.0.pipeline.0.query",
        "6 logging.format",
    ]


@pytest.mark.parametrize("level", ["INFO", "Warn", "error"])
def test_a_level_may_be_written_in_capital_letters(level: str) -> None:
    text = f"streams: [{{input: {{type: memory, messages: []}}, output: drop}}]\nlogging: {{level: {level}}}"
    assert loads(text).logging.level == level.lower()


@pytest.mark.parametrize(
    ("one", "two"),
    [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:8080", "localhost:8080"), ("localhost:8080", "127.0.0.1:8080")],
)
def test_two_addresses_of_one_port_are_refused(one: str, two: str) -> None:
    text = """
streams: [{{id: posts, input: {{type: http, address: "{}", path: /posts}}, output: drop}}]
health_check: {{address: "{}"}}
"""
    with pytest.raises(ConfigError, match=r"'posts' listens at .* which is the same port"):
        loads(text.format(one, two))
    for other in ("127.0.0.1:8081", "127.0.0.1:0", one):
        loads(text.format(one, other))
    loads(text.format(one, two).replace("health_check: {", "health_check: {enabled: false, "))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1M", 30.44 * 86400), ("2 months", 60.88 * 86400), ("1y", 31557600.0), ("1m", 60.0), ("1year 1M 1m", 34187676.0)],
)
def test_months_and_years_are_durations(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("span", [{"secs": 1, "nanos": 500_000_000}, "1500ms"])
def test_a_period_of_syncs_may_be_written_within_sync(span: object) -> None:
    sync = {"periodic": span}
    assert Durability.model_validate({"sync": sync}).pause == 1.5
    assert Durability.model_validate({"backend": {"sync": sync}}).pause == 1.5
    assert Durability.model_validate({"sync": "periodic", "interval": "1500ms"}).pause == 1.5


@pytest.mark.parametrize("sync", [{"periodic": {"secs": -1}}, {"often": {}}, {"periodic": {"seconds": 1}}])
def test_another_period_of_syncs_is_refused(sync: object) -> None:
    with pytest.raises(ValidationError):
        Durability.model_validate({"sync": sync})
