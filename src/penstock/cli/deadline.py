"""The end of the process: a stop that takes too long ends it, whatever hangs in it."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from typing import NoReturn

SAYING_TIME = 0.5
"""Seconds that the last words may take."""
MAX_LOCKED_TIME = 1.0
"""Seconds for which a library may keep all threads from running, once the process is to have ended."""


class Deadline:
    """Ends the process with code 1 in ``timeout`` seconds, unless it is called off before.

    What is not written by then was not acked: the next run reads it again, as after a crash.
    """

    def __init__(self, timeout: float) -> None:
        self._timer = threading.Timer(timeout, self._exit, (timeout,))
        self._timer.daemon = True
        self._timer.start()
        # A library may hold the interpreter, so that no thread of Python runs any more: this one is of C.
        faulthandler.dump_traceback_later(timeout + MAX_LOCKED_TIME, exit=True, file=sys.__stderr__ or sys.stderr)

    def call_off(self) -> None:
        """Let the process go on."""
        self._timer.cancel()
        faulthandler.cancel_dump_traceback_later()

    @staticmethod
    def _exit(timeout: float) -> None:
        exit_at_once(1, f"the stop took longer than {timeout:g} s: ")


def exit_at_once(code: int, why: str = "") -> NoReturn:
    """End the process without cleaning up; what it says, and what is still to be printed, may not get through."""

    def say() -> None:
        sys.stderr.write(f"{why}exiting at once; what was not written is read again next time\n")
        sys.stderr.flush()
        sys.stdout.flush()

    saying = threading.Thread(target=say, daemon=True)  # nobody may be reading what we print
    saying.start()
    saying.join(SAYING_TIME)
    os._exit(code)
