"""The operators -> and ->> give what the functions give that they stand for."""

from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.sql.json_operators import with_json_functions
from penstock.sql.query import PreparedQuery

TEXT = '{"a":{"b":1,"x":"y","l":[1,"t",{"z":null}]},"n":5,"s":"q","d":{"e":{"f":{"g":{"h":"deep"}}}}}'
ROWS = pa.record_batch({"payload": [TEXT, None, "no"], "k": ["n", "n", "s"]})


def select(expression: str) -> list[Any]:
    (batch,) = PreparedQuery(f"SELECT {expression} AS v FROM flow t").run(ROWS)
    values: list[Any] = batch.column(0).to_pylist()
    return values


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("payload->'a'->'b'", "1"),
        ("payload -> 'a' ->> 'b'", "1"),
        ("payload->'a'->'l'->1", '"t"'),
        ("payload->'a'->'l'->>1", "t"),
        ("payload->'a'->'l'->2->>'z'", None),
        ("payload->'a'->'l'->2->'z'", "null"),
        ("payload->'d'->'e'->'f'->'g'->>'h'", "deep"),
        ("payload->>k", "5"),
        ("t.payload->>'n'", "5"),
        ("t.\"payload\"->>lower('N')", "5"),
        ("(payload->>'n')::int + 1", 6),
        ("payload->>'n' = '5'", True),
        ("payload->>'n' IN ('5', '6')", True),
        ("upper(payload->>'s') || 'x'", "Qx"),
        ("payload::text->'a'->>'x'", "y"),
        ("CASE WHEN payload->>'n' = '5' THEN payload->>'s' ELSE 'no' END", "q"),
        ("coalesce(payload->>'zz', payload->>'s')", "q"),
        ("payload->>'a'->'b'", "1"),
        ("'a->b' || '->>'", "a->b->>"),
        ("json_as_text(payload, 's')", "q"),
        ("json_object_keys(payload->'a')", ["b", "x", "l"]),
        ("json_get_array(payload, 'a', 'l')", ["1", '"t"', '{"z":null}']),
        ("json_get_array(payload, 'a')", None),
    ],
)
def test_an_operator_reads_what_its_path_leads_to(expression: str, first: Any) -> None:
    assert select(expression)[0] == first


def test_it_filters_and_tells_what_it_reads() -> None:
    query = PreparedQuery("SELECT k FROM flow WHERE payload->>'n' = '5' AND payload->'a' IS NOT NULL")
    assert [row["k"] for part in query.run(ROWS) for row in part.to_pylist()] == ["n"]
    assert query.row_wise()
    assert query.columns_read() == {"payload", "k"}


@pytest.mark.parametrize("sql", ["payload->", "payload->>", "-> 'a'", "payload->*", "(payload->'a'"])
def test_a_missing_operand_is_an_error_of_the_configuration(sql: str) -> None:
    with pytest.raises(ConfigError):
        PreparedQuery(f"SELECT k, {sql} AS v FROM flow")


def test_a_case_needs_brackets() -> None:
    with pytest.raises(ConfigError, match="put brackets around CASE"):
        PreparedQuery("SELECT CASE WHEN true THEN payload END->>'n' AS v FROM flow")
    assert select("(CASE WHEN true THEN payload END)->>'n'")[0] == "5"


@given(st.text(max_size=40))
def test_what_has_no_operator_is_left_as_it_is(sql: str) -> None:
    if "->" not in sql:
        assert with_json_functions(sql) == sql


@given(st.text(alphabet="abc'\"()[]->:.,1 \n", max_size=30))
def test_any_text_is_rewritten_or_refused(sql: str) -> None:
    with suppress(ConfigError):
        with_json_functions(sql)
