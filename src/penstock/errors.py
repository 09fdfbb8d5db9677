"""The errors of the engine, told apart by what follows from them.

* PenstockError
  x ConfigError        the configuration is wrong: file, line, path and what was expected
  x ConnectionLost     open the component again, with backoff
  x TransientError     the same call may succeed later: retry, with backoff
  x PermanentError     the same call will always fail: to the error output, else nack
    x RowsRejected     only these rows of the batch will always fail, and nothing was written
  x EndOfInput         nothing more to read: drain and stop
"""

from __future__ import annotations

from collections.abc import Mapping


class PenstockError(Exception):
    """Base of every error this package raises."""


class ConfigError(PenstockError):
    """The configuration is wrong; says in which file, at which line and path, and what was expected."""

    def __init__(self, message: str, *, path: str = "", line: int | None = None, file: str = "") -> None:
        self.message, self.path, self.line, self.file = message, path, line, file
        where = ":".join(str(part) for part in (file, line) if part)
        super().__init__(" ".join(part for part in (where, f"{path}:" if path else "", message) if part))


class ConnectionLost(PenstockError):
    """The other side is gone: open the component again, with backoff."""


class TransientError(PenstockError):
    """The same call may succeed later: retry it, with backoff.

    ``after`` is how many seconds the other side asked to be left alone, if it did.
    """

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)


class PermanentError(PenstockError):
    """The same call will always fail: send the rows to the error output."""


class RowsRejected(PermanentError):
    """Some rows of a batch will always fail; nothing of the call was done.

    ``reasons`` maps the index of a row in the batch given to why it was rejected; with ``across`` the index counts
    through all batches of the call. Calling again without those rows may succeed.
    """

    def __init__(self, reasons: Mapping[int, str], *, across: bool = False) -> None:
        self.reasons, self.across = dict(reasons), across
        first, reason = min(self.reasons.items())
        more = f" (and {len(self.reasons) - 1} more rows)" if len(self.reasons) > 1 else ""
        super().__init__(f"row {first}: {reason}{more}")


class EndOfInput(PenstockError):
    """Nothing more to read: drain and stop."""
