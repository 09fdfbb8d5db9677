"""Where one payload of a byte stream ends and the next begins; apart from the codec, which reads the payloads."""

from __future__ import annotations

from enum import StrEnum


class Framing(StrEnum):
    """How payloads follow one another in a byte stream."""

    LINES = "lines"
    LENGTH_DELIMITED = "length_delimited"
    WHOLE = "whole"
