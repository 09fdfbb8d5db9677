"""Queries over single batches, planned once for each schema instead of once for each batch."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import pyarrow as pa
from datafusion import DataFrame, ExecutionPlan, LogicalPlan, SessionConfig, SessionContext, SQLOptions

from .. import udf
from ..delivery import Batch
from ..errors import ConfigError, PermanentError
from . import json_functions
from .arithmetic import with_exact_integers
from .bounds import MAX_ROWS
from .json_operators import with_json_functions
from .overflow import Arithmetic, Checked
from .source import Source
from .statement import Statement, unquoted

_SCHEMA_CACHE_SIZE = 16
_MAX_IDLE_PLANS = 8
_MAX_RUNS_PER_PLAN = 1000
"""A physical plan keeps metrics of each run, so that it grows by 2 to 4 KB; a new one starts small."""
_MAX_EXACT_RUNS = 256
"""How often a query is run exactly before it is tried with bounds again."""
_COLUMNS_MADE_UP = 32
_MAX_COLUMNS_TRIED = 4
_KINDS_TRIED = (pa.float64(), pa.string(), pa.timestamp("us", "UTC"))
_MAX_MESSAGE_LENGTH = 1000

_REUSABLE = re.compile(
    r"(?:Projection|Filter|Aggregate|Sort|WindowAgg|BoundedWindowAgg|GlobalLimit|LocalLimit|Union|Unnest"
    r"|CoalescePartitions|SortPreservingMerge|Cooperative|CoalesceBatches|Dataset)Exec"
)
"""Steps of a physical plan that keep nothing of one run for the next; joins, subqueries and TopK do."""

_READ_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
_WRONG_WITH_ANY_SCHEMA = re.compile(
    r"ParserError|TokenizerError|Invalid function|(?:table|table function) '[^']*' not found|(?:DDL|DML|Statement) not"
    r" supported|only supports a single SQL statement|Unsupported SQL statement|No SQL statements|Query INSERT"
    r"|RecursionLimit"
)
_NOISE = re.compile(
    r"^(?:(?:DataFusion error|Error during planning|Execution error|Arrow error|SQL error|Internal error): )+"
    r"|\s*This issue was likely caused by a bug in DataFusion's code\.[^\n]*?issues\."
)
_RAISED = re.compile(r"PyErr \{ type: .*?, value: \w+\((['\"])(.*?)\1\), traceback: .*\}", re.DOTALL)
_NAME = r'(?:"(?:[^"]|"")*"|[^\s".]+)'
_NO_FIELD = re.compile(rf"No field named ((?:{_NAME}\.)*)({_NAME})")


class MadeUp(NamedTuple):
    """How a query is planned over columns that were made up as it asked for them."""

    plan: LogicalPlan
    names: list[str]
    """The names of the columns of its result."""
    columns: list[str]
    """The columns that it asked for."""


class PreparedQuery:
    """A query that is run on one batch after another, each of which it sees as a table.

    Only queries are allowed, no statement that defines or changes anything. Raises ConfigError for what can be
    known to be wrong before any data: syntax, unknown functions and tables, statements that are no queries.
    """

    def __init__(self, sql: str, table: str = "flow", others: Mapping[str, pa.Schema] | None = None) -> None:
        """``others`` are further tables by name, whose rows each run is given too."""
        self.sql, self.table, self._others = sql, table, dict(others or {})
        self._statement = Statement(with_json_functions(sql))
        self._lock = threading.Lock()
        self._known: list[_Known] = []
        if not self._statement.is_query():
            raise ConfigError(f"expected a query (SELECT ...), found {_shorten(sql)}")
        self._calls = {(name.text, arguments) for name, arguments in self._statement.calls(json_functions.NAMES)}
        named = self._statement.words | {unquoted(token.text) for token in self._statement.tokens}
        self._functions = [function for name, function in udf.functions().items() if name in named]
        self._planned_sql = with_exact_integers(self._with_exact_calls())
        self._made_up: MadeUp | None = None
        self._names_tried: list[str] = []
        self._asked_for = self._check()
        self._arithmetic = Arithmetic(self._planned_sql, table, _READ_ONLY)

    def run(self, batch: Batch, others: Mapping[str, Batch] | None = None) -> list[Batch]:
        """Return the rows of the result, in batches that have some; may be called from several threads at once.

        ``others`` are the rows of the further tables. Raises PermanentError if the batch lacks a column that the query
        reads, or if a value cannot be computed.
        """
        if batch.schema.metadata:
            batch = batch.replace_schema_metadata(None)
        try:
            return self._run(self._look_up(batch.schema) or _Known(batch.schema), batch, others or {})
        except Exception as error:
            raise PermanentError(_explain(error, batch.schema)) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise PermanentError(f"the query engine gave up: {error}") from error

    def _run(self, known: _Known, batch: Batch, others: Mapping[str, Batch]) -> list[Batch]:
        """Run the query that fails beyond its bounds, and where it does so, or lately did, the one that has none."""
        exact = batch.num_rows > MAX_ROWS or known.is_exact()
        while True:
            plan = self._borrow(known, exact) or self._plan(known.schema, exact)
            try:
                found = plan.run(batch, others)
            except Exception:
                if not plan.is_bounded:
                    raise
                known.note_failure()
                exact = True
            else:
                self._give_back(known, plan, exact)
                return [self._named(part, plan.query.names) for part in found if part.num_rows]

    def __deepcopy__(self, memo: Any) -> PreparedQuery:
        return self

    def row_wise(self) -> bool:
        """Tell whether it surely only projects and filters, so that each row of a batch can be queried by itself."""
        return self._statement.row_wise(self.table)

    def selecting(self, names: Iterable[str]) -> PreparedQuery:
        """Return the query with these columns selected beside its own; only for one that is row-wise."""
        return PreparedQuery(self._statement.selecting(names), self.table, self._others)

    def columns_read(self) -> frozenset[str] | None:
        """Return a superset of the columns it can read, quoted names in both cases; None if that cannot be told."""
        superset = self._statement.columns_read()
        if superset is None or self._asked_for is None:
            return superset
        asked = {name.lower() for name in self._asked_for} | set(self._asked_for)
        # Where a column has the name of an alias, it depends on the clause which of them is meant.
        return superset & (asked | self._statement.repeated())

    def _plan(self, schema: pa.Schema, exact: bool) -> _Plan:
        session, source, others = self._session(schema)
        query = self._arithmetic.checked(session, schema)
        is_bounded = query.bounded is not None and not exact
        query = query.bounded if query.bounded is not None and not exact else query
        return _Plan(query, session, source, others, fresh=self._statement.is_unstable(), is_bounded=is_bounded)

    def _session(
        self, schema: pa.Schema, others: Mapping[str, pa.Schema] | None = None
    ) -> tuple[SessionContext, Source, dict[str, Source]]:
        # Without this rule filters run in DataFusion; with it, as slower pyarrow expressions in the source.
        session, source = SessionContext(_configured()), Source(schema)
        session.remove_optimizer_rule("push_down_filter")
        for name, arguments in self._calls:
            session.register_udf(json_functions.function(name, arguments))
        for function in self._functions:
            function.register(session)
        sources = {name: Source(columns) for name, columns in (others or self._others).items()}
        for name, other in {**sources, self.table: source}.items():
            session.register_table(name, other)
        return session, source, sources

    def _look_up(self, schema: pa.Schema) -> _Known | None:
        with self._lock:
            for at, known in enumerate(self._known):
                if known.schema.equals(schema, check_metadata=True):
                    if at:
                        self._known.insert(0, self._known.pop(at))
                    return known
        return None

    def _borrow(self, known: _Known, exact: bool) -> _Plan | None:
        """Take an idle plan, so that nobody else runs it."""
        with self._lock:
            return known.idle[exact].pop() if known.idle[exact] else None

    def _give_back(self, known: _Known, plan: _Plan, exact: bool) -> None:
        with self._lock:
            if known not in self._known:
                self._known.insert(0, known)
                del self._known[_SCHEMA_CACHE_SIZE:]
            if len(known.idle[exact]) < _MAX_IDLE_PLANS:
                known.idle[exact].append(plan)

    def _with_exact_calls(self) -> str:
        """Return the query with each JSON function called by the name it has for that many arguments."""
        sql = self._statement.sql
        for name, arguments in reversed(self._statement.calls(json_functions.NAMES)):
            if not 1 <= arguments <= json_functions.MAX_PATH_LENGTH + 1:
                raise ConfigError(
                    f"{name.text}() takes a JSON text and up to {json_functions.MAX_PATH_LENGTH} keys or indexes, "
                    f"not {arguments} arguments"
                )
            sql = sql[: name.start] + json_functions.arity_name(name.text, arguments) + sql[name.end :]
        return sql

    def _named(self, batch: Batch, names: Sequence[str] | None) -> Batch:
        """Call the columns that were not given a name as if no function had been put in the place of another."""
        if names is not None:
            batch = batch.rename_columns(list(names))
        if not self._calls:
            return batch
        return batch.rename_columns([json_functions.without_arity(name) for name in batch.schema.names])

    def plan_made_up(self) -> MadeUp | None:
        """Return its plan over made-up columns of the types that it seems to need; None if none fit."""
        names = self._names_tried
        is_tried = self._made_up is None and len(names) <= _MAX_COLUMNS_TRIED
        for kinds in product(_KINDS_TRIED, repeat=len(names)) if is_tried else ():
            session, *_ = self._session(pa.schema(list(zip(names, kinds, strict=True))), self._others)
            with suppress(Exception):
                planned = session.sql_with_options(self._planned_sql, _READ_ONLY)
                self._made_up = MadeUp(planned.logical_plan(), planned.schema().names, names)
                break
        return self._made_up

    def _check(self) -> list[str] | None:
        """Plan the query over columns that are made up as it asks for them, to find what no schema can mend.

        Returns the columns it asked for, or None if that was not all because types matter.
        """
        made_up: list[str] = []
        others = dict(self._others)
        kinds = [pa.null(), pa.float64(), pa.string()]
        while len(made_up) < _COLUMNS_MADE_UP and kinds:
            try:
                session, *_ = self._session(pa.schema([(name, kinds[0]) for name in made_up]), others)
            except ValueError as error:
                raise ConfigError(str(error)) from error
            try:
                planned = session.sql_with_options(self._planned_sql, _READ_ONLY)
                self._made_up = MadeUp(planned.logical_plan(), planned.schema().names, made_up)
                return made_up
            except Exception as error:
                if _WRONG_WITH_ANY_SCHEMA.search(str(error)):
                    raise ConfigError(f"{shorten_error(error)}, in the query {_shorten(self.sql)}") from error
                missing, table = _missing_column(error), _missing_table(error)
                if missing is not None and table in others and missing not in others[table].names:
                    others[table] = others[table].append(pa.field(missing, pa.null()))
                elif missing is None or missing in made_up:
                    del kinds[0]
                else:
                    made_up.append(missing)
        self._names_tried = made_up
        return None


@dataclass(slots=True, eq=False)
class _Known:
    """A schema that the query was planned for."""

    schema: pa.Schema
    idle: tuple[list[_Plan], list[_Plan]] = field(default_factory=lambda: ([], []))
    """Plans that nobody runs: of the query that fails beyond its bounds, and of the one that never does."""
    _failures: int = 0
    _exact_runs: int = 0
    """How many runs are still exact at once, since a value was beyond the bounds before."""

    def is_exact(self) -> bool:
        """Tell whether to compute exactly at once, as values are likely to be beyond the bounds."""
        if not self._exact_runs:
            return False
        self._exact_runs -= 1
        return True

    def note_failure(self) -> None:
        """Compute exactly in the next runs, in twice as many as after the last failure."""
        self._exact_runs = min(2**self._failures, _MAX_EXACT_RUNS)
        self._failures += 1


class _Plan:
    """A query planned for one schema. One run at a time."""

    def __init__(
        self,
        query: Checked,
        session: SessionContext,
        source: Source,
        others: Mapping[str, Source],
        *,
        fresh: bool,
        is_bounded: bool,
    ) -> None:
        self.query, self._sql, self.is_bounded = query, query.register(session), is_bounded
        self._session, self._source, self._others = session, source, others
        self._frame: DataFrame | None = None
        self._physical: ExecutionPlan | None = None
        self._runs = 0
        if not fresh:
            planned = self._session.sql_with_options(self._sql, _READ_ONLY)
            self._frame = self._session.create_dataframe_from_logical_plan(planned.optimized_logical_plan())
            # Asked of a frame that was collected before, this would return the plan that was used up by that.
            physical = self._frame.execution_plan()
            self._physical = physical if _is_reusable(physical) else None

    def run(self, batch: Batch, others: Mapping[str, Batch]) -> list[Batch]:
        self._source.current = batch
        for name, source in self._others.items():
            source.current = others[name]
        try:
            if self._physical is not None:
                return self._executed(self._physical)
            frame = self._frame or self._session.sql_with_options(self._sql, _READ_ONLY)
            return list(frame.collect())
        finally:
            self._source.current = None
            for source in self._others.values():
                source.current = None

    def _executed(self, physical: ExecutionPlan) -> list[Batch]:
        self._runs += 1
        if self._runs % _MAX_RUNS_PER_PLAN == 0 and self._frame is not None:
            self._physical = self._frame.execution_plan()
        partitions = range(physical.partition_count)
        return [part.to_pyarrow() for at in partitions for part in self._session.execute(physical, at)]


@lru_cache(maxsize=1)
def _configured() -> SessionConfig:
    """One partition, as a batch is small and a repartitioning plan cannot be run again; strings stay plain strings."""
    config = SessionConfig().with_target_partitions(1)
    config = config.set("datafusion.sql_parser.map_string_types_to_utf8view", "false")
    return config.set("datafusion.optimizer.enable_dynamic_filter_pushdown", "false")


def _is_reusable(plan: ExecutionPlan) -> bool:
    step = plan.display()
    name, _, details = step.partition(":")
    keeps_nothing = _REUSABLE.fullmatch(name.strip()) is not None and "TopK" not in details and "lim=[" not in details
    return keeps_nothing and all(_is_reusable(child) for child in plan.children())


def _missing_column(error: Exception) -> str | None:
    found = _NO_FIELD.search(str(error))
    if found is None:
        return None
    name = found[2]
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _missing_table(error: Exception) -> str:
    """Return the name of the table in which a column is missed; empty if none is named."""
    found = _NO_FIELD.search(str(error))
    return found[1].rpartition(".")[0].rpartition(".")[2].strip('"') if found is not None and found[1] else ""


def _explain(error: Exception, schema: pa.Schema) -> str:
    missing = _missing_column(error)
    if missing is None:
        return shorten_error(error)
    cased = [name for name in schema.names if name.lower() == missing.lower()]
    hint = f'; did you mean "{cased[0]}", with the quotes?' if cased else ""
    return f"the query reads column {missing!r}, which is not among {', '.join(schema.names) or 'no columns'}{hint}"


def shorten_error(error: Exception) -> str:
    """Return the message without the layers it came through."""
    raised = _RAISED.sub(lambda found: found[2].replace("\\'", "'").replace('\\"', '"'), str(error))
    return _NOISE.sub("", raised).strip()[:_MAX_MESSAGE_LENGTH]


def _shorten(sql: str) -> str:
    text = " ".join(sql.split())
    return repr(text if len(text) <= 80 else text[:77] + "...")
