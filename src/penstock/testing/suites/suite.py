"""What the suites share: tests that exist only where the component has the capability they are about."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])
Result = TypeVar("Result")


def needs(*capabilities: str) -> Callable[[Test], Test]:
    """Mark a test as one for components of which all these class attributes are true."""

    def mark(test: Test) -> Test:
        test.needs = capabilities  # type: ignore[attr-defined]
        return test

    return mark


class Suite:
    """Tests that a component of one kind inherits."""

    lacks: ClassVar[Mapping[str, str]] = {}
    """Tests that must fail for now, and why: once one passes, the entry has to go."""
    patience: float = 60.0
    """Seconds after which something that ought to happen counts as not happening."""
    while_waiting: float = 0.2
    """Seconds during which something that ought not to happen is waited for."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Suite in cls.__bases__:
            return
        tests = {
            name: getattr(test, "original", test)
            for base in reversed(cls.__mro__)
            for name, test in vars(base).items()
            if name.startswith("test_") and callable(test)
        }
        unknown = set(cls.lacks) - set(tests)
        if unknown:
            raise TypeError(f"{cls.__name__}.lacks names no test of its suite: {', '.join(sorted(unknown))}")
        for name, test in tests.items():
            if not all(getattr(cls, capability) for capability in getattr(test, "needs", ())):
                setattr(cls, name, None)
            elif name in cls.lacks:
                setattr(cls, name, _expected_to_fail(test, cls.lacks[name]))
            elif getattr(cls, name) is not test:
                setattr(cls, name, test)

    async def soon(self, awaitable: Awaitable[Result]) -> Result:
        """Await what ought to happen soon; raises AssertionError if it does not."""
        try:
            async with asyncio.timeout(self.patience) as deadline:
                return await awaitable
        except TimeoutError:
            if deadline.expired():
                raise AssertionError(f"nothing happened within {self.patience:g} seconds") from None
            raise

    async def happens(self, task: asyncio.Future[Any]) -> bool:
        """Tell whether ``task`` is done after the time during which it ought not to be."""
        done, _ = await asyncio.wait({task}, timeout=self.while_waiting)
        return bool(done)


def _expected_to_fail(test: Any, reason: str) -> Any:
    """The same test as a function of its own, so that the mark stays with one subclass."""
    copy: Any = types.FunctionType(test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__)
    copy.__dict__.update(test.__dict__)
    copy.__kwdefaults__, copy.__annotations__ = test.__kwdefaults__, test.__annotations__
    copy.pytestmark = list(getattr(test, "pytestmark", []))
    copy.original = test
    return pytest.mark.xfail(strict=True, reason=reason)(copy)
