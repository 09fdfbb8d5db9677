"""A name for an installation and a stream, by which a broker knows it again after a restart."""

from __future__ import annotations

import hashlib
import socket

from ..context import Context


def client_name(context: Context) -> str:
    """Return a name that no other stream and no other folder of data has, and that stays over restarts."""
    where = f"{socket.gethostname()}\n{context.directory.absolute()}\n{context.kept_as}"
    stream = "".join(c if c.isalnum() and c.isascii() else "-" for c in context.kept_as)[:40]
    return f"penstock-{stream}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"
