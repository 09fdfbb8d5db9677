"""The questions of the dashboards: each is one query of the warehouse, shown with its answer."""

from __future__ import annotations

import base64
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import msgspec

from ....errors import PermanentError
from .settings import Settings
from .warehouse import reading

Kind: TypeAlias = Literal["line", "bars", "table", "figure", "heatmap"]
MAX_ROWS = 10_000
"""How many rows an answer has at most."""


class Question(msgspec.Struct, frozen=True):
    """What is asked of the warehouse, and how the answer is drawn."""

    id: str
    dashboard: str
    title: str
    kind: Kind
    sql: str


class Answered(msgspec.Struct, frozen=True):
    """The answer to a question."""

    question: Question
    columns: list[str]
    rows: list[list[Any]]
    note: str | None = None
    """What keeps it from being answered yet."""


PRODUCTIVITY, PATTERNS, PROJECTS, COSTS = "Productivity", "Patterns", "Projects", "Costs"

QUESTIONS = [
    Question("sessions", PRODUCTIVITY, "Sessions over time", "bars",
             "SELECT date_key, session_count FROM marts.agg_daily_summary ORDER BY 1"),
    Question("session-length", PRODUCTIVITY, "Average minutes of a session", "figure",
             "SELECT round(avg(duration_minutes), 1) AS minutes, round(avg(active_minutes), 1) AS active_minutes "
             "FROM marts.dim_sessions"),
    Question("active-hours", PRODUCTIVITY, "Active hours", "heatmap",
             "SELECT day_name, hour_of_day, total_activity FROM marts.agg_hourly_activity "
             "ORDER BY day_of_week, hour_of_day"),
    Question("tasks", PRODUCTIVITY, "Kinds of tasks", "table",
             "SELECT task_category, count(*) AS prompts FROM marts.fct_messages WHERE role = 'user' "
             "GROUP BY 1 ORDER BY 2 DESC"),
    Question("turns", PRODUCTIVITY, "Messages and turns of a session", "figure",
             "SELECT round(avg(message_count), 1) AS messages, round(avg(user_message_count), 1) AS turns "
             "FROM marts.dim_sessions"),
    Question("context-switching", PRODUCTIVITY, "Projects in a day", "line",
             "SELECT date_key, active_projects FROM marts.agg_daily_summary ORDER BY 1"),
    Question("tools", PATTERNS, "Use of tools", "table",
             "SELECT tool_name, total_calls FROM marts.dim_tools WHERE total_calls > 0 ORDER BY 2 DESC"),
    Question("tool-categories", PATTERNS, "Use of tools by category", "table",
             "SELECT tool_category, sum(total_calls) AS calls FROM marts.dim_tools GROUP BY 1 ORDER BY 2 DESC"),
    Question("top-tools", PATTERNS, "Ten most used tools: success, time and retries", "table",
             "SELECT tool_name, total_calls, round(success_rate_pct, 1) AS success_pct, median_execution_seconds, "
             "round(100 * retry_rate, 1) AS retry_pct FROM marts.agg_tool_efficiency ORDER BY 2 DESC LIMIT 10"),
    Question("response-time", PATTERNS, "Median seconds to the first answer", "line",
             "SELECT date_key, median(response_time_seconds) AS seconds FROM marts.fct_messages "
             "WHERE response_time_seconds IS NOT NULL GROUP BY 1 ORDER BY 1"),
    Question("tool-errors", PATTERNS, "Failures of tools in a day", "bars",
             "SELECT date_key, tool_errors FROM marts.agg_daily_summary ORDER BY 1"),
    Question("projects", PROJECTS, "Most active projects", "table",
             "SELECT project_id, session_count, total_messages, total_tool_calls FROM marts.dim_projects "
             "ORDER BY total_messages DESC LIMIT 15"),
    Question("project-status", PROJECTS, "Status of projects", "table",
             "SELECT activity_status, count(*) AS projects FROM marts.dim_projects GROUP BY 1 ORDER BY 2 DESC"),
    Question("code-changes", PROJECTS, "Files read, written and edited in a day", "line",
             "SELECT date_key, file_reads, file_writes, file_edits FROM marts.agg_daily_summary ORDER BY 1"),
    Question("file-types", PROJECTS, "Types of files worked on", "table",
             "SELECT aggregation_key AS file_type, total_operations FROM marts.agg_code_changes "
             "WHERE aggregation_level = 'by_file_type' ORDER BY 2 DESC"),
    Question("lines-changed", PROJECTS, "Lines added and removed in a day", "bars",
             "SELECT date_key, lines_added, lines_removed FROM marts.agg_daily_summary ORDER BY 1"),
    Question("files", PROJECTS, "Files most touched", "table",
             "SELECT file_path, count(*) AS operations, sum(lines_added) AS added, sum(lines_removed) AS removed "
             "FROM marts.fct_file_operations WHERE file_path IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 20"),
    Question("cost", COSTS, "Cost of a day in dollars", "bars",
             "SELECT date_key, round(cost_usd, 4) AS dollars FROM marts.agg_daily_summary ORDER BY 1"),
    Question("cost-models", COSTS, "Cost by model", "table",
             "SELECT model, sum(responses) AS responses, round(sum(cost_usd), 2) AS dollars, "
             "round(sum(cache_saved_usd), 2) AS saved_by_cache FROM marts.agg_cost_daily GROUP BY 1 "
             "ORDER BY 3 DESC NULLS LAST"),
    Question("cost-projects", COSTS, "Cost by project", "table",
             "SELECT project_id, round(sum(cost_usd), 2) AS dollars FROM marts.agg_cost_daily GROUP BY 1 "
             "ORDER BY 2 DESC NULLS LAST LIMIT 15"),
    Question("cost-sessions", COSTS, "Most costly sessions", "table",
             "SELECT session_id, round(sum(cost_usd), 2) AS dollars, "
             "max(input_tokens + cache_read_tokens) AS largest_context FROM marts.fct_responses "
             "GROUP BY 1 ORDER BY 2 DESC NULLS LAST LIMIT 15"),
]  # fmt: skip
_BY_ID = {question.id: question for question in QUESTIONS}


def answer_question(settings: Settings, id: str) -> Answered:
    """Return the answer to a question; raises PermanentError for one that is not known, or without a warehouse."""
    question = _BY_ID.get(id)
    if question is None:
        raise PermanentError(f"there is no question {id!r}")
    with reading(settings) as connection:
        found = connection.execute(f"SELECT * FROM ({question.sql}) LIMIT {MAX_ROWS:d}")
        columns = [name for name, *_ in found.description]
        return Answered(question, columns, [[_plain(value) for value in row] for row in found.fetchall()])


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
