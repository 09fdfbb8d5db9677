"""Applications own no loop, queue, retry, pool, lock or cache: the runtime and the platform do, and lend them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPLICATIONS = [ROOT / "src" / "penstock" / "apps", ROOT / "examples" / "application" / "src"]

TASKS = {"create_task", "ensure_future", "gather", "TaskGroup", "run_coroutine_threadsafe"}
QUEUES = {"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "JoinableQueue"}
POOLS = {
    *("ThreadPoolExecutor", "ProcessPoolExecutor", "Pool", "ThreadPool", "Thread", "Process", "run_in_executor"),
    *("create_engine", "ConnectionPool", "AsyncConnectionPool"),
}
LOCKS = {"Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Barrier"}
CACHES = {"lru_cache", "cache", "cachedmethod", "OrderedDict", "WeakKeyDictionary", "WeakValueDictionary"}
RULES = {
    "owns tasks": TASKS,
    "owns a queue": QUEUES,
    "owns a pool": POOLS,
    "owns a lock": LOCKS,
    "owns a cache": CACHES,
}
LIBRARIES = {"asyncio", "threading", "queue", "multiprocessing", "concurrent.futures", "functools", "collections"}
"""Whose names are meant: a ``Queue`` of the contract, or the ``cache`` of another library, is something else."""

NOT_YET: dict[str, set[str]] = {}
"""What is still to be lent by the platform, by file; an entry that is not needed fails."""


def breaches() -> Iterator[tuple[str, str, str]]:
    """Yield the file, the rule and the place of each breach in an application."""
    for root in APPLICATIONS:
        for path in sorted(root.rglob("*.py")):
            where = path.relative_to(root.parent).as_posix()
            for rule, line, what in inspect_tree(ast.parse(path.read_text())):
                yield where, rule, f"{where}:{line}: {what}"


def inspect_tree(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    """Yield the rule, the line and the words of each breach in a module."""
    imported = dict(imports(tree))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            for rule, names in RULES.items():
                if (name := meant(node, imported)) in names:
                    yield rule, node.lineno, str(name)
        if isinstance(node, ast.While) and any(isinstance(each, ast.Await) for each in ast.walk(node)):
            yield "waits in a loop", node.lineno, f"while {ast.unparse(node.test)}"
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)) and is_retry(node):
            yield "tries again", node.lineno, ast.unparse(node).splitlines()[0]


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names that a module imports, each with where it is from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{'.' * node.level}{node.module or ''}:{alias.name}"


def meant(node: ast.Name | ast.Attribute, imported: dict[str, str]) -> str | None:
    """Return the name of a library that a use of a name stands for, None if it is one of our own."""
    if isinstance(node, ast.Attribute):
        base = ast.unparse(node.value)
        if base not in imported:  # A method: of a loop, a group or a module that cannot be told here.
            return node.attr if node.attr in TASKS | {"run_in_executor"} else None
        return node.attr if is_library(imported[base]) else None
    source, _, name = imported.get(node.id, "").partition(":")
    return name if name and is_library(source) else None


def is_library(source: str) -> bool:
    """Tell whether a module is one whose tools the platform lends."""
    return source in LIBRARIES or source.startswith(("sqlalchemy", "psycopg"))


def is_retry(loop: ast.For | ast.AsyncFor | ast.While) -> bool:
    """Tell whether a loop waits a while after what failed: sleeping, or catching an error that passes and going on."""
    names = {ast.unparse(call.func).rpartition(".")[2] for call in ast.walk(loop) if isinstance(call, ast.Call)}
    if "sleep" in names and any(isinstance(each, (ast.Try, ast.Await)) for each in ast.walk(loop)):
        return True
    handlers = [each for each in ast.walk(loop) if isinstance(each, ast.ExceptHandler)]
    return any(
        handler.type is not None
        and any(kind in ast.unparse(handler.type) for kind in ("TransientError", "ConnectionLost"))
        and isinstance(handler.body[-1], (ast.Continue, ast.Pass))
        for handler in handlers
    )


def test_applications_use_what_the_platform_lends() -> None:
    found = list(breaches())
    wrong = [f"{place} ({rule})" for where, rule, place in found if rule not in NOT_YET.get(where, ())]
    assert not wrong, "\n".join(wrong)
    seen = {(where, rule) for where, rule, _ in found}
    stale = [(where, rule) for where, rules in NOT_YET.items() for rule in rules if (where, rule) not in seen]
    assert not stale, f"delete {stale} from NOT_YET, which only shrinks"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("import asyncio\nasyncio.create_task(work())", "owns tasks"),
        ("from asyncio import ensure_future as begin\nbegin(work())", "owns tasks"),
        ("async with asyncio.TaskGroup() as group: group.create_task(work())", "owns tasks"),
        ("asyncio.get_running_loop().create_task(work())", "owns tasks"),
        ("import asyncio\nawait asyncio.gather(*works)", "owns tasks"),
        ("import asyncio\nwaiting: asyncio.Queue[int] = asyncio.Queue()", "owns a queue"),
        ("from queue import SimpleQueue\nwaiting = SimpleQueue()", "owns a queue"),
        ("from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(4)", "owns a pool"),
        ("import threading\nthreading.Thread(target=work).start()", "owns a pool"),
        ("loop.run_in_executor(None, work)", "owns a pool"),
        ("from sqlalchemy import create_engine\ncreate_engine(url)", "owns a pool"),
        ("import threading\nnoting = threading.Lock()", "owns a lock"),
        ("import asyncio\nroom = asyncio.Semaphore(8)", "owns a lock"),
        ("from functools import lru_cache\n@lru_cache(100)\ndef find(name): ...", "owns a cache"),
        ("import functools\n@functools.cache\ndef find(name): ...", "owns a cache"),
        ("from collections import OrderedDict\nrecent = OrderedDict()", "owns a cache"),
        ("while True:\n    await tick()", "waits in a loop"),
        ("while not ready:\n    try:\n        connect()\n    except OSError:\n        time.sleep(1)", "tries again"),
        ("for _ in range(3):\n    try:\n        write()\n    except TransientError:\n        continue", "tries again"),
    ],
)
def test_each_rule_finds_what_breaks_it(text: str, rule: str) -> None:
    assert rule in {broken for broken, _, _ in inspect_tree(ast.parse(text))}


@pytest.mark.parametrize(
    "text",
    [
        "from ...component import Queue\nasync def open() -> Queue: ...",
        "from ...platform.cache import Cache, memoize\nrecent = Cache(ttl=1, size=8)",
        "from .events import Event, Lock\nLock(Event())",
        "while line := file.readline():\n    count += 1",
        "for row in rows:\n    await writer.write(row)",
        "async for piece in pieces:\n    await send(piece)",
        "for name in names:\n    try:\n        use(name)\n    except ValueError:\n        continue",
    ],
)
def test_what_applications_may_do_is_not_found(text: str) -> None:
    assert list(inspect_tree(ast.parse(text))) == []
