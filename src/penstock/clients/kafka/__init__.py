"""Connect to Kafka: options of inputs and outputs, and what its errors mean."""

from __future__ import annotations

from .errors import classify_error, describe_error
from .group import Group, Groups
from .options import Connection, Oauth, Sasl, Security, Tls

__all__ = [
    "Connection",
    "Group",
    "Groups",
    "Oauth",
    "Sasl",
    "Security",
    "Tls",
    "classify_error",
    "describe_error",
]
