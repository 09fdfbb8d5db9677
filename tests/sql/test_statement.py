"""What is told from the text of a query alone must hold for whatever the query engine makes of it."""

from __future__ import annotations

import pytest

from penstock.sql.statement import Statement, check_expression


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT a, t.b, \"C d\", `e` FROM flow t WHERE f > '*g'", {"a", "t", "b", "C d", "c d", "e", "f", "flow"}),
        ("SELECT a * b, 2 * c, (d) * -e, f*g AS h FROM flow", {"a", "b", "c", "d", "e", "f", "g", "h", "flow"}),
        ("SELECT count(*), COUNT ( * ) FROM flow -- * from", {"count", "flow"}),
        ("SELECT a /* SELECT * */ FROM flow", {"a", "flow"}),
        ("SELECT extract(year FROM Ab) FROM flow", {"extract", "year", "ab", "flow"}),
        ('SELECT "say ""x""" FROM flow', {'say "x"', "flow"}),
        ("SELECT E'it\\'s *', $$ * $$, ä FROM flow", {"ä", "flow"}),
    ],
)
def test_columns_read(sql: str, columns: set[str]) -> None:
    read = Statement(sql).columns_read()
    assert read is not None
    assert read - {"select", "from", "where", "as"} == columns


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM flow",
        "SELECT a, * FROM flow",
        "SELECT f.* FROM flow f",
        "SELECT DISTINCT * FROM flow",
        "SELECT DISTINCT ON (a) * FROM flow",
        "SELECT * EXCEPT (a) FROM flow",
        "SELECT *, a FROM flow",
        "SELECT a FROM (SELECT * FROM flow)",
        "SELECT sum(a) FROM (FROM flow) GROUP BY b",
        "FROM flow",
        "FROM flow WHERE a > 1",
        "WITH x AS (SELECT 1) FROM flow",
        "SELECT a FROM flow NATURAL JOIN flow b",
        "SELECT a /* /* */ * */ FROM flow",
        "SELECT r'\\' * FROM flow",
        "SELECT CASE WHEN a THEN 1 END, * FROM flow",
    ],
)
def test_columns_read_gives_up_when_in_doubt(sql: str) -> None:
    assert Statement(sql).columns_read() is None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM flow",
        "select a as b from flow as f where f.a > 1 and upper(b) in ('group', 'x');",
        "SELECT * EXCEPT (a), b AS c FROM flow",
        'SELECT "count", "from" FROM "flow" WHERE a IS DISTINCTLY = 1',
        "SELECT substring(a FROM 2), extract(year FROM t) FROM flow WHERE b BETWEEN 1 AND 2",
        "SELECT json_get_int(a, 'limit') FROM flow -- limit",
    ],
)
def test_row_wise(sql: str) -> None:
    assert Statement(sql).row_wise("flow")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT count(*) FROM flow",
        'SELECT "max"(a) FROM flow',
        "SELECT sum (a) FROM flow",
        "SELECT a FROM flow WHERE a IN (SELECT b FROM flow)",
        "SELECT a FROM flow WHERE a IN (FROM flow)",
        "SELECT a FROM flow EXCEPT FROM flow",
        "SELECT a FROM flow WHERE b EXCEPT FROM flow",
        "SELECT a FROM flow, flow b",
        "SELECT a FROM flow WHERE b |> LIMIT 1",
        "SELECT a FROM generate_series(1, 3) t(a)",
        "SELECT a FROM other",
        "SELECT a FROM flow ORDER BY a",
        "SELECT DISTINCT a FROM flow",
        "SELECT row_number() OVER () FROM flow",
        "FROM flow SELECT a",
        "SELECT unnest(a) FROM flow",
        "SELECT a FROM (SELECT a FROM flow)",
    ],
)
def test_not_row_wise(sql: str) -> None:
    assert not Statement(sql).row_wise("flow")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an empty text"),
        ("-- nothing", "not an empty text"),
        ("a) FROM flow; --", "never opened"),
        ("a; b", "found ';'"),
        ("a, b", "found ','"),
        ("count(*)", "needs many rows"),
        ("a + max (b)", "needs many rows"),
    ],
)
def test_what_is_no_expression_of_a_row(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_expression(text)


@pytest.mark.parametrize("text", ["a", "concat(a, ',', b)", "a > 1 -- why", "[1, 2][1]", "max(a) OVER ()", "';'"])
def test_expressions_of_a_row(text: str) -> None:
    check_expression(text)
